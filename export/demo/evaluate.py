"""COCO's figures of detections on the scenes: `python export/demo/evaluate.py --help`."""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SCORE = 0.5  # of the counts of found, missed and false
IOU = 0.5


def coco_rows(
    image_id: int, size_hw: tuple[int, int], logits: NDArray[np.float32], boxes_cxcywh: NDArray[np.float32]
) -> list[dict[str, object]]:
    """COCO result rows, one a query, nothing left out; `logits` [Q,C+1], `boxes_cxcywh` [Q,4] in 0..1."""
    exponent = np.exp(logits - logits.max(-1, keepdims=True))
    probability = (exponent / exponent.sum(-1, keepdims=True))[:, :-1]
    height, width = size_hw
    centre, size = boxes_cxcywh[:, :2], boxes_cxcywh[:, 2:]
    xywh = np.concatenate((centre - size / 2, size), 1) * (width, height, width, height)
    return [
        {
            "image_id": image_id,
            "category_id": int(row.argmax()),
            "bbox": [float(value) for value in box],
            "score": float(row.max()),
        }
        for row, box in zip(probability, xywh, strict=True)
    ]


def coco_figures(ground_truth: dict[str, list[dict[str, object]]], rows: list[dict[str, object]]) -> dict[str, float]:
    """AP, AP50, AP75, by size, and recall and false positives at score 0.5 and IoU 0.5."""
    truth = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        truth.dataset = ground_truth
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    figures = {name: round(float(value), 4) for name, value in zip(names, evaluation.stats, strict=False)}
    return figures | counts_at_half(ground_truth, rows)


def counts_at_half(ground_truth: dict[str, list[dict[str, object]]], rows: list[dict[str, object]]) -> dict[str, float]:
    """Recall, and false positives a true object, of detections above score 0.5, matched greedily at IoU 0.5."""
    true: dict[object, list[dict[str, object]]] = {}
    for annotation in ground_truth["annotations"]:
        true.setdefault(annotation["image_id"], []).append(annotation)
    found = false = 0
    for row in sorted(
        (row for row in rows if float(str(row["score"])) > SCORE), key=lambda row: -float(str(row["score"]))
    ):
        rivals = [t for t in true.get(row["image_id"], []) if t["category_id"] == row["category_id"]]
        best = max(rivals, key=lambda t: iou_xywh(t["bbox"], row["bbox"]), default=None)
        if best is not None and iou_xywh(best["bbox"], row["bbox"]) >= IOU:
            true[row["image_id"]].remove(best)
            found += 1
        else:
            false += 1
    objects = len(ground_truth["annotations"])
    return {"objects": objects, "recall_at_half": round(found / objects, 4), "false_at_half": round(false / objects, 4)}


def iou_xywh(a: object, b: object) -> float:
    """Intersection over union of two boxes [x, y, width, height]."""
    ax, ay, aw, ah = np.asarray(a, np.float64)
    bx, by, bw, bh = np.asarray(b, np.float64)
    shared = max(0.0, min(ax + aw, bx + bw) - max(ax, bx)) * max(0.0, min(ay + ah, by + bh) - max(ay, by))
    return float(shared / (aw * ah + bw * bh - shared))


def evaluate(model_directory: Path, dataset: Path) -> dict[str, float]:
    """The figures of a checkpoint in Hugging Face's layout, run by transformers, image by image."""
    from transformers import DetrForObjectDetection
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    processor = DetrImageProcessorPil.from_pretrained(model_directory)
    model = DetrForObjectDetection.from_pretrained(model_directory, dtype=torch.float32).eval()
    ground_truth = json.loads((dataset / "annotations.json").read_text())
    rows: list[dict[str, object]] = []
    for entry in ground_truth["images"]:
        picture = Image.open(dataset / "images" / entry["file_name"]).convert("RGB")
        with torch.inference_mode():
            outputs = model(**processor(images=picture, return_tensors="pt"))
        size_hw = (picture.height, picture.width)
        rows += coco_rows(entry["id"], size_hw, outputs.logits[0].numpy(), outputs.pred_boxes[0].numpy())
    return coco_figures(ground_truth, rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="COCO figures of a checkpoint (run by transformers) on written scenes."
    )
    parser.add_argument("--model", type=Path, default=Path("weights/demo"))
    parser.add_argument("--data", type=Path, required=True, help="what scenes.py wrote")
    arguments = parser.parse_args()
    print(json.dumps(evaluate(arguments.model, arguments.data)))


if __name__ == "__main__":
    main()
