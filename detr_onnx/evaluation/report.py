"""What was measured, as text: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from detr_onnx.evaluation.agreement import Agreement
from detr_onnx.evaluation.average_precision import Evaluation
from detr_onnx.text import aligned_table, printable

Subject = Mapping[str, Any]
"""What was measured: the model, the engine it ran on, …"""

SAID = {
    "AP": "AP    IoU 0.50:0.95  all",
    "AP50": "AP50  IoU 0.50       all",
    "AP75": "AP75  IoU 0.75       all",
    "AP_small": "AP    IoU 0.50:0.95  small",
    "AP_medium": "AP    IoU 0.50:0.95  medium",
    "AP_large": "AP    IoU 0.50:0.95  large",
    "AR_1": "AR    1 detection    all",
    "AR_10": "AR    10 detections  all",
    "AR_100": "AR    100 detections all",
    "AR_small": "AR    100 detections small",
    "AR_medium": "AR    100 detections medium",
    "AR_large": "AR    100 detections large",
}


def format_json(subject: Subject, figures: Evaluation | Agreement) -> str:
    """One JSON object: what was measured, then the figures under the names of their attributes."""
    return json.dumps({**subject, **asdict(figures)}, indent=1) + "\n"


def format_evaluation(subject: Subject, found: Evaluation) -> str:
    """The twelve numbers, what a threshold of 0.5 would give, and a line for each class, best first."""
    lines = [*_headed(subject), f"{found.images} images, {found.objects} objects", ""]
    lines += [f"{SAID[name]:<32}{_figure(value)}" for name, value in found.figures.items()]
    lines += [
        f"{'found, score and IoU above 0.5':<32}{_figure(found.recall_at_half)}",
        f"{'false detections an object':<32}{_figure(found.false_at_half)}",
        "",
    ]
    rows = [
        (printable(one.label), str(one.objects), *map(_figure, (one.AP, one.AP50, one.AR_100)))
        for one in sorted(found.classes, key=lambda one: -one.AP)
    ]
    return "\n".join([*lines, *aligned_table(("class", "objects", "AP", "AP50", "AR_100"), rows)]) + "\n"


def format_agreement(subject: Subject, found: Agreement) -> str:
    """How far the tested model agrees with the reference."""
    said = {
        "boxes of the reference found, IoU 0.5": found.recall_50,
        "boxes of the reference found, IoU 0.95": found.recall_95,
        "identical detections, IoU 0.5": found.identical,
        "mean difference of scores": found.score_difference,
    }
    lines = [*_headed(subject), f"{found.images} images, {found.reference} detections of the reference,"
             f" {found.tested} of the model", ""]  # fmt: skip
    return "\n".join([*lines, *(f"{name:<40}{_figure(value, 5)}" for name, value in said.items())]) + "\n"


def _headed(subject: Subject) -> list[str]:
    return [f"{name.replace('_', ' ')}: {printable(str(value))}" for name, value in subject.items()]


def _figure(value: float | None, digits: int = 4) -> str:
    """Right-aligned; a dash where there is nothing to measure."""
    return f"{'-' if value is None else f'{value:.{digits}f}':>{digits + 2}}"
