"""What the command line says, and where: results on stdout; notes, progress and errors on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from detr_onnx.errors import DetrError, EngineError, OutputError
from detr_onnx.text import printable

PROGRESS_AFTER_S = 2.0  # a run that is over by then needs no progress
CLEAR_LINE = "\r\x1b[K"

ANOTHER_FILE = "choose another file"

T = TypeVar("T")

logger = logging.getLogger("detr_onnx")


def check_place(place: Path, remedy: str = ANOTHER_FILE) -> None:
    """Raises OutputError when no file can be written there."""
    if place.is_dir() or not place.parent.is_dir():
        found = "a directory" if place.is_dir() else f"no directory {place.parent}"
        raise OutputError(f"cannot write {place}", found=found, remedy=remedy)


def write(place: Path, text: str) -> None:
    """Raises OutputError when it cannot."""
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {place}", found=error.strerror, remedy=ANOTHER_FILE) from error


def tell(text: str) -> None:
    """Writes results to stdout, at once; characters that its encoding lacks are spelt out.

    Raises:
        BrokenPipeError: nobody reads any more.
        OutputError: they cannot be written, as on a full disk.
    """
    try:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except (OSError, AttributeError) as error:  # AttributeError: stdout is None when the caller closed it
        with contextlib.suppress(OSError, AttributeError):  # what is in the buffer would be tried again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        found = getattr(error, "strerror", None) or "a closed stdout"
        raise OutputError("the results cannot be written", found=found, remedy="send stdout elsewhere") from error


def complain(error: DetrError) -> None:
    """One line on stderr."""
    start = CLEAR_LINE if sys.stderr.isatty() else ""  # there may be a line of progress
    sys.stderr.write(f"{start}detr-onnx: error: {printable(' '.join(str(error).split()))}\n")


@contextlib.contextmanager
def notes(verbose: bool) -> Iterator[None]:
    """What the package has to tell goes to stderr, where a person watches or asked for it; no library's warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("detr-onnx: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO if sys.stderr.isatty() else logging.WARNING)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # damaged EXIF data, an image of many pixels: nothing a user can act on
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def progress(count: int) -> Iterator[Callable[[int, str], None]]:
    """A function to call with the number and name of the next image: one line, written over, on a terminal."""
    started = time.monotonic()
    watched = sys.stdout is not None and sys.stdout.isatty()  # then the results themselves show how far it is
    shown = count > 1 and sys.stderr.isatty() and not watched

    def show(number: int, name: str) -> None:
        elapsed_s = time.monotonic() - started
        if shown and elapsed_s > PROGRESS_AFTER_S:
            left_s = elapsed_s / (number - 1 or 1) * (count - number + 1)
            line = f"{number}/{count}  {left_s:.0f} s left  {printable(name)}"
            sys.stderr.write(CLEAR_LINE + line[:79])
            sys.stderr.flush()

    try:
        yield show
    finally:
        if shown:
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()


def bar(items: Sequence[T]) -> Iterable[T]:
    """Passes the items on, with a bar on stderr, where that is a terminal, of how many there have been.

    Raises:
        EngineError: when tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        remedy = "run pip install 'detr-onnx[eval]'"
        raise EngineError("the progress bar needs the package tqdm", found=str(error), remedy=remedy) from error
    watched: Iterable[T] = tqdm(items, file=sys.stderr, unit=" images", leave=False, disable=None)
    return watched


check_output_file, write_file, print_result = check_place, write, tell
