"""The images of a folder, known by what is in them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.errors import ImageError, UsageError
from detr_onnx.image.files import find_images
from detr_onnx.text import printable


@dataclass(frozen=True)
class HostedImage:
    """A file of the folder; its name is its path from there, fit to be printed."""

    name: str
    path: Path
    sha256: str

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageError: they cannot be read.
        """
        return _read(self.path)


def images_in(folder: Path, limit: int | None = None) -> list[HostedImage]:
    """The first `limit` images of a folder, searched to the bottom, sorted.

    Raises:
        UsageError, ImageError: it is no folder, cannot be read, or has none.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", remedy="name a folder of images")
    try:
        os.listdir(folder)  # noqa: PTH208 - Path.rglob is silent about a folder that cannot be read
    except OSError as error:
        raise ImageError(f"cannot read the folder {folder}", found=error.strerror) from error
    images, errors = find_images([str(folder)])
    if errors:
        raise errors[0]
    return [_photograph(image.path, folder) for image in images[:limit] if image.path is not None]


def _photograph(path: Path, folder: Path) -> HostedImage:
    name = printable(path.relative_to(folder).as_posix())
    return HostedImage(name, path, hashlib.sha256(_read(path)).hexdigest())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {path}", found=error.strerror, remedy="take it out of the folder") from error
