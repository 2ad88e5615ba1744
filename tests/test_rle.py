"""Masks as run lengths, as pycocotools writes and reads them."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx import rle

SIZES_HW = [(1, 1), (1, 5000), (5000, 1), (7, 5), (61, 90)]


def masks_of(size_hw: tuple[int, int]) -> list[np.ndarray]:
    """Empty, full, sparse, dense and blocky masks."""
    random = np.random.default_rng(sum(size_hw))
    noise = random.random(size_hw)
    blocks = np.zeros(size_hw, np.bool_)
    blocks[size_hw[0] // 3 :, size_hw[1] // 2 :] = True
    return [np.zeros(size_hw, np.bool_), np.ones(size_hw, np.bool_), noise < 0.01, noise < 0.5, blocks]


def test_the_runs_of_a_known_mask():
    mask = np.array([[0, 1, 1], [0, 0, 1]], np.bool_)  # down the columns: 0 0 1 0 1 1
    assert rle.counts_of(rle.encode(mask)).tolist() == [2, 1, 1, 2]
    assert rle.encode(mask) == {"size": [2, 3], "counts": "2111"}  # from the fourth on differences: 2 - 1
    assert rle.area(rle.encode(mask)) == 3


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_masks_come_back(size_hw):
    for mask in masks_of(size_hw):
        encoded = rle.encode(mask)
        assert encoded["size"] == [*size_hw]
        assert np.array_equal(rle.decode(encoded), mask)
        assert rle.area(encoded) == mask.sum()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools with numpy 2
@pytest.mark.parametrize("size_hw", [*SIZES_HW, (300, 401)])
def test_pycocotools_writes_and_reads_the_same(size_hw):
    coco = pytest.importorskip("pycocotools.mask")
    for mask in masks_of(size_hw):
        ours, theirs = rle.encode(mask), coco.encode(np.asfortranarray(mask, np.uint8))
        assert ours == {"size": theirs["size"], "counts": theirs["counts"].decode()}
        assert np.array_equal(coco.decode(ours), mask)
        assert coco.area(ours) == rle.area(ours)


@pytest.mark.parametrize("counts", ["", "2", "2111P", "é", "~~~", "o" * 40, "0" * 7 + "7", "211O"])
def test_counts_that_are_not_those_of_the_mask_are_refused(counts):
    with pytest.raises(ValueError, match="counts of a mask"):
        rle.decode({"size": [2, 3], "counts": counts})
