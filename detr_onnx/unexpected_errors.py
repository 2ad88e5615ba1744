"""One-sentence errors for exceptions that are not a `DetrError`."""

from __future__ import annotations

import logging

from detr_onnx.errors import DetrError, ImageError

logger = logging.getLogger("detr_onnx")


def bug_error(what: str, error: Exception) -> DetrError:
    """The error for an exception that is a bug: it asks for a report, and --verbose shows the traceback."""
    logger.debug("traceback:", exc_info=error)
    found = f"{type(error).__name__}: {error}"
    return DetrError(what, found=found, remedy="report it with the output of --verbose")


def error_of_image(name: str, error: Exception) -> DetrError:
    """The error to show for any exception that an image caused, with the image's name."""
    if isinstance(error, ImageError):
        return error
    if isinstance(error, DetrError):
        return DetrError(f"{name}: {error.what}", found=error.found, expected=error.expected, remedy=error.remedy)
    if isinstance(error, MemoryError):
        return ImageError(f"not enough memory for {name}", remedy="try a smaller --size")
    return bug_error(f"{name}: this is a bug in detr-onnx", error)
