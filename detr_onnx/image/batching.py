"""Several images in one call: a check of the argument, and groups that may share a batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from detr_onnx.errors import UsageError
from detr_onnx.image.decode import ImageSource


def check_is_list(images: Any) -> None:
    """Raises UsageError for one image where several are expected."""
    one_array = isinstance(images, np.ndarray) and images.ndim != 4
    is_one = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Image.Image)
    if one_array or is_one or hasattr(images, "read") or not isinstance(images, Iterable):
        found = f"an array of shape {list(images.shape)}" if one_array else f"one {type(images).__name__}"
        remedy = "use detector(image) for one image, or put it in a list"
        raise UsageError("a list of images is expected", found=found, remedy=remedy)


def remember_paths(images: Iterable[ImageSource], seen: list[ImageSource]) -> Iterator[ImageSource]:
    """Yields the images and appends each path to `seen`, and empty bytes for each image that is not a path."""
    for image in images:
        seen.append(image if isinstance(image, str | os.PathLike) else b"")
        yield image


def grouped(
    images: Iterable[Image.Image], size: int, may_share: Callable[[Image.Image, Image.Image], bool]
) -> Iterator[list[Image.Image]]:
    """Up to `size` images at a time, all of which may share a batch with the first of them."""
    group: list[Image.Image] = []
    for image in images:
        if len(group) == size or (group and not may_share(group[0], image)):
            yield group
            group = []
        group.append(image)
    if group:
        yield group
