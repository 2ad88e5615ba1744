"""`--labels`: the names of classes."""

from __future__ import annotations

from collections.abc import Sequence

from detr_onnx.errors import UsageError
from detr_onnx.labels import known_labels, listed_labels


def parse_labels(texts: Sequence[str], known: Sequence[str], *, option: str = "--labels") -> list[str]:
    """The labels that an option names: each text is one of the model's labels, or several separated by commas.

    Raises:
        UsageError: there are none, or the model lacks one; the message suggests the most similar label.
    """
    parts = [[text] if text in known else [part.strip() for part in text.split(",")] for text in texts]
    labels = [label for part in parts for label in part if label]
    if not labels:
        raise UsageError(f"{option} names no label", expected=f"some of {listed_labels(known)}")
    return known_labels(labels, known)
