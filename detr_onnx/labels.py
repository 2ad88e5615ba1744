"""The names of COCO's classes, by the ids that DETR predicts.

DETR's class id *is* COCO's category id. COCO numbered 91 categories and released boxes for 80 of them, so eleven ids
(0 and ten gaps) never occur: they are "N/A" here and keep their place. Class 91, the last of the 92 logits, is
"no object". Fine-tuned checkpoints bring names of their own (`id2label` in config.json), which win over this table.
"""

from __future__ import annotations

NO_CLASS = "N/A"  # the name of ids that belong to no class

COCO_LABELS: tuple[str, ...] = (
    "N/A", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "N/A", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse",
    "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "N/A", "backpack", "umbrella", "N/A",
    "N/A", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat",
    "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "N/A", "wine glass", "cup", "fork", "knife",
    "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza",
    "donut", "cake", "chair", "couch", "potted plant", "bed", "N/A", "dining table", "N/A", "N/A",
    "toilet", "N/A", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "N/A", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
    "toothbrush",
)  # fmt: skip


def numbered_labels(classes: int) -> tuple[str, ...]:
    """LABEL_0, LABEL_1, …: what transformers calls classes without names."""
    return tuple(f"LABEL_{i}" for i in range(classes))
