"""Masks at the size of the image."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.masks import MaskLogits


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
