"""Formats evaluations and agreements as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from detr_onnx.evaluation.agreement import Agreement
from detr_onnx.evaluation.average_precision import Evaluation
from detr_onnx.evaluation.panoptic_quality import PanopticEvaluation
from detr_onnx.text import aligned_table, printable

Subject = Mapping[str, Any]
"""What was measured: model, engine, …"""

FIGURE_TITLES = {
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


def format_json(subject: Subject, figures: Evaluation | PanopticEvaluation | Agreement) -> str:
    """One JSON object with the subject, then the figures under the names of their attributes."""
    return json.dumps({**subject, **asdict(figures)}, indent=1) + "\n"


def format_evaluation(subject: Subject, evaluation: Evaluation) -> str:
    """The twelve metrics, recall and false detections at a threshold of 0.5, and a row per class, best AP first."""
    lines = [*_subject_lines(subject), f"{evaluation.images} images, {evaluation.objects} objects", ""]
    lines += [f"{FIGURE_TITLES[name]:<32}{_figure(value)}" for name, value in evaluation.figures.items()]
    lines += [
        f"{'found, score and IoU above 0.5':<32}{_figure(evaluation.recall_at_half)}",
        f"{'false detections per object':<32}{_figure(evaluation.false_at_half)}",
        "",
    ]
    rows = [
        (printable(row.label), str(row.objects), *map(_figure, (row.AP, row.AP50, row.AR_100)))
        for row in sorted(evaluation.classes, key=lambda row: -row.AP)
    ]
    return "\n".join([*lines, *aligned_table(("class", "objects", "AP", "AP50", "AR_100"), rows)]) + "\n"


def format_panoptic(subject: Subject, evaluation: PanopticEvaluation) -> str:
    """PQ, SQ and RQ of all categories, of things and of stuff, and a row per category, best PQ first."""
    lines = [*_subject_lines(subject), f"{evaluation.images} images, {evaluation.segments} segments", ""]
    names = ("PQ", "SQ", "RQ")
    groups = [("all", ""), ("things", "_things"), ("stuff", "_stuff")]
    means = [(title, *(_figure(evaluation.figures[f"{name}{group}"]) for name in names)) for title, group in groups]
    rows = [
        (printable(row.label), str(row.segments), *(_figure(getattr(row, name)) for name in names))
        for row in sorted(evaluation.classes, key=lambda row: -row.PQ)
    ]
    table = aligned_table(("class", "segments", *names), rows)
    return "\n".join([*lines, *aligned_table(("", *names), means), "", *table]) + "\n"


def format_agreement(subject: Subject, agreement: Agreement) -> str:
    """How far the tested model agrees with the reference, as text."""
    shares = {
        "boxes of the reference found, IoU 0.5": agreement.recall_50,
        "boxes of the reference found, IoU 0.95": agreement.recall_95,
        "identical detections, IoU 0.5": agreement.identical,
        "mean difference of scores": agreement.score_difference,
    }
    counts = f"{agreement.reference} detections of the reference, {agreement.tested} of the model"
    lines = [*_subject_lines(subject), f"{agreement.images} images, {counts}", ""]
    return "\n".join([*lines, *(f"{name:<40}{_figure(value, 5)}" for name, value in shares.items())]) + "\n"


def _subject_lines(subject: Subject) -> list[str]:
    return [f"{name.replace('_', ' ')}: {printable(str(value))}" for name, value in subject.items()]


def _figure(value: float | None, digits: int = 4) -> str:
    """The value aligned to the right, or a dash for None."""
    return f"{'-' if value is None else f'{value:.{digits}f}':>{digits + 2}}"
