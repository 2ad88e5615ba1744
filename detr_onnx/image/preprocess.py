"""Preprocesses RGB images for the network: resize, normalise, pad to a batch.

`read_rgb` (of `decode.py`) reads an image. Here it is resized as the checkpoint's configuration says, normalised, and
put into a batch with a mask of its valid pixels. The results are bit-identical to those of `DetrImageProcessorPil` in
transformers, which resizes with Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.errors import ImageError, UsageError
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.image.sizes import fitted_hw

Floats = NDArray[np.float32]


def to_pixels(image: Image.Image, preprocessing: Preprocessing) -> Floats:
    """Pixels [3, h, w] float32 of an RGB image, resized and normalised, without padding."""
    pixels = np.empty((3, *preprocessing.resized_hw(image.height, image.width)), np.float32)
    _fill(pixels, image, preprocessing)
    return pixels


def batch(
    images: Sequence[Image.Image], preprocessing: Preprocessing, *, canvas_hw: tuple[int, int] | None = None
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
    """Resizes and normalises images, and pads them at the bottom and the right to one size.

    Args:
        images: B RGB images as `read_rgb` returns them, B at least 1.
        preprocessing: sizes and statistics.
        canvas_hw: H and W of a network with a fixed input shape. By default they are `preprocessing.pad_hw`, else the
            largest height and width of the batch. An image that would not fit into `canvas_hw` is resized to fit and
            keeps its aspect ratio; it is never cropped.

    Returns:
        pixels: [B, 3, H, W] float32; the padding is 0, as the mean colour is.
        mask: [B, H, W] bool, true for image, false for padding.
        sizes_hw: [B, 2] int64, heights and widths of the original images in pixels.

    Raises:
        UsageError: there are no images.
        ImageError: a resized image does not fit into `preprocessing.pad_hw`.
    """
    if not images:
        raise UsageError("a batch needs an image", found="none", expected="at least one")
    resized = [preprocessing.resized_hw(image.height, image.width) for image in images]
    if canvas_hw is not None:
        resized = [
            hw if hw[0] <= canvas_hw[0] and hw[1] <= canvas_hw[1] else fitted_hw(image.height, image.width, canvas_hw)
            for hw, image in zip(resized, images, strict=True)
        ]
    largest_hw = max(h for h, _ in resized), max(w for _, w in resized)
    height, width = canvas_hw or _pad_hw(preprocessing, largest_hw)
    padded = any(hw != (height, width) for hw in resized)
    pixels = (np.zeros if padded else np.empty)((len(images), 3, height, width), np.float32)
    mask = np.zeros((len(images), height, width), np.bool_)
    for image, (h, w), canvas, valid in zip(images, resized, pixels, mask, strict=True):
        _fill(canvas[:, :h, :w], image, preprocessing)
        valid[:h, :w] = True
    return pixels, mask, np.array([(image.height, image.width) for image in images], np.int64)


def _pad_hw(preprocessing: Preprocessing, largest_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a batch whose largest image has this height and width."""
    pad_hw = preprocessing.pad_hw or largest_hw
    if largest_hw[0] > pad_hw[0] or largest_hw[1] > pad_hw[1]:
        raise ImageError(
            "the image does not fit into the model's pad_size",
            found="{}x{} after resizing".format(*largest_hw),
            expected="at most {}x{}".format(*pad_hw),
            remedy="correct pad_size in preprocessor_config.json",
        )
    return pad_hw


def _fill(pixels: Floats, image: Image.Image, preprocessing: Preprocessing) -> None:
    """Resizes an RGB image to the size of `pixels` [3, h, w] and writes the normalised values there.

    transformers multiplies in float64. Dividing by 255 in float32 gives the same value for every byte, in half the time
    of a lookup table.
    """
    _, height, width = pixels.shape
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    factor = preprocessing.rescale_factor
    for values, band, mean, std in zip(pixels, image.split(), preprocessing.mean, preprocessing.std, strict=True):
        if factor == 1 / 255:
            np.divide(np.asarray(band), np.float32(255), out=values, dtype=np.float32)
        else:
            np.multiply(np.asarray(band), factor, out=values, dtype=np.float64, casting="same_kind")
        values -= np.float32(mean)
        values /= np.float32(std)
