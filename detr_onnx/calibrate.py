"""From pictures to a network that convolves in 8 bits, and a judgement whether it still says what it said in float.

    pictures ── fp32, observed ──► histograms ── a method ──► grids ── int8 ──► answers ── beside fp32's ──► the gate
                                                                └── without the worst layers, until it opens ◄──┘

Every method is tried; the gate chooses. ONNX Runtime runs both, one picture at a time, and nothing of a picture is kept
but counts and answers. What its own quantizer does with a finished graph we do while the graph is written, where a
convolution still knows its ReLU and its shortcut.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from detr_onnx.agreement import Agreement, agreement
from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines import Network
from detr_onnx.engines.onnxruntime import named_outputs, onnxruntime_engine
from detr_onnx.errors import DatasetError
from detr_onnx.export import Form, record, write_graph, write_onnx
from detr_onnx.image import Preprocessing, batch, read_rgb
from detr_onnx.network.checkpoint import Checkpoint
from detr_onnx.network.observed import observe
from detr_onnx.network.quantized import ConvGrids, Grid
from detr_onnx.network.ranges import METHODS, Histogram
from detr_onnx.network.resnet import fold_batch_norm

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
LAYER_PICTURES = 8  # that each layer's own error is measured on: it takes a session for each layer


@dataclass(frozen=True)
class Answer:
    """What a network said of one picture: logits [1,Q,C+1], boxes [1,Q,4], and the picture's size [1,2]."""

    logits: Floats
    boxes_cxcywh: Floats
    sizes_hw: NDArray[np.int64]

    def probabilities(self) -> Floats:
        """[1,Q,C], "no object" left out."""
        weights = np.exp(self.logits - self.logits.max(axis=-1, keepdims=True))
        shares: Floats = (weights / weights.sum(axis=-1, keepdims=True))[..., :-1]
        return shares

    def detections(self, labels: tuple[str, ...]) -> Detections:
        """What is above the threshold."""
        return detections_of(self.logits, self.boxes_cxcywh, self.sizes_hw, labels, THRESHOLD)[0]


@dataclass(frozen=True)
class Trial:
    """One int8 network beside fp32.

    Attributes:
        method: how its ranges were chosen, of `ranges.METHODS`.
        floats: convolutions of the backbone that stay in float.
        agreement: on what was detected.
        difference: mean over queries of the largest difference of a class's probability; finer than detections.
    """

    method: str
    floats: tuple[str, ...]
    agreement: Agreement
    difference: float

    def trouble(self) -> tuple[str, str] | None:
        """Why the gate stays shut: what was found and what was expected; None when it opens."""
        found = self.agreement
        if found.reference < FEWEST_DETECTIONS:
            return (
                f"{found.reference} detections of fp32 in {found.pictures} pictures, too few to judge by",
                f"at least {FEWEST_DETECTIONS}",
            )
        identical, scores = found.identical or 0.0, found.score_difference or 0.0
        if identical >= IDENTICAL_AT_LEAST and scores <= SCORES_AT_MOST:
            return None
        return (
            f"{identical:.1%} identical detections, scores differing by {scores:.4f}",
            f"at least {IDENTICAL_AT_LEAST:.0%} and at most {SCORES_AT_MOST}",
        )

    def figures(self) -> dict[str, Any]:
        """What was measured, for JSON."""
        return {
            "method": self.method,
            "float_layers": list(self.floats),
            "difference": round(self.difference, 6),
            **asdict(self.agreement),
        }


@dataclass(frozen=True)
class Calibration:
    """What came of it.

    Attributes:
        grids: of the convolutions that are computed in 8 bits.
        chosen: the trial that they are of.
        trials: all of them, in the order they were made.
        layers: how far each convolution alone moves the answers, in the unit of `Trial.difference`; empty when that was
            neither needed nor asked for.
    """

    grids: Mapping[str, ConvGrids]
    chosen: Trial
    trials: tuple[Trial, ...]
    layers: Mapping[str, float]

    def told(self) -> dict[str, str]:
        """What the file's metadata says of it."""
        return {"detr_onnx.int8": json.dumps(self.chosen.figures())}

    def report(self) -> dict[str, Any]:
        """Everything, for JSON; the layers with the worst first."""
        worst = sorted(self.layers.items(), key=lambda row: -row[1])
        rows = [
            {"layer": conv, "difference": round(alone, 6), "int8": conv in self.grids, **_ranges(self.grids.get(conv))}
            for conv, alone in worst
        ]
        return {
            "passed": self.chosen.trouble() is None,
            "bounds": {"identical_at_least": IDENTICAL_AT_LEAST, "score_difference_at_most": SCORES_AT_MOST},
            "chosen": self.chosen.figures(),
            "trials": [trial.figures() for trial in self.trials],
            "layers": rows,
        }


def calibrate(model: Model, pictures: Sequence[Path], watch: Watch[Any], *, layers: bool = False) -> Calibration:
    """The grids of a model's int8 form, chosen and judged on pictures.

    Args:
        model: the checkpoint, and how it wants its pictures.
        pictures: at least one; what they show should be like what the network will see.
        watch: shows progress.
        layers: measure each layer alone even if nothing needs to be left in float.

    Raises:
        DatasetError: when every picture shows one colour only.
        ImageError: when a picture cannot be read.
        EngineError: when ONNX Runtime or `onnx` is missing.
    """
    with tempfile.TemporaryDirectory() as place:
        bench = _observed(model, pictures, watch, Path(place))
        trials = [bench.trial(method, ()) for method in METHODS]
        chosen = min(trials, key=_rank)
        alone = bench.alone(chosen.method) if layers or _may_mend(chosen) else {}
        worst, count = sorted(alone, key=lambda conv: -alone[conv]), 1
        while _may_mend(chosen) and count <= len(worst) // 2:
            trials.append(bench.trial(chosen.method, tuple(worst[:count])))
            chosen, count = min(chosen, trials[-1], key=_rank), 2 * count
    return Calibration(bench.grids(chosen.method, chosen.floats), chosen, tuple(trials), alone)


def ranges_alone(model: Model, pictures: Sequence[Path], method: str) -> dict[str, ConvGrids]:
    """The grids that a method gives, untried: for measuring speed, which does not depend on them."""
    with tempfile.TemporaryDirectory() as place:
        return _observed(model, pictures, lambda _, items: items, Path(place)).grids(method, ())


def _rank(trial: Trial) -> tuple[bool, float]:
    """The gate first; among those that it lets through, or does not, the smallest difference."""
    return trial.trouble() is not None, trial.difference


def _may_mend(trial: Trial) -> bool:
    """Whether leaving layers in float could open the gate; too few detections it does not mend."""
    return trial.trouble() is not None and trial.agreement.reference >= FEWEST_DETECTIONS


@dataclass(frozen=True)
class _Bench:
    """What trials are made with: the pictures, fp32's answers, and what was seen at each convolution."""

    model: Model
    pictures: Sequence[Path]
    expected: Sequence[Answer]
    seen: Mapping[str, tuple[Histogram, Histogram]]
    watch: Watch[Any]
    place: Path

    def grids(self, method: str, floats: Sequence[str]) -> dict[str, ConvGrids]:
        """Of all quantized convolutions but those."""
        find = METHODS[method]
        return {
            conv: ConvGrids(Grid.of_range(*find(x)), Grid.of_range(*find(y)))
            for conv, (x, y) in self.seen.items()
            if conv not in floats
        }

    def trial(self, method: str, floats: tuple[str, ...]) -> Trial:
        """The whole int8 network on all pictures."""
        form = Form(mask=False, precision="int8", grids=self.grids(method, floats))
        what = f"int8, {method}" + (f", {len(floats)} layers in float" if floats else "")
        found = list(self._answers(form, self.watch(what, self.pictures)))
        labels = self.model[0].config.labels
        both = zip(self.expected, found, strict=True)
        agreed = agreement((answer.detections(labels), other.detections(labels)) for answer, other in both)
        return Trial(method, floats, agreed, _difference(self.expected, found))

    def alone(self, method: str) -> dict[str, float]:
        """How far each convolution moves the answers when it is the only one in 8 bits."""
        grids, some = self.grids(method, ()), self.pictures[:LAYER_PICTURES]
        return {
            conv: _difference(self.expected, list(self._answers(Form(mask=False, grids={conv: grids[conv]}), some)))
            for conv in self.watch("each layer alone", list(grids))
        }

    def _answers(self, form: Form, pictures: Iterable[Path]) -> Iterable[Answer]:
        path = self.place / "trial.onnx"
        write_onnx(path, *self.model, form, external_data=True)
        network: Network = onnxruntime_engine(path).network
        for picture in pictures:
            pixels, _, sizes_hw = batch([read_rgb(picture)], self.model[1])
            yield Answer(*network(pixels, None), sizes_hw)


def _observed(model: Model, pictures: Sequence[Path], watch: Watch[Any], place: Path) -> _Bench:
    """fp32 on all pictures that show something, with an eye on what flows through it."""
    checkpoint, preprocessing = model
    form = Form(mask=False)
    graph = record(checkpoint.config, fold_batch_norm(checkpoint.tensors), form)
    ends = {conv: names for conv, names in observe(graph).items() if conv.startswith(QUANTIZED)}
    write_graph(place / "observed.onnx", graph, *model, form, external_data=True)
    run = named_outputs(place / "observed.onnx")
    histograms = {name: Histogram() for names in ends.values() for name in names}
    used, expected = [], []
    for picture in watch("observing fp32", pictures):
        image = read_rgb(picture)
        if image.getcolors(maxcolors=1):
            continue
        pixels, _, sizes_hw = batch([image], preprocessing)
        found = run({"pixel_values": pixels}, ["logits", "pred_boxes", *histograms])
        used.append(picture)
        expected.append(Answer(found.pop("logits"), found.pop("pred_boxes"), sizes_hw))
        for name, values in found.items():
            histograms[name].add(values)
    if not used:
        raise DatasetError(
            "the pictures to calibrate with show nothing",
            found=f"one colour only in each of {len(pictures)}",
            expected="pictures like those that the network will see",
        )
    seen = {conv: (histograms[x], histograms[y]) for conv, (x, y) in ends.items()}
    return _Bench(model, used, expected, seen, watch, place)


def _difference(expected: Sequence[Answer], found: Sequence[Answer]) -> float:
    """See `Trial.difference`; over as many answers as were found."""
    pairs = zip(expected[: len(found)], found, strict=True)
    return float(np.mean([np.abs(a.probabilities() - b.probabilities()).max(axis=-1).mean() for a, b in pairs]))


def _ranges(grids: ConvGrids | None) -> dict[str, tuple[float, float]]:
    return {} if grids is None else {"input": grids.input.ends(), "output": grids.output.ends()}
