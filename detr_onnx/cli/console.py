"""Output of the command line: results on stdout; log messages, progress and errors on stderr; files."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from detr_onnx.atomic import is_written_directly, write_atomically, writing
from detr_onnx.errors import DetrError, EngineError, OutputError
from detr_onnx.image.walk import file_ids
from detr_onnx.paths import is_directory
from detr_onnx.text import printable, reason_of

PROGRESS_AFTER_S = 2.0  # shorter runs show no progress
LINE_WIDTH = 79
CLEAR_LINE = "\r\x1b[K" if sys.platform != "win32" else f"\r{'':{LINE_WIDTH}}\r"  # some consoles there show escapes

ANOTHER_FILE = "choose another file"
STDOUT = "-"

T = TypeVar("T")

logger = logging.getLogger("detr_onnx")


def check_output_file(path: Path, remedy: str = ANOTHER_FILE) -> None:
    """Raises OutputError if the path is a directory, or its directory does not exist or must not be written to."""
    if is_directory(path) or not is_directory(path.parent):
        found = "a directory" if is_directory(path) else f"no directory {path.parent}"
        raise OutputError(f"cannot write {path}", found=found, remedy=remedy)
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:  # the name is too long
        raise OutputError(f"cannot write {path}", found=reason_of(error), remedy=remedy) from error
    directory = Path(os.path.realpath(path)).parent
    if not is_written_directly(path) and not os.access(directory, os.W_OK):
        found = f"no permission to write in {directory}" if is_directory(directory) else f"no directory {directory}"
        raise OutputError(f"cannot write {path}", found=found, remedy=remedy)


def check_keeps_inputs(path: Path, option: str, *inputs: Path | None) -> None:
    """Raises OutputError if the file that an option writes is one of those that are read."""
    output = file_ids(path)
    if any(output & file_ids(file) for file in inputs):
        raise OutputError(f"{option} would overwrite {path}, which is also an input", remedy=ANOTHER_FILE)


def write_file(path: Path, text: str) -> None:
    """Writes a text file, or raises OutputError. Names of files may have bytes that are not UTF-8; they are escaped."""
    with writing(path):
        write_atomically(path, text.encode("utf-8", "backslashreplace"))


def print_result(text: str) -> None:
    """Writes text to stdout and flushes it; characters outside stdout's encoding are escaped.

    Raises:
        BrokenPipeError: the reader has closed the pipe.
        OutputError: the text cannot be written, for example because the disk is full.
    """
    try:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except (OSError, AttributeError) as error:  # AttributeError: stdout is None when the caller closed it
        with contextlib.suppress(OSError, AttributeError):  # or the exit would try to write the buffer again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        if sys.platform == "win32" and getattr(error, "errno", None) == errno.EINVAL:  # its word for a closed pipe
            raise BrokenPipeError from error
        found = getattr(error, "strerror", None) or "a closed stdout"
        raise OutputError("the results cannot be written", found=found, remedy="send stdout elsewhere") from error


def print_error(error: DetrError) -> None:
    """Writes the error to stderr, as one line."""
    start = CLEAR_LINE if sys.stderr.isatty() else ""  # of a progress line
    sys.stderr.write(f"{start}detr-onnx: error: {printable(' '.join(str(error).split()))}\n")


@contextlib.contextmanager
def log_to_stderr(verbose: bool) -> Iterator[None]:
    """Logs to stderr: warnings always, notes on a terminal, details with `verbose`; libraries' warnings are hidden."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("detr-onnx: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO if sys.stderr.isatty() else logging.WARNING)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # such as Pillow's of damaged EXIF data, which no user can act on
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextlib.contextmanager
def live_line(shown: bool) -> Iterator[Callable[[str], None]]:
    """A function that replaces one line on stderr by a text, if it is shown at all; the line is gone in the end."""

    def show(text: str) -> None:
        if shown:
            sys.stderr.write(CLEAR_LINE + text[:LINE_WIDTH])
            sys.stderr.flush()

    try:
        yield show
    finally:
        show("")


@contextlib.contextmanager
def progress(count: int, *, results_on_stdout: bool = True) -> Iterator[Callable[[int, str], None]]:
    """Yields a function to call with the number and name of the next image; it keeps one line on a terminal current."""
    start_all = time.monotonic()
    watched = results_on_stdout and sys.stdout is not None and sys.stdout.isatty()  # then they show the progress
    shown = count > 1 and sys.stderr.isatty() and not watched

    with live_line(shown) as line:

        def show(number: int, name: str) -> None:
            elapsed_s = time.monotonic() - start_all
            if elapsed_s > PROGRESS_AFTER_S:
                left_s = elapsed_s / (number - 1 or 1) * (count - number + 1)
                line(f"{number}/{count}  {left_s:.0f} s left  {printable(name)}")

        yield show


def progress_bar(items: Sequence[T]) -> Iterable[T]:
    """The items, with a progress bar on stderr if that is a terminal.

    Raises:
        EngineError: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        remedy = "run pip install 'detr-onnx[eval]'"
        raise EngineError("the progress bar needs the package tqdm", found=str(error), remedy=remedy) from error
    bar: Iterable[T] = tqdm(items, file=sys.stderr, unit=" images", leave=False, disable=None)
    return bar
