"""The images to compare, identified by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.errors import ImageError, UsageError
from detr_onnx.image.files import find_images
from detr_onnx.image.streams import open_image_file
from detr_onnx.paths import is_directory
from detr_onnx.text import printable, reason_of


@dataclass(frozen=True)
class ComparedImage:
    """An image file.

    Attributes:
        name: the path below the directory that was given, or the file's name; safe to print.
        path: where it is.
        sha256: of the file's bytes.
    """

    name: str
    path: Path
    sha256: str

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageError: they cannot be read.
        """
        return _read(self.path)


def images_in(sources: Sequence[Path], limit: int | None = None) -> list[ComparedImage]:
    """The first `limit` images of files, directories (with everything below them) and patterns.

    Raises:
        UsageError: stdin is among the sources.
        ImageError: a source does not exist, cannot be read or has no images.
    """
    for source in sources:
        _check(source)
    images, errors = find_images([str(source) for source in sources])
    if errors:
        raise errors[0]
    paths = [image.path for image in images[:limit] if image.path is not None]
    return [ComparedImage(_name(path, sources), path, hashlib.sha256(_read(path)).hexdigest()) for path in paths]


def distinct(images: Sequence[ComparedImage]) -> list[ComparedImage]:
    """The images without copies of equal content."""
    return list({image.sha256: image for image in images}.values())


def _check(source: Path) -> None:
    if str(source) == "-":
        raise UsageError("images cannot be read from stdin here", remedy="name files or directories")
    if is_directory(source):
        try:
            os.listdir(source)  # noqa: PTH208 - Path.rglob is silent about a directory that cannot be read
        except OSError as error:
            raise ImageError(f"cannot read the directory {source}", found=reason_of(error)) from error


def _name(path: Path, sources: Sequence[Path]) -> str:
    parents = [source for source in sources if is_directory(source) and path.is_relative_to(source)]
    return printable(path.relative_to(parents[0]).as_posix() if parents else path.name)


def _read(path: Path) -> bytes:
    try:
        with open_image_file(path) as file:
            return file.read()
    except OSError as error:
        raise ImageError(f"cannot read {path}", found=reason_of(error), remedy="remove it from the images") from error
