"""Post-training int8 quantization of the backbone's convolutions, with an accuracy gate.

    images ── fp32 with taps ──► histograms ── methods, on a few images ──► the best ──► int8 on all, beside fp32
                                                                              ▲                     │
                                                                              └ without the worst ◄─┘ until it passes
                                                                                     layers

fp32 runs once on each image (`observation.py`). Methods are compared by the noise of the backbone alone, on a few
images; only the best one has to pass the gate. ONNX Runtime runs all networks, one image at a time, and only counts and
detections of an image are kept. Other quantizers edit a finished graph; here the graph is recorded with its
quantization, while each convolution still has its ReLU and its shortcut.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from detr_onnx.atomic import draft_directory
from detr_onnx.engines.graph_engine import PIXELS
from detr_onnx.engines.onnxruntime import named_outputs
from detr_onnx.errors import OutputError
from detr_onnx.exporter.observation import Model, Observation, Progress, observe
from detr_onnx.exporter.onnx_file import ExportOptions, write_backbone, write_onnx
from detr_onnx.exporter.ranges import METHODS
from detr_onnx.exporter.trial import (
    CELLS,
    FEWEST_DETECTIONS,
    IDENTICAL_AT_LEAST,
    MASKS_AT_LEAST,
    SCORES_AT_MOST,
    EarlyStop,
    Floats,
    ImageOutputs,
    Trial,
    agreement_of,
    cells_of,
    mask_iou_of,
    relative_noise,
    run_network,
    sampled_cells,
)
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import batch
from detr_onnx.network.detr import parameters
from detr_onnx.network.quantization import ConvQuantParams
from detr_onnx.text import reason_of

FLOATS_AT_MOST = 0.75  # share of the layers; with more of them in float, int8 is no faster
LAYER_VALUES = 50_000  # of the backbone's output, to measure each layer alone by: two photographs at full size


@dataclass(frozen=True)
class Calibration:
    """The result.

    Attributes:
        quant_params: of the convolutions that are computed in 8 bits, by path.
        chosen: the trial that had them. It compares all images.
        trials: all of them, in the order they were made. One that cannot pass any more ends early, so its figures are
            those of the first images.
        methods: the noise of each method on a few images, when all layers are in 8 bits.
        layers: the noise of each convolution when it alone is in 8 bits; empty if neither needed nor requested.
    """

    quant_params: Mapping[str, ConvQuantParams]
    chosen: Trial
    trials: tuple[Trial, ...]
    methods: Mapping[str, float]
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
            "passed": self.chosen.refusal() is None,
            "bounds": {
                "identical_at_least": IDENTICAL_AT_LEAST,
                "score_difference_at_most": SCORES_AT_MOST,
                **({} if self.chosen.mask_iou is None else {"mask_iou_at_least": MASKS_AT_LEAST}),
            },
            "methods": {method: round(noise, 6) for method, noise in self.methods.items()},
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
        OutputError: when the temporary files cannot be written.
    """
    with _temporary_directory() as directory:
        search = _Search(model, observe(model, images, progress, directory), progress, directory)
        methods = search.noise_of_methods()
        best = min(methods, key=lambda method: methods[method])
        trials = [search.trial(best)]
        if search.can_improve(trials[-1]):  # first what costs a few megabytes and no time
            trials.append(search.trial(best, fp16_feed_forward=True))
        noise = search.noise_of_layers(best) if layers or search.can_improve(trials[-1]) else {}
        worst, count = sorted(noise, key=lambda path: -noise[path]), 1
        while search.can_improve(trials[-1]) and count <= FLOATS_AT_MOST * len(worst):
            trials.append(search.trial(best, tuple(worst[:count]), fp16_feed_forward=True))
            count += max(1, count // 2)
        if trials[-1].agreement.images < len(search.observed.images):
            trials[-1] = search.trial(best, trials[-1].float_layers, trials[-1].fp16_feed_forward, to_the_end=True)
    chosen = trials[-1]
    quant_params = search.observed.quant_params(best, chosen.float_layers)
    return Calibration(quant_params, chosen, tuple(trials), methods, noise)


def find_quant_params(model: Model, images: Sequence[Path], method: str) -> dict[str, ConvQuantParams]:
    """The quantization parameters that a method gives, without a trial: enough to measure speed."""
    with _temporary_directory() as directory:
        return observe(model, images, lambda _, items: items, directory).quant_params(method)


@contextlib.contextmanager
def _temporary_directory() -> Iterator[Path]:
    """A directory for the graphs, which is removed when the block ends."""
    try:
        with draft_directory(Path(tempfile.gettempdir())) as directory:
            yield directory
    except BrokenPipeError:  # of the progress that is shown
        raise
    except (OSError, OutputError) as error:
        raise OutputError(
            "the temporary files of the calibration cannot be written",
            found=error.found if isinstance(error, OutputError) else reason_of(error),
            remedy="free some space, or set TMPDIR to another directory",
        ) from error


@dataclass(frozen=True)
class _Search:
    """What candidates are measured with."""

    model: Model
    observed: Observation
    progress: Progress[Any]
    directory: Path

    def noise_of_methods(self) -> dict[str, float]:
        """The noise of each method on the subset of the images, with all layers in 8 bits."""
        subset, weights = self.observed.subset(), parameters(self.model[0].tensors)
        step = f"{len(METHODS)} methods on {len(subset)} images"
        return {
            method: self._noise(weights, self.observed.quant_params(method), subset)
            for method in self.progress(step, list(METHODS))
        }

    def noise_of_layers(self, method: str) -> dict[str, float]:
        """The noise of each convolution when it alone is in 8 bits."""
        subset, weights = _first_with(LAYER_VALUES, self.observed.subset()), parameters(self.model[0].tensors)
        quant_params = self.observed.quant_params(method)
        return {
            path: self._noise(weights, {path: quant_params[path]}, subset)
            for path in self.progress("each layer alone in int8", list(quant_params))
        }

    def _noise(
        self, weights: Mapping[str, Any], quant_params: Mapping[str, ConvQuantParams], subset: list[tuple[Path, Floats]]
    ) -> float:
        """Of the backbone's output, which takes less time than the whole network."""
        graph, (checkpoint, preprocessing) = self.directory / "backbone.onnx", self.model
        write_backbone(graph, weights, checkpoint.config, quant_params)
        run = named_outputs(graph)
        found = [sampled_cells(run({PIXELS: batch([read_rgb(path)], preprocessing)[0]}, [CELLS])) for path, _ in subset]
        return relative_noise([cells for _, cells in subset], found)

    def trial(
        self,
        method: str,
        float_layers: tuple[str, ...] = (),
        fp16_feed_forward: bool = False,
        to_the_end: bool = False,
    ) -> Trial:
        """Compares the int8 network with fp32 on all images, or until it cannot pass any more."""
        options = ExportOptions(
            mask=False,
            stages=(CELLS,),
            precision="int8",
            quant_params=self.observed.quant_params(method, float_layers),
            fp16_feed_forward=fp16_feed_forward,
        )
        step = f"int8 by {method}{', feed-forward in fp16' if fp16_feed_forward else ''}"
        step += f", {len(float_layers)} layer{'s' if len(float_layers) > 1 else ''} in fp32" if float_layers else ""
        found = self._compared(options, f"{step}, on {len(self.observed.images)} images", to_the_end)
        expected = self.observed.outputs[: len(found)]
        noise = relative_noise(cells_of(expected), cells_of(found))
        compared = agreement_of(expected, found), noise, mask_iou_of(expected, found)
        return Trial(method, float_layers, fp16_feed_forward, *compared)

    def _compared(self, options: ExportOptions, step: str, to_the_end: bool) -> list[ImageOutputs]:
        """The outputs for the images, up to the one after which the gate is lost."""
        run, found, early_stop = None, list[ImageOutputs](), EarlyStop(self.observed.detections())
        (checkpoint, preprocessing), graph = self.model, self.directory / "trial.onnx"
        for path, expected in self.progress(step, list(zip(self.observed.images, self.observed.outputs, strict=True))):
            if run is None:  # once the step is shown, since writing the graph takes seconds
                write_onnx(graph, checkpoint, preprocessing, options, external_data=True)
                run = named_outputs(graph)
            pixels, _, sizes_hw = batch([read_rgb(path)], preprocessing)
            outputs = run_network(run, pixels, checkpoint.config.masks)
            found.append(ImageOutputs.of(outputs, sizes_hw, checkpoint.config.labels, expected.cells is not None))
            early_stop.add(expected, found[-1])
            if early_stop.is_due() and not to_the_end:
                break
        return found

    def can_improve(self, trial: Trial) -> bool:
        """Whether more float layers could make it pass; they do not help against too few detections."""
        return trial.refusal() is not None and self.observed.detections() >= FEWEST_DETECTIONS


def _first_with(values: int, subset: list[tuple[Path, Floats]]) -> list[tuple[Path, Floats]]:
    """The first images, until their samples have that many values."""
    before = accumulate((len(cells) for _, cells in subset), initial=0)
    return [image for image, count in zip(subset, before, strict=False) if count < values]


def _ranges(quant_params: ConvQuantParams | None) -> dict[str, tuple[float, float]]:
    return {} if quant_params is None else {"input": quant_params.input.range(), "output": quant_params.output.range()}
