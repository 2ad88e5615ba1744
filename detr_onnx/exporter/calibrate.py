"""Post-training int8 quantization of the backbone's convolutions, with an accuracy gate.

    images ── fp32 with taps ──► histograms ── a method ──► quantization parameters ── int8 ──► compared with fp32
                                                                      ▲                               │
                                                                      └── without the worst layers ◄──┘ until it passes

Every method is tried, and the gate decides. ONNX Runtime runs both networks, one image at a time; of an image only
counts and outputs are kept. Other quantizers edit a finished graph; here the graph is recorded with its quantization,
while each convolution still has its ReLU and its shortcut.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from detr_onnx.atomic import draft_directory
from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.engines.onnxruntime import named_outputs
from detr_onnx.errors import DatasetError
from detr_onnx.exporter.onnx_file import ExportOptions, record, write_graph, write_onnx
from detr_onnx.exporter.ranges import METHODS, Histogram
from detr_onnx.exporter.taps import add_taps
from detr_onnx.exporter.trial import (
    CELLS,
    FEWEST_DETECTIONS,
    IDENTICAL_AT_LEAST,
    MASKS_AT_LEAST,
    SCORES_AT_MOST,
    ImageOutputs,
    Run,
    Trial,
    agreement_of,
    mask_iou_of,
    relative_noise,
    run_network,
)
from detr_onnx.image.preprocess import Preprocessing, batch, read_rgb
from detr_onnx.network.quantized import ConvQuantParams, QuantParams

Model = tuple[Checkpoint, Preprocessing]
T = TypeVar("T")
Progress = Callable[[str, Sequence[T]], Iterable[T]]
"""Passes the items of a step on, and shows the step's name and how many items are done."""

QUANTIZED = (
    "backbone."  # path of the convolutions computed in 8 bits; the others are a tenth of the work, and sensitive
)
FLOATS_AT_MOST = 0.75  # share of the layers; with more of them in float, int8 is no faster
LAYER_IMAGES = 8  # for measuring each layer alone, which takes a session a layer


@dataclass(frozen=True)
class Calibration:
    """The result.

    Attributes:
        quant_params: of the convolutions that are computed in 8 bits, by path.
        chosen: the trial that had them.
        trials: all of them, in the order they were made.
        layers: the noise of each convolution when it alone is in 8 bits; empty if neither needed nor requested.
    """

    quant_params: Mapping[str, ConvQuantParams]
    chosen: Trial
    trials: tuple[Trial, ...]
    layers: Mapping[str, float]

    def metadata(self) -> dict[str, str]:
        """The entry for the file's metadata."""
        return {"detr_onnx.int8": json.dumps(self.chosen.figures())}

    def report(self) -> dict[str, Any]:
        """Everything, for JSON; the noisiest layers first."""
        rows = [
            {
                "layer": path,
                "noise": round(noise, 6),
                "int8": path in self.quant_params,
                **_ranges(self.quant_params.get(path)),
            }
            for path, noise in sorted(self.layers.items(), key=lambda row: -row[1])
        ]
        return {
            "passed": self.chosen.trouble() is None,
            "bounds": {
                "identical_at_least": IDENTICAL_AT_LEAST,
                "score_difference_at_most": SCORES_AT_MOST,
                **({} if self.chosen.mask_iou is None else {"mask_iou_at_least": MASKS_AT_LEAST}),
            },
            "chosen": self.chosen.figures(),
            "trials": [trial.figures() for trial in self.trials],
            "layers": rows,
        }


def calibrate(model: Model, images: Sequence[Path], progress: Progress[Any], *, layers: bool = False) -> Calibration:
    """Finds the quantization parameters of a model's int8 graph, and compares it with fp32.

    Args:
        model: the checkpoint and its preprocessing.
        images: at least one; they should be like those that the network will see.
        progress: shows each step.
        layers: measure each layer alone even if none has to stay in float.

    Raises:
        DatasetError: when every image is of one colour.
        ImageError: when an image cannot be read.
        EngineError: when ONNX Runtime or `onnx` is missing.
    """
    with draft_directory(Path(tempfile.gettempdir())) as directory:
        session = _observe(model, images, progress, directory)
        trials = [session.trial(method) for method in METHODS]
        chosen = min(trials, key=_rank)
        if _can_improve(chosen):  # first what costs a few megabytes and no time
            trials.append(session.trial(chosen.method, fp16_feed_forward=True))
            chosen = trials[-1]
        noise = session.layer_noise(chosen.method) if layers or _can_improve(chosen) else {}
        worst, count = sorted(noise, key=lambda path: -noise[path]), 1
        while _can_improve(chosen) and count <= FLOATS_AT_MOST * len(worst):
            trials.append(session.trial(chosen.method, tuple(worst[:count]), fp16_feed_forward=True))
            chosen, count = trials[-1], count + max(1, count // 2)
    return Calibration(session.quant_params(chosen.method, chosen.float_layers), chosen, tuple(trials), noise)


def find_quant_params(model: Model, images: Sequence[Path], method: str) -> dict[str, ConvQuantParams]:
    """The quantization parameters that a method gives, without a trial: enough to measure speed."""
    with draft_directory(Path(tempfile.gettempdir())) as directory:
        return _observe(model, images, lambda _, items: items, directory).quant_params(method)


def _rank(trial: Trial) -> tuple[bool, float]:
    """Trials that pass come first; then those with less noise."""
    return trial.trouble() is not None, trial.noise


def _can_improve(trial: Trial) -> bool:
    """Whether more float layers could make it pass; they do not help against too few detections."""
    return trial.trouble() is not None and trial.agreement.reference >= FEWEST_DETECTIONS


@dataclass(frozen=True)
class _Session:
    """What trials are made with: images, fp32's outputs and the histograms of each convolution's input and output."""

    model: Model
    images: Sequence[Path]
    expected: Sequence[ImageOutputs]
    histograms: Mapping[str, tuple[Histogram, Histogram]]
    progress: Progress[Any]
    directory: Path

    def quant_params(self, method: str, float_layers: Sequence[str] = ()) -> dict[str, ConvQuantParams]:
        """Of all convolutions but the float ones."""
        find = METHODS[method]
        return {
            path: ConvQuantParams(QuantParams.of_range(*find(x)), QuantParams.of_range(*find(y)))
            for path, (x, y) in self.histograms.items()
            if path not in float_layers
        }

    def trial(self, method: str, float_layers: tuple[str, ...] = (), fp16_feed_forward: bool = False) -> Trial:
        """Runs the int8 network on all images."""
        step = f"int8, {method}{', feed-forward weights in fp16' if fp16_feed_forward else ''}"
        step += f", {len(float_layers)} layers in float" if float_layers else ""
        images = self.progress(step, self.images)
        options = ExportOptions(
            precision="int8",
            quant_params=self.quant_params(method, float_layers),
            fp16_feed_forward=fp16_feed_forward,
        )
        found = list(self._outputs(options, images))
        compared = self.expected, found, self.model[0].config.labels
        noise, mask_iou = relative_noise(self.expected, found), mask_iou_of(*compared)
        return Trial(method, float_layers, fp16_feed_forward, agreement_of(*compared), noise, mask_iou)

    def layer_noise(self, method: str) -> dict[str, float]:
        """The noise of each convolution when it alone is in 8 bits."""
        quant_params, images = self.quant_params(method), self.images[:LAYER_IMAGES]
        return {
            path: relative_noise(
                self.expected, list(self._outputs(ExportOptions(quant_params={path: quant_params[path]}), images))
            )
            for path in self.progress("each layer alone", list(quant_params))
        }

    def _outputs(self, options: ExportOptions, images: Iterable[Path]) -> Iterator[ImageOutputs]:
        run = None
        for path in images:
            run = run or self._network(options)  # once the step is shown, since writing the graph takes seconds
            pixels, _, sizes_hw = batch([read_rgb(path)], self.model[1])
            yield ImageOutputs.of(run_network(run, pixels, self.model[0].config.masks), sizes_hw)

    def _network(self, options: ExportOptions) -> Run:
        graph = self.directory / "trial.onnx"
        write_onnx(graph, *self.model, replace(options, mask=False, stages=(CELLS,)), external_data=True)
        return named_outputs(graph)


def _observe(model: Model, images: Sequence[Path], progress: Progress[Any], directory: Path) -> _Session:
    """Runs fp32 on all images but those of one colour, and counts the values at each convolution."""
    options = ExportOptions(mask=False, stages=(CELLS,))
    graph = record(*model, options)
    taps = add_taps(graph, QUANTIZED)
    write_graph(directory / "fp32.onnx", graph, *model, options, external_data=True)
    run = named_outputs(directory / "fp32.onnx")
    histograms = {name: Histogram() for names in taps.values() for name in names}
    used, expected = [], []
    for path in progress("fp32", images):
        image = read_rgb(path)
        if image.getcolors(maxcolors=1):
            continue
        pixels, _, sizes_hw = batch([image], model[1])
        outputs = run_network(run, pixels, model[0].config.masks, histograms)
        used.append(path)
        expected.append(ImageOutputs.of(outputs, sizes_hw))
        for name, histogram in histograms.items():
            histogram.add(outputs[name])
    if not used:
        raise DatasetError(
            "the images to calibrate with show nothing",
            found=f"one colour only in each of {len(images)}",
            expected="images like those that the network will see",
        )
    by_path = {path: (histograms[x], histograms[y]) for path, (x, y) in taps.items()}
    return _Session(model, used, expected, by_path, progress, directory)


def _ranges(quant_params: ConvQuantParams | None) -> dict[str, tuple[float, float]]:
    return {} if quant_params is None else {"input": quant_params.input.range(), "output": quant_params.output.range()}
