"""`--labels`: the names of classes."""

from __future__ import annotations

from collections.abc import Sequence

from detr_onnx.errors import UsageError
from detr_onnx.labels import NO_CLASS

LISTED_LABELS = 100  # of a model's labels in an error message


def parse_labels(texts: Sequence[str], known: Sequence[str], *, option: str = "--labels") -> list[str]:
    """The labels that an option names: each text is one of the model's labels, or several separated by commas.

    Raises:
        UsageError: there are none, or the model lacks one; the message suggests the most similar label.
    """
    import difflib

    parts = [[text] if text in known else [part.strip() for part in text.split(",")] for text in texts]
    labels = [label for part in parts for label in part if label]
    unknown = [label for label in labels if label not in known]
    if unknown or not labels:
        lowered = {label.lower(): label for label in known}
        similar = [m for label in unknown for m in difflib.get_close_matches(label.lower(), lowered, 1, cutoff=0.5)]
        listed = [label for label in dict.fromkeys(known) if label != NO_CLASS]
        more = " …" if len(listed) > LISTED_LABELS else ""
        raise UsageError(
            f"the model has no label {', '.join(map(repr, unknown))}" if unknown else f"{option} names no label",
            expected=f"some of {', '.join(listed[:LISTED_LABELS])}{more}" if not similar else None,
            remedy=f"did you mean {', '.join(repr(lowered[m]) for m in similar)}?" if similar else None,
        )
    return labels
