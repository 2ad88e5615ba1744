"""The names of COCO's classes, by the ids that DETR predicts.

DETR's class id *is* COCO's category id. COCO numbered 91 categories and released boxes for 80 of them, so eleven ids
(0 and ten gaps) never occur: they are "N/A" here and keep their place. Class 91, the last of the 92 logits, is
"no object". Fine-tuned checkpoints bring names of their own (`id2label` in config.json), which win over this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from detr_onnx.errors import UsageError

NO_CLASS = "N/A"  # the name of ids that belong to no class
LISTED_LABELS = 100  # of a model's labels in an error message

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


def known_labels(labels: str | Iterable[str], known: Sequence[str]) -> list[str]:
    """The labels, or the label, each of which is one of the model's.

    Raises:
        UsageError: the model lacks one; the message suggests the most similar label.
    """
    labels = [*labels] if isinstance(labels, Iterable) and not isinstance(labels, str) else [labels]
    unknown = [label for label in labels if label not in known]
    if unknown:
        import difflib

        lowered = {label.lower(): label for label in known}
        texts = [str(label).lower() for label in unknown]
        similar = [m for text in texts for m in difflib.get_close_matches(text, lowered, 1, cutoff=0.5)]
        raise UsageError(
            f"the model has no label {', '.join(repr(label)[:60] for label in unknown)}",
            expected=f"some of {listed_labels(known)}" if not similar else None,
            remedy=f"did you mean {', '.join(repr(lowered[m]) for m in similar)}?" if similar else None,
        )
    return labels


def listed_labels(known: Sequence[str]) -> str:
    """The model's labels for an error message: the first ones, without those of no class."""
    listed = [label for label in dict.fromkeys(known) if label != NO_CLASS]
    return ", ".join(listed[:LISTED_LABELS]) + (" …" if len(listed) > LISTED_LABELS else "")
