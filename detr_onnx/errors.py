"""Every error of this package, as one tree.

    DetrError                 catch this one; the command line turns it into one line and exit status 1
    ├── UsageError            an argument is wrong (a ValueError too); exit status 2
    ├── ImageError            an image cannot be read
    │   └── ImageTooLargeError    it has too many pixels
    ├── CheckpointError       weights, or the config beside them, are not those of a DETR
    ├── ModelFileError        an .onnx file cannot be read, or is not a DETR
    ├── EngineError           an engine, provider or precision is not available
    ├── DatasetError          annotations, results or images to measure with cannot be used
    ├── HubError              a model cannot be downloaded, or its files are not the pinned ones
    └── OutputError           a result cannot be written

An error says what is wrong, what was found, what was expected and what to do, in one sentence of bounded length.
"""

from __future__ import annotations

LONGEST_PART = 1000  # characters of each part of a message; a list of a checkpoint's problems takes most of them


class DetrError(Exception):
    """What went wrong, in one sentence: `what: found …, expected …; remedy`. Parts of over 1000 characters are cut.

    Args:
        what: the subject and what is wrong with it, such as "street.jpg is not an image".
        found: what was found.
        expected: what should have been found.
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
    """An image that is missing, damaged, too large, or not an image."""


class ImageTooLargeError(ImageError):
    """An image with more pixels than the limit."""


class CheckpointError(DetrError):
    """Weights or a config that cannot be read as a DETR; the message names every problem."""


class ModelFileError(DetrError):
    """An .onnx file that cannot be read, or that does not map pixels to DETR's logits and boxes."""


class EngineError(DetrError):
    """An engine, execution provider or precision that is not installed or does not work here."""


class DatasetError(DetrError):
    """Annotations, results or images to measure a model with that cannot be read, or do not belong together."""


class HubError(DetrError):
    """A model that cannot be downloaded from the hub, or whose files are not the pinned ones."""


class OutputError(DetrError):
    """A result that cannot be written."""
