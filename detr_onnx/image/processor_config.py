"""Reads and writes the configuration of image processors, as every version of transformers wrote it.

    year  file                      class                  size
    2021  preprocessor_config.json  DetrFeatureExtractor   800 and max_size 1333
    2023  preprocessor_config.json  DetrImageProcessor     {shortest_edge, longest_edge} or {height, width}
    2024                            also …Fast             also {max_height, max_width}, pad_size
    2026  processor_config.json     also …Pil              the same, under the key image_processor

A `size` that transformers refuses, or that its versions read differently, is refused: images never get another size
than in transformers 5. (Versions before 2025 could make the long side one pixel shorter.)
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from detr_onnx.errors import CheckpointError
from detr_onnx.image.sizes import bounded_hw, resized_hw

EDGES, LIMITS, HEIGHT_WIDTH = ("shortest_edge", "longest_edge"), ("max_height", "max_width"), ("height", "width")
LARGEST_SIDE_PX = 8192  # 800 MB of pixels
LARGEST_NUMBER, SMALLEST_NUMBER = 1e6, 1e-9
TYPE_FIELDS = ("image_processor_type", "feature_extractor_type")
DETR_TYPES = re.compile(r"(Conditional|Deformable)?Detr(FeatureExtractor|ImageProcessor(Fast|Pil)?)")
"""Classes that resize and pad alike."""


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a checkpoint was trained with. The defaults are facebook/detr-resnet-50's.

    Attributes:
        shortest_edge: length of the short side after resizing, in pixels; see `sizes.resized_hw`.
        longest_edge: limit of the long side, in pixels.
        fixed_hw: height and width that every image is stretched to instead; the aspect ratio is not kept.
        max_hw: limits of height and width that every image is scaled to instead; see `sizes.bounded_hw`.
        pad_hw: height and width that every image is padded to; None for the largest of the batch.
        resize: whether images are resized at all.
        rescale_factor: what the bytes 0..255 are multiplied by, before mean and std.
        mean: subtracted from red, green and blue.
        std: what red, green and blue are divided by.

    Source: `preprocessor_config.json` beside the weights; mean and std are ImageNet's.
    """

    shortest_edge: int = 800
    longest_edge: int = 1333
    fixed_hw: tuple[int, int] | None = None
    max_hw: tuple[int, int] | None = None
    pad_hw: tuple[int, int] | None = None
    resize: bool = True
    rescale_factor: float = 1 / 255
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], source: str) -> Preprocessing:
        """Reads the content of a `preprocessor_config.json` or `processor_config.json`.

        `do_rescale: false` becomes a factor of 1; `do_normalize: false` a mean of 0 and a std of 1.

        Args:
            fields: the content of the file.
            source: the name of the file, for error messages.

        Raises:
            CheckpointError: fields are wrong or not supported; the message lists all of them.
        """
        fields = image_processor_fields(fields) or fields
        if problems := [*_problems(fields)]:
            raise CheckpointError(f"{source} does not describe DETR's preprocessing", found="; ".join(problems))
        size, pad_size = _size(fields), _pad_size(fields)
        fixed_hw, max_hw, pad_hw = _pair(size, HEIGHT_WIDTH), _pair(size, LIMITS), _pair(pad_size, HEIGHT_WIDTH)
        edges = (min(max_hw), max(max_hw)) if max_hw else _pair(size, EDGES)
        normalize = fields.get("do_normalize", True)
        return cls(
            *(edges or (cls.shortest_edge, cls.longest_edge)),
            fixed_hw=fixed_hw,
            max_hw=max_hw,
            pad_hw=pad_hw,
            resize=fields.get("do_resize", True),
            rescale_factor=fields.get("rescale_factor", cls.rescale_factor) if fields.get("do_rescale", True) else 1.0,
            mean=_triple(fields.get("image_mean", cls.mean)) if normalize else (0.0,) * 3,
            std=_triple(fields.get("image_std", cls.std)) if normalize else (1.0,) * 3,
        )

    def to_json(self) -> dict[str, Any]:
        """The content of a `preprocessor_config.json` from which `from_json` reads an equal value."""
        size = dict(zip(EDGES, (self.shortest_edge, self.longest_edge), strict=True))
        if self.fixed_hw:
            size = dict(zip(HEIGHT_WIDTH, self.fixed_hw, strict=True))
        elif self.max_hw:
            size = dict(zip(LIMITS, self.max_hw, strict=True))
        padding = {"pad_size": dict(zip(HEIGHT_WIDTH, self.pad_hw, strict=True))} if self.pad_hw else {}
        return {
            "image_processor_type": "DetrImageProcessor",
            "do_resize": self.resize,
            "size": size,
            "resample": int(Image.Resampling.BILINEAR),
            "do_rescale": True,
            "rescale_factor": self.rescale_factor,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            **padding,
        }

    def with_shortest_edge(self, shortest_edge: int) -> Preprocessing:
        """The same with another `shortest_edge`, and `longest_edge` in proportion; fixed sizes and padding go."""
        longest_edge = round(self.longest_edge * shortest_edge / self.shortest_edge)
        edges = replace(self, shortest_edge=shortest_edge, longest_edge=longest_edge)
        return replace(edges, fixed_hw=None, max_hw=None, pad_hw=None)

    def resized_hw(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing, of an image of this height and width, all in pixels."""
        if not self.resize:
            return height, width
        if self.max_hw and not self.fixed_hw:
            return bounded_hw(height, width, self.max_hw)
        return self.fixed_hw or resized_hw(height, width, self.shortest_edge, self.longest_edge)


def image_processor_fields(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The image processor of a `processor_config.json`, or None if the file has none."""
    nested = fields.get("image_processor")
    return nested if isinstance(nested, Mapping) else None


def _size(fields: Mapping[str, Any]) -> dict[Any, Any]:
    """`size` as a mapping, completed as transformers does it. Keys and values are not checked."""
    size, max_size = fields.get("size"), fields.get("max_size", Preprocessing.longest_edge)
    if isinstance(size, Mapping):
        return {name: value for name, value in size.items() if value is not None}
    if isinstance(size, Sequence) and not isinstance(size, str) and len(size) == 2:
        return dict(zip(HEIGHT_WIDTH, size, strict=True))
    edges = {"shortest_edge": Preprocessing.shortest_edge if size is None else size}
    return edges if max_size is None else {**edges, "longest_edge": max_size}


def _pad_size(fields: Mapping[str, Any]) -> dict[Any, Any] | None:
    """`pad_size` as a mapping, or None where images are padded to the largest of the batch."""
    pad_size = fields.get("pad_size")
    if pad_size is None or not fields.get("do_pad", fields.get("pad_and_return_pixel_mask", True)):
        return None
    if isinstance(pad_size, Mapping):
        return dict(pad_size)
    pair = pad_size if isinstance(pad_size, Sequence) and len(pad_size) == 2 else [pad_size] * 2
    return dict(zip(HEIGHT_WIDTH, pair, strict=True))


def _pair(size: Mapping[str, int] | None, names: tuple[str, str]) -> tuple[int, int] | None:
    return (size[names[0]], size[names[1]]) if size and names[0] in size else None


def _triple(value: Any) -> tuple[float, ...]:
    """One number per channel, from three numbers or from one for all."""
    return tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),) * 3


# Problems: one phrase for each field that is wrong or not supported


def _problems(fields: Mapping[str, Any]) -> Iterator[str]:
    yield from _type_problems(fields)
    yield from _size_problems(fields)
    yield from _pad_problems(fields)
    for name in ("image_mean", "image_std"):
        yield from _triple_problems(name, fields.get(name, 0.5))
    factor = fields.get("rescale_factor", 1.0)
    if not _is_number(factor) or factor < SMALLEST_NUMBER:
        yield f"rescale_factor {reprlib.repr(factor)} (expected a positive number)"
    for name in ("do_resize", "do_rescale", "do_normalize"):
        if not isinstance(fields.get(name, True), bool):
            yield f"{name} {reprlib.repr(fields[name])} (expected true or false)"
    if fields.get("resample", 2) not in (2, None):
        yield f"resample {reprlib.repr(fields['resample'])} (expected 2, bilinear)"
    if fields.get("do_center_crop"):
        yield f"do_center_crop {reprlib.repr(fields['do_center_crop'])}, which is not supported (expected false)"


def _type_problems(fields: Mapping[str, Any]) -> Iterator[str]:
    for name in TYPE_FIELDS:
        value = fields.get(name)
        if value is not None and not (isinstance(value, str) and DETR_TYPES.fullmatch(value)):
            yield f"{name} {reprlib.repr(value)} (expected DetrImageProcessor)"


def _size_problems(fields: Mapping[str, Any]) -> Iterator[str]:
    given, max_size, size = fields.get("size"), fields.get("max_size"), _size(fields)
    if given is None and max_size not in (None, Preprocessing.longest_edge):
        # DetrFeatureExtractor limited the long side; DetrImageProcessor ignores the field.
        expected = f'"size": {{"shortest_edge": 800, "longest_edge": {reprlib.repr(max_size)}}}'
        yield f"max_size without size, which versions of transformers read differently (expected {expected})"
    is_square = len({*map(reprlib.repr, size.values())}) == 1
    if isinstance(given, list) and fields.get("feature_extractor_type") and not is_square:
        # DetrFeatureExtractor read width and height; DetrImageProcessor reads height and width.
        yield f"size {reprlib.repr(given)}, in an order that is not certain (expected height and width by name)"
    if tuple(sorted(map(str, size))) not in {tuple(sorted(names)) for names in (EDGES, LIMITS, HEIGHT_WIDTH)}:
        expected = ", ".join(" and ".join(names) for names in (EDGES, LIMITS)) + ", or height and width"
        yield f"size of {_names(size)} (expected {expected})"
    yield from _side_problems("size", size)


def _pad_problems(fields: Mapping[str, Any]) -> Iterator[str]:
    pad_size = _pad_size(fields)
    if pad_size is not None and {*pad_size} != {*HEIGHT_WIDTH}:
        yield f"pad_size of {_names(pad_size)} (expected height and width)"
    yield from _side_problems("pad_size", pad_size or {})


def _side_problems(name: str, size: Mapping[Any, Any]) -> Iterator[str]:
    for key, value in [*size.items()][:4]:
        if type(value) is not int or value < 1:
            yield f"{name}.{str(key)[:20]} {reprlib.repr(value)} (expected a positive whole number)"
        elif value > LARGEST_SIDE_PX:
            yield f"{name}.{str(key)[:20]} {reprlib.repr(value)} (expected at most {LARGEST_SIDE_PX})"


def _triple_problems(name: str, value: Any) -> Iterator[str]:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value] * 3
    divides = name == "image_std"
    fits = len(values) == 3 and all(map(_is_number, values))
    if not fits or (divides and min(map(abs, values)) < SMALLEST_NUMBER):
        yield f"{name} {reprlib.repr(value)} (expected three numbers{', none of them 0' if divides else ''})"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER


def _names(size: Mapping[Any, Any]) -> str:
    """The keys, shortened where there are many or long ones."""
    return ", ".join(str(name)[:20] for name in [*size][:6]) or "nothing"
