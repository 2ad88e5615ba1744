"""The images that the arguments of a command name: files, directories, patterns and stdin."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.errors import ImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
STDIN = "-"
COCO_NAME = re.compile(r"(?:COCO_\w+_)?([0-9]{1,18})")  # 000000000139, COCO_val2014_000000000139


@dataclass(frozen=True)
class ImageFile:
    """An image that was named on the command line.

    Attributes:
        name: its name in the output.
        path: the file; None for stdin.
        image_id: its id in COCO's format.
    """

    name: str
    path: Path | None
    image_id: int = 1

    def source(self) -> Path | bytes:
        """The path, or the bytes of stdin.

        Raises:
            ImageError: stdin is closed.
        """
        if self.path is not None:
            return self.path
        if sys.stdin is None:
            raise ImageError("there is no stdin to read an image from", remedy="pipe one in, or name a file")
        return sys.stdin.buffer.read()


def find_images(arguments: Sequence[str]) -> tuple[list[ImageFile], list[ImageError]]:
    """The images named by files, directories (searched recursively), patterns such as `*.jpg` and `-` (stdin).

    Returns:
        The images, each once, in the order of the arguments and sorted within a directory or pattern; and an error for
        each argument that names none: a missing file, a directory without images, a pattern without a match.
    """
    paths: dict[str, Path | None] = {}
    errors = []
    for argument in dict.fromkeys(arguments):
        try:
            paths.update(_expand(argument))
        except ImageError as error:
            errors.append(error)
    ids = image_ids([*paths])
    return [ImageFile(name, path, i) for (name, path), i in zip(paths.items(), ids, strict=True)], errors


def image_ids(names: Sequence[str]) -> list[int]:
    """139 for `000000000139.jpg`, COCO's own naming; 1, 2, 3, … if any name has no such number or shares it."""
    numbers = [int(match[1]) for name in names if (match := COCO_NAME.fullmatch(Path(name).stem))]
    return numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))


def is_single_image(arguments: Sequence[str]) -> bool:
    """Whether the arguments are one file or `-`; a directory or pattern is not, however many images it has."""
    return len(arguments) == 1 and not is_directory(arguments[0]) and not _is_pattern(arguments[0])


def is_directory(argument: str) -> bool:
    """Whether there is a directory of that name."""
    return os.path.isdir(argument)  # noqa: PTH112 - Path.is_dir raises for names that are too long


def _is_pattern(argument: str) -> bool:
    return glob.has_magic(argument) and not os.path.lexists(argument)


def _expand(argument: str) -> Iterator[tuple[str, Path | None]]:
    """Yields the name and path of each image that one argument names."""
    if argument == STDIN:
        yield STDIN, None
    elif is_directory(argument):
        yield from _images_among(Path(argument).rglob("*"), f"no images in {argument}")
    elif _is_pattern(argument):
        matches = glob.iglob(argument, recursive=True)  # noqa: PTH207 - a pattern may be absolute
        yield from _images_among(map(Path, matches), f"no image matches {argument}")
    elif os.path.lexists(argument):
        yield argument, Path(argument)
    else:
        name = argument if len(argument) <= 200 else f"{argument[:100]}…"
        raise ImageError(f"cannot read {name!r}", found="no such file", remedy="check the path")


def _images_among(paths: Iterator[Path], message_if_none: str) -> list[tuple[str, Path]]:
    images = sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())
    if not images:
        raise ImageError(message_if_none, expected=f"files that end in {', '.join(SUFFIXES)}", remedy="check the path")
    return [(str(path), path) for path in images]
