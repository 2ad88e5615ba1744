"""The images that the arguments of a command name: files, directories, patterns and stdin."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.errors import ImageError
from detr_onnx.image.streams import read_stdin, unreadable
from detr_onnx.image.walk import FileId, file_ids, files_below, is_pattern, matches
from detr_onnx.paths import is_directory, is_file
from detr_onnx.text import printable

STDIN = "-"
COCO_NAME = re.compile(r"(?:COCO_\w+_)?([0-9]{1,18})")  # 000000000139, COCO_val2014_000000000139

MORE_SUFFIXES = (".jfif", ".jpe", ".mpo", ".heic", ".heif", ".avif", ".jxl", ".jp2")
"""Suffixes that need a newer Pillow or a plug-in; without it, the error of the image names what is missing."""
NOT_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow lists, but that are not raster images or that it cannot decode by itself."""
SHOWN_SUFFIXES = 5  # of skipped files, in the warning

logger = logging.getLogger(__name__)


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
            ImageError: stdin is closed, or sends more than an image can have.
        """
        if self.path is not None:
            return self.path
        if sys.stdin is None:
            raise ImageError("there is no stdin to read an image from", remedy="pipe one in, or name a file")
        return read_stdin(sys.stdin.buffer)


def find_images(arguments: Sequence[str]) -> tuple[list[ImageFile], list[ImageError]]:
    """The images named by files, directories (searched recursively), patterns such as `*.jpg` and `-` (stdin).

    Directories and patterns give the files with the suffix of an image; the number of other files is logged. Hidden
    files and those that operating systems leave behind are left out. Symbolic links are followed. A file that is
    named is listed; directories and patterns add only files that are not listed yet, whatever their names.

    Returns:
        The images, each once, in the order of the arguments and sorted within a directory or pattern; and an error for
        each argument that names none: a missing file, a directory without images, a pattern without a match.
    """
    paths: dict[str, Path | None] = {}
    seen: set[FileId] = set()
    skipped: set[str] = set()
    errors = []
    for argument in dict.fromkeys(arguments):
        try:
            if _is_searched(argument):
                paths.update(_search(argument, seen, skipped))
            else:
                path = _named_file(argument)
                seen.update(file_ids(path))
                paths[argument] = path
        except ImageError as error:
            errors.append(error)
    if skipped:
        logger.warning("skipped %d files that are not images: %s", len(skipped), _count_suffixes(skipped))
    ids = image_ids([*paths])
    return [ImageFile(name, path, i) for (name, path), i in zip(paths.items(), ids, strict=True)], errors


def image_ids(names: Sequence[str]) -> list[int]:
    """139 for `000000000139.jpg`, COCO's own naming; 1, 2, 3, … if any name has no such number or shares it."""
    numbers = [int(match[1]) for name in names if (match := COCO_NAME.fullmatch(Path(name).stem))]
    return numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))


def is_single_image(arguments: Sequence[str]) -> bool:
    """Whether the arguments are one file or `-`; a directory or pattern is not, however many images it has."""
    return len(arguments) == 1 and not _is_searched(arguments[0])


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of the raster images that Pillow or one of its plug-ins reads."""
    from PIL import Image

    registered = Image.registered_extensions().items()
    readable = {s for s, form in registered if s and form in Image.OPEN and form not in NOT_IMAGES}  # "" in Pillow 10
    return frozenset(readable.union(MORE_SUFFIXES))


def _is_searched(argument: str) -> bool:
    """Whether the argument is a directory or a pattern."""
    return argument != STDIN and (is_directory(argument) or is_pattern(argument))


def _named_file(argument: str) -> Path | None:
    """The path of a file that is named as such, or None for stdin."""
    if argument == STDIN:
        return None
    if os.path.lexists(argument):
        return Path(argument)
    raise unreadable(argument, argument)


def _search(argument: str, seen: set[FileId], skipped: set[str]) -> dict[str, Path | None]:
    """Name and path of the images in a directory or of a pattern, sorted, without files that have been seen.

    Args:
        argument: the directory or the pattern.
        seen: the files that have been listed; those found here are added.
        skipped: other files; those found here are added.

    Raises:
        ImageError: there are no images.
    """
    is_folder = is_directory(argument)
    candidates = files_below(argument) if is_folder else matches(argument)
    files = {str(Path(name)) for name in candidates if is_file(name)}
    images = {name for name in files if suffix(name) in image_suffixes()}
    if not images:
        raise ImageError(
            f"no images in {argument}" if is_folder else f"no image matches {argument}",
            found=f"{len(files)} other files" if files else None,
            expected="files that end in .jpg, .png, .webp or the suffix of another image format",
            remedy="check the path",
        )
    skipped |= files - images
    names = []
    for name in sorted(images, key=lambda name: (os.path.islink(name), name)):  # noqa: PTH114 - of many names
        ids = file_ids(Path(name))
        if not ids & seen:
            names.append(name)
            seen |= ids
    return {name: Path(name) for name in sorted(names, key=Path)}


def _count_suffixes(names: Iterable[str]) -> str:
    """The most common suffixes, such as "12 .txt, 1 without suffix"."""
    counts = Counter(map(suffix, names))
    shown = [f"{count} {printable(end) or 'without suffix'}" for end, count in counts.most_common(SHOWN_SUFFIXES)]
    return ", ".join([*shown, "…"] if len(counts) > SHOWN_SUFFIXES else shown)


def suffix(name: str) -> str:
    """The suffix of a file's name in lower case, such as `.jpg`."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - of many names
