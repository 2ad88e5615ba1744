"""Which pictures a command line means, and what to call what is made of them."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.errors import ImageError, OutputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
KEPT_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # annotated pictures keep these; others become .png
STDIN = "-"


@dataclass(frozen=True)
class Picture:
    """One picture to look at: the name it goes by in the answer, and its path, or None for stdin."""

    name: str
    path: Path | None

    def source(self) -> Path | bytes:
        """What `Detector` reads it from."""
        return self.path if self.path is not None else sys.stdin.buffer.read()


def find_pictures(arguments: Sequence[str]) -> list[Picture]:
    """The pictures named by files, directories (searched to the bottom), patterns such as `*.jpg`, and `-` for stdin.

    In the order of the arguments, sorted within a directory or pattern, each once. A file that does not exist is kept:
    reading it will say so, and the others go on.

    Raises:
        ImageError: a directory without pictures, or a pattern that nothing matches.
    """
    found = {name: Picture(name, path) for argument in arguments for name, path in _expand(argument)}
    return list(found.values())


def is_one(arguments: Sequence[str]) -> bool:
    """Whether the arguments name one picture, not a directory or pattern that happens to hold one."""
    return len(arguments) == 1 and not Path(arguments[0]).is_dir() and not _is_pattern(arguments[0])


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not Path(argument).exists()


def _expand(argument: str) -> Iterator[tuple[str, Path | None]]:
    if argument == STDIN:
        yield STDIN, None
        return
    path = Path(argument)
    if not path.is_dir() and not _is_pattern(argument):
        yield argument, path
        return
    inside = path.rglob("*") if path.is_dir() else map(Path, glob.glob(argument, recursive=True))  # noqa: PTH207 - a pattern may be absolute
    pictures = sorted(p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file())
    if not pictures:
        raise ImageError(
            f"no pictures in {argument}" if path.is_dir() else f"nothing matches {argument}",
            expected=f"files that end in {', '.join(SUFFIXES)}",
            remedy="check the path",
        )
    yield from ((str(p), p) for p in pictures)


def saving_places(pictures: Sequence[Picture], save: Path, one: bool) -> list[Path]:
    """Where each annotated picture goes: `save` itself for one picture, else a name of its own in that directory.

    Raises:
        OutputError: the directory cannot be made.
    """
    if one and not save.is_dir() and save.suffix:
        return [save]
    try:
        save.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{save} cannot be made", found=error.strerror, remedy="choose another --save") from error
    taken: set[str] = set()
    return [save / _untaken(picture, taken) for picture in pictures]


def _untaken(picture: Picture, taken: set[str]) -> str:
    """`street.jpg`, then `street-2.jpg`, … for pictures of the same name in different directories."""
    path = picture.path or Path("stdin")
    suffix = path.suffix if path.suffix.lower() in KEPT_SUFFIXES else ".png"
    name, number = f"{path.stem}{suffix}", 1
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}{suffix}"
    taken.add(name)
    return name
