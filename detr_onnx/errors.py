"""Every refusal of this package, as one tree.

    DetrError                 catch this one; the command line turns it into one line and exit status 1
    ├── UsageError            an argument is wrong (a ValueError too); exit status 2
    ├── ImageError            an image cannot be read
    │   └── ImageTooLargeError    it has too many pixels
    ├── CheckpointError       weights, or the config beside them, are not a DETR's
    ├── ModelFileError        an .onnx file cannot be read, or is no DETR
    ├── EngineError           an engine, provider or precision is not to be had here
    ├── DatasetError          annotations, results or images to measure with cannot be used
    ├── HubError              a model cannot be fetched, or what came is not what was pinned
    └── OutputError           a result cannot be written

An error says what was the matter, what was found, what was expected and what to do, in one sentence.
"""

from __future__ import annotations

LONGEST_PART = 1000  # characters of each part of a message; a list of a checkpoint's problems takes most of them


class DetrError(Exception):
    """What went wrong, in one sentence: `what: found …, expected …; remedy`.

    Args:
        what: the thing and its trouble, such as "street.jpg is not an image".
        found: what was there.
        expected: what should have been there.
        remedy: what the reader can do, in the imperative.
    """

    exit_status = 1

    def __init__(
        self, what: str, *, found: str | None = None, expected: str | None = None, remedy: str | None = None
    ) -> None:
        what = shortened(what)
        found, expected, remedy = (part and shortened(part) for part in (found, expected, remedy))
        self.what, self.found, self.expected, self.remedy = what, found, expected, remedy
        facts = [f"found {found}" if found else "", f"expected {expected}" if expected else ""]
        sentence = ": ".join(part for part in (what, ", ".join(fact for fact in facts if fact)) if part)
        super().__init__(f"{sentence}; {remedy}" if remedy else sentence)


def shortened(text: str, longest: int = LONGEST_PART) -> str:
    """The text, with its middle left out where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]} … {text[len(text) - (longest - head - 3) :]}"


class UsageError(DetrError, ValueError):
    """An argument that the caller can correct at once."""

    exit_status = 2


class ImageError(DetrError):
    """An image that is missing, no image, damaged, or too large to be meant."""


class ImageTooLargeError(ImageError):
    """An image with more pixels than are let in."""


class CheckpointError(DetrError):
    """Weights or a config that cannot be read as a DETR; every problem found is in the one message."""


class ModelFileError(DetrError):
    """An .onnx file that cannot be read, or that does not map pixels to DETR's logits and boxes."""


class EngineError(DetrError):
    """An engine, execution provider or precision that is not installed or does not work here."""


class DatasetError(DetrError):
    """Annotations, results or images to measure a model with that cannot be read, or do not belong together."""


class HubError(DetrError):
    """A model that cannot be fetched from the hub, or whose bytes are not those that were pinned."""


class OutputError(DetrError):
    """A result that cannot be written where it was asked for."""
