"""Every engine and precision against a reference, on the same images.

The reference of a checkpoint is the numpy engine, which computes the model as it is written; of a graph file it is the
checkpoint that it was written from, if that is given, else the first engine that opens the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from detr_onnx.engines.bfloat16 import REGIONS
from detr_onnx.engines.cpu import bfloat16_flag
from detr_onnx.engines.openvino_package import has_bfloat16
from detr_onnx.engines.options import EngineOptions
from detr_onnx.engines.table import ENGINES, EngineRow
from detr_onnx.errors import DetrError, EngineError
from detr_onnx.models.load import Source
from detr_onnx.models.open import OpenModel, open_model
from detr_onnx.verify.bars import FEWEST_DETECTIONS, bar_for
from detr_onnx.verify.checks import FAILED, NOT_TRIED, REFERENCE, Check, Notice, judged
from detr_onnx.verify.compare import Inputs, Outputs, Row, Shape, difference, fits
from detr_onnx.verify.images import Case

SECTION = "engines"
NEEDS_BFLOAT16 = {*REGIONS, "bf16"}


@dataclass(frozen=True)
class Subject:
    """The model to verify, and where its files come from.

    Attributes:
        model: as `open_model` takes it.
        source: its files, as `models.open.locate` finds them.
        reference: the checkpoint that a graph is compared with; None for the model itself.
        options: further arguments of `open_model`.
    """

    model: str
    source: Source
    reference: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def contenders(self) -> tuple[Contender, ...]:
        """All engines and precisions of the table, numpy first."""
        return tuple(_contenders(self.source))

    def open(self, engine: str, precision: str | None) -> OpenModel:
        return open_model(self.model, EngineOptions(engine, precision=precision), **self.options)


@dataclass(frozen=True)
class Contender:
    """An engine in a precision, or the reason why it is not tried."""

    engine: str
    precision: str | None
    reason: str | None = None

    @property
    def name(self) -> str:
        return f"{self.engine} {self.precision or ''}".strip()


def _contenders(source: Source) -> Iterator[Contender]:
    for row in sorted(ENGINES.values(), key=lambda row: row.name != "numpy"):
        for precision in _precisions(row, source):
            has_graph = source.graph is not None and (source.checkpoint is None or precision == "fp32")
            missing = row.missing_packages(has_graph)
            reason = f"not installed: {' and '.join(missing)}" if missing else _reason(row, precision, source)
            yield Contender(row.name, precision, reason)


def _precisions(row: EngineRow, source: Source) -> tuple[str | None, ...]:
    """The precisions to try; ONNX Runtime runs a graph file only in the precision in which it was written."""
    if source.checkpoint is None and row.name == "onnxruntime":
        return (None,)
    return row.precisions


def _reason(row: EngineRow, precision: str | None, source: Source) -> str | None:
    """The reason why an installed engine is not tried with this precision; None if it is."""
    if source.checkpoint is None and source.graph is not None:
        if row.graphs is None:
            return "runs checkpoints only"
        if source.graph.suffix.lower() not in row.graphs.suffixes:
            return f"does not read {source.graph.suffix} files"
    if precision in NEEDS_BFLOAT16 and not (bfloat16_flag()[1] if row.name == "onnxruntime" else has_bfloat16()):
        return f"the processor has no bfloat16 for {row.name}"
    if precision == "int8" and source.checkpoint is not None:
        return "needs images for calibration: verify the exported file"
    return None


class Reference:
    """The network that all others are compared with. Its outputs are kept, so that each case is computed once."""

    def __init__(self, model: OpenModel) -> None:
        self.model = model
        self.labels = model.labels
        self._kept: dict[tuple[str, Shape], tuple[Inputs, Outputs]] = {}

    def outputs(self, case: Case, shape: Shape) -> tuple[Inputs, Outputs]:
        """The inputs of a case for a network of this shape, and the outputs of the reference for them."""
        key = case.name, shape
        if key not in self._kept:
            inputs = shape.inputs(case)
            self._kept[key] = inputs, run(self.model, case, inputs)
        return self._kept[key]


def run(model: OpenModel, case: Case, inputs: Inputs, mask_threshold: float | None = None) -> Outputs:
    """The outputs of a model for a case, with the masks of the best queries if it has masks and the case is one image.

    Args:
        mask_threshold: of the queries whose masks are computed; None to derive it from the logits.
    """
    pixels, mask, _ = inputs
    outputs = Outputs(*model.engine.network(pixels, mask))
    if model.engine.segment is None or len(case.images) > 1 or not outputs.finite:
        return outputs
    threshold = outputs.mask_threshold() if mask_threshold is None else mask_threshold
    segments = model.engine.segment(pixels, mask, threshold)
    own = segments.kept[:, 0] == 0  # the others are repetitions that fill the batch
    return Outputs(outputs.logits, outputs.boxes, segments._replace(kept=segments.kept[own], masks=segments.masks[own]))


def check_engines(subject: Subject, cases: list[Case], notice: Notice) -> Iterator[Check]:
    """The reference, then every other engine and precision.

    Raises:
        DetrError: the reference cannot be opened.
    """
    able = [contender for contender in subject.contenders if contender.reason is None]
    if not able and subject.reference is None:
        raise _nothing_runs(subject.contenders)
    notice("the reference")
    reference, first = open_reference(subject, able)
    yield Check(
        SECTION, first or f"{reference.model.engine.title} (reference)", REFERENCE, reference.model.engine.title
    )
    for contender in subject.contenders:
        if contender.reason is not None:
            yield Check(SECTION, contender.name, NOT_TRIED, contender.reason)
        elif contender.name != first:
            notice(contender.name)
            yield check_contender(subject, contender, reference, cases)


def _nothing_runs(tried: Sequence[Contender]) -> EngineError:
    found = "; ".join(dict.fromkeys(f"{c.engine}: {c.reason}" for c in tried))
    return EngineError("no installed engine runs this model", found=found, remedy="run pip install 'detr-onnx[all]'")


def open_reference(subject: Subject, able: list[Contender]) -> tuple[Reference, str]:
    """The reference, and the name of the contender that it is; an empty name if it is another checkpoint."""
    if subject.reference is not None:
        options = {**subject.options, "config": None}
        return Reference(open_model(subject.reference, EngineOptions("numpy"), **options)), ""
    return Reference(subject.open(able[0].engine, able[0].precision)), able[0].name


def check_contender(subject: Subject, contender: Contender, reference: Reference, cases: list[Case]) -> Check:
    """Opens an engine, runs every case, and compares."""
    try:
        model = subject.open(contender.engine, contender.precision)
        return _compared(contender, model, reference, [case for case in cases if fits(model, case)])
    except DetrError as error:
        return Check(SECTION, contender.name, FAILED, str(error), "an engine that runs the model")


def _compared(contender: Contender, model: OpenModel, reference: Reference, cases: list[Case]) -> Check:
    shape, rows = Shape.of(model), list[Row]()
    precision = contender.precision or claimed_precision(model)
    name = f"{contender.engine} {precision}"
    for case in cases:
        inputs, expected = reference.outputs(case, shape)
        actual = run(model, case, inputs, None if expected.masks is None else expected.mask_threshold())
        if not expected.finite:
            return judged(SECTION, name, False, f"the reference is not finite for {case.name}", "finite numbers")
        if not actual.finite:
            return judged(SECTION, name, False, f"not finite for {case.name}", "finite numbers")
        if actual.logits.shape != expected.logits.shape:
            found = f"logits {list(actual.logits.shape)}"
            return judged(SECTION, name, False, found, f"{list(expected.logits.shape)} as the reference")
        rows.append((case, expected, actual, inputs[2]))
    return _judged(name, precision, rows, reference.labels, model.engine.title)


def _judged(name: str, precision: str, rows: list[Row], labels: tuple[str, ...], title: str) -> Check:
    differs, bar = difference(rows, labels), bar_for(precision)
    troubles, like = differs.troubles(bar), differs.like()
    expected = ""
    if troubles:
        expected = f"{precision}: {'; '.join(troubles)}; worst on {differs.worst}; "
        expected += f"it agrees as {like} would" if like else "it computes something else"
    same = "-" if differs.identical is None else f"{differs.identical:.1%} of {differs.detections}"
    if differs.detections < FEWEST_DETECTIONS:
        same += " (too few to judge by)"
    found = "; ".join(
        (
            f"{differs.digits} digits",
            f"logits differ by {differs.logits_largest:.1e}, boxes by {differs.boxes_largest:.1e}",
            f"identical detections {same}",
        )
    )
    figures = {**differs.figures(), "runtime": title, "bar": bar.source}
    return judged(SECTION, name, not troubles, found, expected, figures)


def claimed_precision(model: OpenModel) -> str:
    """The precision that a graph file says it computes in: that of its metadata, else of the engine's title."""
    metadata = model.engine.metadata or {}
    return metadata.get("detr_onnx.precision") or model.engine.title.rsplit(", ", 1)[-1]


def only_numpy(checks: list[Check]) -> bool:
    """Whether the reference is alone: no other engine was compared with it."""
    return not any(check.section == SECTION and check.outcome not in (NOT_TRIED, REFERENCE) for check in checks)
