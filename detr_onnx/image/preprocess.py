"""Preprocesses RGB images for the network: resize, normalise, pad to a batch.

`read_rgb` (of `decode.py`) reads an image. Here it is resized by DETR's size rule, normalised, and put into a batch
with a mask of its valid pixels. The results are bit-identical to those of `DetrImageProcessorPil` in transformers,
which resizes with Pillow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.errors import CheckpointError, UsageError
from detr_onnx.image.decode import ImageSource, read_rgb

__all__ = ["ImageSource", "Preprocessing", "batch", "fitted_hw", "read_rgb", "resized_hw", "to_pixels"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a checkpoint was trained with. The defaults are facebook/detr-resnet-50's.

    Attributes:
        shortest_edge: length of the short side after resizing, in pixels; see `resized_hw`.
        longest_edge: limit of the long side, in pixels.
        fixed_hw: height and width that every image is stretched to instead; the aspect ratio is not kept.
        resize: whether images are resized at all.
        rescale_factor: what the bytes 0..255 are multiplied by, before mean and std.
        mean: subtracted from red, green and blue.
        std: what red, green and blue are divided by.

    Source: `preprocessor_config.json` beside the weights; mean and std are ImageNet's.
    """

    shortest_edge: int = 800
    longest_edge: int = 1333
    fixed_hw: tuple[int, int] | None = None
    resize: bool = True
    rescale_factor: float = 1 / 255
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], source: str) -> Preprocessing:
        """Reads the content of a `preprocessor_config.json`, as any version of transformers wrote it.

        `do_rescale: false` becomes a factor of 1; `do_normalize: false` a mean of 0 and a std of 1.

        Args:
            fields: the content of the file.
            source: the name of the file, for error messages.

        Raises:
            CheckpointError: fields are wrong or not supported; the message lists all of them.
        """
        if problems := [*_problems(fields)]:
            raise CheckpointError(f"{source} does not describe DETR's preprocessing", found="; ".join(problems))
        size = _size(fields)
        normalize = fields.get("do_normalize", True)
        return cls(
            shortest_edge=size.get("shortest_edge", cls.shortest_edge),
            longest_edge=size.get("longest_edge", cls.longest_edge),
            fixed_hw=(size["height"], size["width"]) if "height" in size else None,
            resize=fields.get("do_resize", True),
            rescale_factor=fields.get("rescale_factor", cls.rescale_factor) if fields.get("do_rescale", True) else 1.0,
            mean=_triple(fields.get("image_mean", cls.mean)) if normalize else (0.0,) * 3,
            std=_triple(fields.get("image_std", cls.std)) if normalize else (1.0,) * 3,
        )

    def to_json(self) -> dict[str, Any]:
        """The content of a `preprocessor_config.json` from which `from_json` reads an equal value."""
        edges = {"shortest_edge": self.shortest_edge, "longest_edge": self.longest_edge}
        return {
            "image_processor_type": "DetrImageProcessor",
            "do_resize": self.resize,
            "size": edges if self.fixed_hw is None else dict(zip(("height", "width"), self.fixed_hw, strict=True)),
            "resample": int(Image.Resampling.BILINEAR),
            "do_rescale": True,
            "rescale_factor": self.rescale_factor,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    def of_size(self, shortest_edge: int) -> Preprocessing:
        """The same with another `shortest_edge`; `longest_edge` changes in proportion."""
        longest_edge = round(self.longest_edge * shortest_edge / self.shortest_edge)
        return replace(self, shortest_edge=shortest_edge, longest_edge=longest_edge, fixed_hw=None)

    def resized_hw(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing, of an image of this height and width, all in pixels."""
        if not self.resize:
            return height, width
        return self.fixed_hw or resized_hw(height, width, self.shortest_edge, self.longest_edge)


def _size(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`size` as a mapping of shortest_edge and longest_edge, or height and width; other keys are passed on."""
    size = fields.get("size") or {}
    if not isinstance(size, Mapping):  # before 2023: "size": 800, "max_size": 1333
        size = {"shortest_edge": size}
    sides = {name: value for name, value in size.items() if value is not None}
    if sides.keys() - {"shortest_edge"}:
        return sides
    return {
        "shortest_edge": Preprocessing.shortest_edge,
        "longest_edge": fields.get("max_size") or Preprocessing.longest_edge,
        **sides,
    }


def _triple(value: Any) -> tuple[float, ...]:
    """One number per channel, from three numbers or from one for all."""
    return tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),) * 3


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -float("inf") < value < float("inf")


def _problems(fields: Mapping[str, Any]) -> Iterator[str]:
    """One phrase for each field that is wrong or not supported."""
    size = _size(fields)
    if size.keys() not in ({"shortest_edge", "longest_edge"}, {"height", "width"}):
        yield f"size of {', '.join(map(str, size))} (expected shortest_edge and longest_edge, or height and width)"
    for name, value in size.items():
        if type(value) is not int or value < 1:
            yield f"size.{name} {value!r} (expected a positive whole number)"
    for name in ("image_mean", "image_std"):
        values = fields.get(name, 0.5)
        values = values if isinstance(values, Sequence) and not isinstance(values, str) else [values] * 3
        if len(values) != 3 or not all(map(_is_number, values)) or (name == "image_std" and 0 in values):
            yield f"{name} {fields[name]!r} (expected three numbers{', none of them 0' if name == 'image_std' else ''})"
    factor = fields.get("rescale_factor", 1.0)
    if not _is_number(factor) or factor <= 0:
        yield f"rescale_factor {factor!r} (expected a positive number)"
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if not isinstance(fields.get(name, True), bool):
            yield f"{name} {fields[name]!r} (expected true or false)"
    if fields.get("resample", 2) not in (2, None):
        yield f"resample {fields['resample']!r} (expected 2, bilinear)"
    for name in ("do_center_crop", "pad_size"):
        if fields.get(name):
            yield f"{name} {fields[name]!r}, which is not supported (expected none)"


def resized_hw(height: int, width: int, shortest_edge: int, longest_edge: int) -> tuple[int, int]:
    """Height and width in pixels, at least 1, by DETR's size rule.

    The short side becomes `shortest_edge`, unless the long side would exceed `longest_edge`; then both are scaled down
    to fit. In that case the long side is computed from the short side *before* rounding and truncated, so it may be one
    pixel below `longest_edge`. An image whose short side already has its length is not resized, even if its long side
    exceeds the limit (1x2000).

    Source: `get_size_with_aspect_ratio` of transformers, which returns a side of 0 for images as thin as 1x5000.
    """
    short, long = min(height, width), max(height, width)
    short_exact: float = shortest_edge
    if long / short * shortest_edge > longest_edge:
        short_exact = longest_edge * short / long
    short_px = round(short_exact)  # half to even
    if short == short_px:
        return height, width
    long_px = int(short_exact * long / short)
    short_px, long_px = max(short_px, 1), max(long_px, 1)
    return (short_px, long_px) if height <= width else (long_px, short_px)


def fitted_hw(height: int, width: int, canvas_hw: tuple[int, int]) -> tuple[int, int]:
    """The largest height and width in pixels that keep the aspect ratio and fit into `canvas_hw`."""
    canvas_height, canvas_width = canvas_hw
    if height * canvas_width > width * canvas_height:
        return canvas_height, max(1, round(width * canvas_height / height))
    return max(1, round(height * canvas_width / width)), canvas_width


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
        canvas_hw: H and W of a network with a fixed input shape; by default the largest height and width of the batch.
            An image that would not fit is resized to fit and keeps its aspect ratio; it is never cropped.

    Returns:
        pixels: [B, 3, H, W] float32; the padding is 0, as the mean colour is.
        mask: [B, H, W] bool, true for image, false for padding.
        sizes_hw: [B, 2] int64, heights and widths of the original images in pixels.

    Raises:
        UsageError: there are no images.
    """
    if not images:
        raise UsageError("a batch needs an image", found="none", expected="at least one")
    resized = [preprocessing.resized_hw(image.height, image.width) for image in images]
    if canvas_hw is not None:
        resized = [
            hw if hw[0] <= canvas_hw[0] and hw[1] <= canvas_hw[1] else fitted_hw(image.height, image.width, canvas_hw)
            for hw, image in zip(resized, images, strict=True)
        ]
    height, width = canvas_hw or (max(h for h, _ in resized), max(w for _, w in resized))
    padded = any(hw != (height, width) for hw in resized)
    pixels = (np.zeros if padded else np.empty)((len(images), 3, height, width), np.float32)
    mask = np.zeros((len(images), height, width), np.bool_)
    for image, (h, w), canvas, valid in zip(images, resized, pixels, mask, strict=True):
        _fill(canvas[:, :h, :w], image, preprocessing)
        valid[:h, :w] = True
    return pixels, mask, np.array([(image.height, image.width) for image in images], np.int64)


def _fill(pixels: Floats, image: Image.Image, preprocessing: Preprocessing) -> None:
    """Resizes an RGB image to the size of `pixels` [3, h, w] and writes the normalised values there.

    Dividing by 255 in float32 gives the same value for every byte as transformers' way through float64, in half the
    time of a lookup table.
    """
    _, height, width = pixels.shape
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    divisor = np.float32(1 / preprocessing.rescale_factor)
    for values, band, mean, std in zip(pixels, image.split(), preprocessing.mean, preprocessing.std, strict=True):
        np.divide(np.asarray(band), divisor, out=values, dtype=np.float32)
        values -= np.float32(mean)
        values /= np.float32(std)
