"""Masks at the size of the image, and the segments that they make."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.masks import MaskLogits, PanopticRules, panoptic

NAMES = ("cat", "dog", "sky")


def half_planes(*columns: range, size: int = 8) -> MaskLogits:
    """Masks that are sure of their columns, at the size of the image."""
    logits = np.full((len(columns), size, size), -20, np.float32)
    for mask, own in zip(logits, columns, strict=True):
        mask[:, own] = 20
    return MaskLogits(logits, (1.0, 1.0), (size, size))


def segments_of(masks: MaskLogits, scores, class_ids, **rules):
    return panoptic(masks, np.array(scores, np.float32), np.array(class_ids, np.int64), NAMES, PanopticRules(**rules))


def test_each_pixel_belongs_to_the_best_mask_or_to_none():
    found = segments_of(half_planes(range(3), range(5, 8)), [0.9, 0.8], [0, 1])
    assert found.segmentation.dtype == np.int32
    assert found.segmentation[0].tolist() == [1, 1, 1, 1, 1, 2, 2, 2]  # argmax of equal zeros is the first
    assert found.segments_info == [
        {"id": 1, "label_id": 0, "label": "cat", "was_fused": False, "score": 0.9},
        {"id": 2, "label_id": 1, "label": "dog", "was_fused": False, "score": 0.8},
    ]


def test_a_mask_that_is_mostly_covered_is_left_out():
    found = segments_of(half_planes(range(6), range(5)), [0.9, 0.8], [0, 1])
    assert [segment["label"] for segment in found.segments_info] == ["cat"]
    assert set(np.unique(found.segmentation)) == {1}


def test_segments_of_a_fused_class_are_one_and_ids_stay_apart():
    """transformers counts on from the fused id, so that its third segment would be 2 as well."""
    masks = half_planes(range(2), range(2, 4), range(4, 6), range(6, 8))
    found = segments_of(masks, [0.9, 0.8, 0.7, 0.6], [2, 0, 2, 1], label_ids_to_fuse={2})
    assert found.segmentation[0].tolist() == [1, 1, 2, 2, 1, 1, 3, 3]
    assert [(s["id"], s["label"], s["was_fused"]) for s in found.segments_info] == [
        (1, "sky", True), (2, "cat", False), (3, "dog", False),
    ]  # fmt: skip


def test_without_masks_the_map_is_minus_one():
    found = segments_of(half_planes(), [], [])
    assert found.segments_info == []
    assert np.unique(found.segmentation).tolist() == [-1]


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
