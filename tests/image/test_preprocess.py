"""Sizes, pixels and masks are those of the Pillow processor of transformers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_onnx.errors import ImageError, UsageError
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import batch, to_pixels
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.image.sizes import fitted_hw, resized_hw

DETR = Preprocessing()
FLOAT32_STEPS = 4e-7  # three roundings to float32 of values up to 2.64, half a step of 2.4e-7 each
COLOURS = [(0, 0, 0), (255, 255, 255), (124, 116, 104), (1, 128, 254)]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def size_rule(heights: np.ndarray, widths: np.ndarray, shortest: int = 800, longest: int = 1333) -> np.ndarray:
    """[n, 2] heights and widths by the published rule, vectorised in float64, without a minimum of 1."""
    short, long = np.minimum(heights, widths), np.maximum(heights, widths)
    limited = long / short * shortest > longest
    exact = np.where(limited, longest * short / long, shortest)
    rounded = np.rint(exact)
    unchanged = rounded == short
    new_short, new_long = np.where(unchanged, short, rounded), np.where(unchanged, long, np.trunc(exact * long / short))
    upright = heights > widths
    return np.stack([np.where(upright, new_long, new_short), np.where(upright, new_short, new_long)], 1).astype(int)


def normalised(pixels_hwc: np.ndarray) -> np.ndarray:
    """[3, h, w] float64 of [h, w, 3] bytes, by the definition."""
    return ((pixels_hwc / 255 - np.array(DETR.mean)) / np.array(DETR.std)).transpose(2, 0, 1)


def test_an_empty_batch_is_refused():
    with pytest.raises(UsageError, match="a batch needs an image: found none, expected at least one"):
        batch([], DETR)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (800, 1066)),  # 1066.67, truncated and not rounded
        (640, 480, (1066, 800)),
        (800, 1066, (800, 1066)),
        (800, 1333, (800, 1333)),
        (500, 500, (800, 800)),
        (2000, 2000, (800, 800)),
        (427, 1280, (445, 1333)),
        (600, 4000, (200, 1333)),
        (33, 47, (800, 1139)),
        (1, 1, (800, 800)),
        (1, 2000, (1, 2000)),  # the short side already has its length, so the long one stays above the limit
        (1, 5000, (1, 1333)),  # transformers: 0 x 1333
        (20_000, 3, (1333, 1)),
    ],
)
def test_the_size_rule_of_single_images(height: int, width: int, expected: tuple[int, int]):
    assert resized_hw(height, width, 800, 1333) == expected


def test_the_size_rule_over_a_grid_to_2000():
    heights, widths = (axis.ravel() for axis in np.meshgrid(np.arange(1, 2001, 7), np.arange(1, 2001, 3)))
    ours = np.array([resized_hw(h, w, 800, 1333) for h, w in zip(heights.tolist(), widths.tolist(), strict=True)])
    assert np.array_equal(ours, np.maximum(size_rule(heights, widths), 1))


@pytest.mark.parametrize(("shortest", "longest"), [(800, 1333), (480, 640), (800, 800), (1000, 1000), (256, 455)])
def test_the_size_rule_of_random_sizes_to_20000(shortest: int, longest: int):
    heights, widths = np.random.default_rng(0).integers(1, 20_001, (2, 20_000))
    sizes = zip(heights.tolist(), widths.tolist(), strict=True)
    ours = np.array([resized_hw(h, w, shortest, longest) for h, w in sizes])
    assert np.array_equal(ours, np.maximum(size_rule(heights, widths, shortest, longest), 1))


@pytest.mark.parametrize("canvas_hw", [(480, 640), (800, 1066), (64, 64), (1333, 1333), (640, 480)])
def test_fitting_a_canvas_keeps_the_aspect_ratio_to_half_a_pixel(canvas_hw: tuple[int, int]):
    for height, width in np.random.default_rng(0).integers(1, 5000, (500, 2)).tolist():
        fitted = fitted_hw(height, width, canvas_hw)
        scale = min(Fraction(canvas_hw[0], height), Fraction(canvas_hw[1], width))
        assert all(1 <= side <= limit for side, limit in zip(fitted, canvas_hw, strict=True))
        assert any(side == limit for side, limit in zip(fitted, canvas_hw, strict=True))
        exact = height * scale, width * scale
        assert all(abs(a - b) <= Fraction(1, 2) or a == 1 for a, b in zip(fitted, exact, strict=True))


def test_every_byte_is_normalised_to_float32_precision():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    preprocessing = Preprocessing(resize=False)
    pixels = to_pixels(read_rgb(ramp), preprocessing)
    assert pixels.dtype == np.float32
    assert np.abs(pixels - normalised(ramp)).max() <= FLOAT32_STEPS


@pytest.mark.parametrize("colour", COLOURS)
def test_a_flat_image_keeps_its_colour_in_every_pixel(colour: tuple[int, int, int]):
    pixels = to_pixels(Image.new("RGB", (64, 48), colour), DETR)
    assert pixels.shape == (3, 800, 1066)
    expected = normalised(np.array(colour, np.uint8).reshape(1, 1, 3))
    assert np.abs(pixels - expected).max() <= FLOAT32_STEPS


def test_resizing_is_a_triangle_filter_over_the_source_pixels():
    source = noise(100, 60)
    preprocessing = Preprocessing(shortest_edge=24, longest_edge=1000)

    def weights(n: int, m: int) -> np.ndarray:
        centres, support = (np.arange(m) + 0.5) * n / m, n / m
        tent = np.maximum(0, 1 - np.abs((np.arange(n) + 0.5 - centres[:, None]) / support))
        return tent / tent.sum(axis=1, keepdims=True)

    exact = np.einsum("hy,yxc,wx->hwc", weights(60, 24), np.asarray(source, float), weights(100, 40))
    bytes_away = np.abs(to_pixels(source, preprocessing) - normalised(exact)) * np.array(DETR.std)[:, None, None] * 255
    assert bytes_away.max() <= 1.01  # Pillow rounds to whole bytes after each of its two passes


def test_one_image_has_no_padding_and_a_mask_of_ones():
    pixels, mask, sizes_hw = batch([noise(64, 48)], DETR)
    assert (pixels.shape, pixels.dtype) == ((1, 3, 800, 1066), np.float32)
    assert (mask.shape, mask.dtype, bool(mask.all())) == ((1, 800, 1066), np.bool_, True)
    assert (sizes_hw.tolist(), sizes_hw.dtype) == ([[48, 64]], np.int64)


def test_images_of_different_sizes_are_padded_with_zeros_at_the_bottom_and_right():
    images = [noise(64, 48), noise(48, 64, seed=1), noise(200, 20, seed=2)]
    pixels, mask, sizes_hw = batch(images, DETR)
    assert pixels.shape == (3, 3, 1066, 1333)
    assert sizes_hw.tolist() == [[48, 64], [64, 48], [20, 200]]
    for image, canvas, valid in zip(images, pixels, mask, strict=True):
        alone = to_pixels(image, DETR)
        _, h, w = alone.shape
        assert np.array_equal(canvas[:, :h, :w], alone)
        assert bool(valid[:h, :w].all())
        assert int(valid.sum()) == h * w
        assert not canvas[:, ~valid].any()


@pytest.mark.parametrize(
    ("size_wh", "canvas_hw", "image_hw"),
    [
        ((640, 480), (1344, 1344), (800, 1066)),  # fits: resized by the rule, never larger
        ((640, 480), (800, 1066), (800, 1066)),
        ((480, 640), (800, 1066), (800, 600)),
        ((640, 480), (256, 256), (192, 256)),
        ((1, 5000), (64, 64), (64, 1)),
    ],
)
def test_a_canvas_holds_the_whole_image(
    size_wh: tuple[int, int], canvas_hw: tuple[int, int], image_hw: tuple[int, int]
):
    pixels, mask, sizes_hw = batch([Image.new("RGB", size_wh, "white")], DETR, canvas_hw=canvas_hw)
    assert pixels.shape[2:] == canvas_hw
    assert (int(mask.any(axis=2).sum()), int(mask.any(axis=1).sum())) == image_hw
    assert bool((pixels[0, :, : image_hw[0], : image_hw[1]] > 2).all())
    assert np.count_nonzero(pixels) == 3 * mask.sum()
    assert sizes_hw.tolist() == [[size_wh[1], size_wh[0]]]


def test_images_are_padded_to_the_pad_size_of_the_configuration():
    preprocessing = Preprocessing(48, 64, max_hw=(48, 64), pad_hw=(48, 64))
    pixels, mask, _ = batch([noise(100, 200), noise(640, 480)], preprocessing)
    assert pixels.shape == (2, 3, 48, 64)
    assert [(int(valid.any(axis=1).sum()), int(valid.any(axis=0).sum())) for valid in mask] == [(48, 24), (48, 64)]
    assert not pixels[0][:, ~mask[0]].any()


def test_an_image_larger_than_the_pad_size_is_refused():
    with pytest.raises(ImageError, match=r"pad_size: found 800x1066 after resizing, expected at most 800x800; correct"):
        batch([noise(640, 480)], Preprocessing(pad_hw=(800, 800)))


def test_the_fixed_shape_of_a_network_comes_before_the_pad_size():
    preprocessing = Preprocessing(48, 64, max_hw=(48, 64), pad_hw=(48, 64))
    assert batch([noise(100, 200)], preprocessing, canvas_hw=(32, 32))[0].shape == (1, 3, 32, 32)


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 5000), (5000, 1)])
def test_the_thinnest_images_give_pixels(size_wh: tuple[int, int]):
    pixels, mask, _ = batch([Image.new("RGB", size_wh)], DETR)
    assert min(pixels.shape) >= 1
    assert bool(mask.all())


@pytest.mark.oracle
@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_the_size_rule_is_that_of_transformers(step: int):
    reference = pytest.importorskip("transformers.image_transforms").get_size_with_aspect_ratio
    grid = [(h, w) for h in range(1, 2001, step) for w in range(1, 2001, min(step, 5))]
    grid += map(tuple, np.random.default_rng(1).integers(1, 20_001, (20_000, 2)).tolist())
    wrong = [
        (h, w) for h, w in grid if resized_hw(h, w, 800, 1333) != tuple(max(1, s) for s in reference((h, w), 800, 1333))
    ]
    assert wrong == []


@pytest.mark.oracle
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"size": {"shortest_edge": 200, "longest_edge": 333}},
        {"size": {"height": 100, "width": 180}},
        {"size": {"max_height": 120, "max_width": 150}},
        {"size": {"max_height": 120, "max_width": 150}, "pad_size": {"height": 120, "width": 160}},
        {"pad_size": {"height": 1333, "width": 1333}},
        {"pad_size": {"height": 1, "width": 1}, "pad_and_return_pixel_mask": False},
        {"do_resize": False},
        {"do_rescale": False},
        {"do_normalize": False},
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.2, 0.1]},
    ],
)
@pytest.mark.parametrize("sizes_wh", [[(640, 480)], [(33, 47)], [(640, 480), (500, 375), (300, 640)], [(1066, 800)]])
def test_pixels_and_masks_are_those_of_transformers_bit_for_bit(
    fields: dict[str, Any], sizes_wh: list[tuple[int, int]]
):
    module = pytest.importorskip("transformers.models.detr.image_processing_pil_detr")
    modes = ("RGB", "L", "CMYK")
    images = [noise(*size, seed).convert(modes[seed]) for seed, size in enumerate(sizes_wh)]
    pads = fields.get("pad_and_return_pixel_mask", True)
    if len(images) > 1 and not pads:
        pytest.skip("transformers makes no batch of images that are not padded")
    processor = module.DetrImageProcessorPil(**fields)
    expected = processor([image.convert("RGB") for image in images], return_tensors="np")
    pixels, mask, _ = batch([read_rgb(image) for image in images], Preprocessing.from_json(fields, "a test"))
    assert np.array_equal(pixels, expected["pixel_values"])
    assert np.array_equal(mask, expected["pixel_mask"].astype(bool) if pads else np.ones_like(mask))


@pytest.mark.parametrize("factor", [1 / 255, 1 / 127.5, 0.003921569, 0.00392157, 0.0078431377, 1 / 3, 2.0])
def test_every_byte_is_rescaled_in_float64_as_in_transformers(factor):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    plain = Preprocessing(resize=False, rescale_factor=factor, mean=(0.0,) * 3, std=(1.0,) * 3)
    pixels = to_pixels(Image.fromarray(grey).convert("RGB"), plain)
    np.testing.assert_array_equal(pixels[0], (grey.astype(np.float64) * factor).astype(np.float32))
