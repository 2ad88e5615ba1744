"""COCO's figures during training; `detr-onnx evaluate` computes those of the finished model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.detections import detections_of
from detr_onnx.evaluation.average_precision import evaluate
from detr_onnx.evaluation.coco import parse_annotations


def coco_rows(
    image_id: int, size_hw: tuple[int, int], logits: NDArray[np.float32], boxes_cxcywh: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """COCO result rows, one per query, without a threshold; `logits` [Q,C+1], `boxes_cxcywh` [Q,4] in 0..1."""
    names = [str(category) for category in range(logits.shape[-1] - 1)]
    (detections,) = detections_of(logits[None], boxes_cxcywh[None], np.array([size_hw]), names, 0.0)
    return detections.to_coco(image_id)


def coco_figures(ground_truth: dict[str, list[dict[str, object]]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """AP, AP50, AP75, AP by size, and recall and false detections per object at score 0.5 and IoU 0.5."""
    report = evaluate(parse_annotations(ground_truth, "the scenes"), rows)
    figures = {
        name: round(value, 4) for name, value in report.figures.items() if value is not None and name[:2] == "AP"
    }
    halves = {"recall_at_half": round(report.recall_at_half, 4), "false_at_half": round(report.false_at_half, 4)}
    return figures | {"objects": report.objects} | halves
