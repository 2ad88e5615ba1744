"""Masks at the size of the image."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.masks import MaskLogits

SURE = 30  # a logit whose probability is 1 in float32, and of -30 almost 0
ROUNDING = 1e-6  # of float32 near 1


def test_padding_does_not_reach_into_the_image():
    """Half of the canvas is padding: the image's right edge is the middle of the canvas."""
    logits = np.full((1, 4, 8), -20, np.float32)
    logits[:, :, 4:] = 20
    assert not MaskLogits(logits, (1.0, 0.5), (16, 16)).boolean().any()
    assert MaskLogits(logits, (1.0, 1.0), (16, 16)).boolean()[0, 0].tolist() == [False] * 8 + [True] * 8


def test_a_large_image_is_computed_in_blocks(monkeypatch):
    masks = MaskLogits(np.random.RandomState(0).standard_normal((3, 9, 7)).astype(np.float32), (1.0, 1.0), (50, 31))
    whole = masks.boolean()
    monkeypatch.setattr("detr_onnx.masks.BLOCK_FLOATS", 300)
    assert len([*masks.blocks()]) > 10
    assert np.array_equal(masks.boolean(), whole)


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 400), (5, 3)])
def test_images_of_any_size_have_masks(image_hw):
    masks = MaskLogits(np.ones((2, 3, 4), np.float32), (1.0, 1.0), image_hw)
    assert masks.boolean().shape == (2, *image_hw)
    assert masks.boolean().all()


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (1, [0.5]),
        (2, [0, 1]),
        (4, [0, 0.25, 0.75, 1]),
        (8, [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]),
    ],
)
@pytest.mark.parametrize("padding", [0, 2])
def test_probabilities_are_interpolated_between_the_centres_of_cells(padding, width, expected):
    """As torch.nn.functional.interpolate, bilinear, with align_corners=False."""
    across = np.array([[[-SURE, SURE] + [-SURE] * padding]], np.float32)
    share = 2 / (2 + padding)
    (_, wide), *_ = MaskLogits(across, (1.0, share), (3, width)).blocks()
    np.testing.assert_allclose(wide, [[expected] * 3], atol=ROUNDING)
    (_, high), *_ = MaskLogits(across.transpose(0, 2, 1), (share, 1.0), (width, 3)).blocks()
    np.testing.assert_allclose(high, [[[value] * 3 for value in expected]], atol=ROUNDING)


def test_a_pixel_belongs_to_a_mask_from_a_probability_of_a_half_on():
    logits = np.array([[[-0.1, 0, 0.1]]], np.float32)
    assert MaskLogits(logits, (1.0, 1.0), (1, 3)).boolean().tolist() == [[[False, True, True]]]


def test_the_class_of_a_pixel_is_that_of_the_masks_there_together():
    """On the left two masks of class 1 outweigh the one of class 0, which is surer than either of them."""
    logits = np.array([[[SURE, SURE]], [[SURE, -SURE]], [[SURE, -SURE]]], np.float32)
    of_queries = np.array([[0.6, 0.1, 0.2], [0.1, 0.5, 0.4], [0.1, 0.5, 0.4]], np.float32)
    found = MaskLogits(logits, (1.0, 1.0), (2, 2)).semantic(of_queries)
    assert found.dtype == np.int32
    assert found.tolist() == [[1, 0], [1, 0]]
