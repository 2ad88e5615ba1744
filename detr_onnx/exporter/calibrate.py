"""From images to a network that convolves in 8 bits, and a judgement whether it still says what it said in float.

    images ── fp32, observed ──► histograms ── a method ──► grids ── int8 ──► answers ── beside fp32's ──► the gate
                                                                └── without the worst layers, until it opens ◄──┘

Every method is tried; the gate chooses. ONNX Runtime runs both, one image at a time, and nothing of an image is kept
but counts and answers. What its own quantizer does with a finished graph we do while the graph is written, where a
convolution still knows its ReLU and its shortcut.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines.graph import BOXES, LOGITS, PIXELS
from detr_onnx.engines.onnxruntime import named_outputs
from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.agreement import Agreement, agreement
from detr_onnx.exporter.onnx_file import ExportOptions, record, write_graph, write_onnx
from detr_onnx.exporter.ranges import METHODS, Histogram
from detr_onnx.exporter.taps import add_taps
from detr_onnx.image.preprocess import Preprocessing, batch, read_rgb
from detr_onnx.network.quantized import ConvQuantParams, QuantParams

Floats = NDArray[np.float32]
Model = tuple[Checkpoint, Preprocessing]
T = TypeVar("T")
Watch = Callable[[str, Sequence[T]], Iterable[T]]
"""Passes items on while it shows what is being done with how many of them."""

IDENTICAL_AT_LEAST = 0.98  # share of detections above `THRESHOLD` that int8 and fp32 both have
SCORES_AT_MOST = 0.03  # mean difference of their scores
FEWEST_DETECTIONS = 50  # of fp32's: with fewer, one that differs is more than 2 %
THRESHOLD = 0.5
QUANTIZED = "backbone."  # where convolutions are computed in 8 bits; the rest is a tenth of the work, and touchy
STANDARD_ERRORS = 2  # that the images, a sample, have to be above the bound: then 98 % of others like them are too
FLOATS_AT_MOST = 0.75  # share of the layers; with more of them int8 is not worth its name
CELLS, CELLS_EVERY = "projection", 7  # the stage that the backbone ends with; which of its numbers are kept
OUTPUTS = (LOGITS, BOXES, CELLS)
LAYER_IMAGES = 8  # that each layer's own error is measured on: it takes a session for each layer


@dataclass(frozen=True)
class Answer:
    """What a network said of one image: logits [1,Q,C+1], boxes [1,Q,4]; the image's size [1,2]; some numbers of
    what the backbone handed to the transformer."""

    logits: Floats
    boxes_cxcywh: Floats
    sizes_hw: NDArray[np.int64]
    cells: Floats

    def detections(self, labels: tuple[str, ...]) -> Detections:
        """What is above the threshold."""
        return detections_of(self.logits, self.boxes_cxcywh, self.sizes_hw, labels, THRESHOLD)[0]


@dataclass(frozen=True)
class Trial:
    """One int8 network beside fp32.

    Attributes:
        method: how its ranges were chosen, of `ranges.METHODS`.
        floats: convolutions of the backbone that stay in float.
        fp16_feed_forward: whether the feed-forward layers' weights are kept in 16 bits instead of 8.
        agreement: on what was detected.
        noise: what the backbone hands to the transformer differs by, of its own size (root mean squares): steadier
            than detections, which one level can tip over.
    """

    method: str
    floats: tuple[str, ...]
    fp16_feed_forward: bool
    agreement: Agreement
    noise: float

    def trouble(self) -> tuple[str, str] | None:
        """Why the gate stays shut: what was found and what was expected; None when it opens."""
        found = self.agreement
        if found.reference < FEWEST_DETECTIONS:
            return (
                f"{found.reference} detections of fp32 in {found.images} images, too few to judge by",
                f"at least {FEWEST_DETECTIONS}",
            )
        identical, scores, wanted = found.identical or 0.0, found.score_difference or 0.0, self.wanted()
        if identical >= wanted and scores <= SCORES_AT_MOST:
            return None
        return (
            f"{identical:.1%} identical detections, scores differing by {scores:.4f}",
            f"at least {wanted:.1%} and at most {SCORES_AT_MOST}",
        )

    def wanted(self) -> float:
        """Share of identical detections that opens the gate: the bound, and two standard errors of so many above it."""
        bound = IDENTICAL_AT_LEAST
        error = math.sqrt(bound * (1 - bound) / max(1, self.agreement.reference))
        return min(1.0, bound + STANDARD_ERRORS * error)

    def figures(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        return {
            "method": self.method,
            "float_layers": list(self.floats),
            "feed_forward_weights": "fp16" if self.fp16_feed_forward else "int8",
            "noise": round(self.noise, 6),
            **asdict(self.agreement),
        }


@dataclass(frozen=True)
class Calibration:
    """What came of it.

    Attributes:
        grids: of the convolutions that are computed in 8 bits.
        chosen: the trial that they are of.
        trials: all of them, in the order they were made.
        layers: how far each convolution alone moves the answers, in the unit of `Trial.noise`; empty when that was
            neither needed nor asked for.
    """

    quant_params: Mapping[str, ConvQuantParams]
    chosen: Trial
    trials: tuple[Trial, ...]
    layers: Mapping[str, float]

    def metadata(self) -> dict[str, str]:
        """What the file's metadata says of it."""
        return {"detr_onnx.int8": json.dumps(self.chosen.figures())}

    def report(self) -> dict[str, Any]:
        """Everything, for JSON; the layers with the worst first."""
        worst = sorted(self.layers.items(), key=lambda row: -row[1])
        rows = [
            {
                "layer": conv,
                "noise": round(alone, 6),
                "int8": conv in self.quant_params,
                **_ranges(self.quant_params.get(conv)),
            }
            for conv, alone in worst
        ]
        return {
            "passed": self.chosen.trouble() is None,
            "bounds": {"identical_at_least": IDENTICAL_AT_LEAST, "score_difference_at_most": SCORES_AT_MOST},
            "chosen": self.chosen.figures(),
            "trials": [trial.figures() for trial in self.trials],
            "layers": rows,
        }


def calibrate(model: Model, images: Sequence[Path], watch: Watch[Any], *, layers: bool = False) -> Calibration:
    """The grids of a model's int8 form, chosen and judged on images.

    Args:
        model: the checkpoint, and how it wants its images.
        images: at least one; what they show should be like what the network will see.
        watch: shows progress.
        layers: measure each layer alone even if nothing needs to be left in float.

    Raises:
        DatasetError: when every image shows one colour only.
        ImageError: when an image cannot be read.
        EngineError: when ONNX Runtime or `onnx` is missing.
    """
    with tempfile.TemporaryDirectory() as place:
        bench = _observed(model, images, watch, Path(place))
        trials = [bench.trial(method) for method in METHODS]
        chosen = min(trials, key=_rank)
        if _may_mend(chosen):  # what costs a few megabytes and no time first
            trials.append(bench.trial(chosen.method, fp16_feed_forward=True))
            chosen = trials[-1]
        alone = bench.alone(chosen.method) if layers or _may_mend(chosen) else {}
        worst, count = sorted(alone, key=lambda conv: -alone[conv]), 1
        while _may_mend(chosen) and count <= FLOATS_AT_MOST * len(worst):
            trials.append(bench.trial(chosen.method, tuple(worst[:count]), fp16_feed_forward=True))
            chosen, count = trials[-1], count + max(1, count // 2)
    return Calibration(bench.quant_params(chosen.method, chosen.floats), chosen, tuple(trials), alone)


def ranges_alone(model: Model, images: Sequence[Path], method: str) -> dict[str, ConvQuantParams]:
    """The grids that a method gives, untried: for measuring speed, which does not depend on them."""
    with tempfile.TemporaryDirectory() as place:
        return _observed(model, images, lambda _, items: items, Path(place)).quant_params(method, ())


def _rank(trial: Trial) -> tuple[bool, float]:
    """The gate first; among those that it lets through, or does not, the one with the least noise."""
    return trial.trouble() is not None, trial.noise


def _may_mend(trial: Trial) -> bool:
    """Whether leaving layers in float could open the gate; too few detections it does not mend."""
    return trial.trouble() is not None and trial.agreement.reference >= FEWEST_DETECTIONS


@dataclass(frozen=True)
class _Bench:
    """What trials are made with: the images, fp32's answers, and what was seen at each convolution."""

    model: Model
    images: Sequence[Path]
    expected: Sequence[Answer]
    seen: Mapping[str, tuple[Histogram, Histogram]]
    watch: Watch[Any]
    place: Path

    def quant_params(self, method: str, floats: Sequence[str]) -> dict[str, ConvQuantParams]:
        """Of all quantized convolutions but those."""
        find = METHODS[method]
        return {
            conv: ConvQuantParams(QuantParams.of_range(*find(x)), QuantParams.of_range(*find(y)))
            for conv, (x, y) in self.seen.items()
            if conv not in floats
        }

    def trial(self, method: str, floats: tuple[str, ...] = (), fp16_feed_forward: bool = False) -> Trial:
        """The whole int8 network on all images."""
        form = ExportOptions(
            mask=False,
            precision="int8",
            quant_params=self.quant_params(method, floats),
            fp16_feed_forward=fp16_feed_forward,
        )
        what = f"int8, {method}{', finer weights' if fp16_feed_forward else ''}"
        what += f", {len(floats)} layers in float" if floats else ""
        found = list(self._answers(form, self.watch(what, self.images)))
        labels = self.model[0].config.labels
        both = zip(self.expected, found, strict=True)
        agreed = agreement((answer.detections(labels), other.detections(labels)) for answer, other in both)
        return Trial(method, floats, fp16_feed_forward, agreed, _noise(self.expected, found))

    def alone(self, method: str) -> dict[str, float]:
        """How far each convolution moves the answers when it is the only one in 8 bits."""
        quant_params, some = self.quant_params(method, ()), self.images[:LAYER_IMAGES]
        return {
            conv: _noise(
                self.expected,
                list(self._answers(ExportOptions(mask=False, quant_params={conv: quant_params[conv]}), some)),
            )
            for conv in self.watch("each layer alone", list(quant_params))
        }

    def _answers(self, form: ExportOptions, images: Iterable[Path]) -> Iterable[Answer]:
        path = self.place / "trial.onnx"
        write_onnx(path, *self.model, replace(form, stages=(CELLS,)), external_data=True)
        run = named_outputs(path)
        for image in images:
            pixels, _, sizes_hw = batch([read_rgb(image)], self.model[1])
            found = run({PIXELS: pixels}, OUTPUTS)
            yield _answer(found, sizes_hw)


def _observed(model: Model, images: Sequence[Path], watch: Watch[Any], place: Path) -> _Bench:
    """fp32 on all images that show something, with an eye on what flows through it."""
    preprocessing = model[1]
    form = ExportOptions(mask=False, stages=(CELLS,))
    graph = record(*model, form)
    ends = add_taps(graph, QUANTIZED)
    write_graph(place / "observed.onnx", graph, *model, form, external_data=True)
    run = named_outputs(place / "observed.onnx")
    histograms = {name: Histogram() for names in ends.values() for name in names}
    used, expected = [], []
    for path in watch("observing fp32", images):
        image = read_rgb(path)
        if image.getcolors(maxcolors=1):
            continue
        pixels, _, sizes_hw = batch([image], preprocessing)
        found = run({PIXELS: pixels}, [*OUTPUTS, *histograms])
        used.append(path)
        expected.append(_answer(found, sizes_hw))
        for name, histogram in histograms.items():
            histogram.add(found[name])
    if not used:
        raise DatasetError(
            "the images to calibrate with show nothing",
            found=f"one colour only in each of {len(images)}",
            expected="images like those that the network will see",
        )
    seen = {conv: (histograms[x], histograms[y]) for conv, (x, y) in ends.items()}
    return _Bench(model, used, expected, seen, watch, place)


def _answer(found: Mapping[str, Any], sizes_hw: NDArray[np.int64]) -> Answer:
    return Answer(found[LOGITS], found[BOXES], sizes_hw, found[CELLS].ravel()[::CELLS_EVERY].copy())


def _noise(expected: Sequence[Answer], found: Sequence[Answer]) -> float:
    """See `Trial.noise`; over as many answers as were found."""
    pairs = list(zip(expected[: len(found)], found, strict=True))
    off, size = (np.mean([np.mean(values**2) for values in some]) for some in
                 ([a.cells - b.cells for a, b in pairs], [a.cells for a, _ in pairs]))  # fmt: skip
    return float(np.sqrt(off / size))


def _ranges(quant_params: ConvQuantParams | None) -> dict[str, tuple[float, float]]:
    return {} if quant_params is None else {"input": quant_params.input.ends(), "output": quant_params.output.ends()}
