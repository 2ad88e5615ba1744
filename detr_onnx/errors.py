"""The errors of this package.

    DetrError                     the base class; the command line prints it as one line and exits with status 1
    ├── UsageError                an argument is wrong (also a ValueError); exit status 2
    ├── ImageError                an image cannot be read
    │   └── ImageTooLargeError    it has too many pixels
    ├── VideoError                a video, stream or camera cannot be read
    ├── CheckpointError           weights or their config are not a DETR's
    ├── ModelFileError            a graph file cannot be read, or is not a DETR
    ├── EngineError               an engine, provider or precision is not available here
    ├── MissingPackageError       an optional package is not installed (also an ImportError)
    ├── DatasetError              annotations, results or images for an evaluation cannot be used
    ├── HubError                  a model cannot be downloaded, or its bytes are not the pinned ones
    └── OutputError               a result cannot be written

Each message is one sentence of bounded length: what is wrong, what was found, what was expected, what to do.
"""

from __future__ import annotations

import copyreg

LONGEST_PART = 1000  # characters of each part of a message; a list of a checkpoint's problems takes most of them


class DetrError(Exception):
    """An error with a message of the form `what: found …, expected …; remedy`.

    Args:
        what: what is wrong, such as "street.jpg is not an image".
        found: what was found.
        expected: what was expected.
        remedy: what to do, in the imperative.
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

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles the sentence as it is, which would be shortened if it were `what`."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


def shortened(text: str, longest: int = LONGEST_PART) -> str:
    """The text, with its middle left out where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]} … {text[len(text) - (longest - head - 3) :]}"


class UsageError(DetrError, ValueError):
    """A wrong argument."""

    exit_status = 2


class ImageError(DetrError):
    """An image that is missing, damaged, too large, or not an image."""


class ImageTooLargeError(ImageError):
    """An image with more pixels than the limit."""


class VideoError(DetrError):
    """A video that is missing, damaged or not a video, or a stream or camera that cannot be reached."""


class CheckpointError(DetrError):
    """Weights or a config that cannot be read as a DETR. The message lists every problem."""


class ModelFileError(DetrError):
    """A graph file that cannot be read, or that does not map pixels to DETR's logits and boxes."""


class EngineError(DetrError):
    """An engine, execution provider or precision that is not installed or does not work here."""


class MissingPackageError(DetrError, ImportError):
    """An optional package that is not installed."""


class DatasetError(DetrError):
    """Annotations, results or images that cannot be read or do not belong together."""


class HubError(DetrError):
    """A model that cannot be downloaded from the hub, or whose bytes are not the pinned ones."""


class OutputError(DetrError):
    """A result that cannot be written."""
