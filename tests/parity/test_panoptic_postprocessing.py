"""Segments and masks equal those of transformers' image processor."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from detr_onnx.engines import PanopticOutputs
from detr_onnx.panoptic import PanopticRules, panoptic_of, semantic_of

pytestmark = pytest.mark.oracle

NAMES = tuple("abcde")
SIZES = [(37, 53), (480, 640), (20, 300), (9, 9)]
TIES = 2  # pixels of an image at which two masks differ by less than the rounding of float32


def outputs(seed: int, queries: int = 12):
    """Logits [1,Q,C+1] of sure and unsure queries, and masks [1,Q,h,w] that are smooth and overlap."""
    random = np.random.RandomState(seed)
    logits = 3 * random.standard_normal((1, queries, len(NAMES) + 1))
    y, x = np.mgrid[0:25, 0:34]
    masks = [
        6 - ((y - random.uniform(0, 25)) ** 2 + (x - random.uniform(0, 34)) ** 2) / random.uniform(4, 40)
        for _ in range(queries)
    ]
    return logits.astype(np.float32), np.clip(np.array(masks), -9, 9).astype(np.float32)[None]


def theirs(logits, masks, threshold, size_hw, **rules):
    import torch
    from transformers import DetrImageProcessor

    found = SimpleNamespace(logits=torch.from_numpy(logits.copy()), pred_masks=torch.from_numpy(masks.copy()))
    processor = DetrImageProcessor()
    return processor.post_process_panoptic_segmentation(found, threshold, target_sizes=[size_hw], **rules)[0]


def ours(logits, masks, threshold, size_hw, **rules):
    scores = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    queries = np.flatnonzero(scores[:, :-1].max(-1) > threshold)
    kept = np.stack([np.zeros_like(queries), queries], axis=1)
    segments = PanopticOutputs(logits, np.zeros((1, len(scores), 4), np.float32), kept, masks[0, queries])
    whole, rules = np.ones((1, 8, 8), bool), PanopticRules(threshold, **rules)
    return panoptic_of(segments, whole, np.array([size_hw]), NAMES, rules)


@pytest.mark.parametrize("rules", [
    {},
    {"mask_threshold": 0.2, "overlap_mask_area_threshold": 0.3},
    {"mask_threshold": 0.7, "overlap_mask_area_threshold": 0.0},
])  # fmt: skip
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("size_hw", SIZES)
def test_segments_are_those_of_transformers(size_hw, threshold, rules):
    for seed in range(10):
        expected = theirs(*outputs(seed), threshold, size_hw, **rules)
        found = ours(*outputs(seed), threshold, size_hw, **rules)
        assert [{**segment, "label": NAMES[segment["label_id"]]} for segment in expected["segments_info"]] == [
            *found.segments_info
        ]
        assert np.count_nonzero(expected["segmentation"].numpy() != found.segmentation) <= TIES


def test_fused_segments_are_those_of_transformers_but_for_its_repeated_ids():
    """transformers gives the segment after a fused one an id that is taken; ours counts on."""
    fused_somewhere = 0
    for seed in range(20):
        rules = {"label_ids_to_fuse": {0, 1}, "overlap_mask_area_threshold": 0.1}
        expected, found = (of(*outputs(seed), 0.3, (60, 80), **rules) for of in (theirs, ours))
        apart = theirs(*outputs(seed), 0.3, (60, 80), overlap_mask_area_threshold=0.1)
        fused_somewhere += len(found.segments_info) < len(apart["segments_info"])
        by_id = {segment["id"]: segment["label_id"] for segment in apart["segments_info"]}
        labels = np.vectorize(lambda i, by_id=by_id: by_id.get(i, -1))(apart["segmentation"].numpy())
        ours_by_id = {segment["id"]: segment["label_id"] for segment in found.segments_info}
        assert len(ours_by_id) == len(found.segments_info)
        own = np.vectorize(lambda i, by_id=ours_by_id: by_id.get(i, -1))(found.segmentation)
        assert np.count_nonzero(labels != own) <= TIES
        assert {s["label_id"] for s in expected["segments_info"]} == {*ours_by_id.values()}
    assert fused_somewhere


@pytest.mark.parametrize("size_hw", SIZES)
def test_the_classes_of_pixels_are_those_of_transformers(size_hw):
    import torch
    from transformers import DetrImageProcessor

    several = 0
    for seed in range(10):
        logits, masks = outputs(seed)
        found = SimpleNamespace(logits=torch.from_numpy(logits.copy()), pred_masks=torch.from_numpy(masks.copy()))
        expected = DetrImageProcessor().post_process_semantic_segmentation(found, target_sizes=[size_hw])[0].numpy()
        kept = np.stack([np.zeros(len(masks[0]), np.int64), np.arange(len(masks[0]))], axis=1)
        segments = PanopticOutputs(logits, np.zeros((1, len(masks[0]), 4), np.float32), kept, masks[0])
        best = semantic_of(segments, np.ones((1, 8, 8), bool), np.array([size_hw]))
        assert np.count_nonzero(best != expected) <= TIES
        several += len(np.unique(expected)) > 1
    assert several > 3
