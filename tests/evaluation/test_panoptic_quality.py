"""Panoptic quality of maps that are small enough to count, and beside torchmetrics'."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.evaluation.panoptic_quality import Category, PanopticQuality, Segment

CAT, DOG, SKY = 1, 2, 3
CATEGORIES = {CAT: Category("cat", True), DOG: Category("dog", True), SKY: Category("sky", False)}
EXACT = 1e-12  # sums of a few float64
ORACLE_TOLERANCE = 1e-6  # torchmetrics sums in float32


def line(*runs: tuple[int, int]) -> np.ndarray:
    """A map [1,W] from ids and their numbers of pixels."""
    return np.concatenate([np.full(pixels, k, np.int32) for k, pixels in runs])[None]


def quality(*images):
    counted = PanopticQuality()
    for image in images:
        counted.add(*image)
    return counted.result(CATEGORIES)


def test_the_same_segments_have_a_quality_of_1_whatever_their_ids():
    true = {5: Segment(CAT), 70000: Segment(SKY)}, {1: Segment(SKY), 2: Segment(CAT)}
    found = quality((line((5, 6), (70000, 4)), true[0], line((2, 6), (1, 4)), true[1]))
    assert set(found.figures.values()) == {1.0}
    assert (found.images, found.segments) == (1, 2)
    assert [(row.label, row.is_thing, row.segments) for row in found.classes] == [("cat", True, 1), ("sky", False, 1)]


def test_a_match_counts_with_its_iou_and_categories_are_averaged():
    """cat: 6 of 8 pixels in common; dog: one missed, one false; sky: has none, and does not count."""
    true = line((1, 8), (2, 4), (0, 0), (3, 8)), {1: Segment(CAT), 2: Segment(DOG), 3: Segment(DOG)}
    own = line((7, 6), (0, 2), (0, 4), (8, 4), (9, 4)), {7: Segment(CAT), 8: Segment(DOG), 9: Segment(DOG)}
    found = quality((*true, *own))
    rows = {row.label: row for row in found.classes}
    assert (rows["cat"].SQ, rows["cat"].RQ, rows["cat"].PQ) == (0.75, 1.0, 0.75)
    assert (rows["dog"].SQ, rows["dog"].RQ, rows["dog"].PQ) == (0.0, 0.0, 0.0)  # halves are no match
    assert found.figures["PQ"] == pytest.approx(0.375, abs=EXACT)
    assert found.figures["RQ_things"] == pytest.approx(0.5, abs=EXACT)
    assert [found.figures[name] for name in ("PQ_stuff", "SQ_stuff", "RQ_stuff")] == [None] * 3


def test_images_are_counted_together():
    """Two cats found in the first image, IoU 1, and one of two missed in the second: RQ 3 / (3 + 1/2)."""
    two = line((1, 5), (2, 5)), {1: Segment(CAT), 2: Segment(CAT)}
    one = line((1, 5), (0, 5)), {1: Segment(CAT)}
    found = quality((*two, *two), (*two, *one))
    assert found.figures["RQ"] == pytest.approx(3 / 3.5, abs=EXACT)
    assert found.figures["SQ"] == 1.0
    assert (found.images, found.segments) == (2, 4)


def test_false_and_missed_segments_count_by_half():
    """One cat is found, one missed, and both dogs are called cats: RQ 1 / (1 + 2/2 + 1/2)."""
    true = line((1, 4), (2, 4), (3, 4), (4, 4)), {k: Segment(CAT if k < 3 else DOG) for k in (1, 2, 3, 4)}
    own = line((1, 4), (0, 4), (3, 4), (4, 4)), dict.fromkeys((1, 3, 4), Segment(CAT))
    cat, _ = quality((*true, *own)).classes
    assert (cat.SQ, cat.RQ, cat.PQ) == (1.0, 0.4, 0.4)
    assert cat.segments == 2


def test_things_and_stuff_have_means_of_their_own():
    """cats: one of one; dogs: none of one; sky: none of one."""
    true = line((1, 4), (2, 4), (3, 4)), {1: Segment(CAT), 2: Segment(DOG), 3: Segment(SKY)}
    figures = quality((*true, line((1, 4), (0, 8)), {1: Segment(CAT)})).figures
    assert [figures[name] for name in ("PQ_things", "PQ_stuff")] == [0.5, 0.0]
    assert figures["PQ"] == pytest.approx(1 / 3, abs=EXACT)


def test_another_category_is_no_match():
    found = quality((line((1, 9)), {1: Segment(CAT)}, line((1, 9)), {1: Segment(DOG)}))
    assert found.figures["PQ"] == 0.0
    assert [row.label for row in found.classes] == ["cat", "dog"]


def test_pixels_that_nobody_knows_are_left_out_of_the_union():
    """4 pixels in common, 4 more in the void: an IoU of 4/4, not of 4/8."""
    found = quality((line((1, 4), (0, 4)), {1: Segment(CAT)}, line((1, 8)), {1: Segment(CAT)}))
    assert found.figures["SQ"] == 1.0


@pytest.mark.parametrize(("void", "false"), [(6, 0), (5, 1), (4, 1)])
def test_a_segment_that_is_mostly_in_the_void_is_not_false(void, false):
    true = line((0, void), (2, 10 - void), (1, 20)), {1: Segment(DOG), 2: Segment(SKY)}
    own = line((1, 10), (2, 20)), {1: Segment(CAT), 2: Segment(DOG)}
    found = quality((*true, *own))
    assert len([row for row in found.classes if row.label == "cat"]) == false


@pytest.mark.parametrize(("category", "labels"), [(CAT, ["dog"]), (DOG, ["cat", "dog"])])
def test_a_segment_in_a_crowd_of_its_category_is_neither_found_nor_false(category, labels):
    """The crowd itself is not missed either."""
    true = line((1, 10), (2, 5)), {1: Segment(category, is_crowd=True), 2: Segment(DOG)}
    own = line((1, 8), (0, 2), (2, 5)), {1: Segment(CAT), 2: Segment(DOG)}
    found = quality((*true, *own))
    assert [row.label for row in found.classes] == labels
    assert found.segments == 1


def test_of_several_crowds_of_a_category_the_last_counts_as_in_panopticapi():
    true = line((1, 4), (2, 4), (3, 2)), {k: Segment(CAT, is_crowd=True) for k in (1, 2)} | {3: Segment(DOG)}
    (cat, _) = quality((*true, line((1, 10)), {1: Segment(CAT)})).classes
    assert (cat.label, cat.segments, cat.RQ) == ("cat", 0, 0.0)


def test_without_segments_there_are_no_figures():
    found = quality((line((0, 3)), {}, line((0, 3)), {}))
    assert set(found.figures.values()) == {None}
    assert (found.images, found.segments, found.classes) == (1, 0, ())


@pytest.mark.oracle
def test_torchmetrics_computes_the_same():
    """The predictions have no void: torchmetrics takes it out of the true segments, which panopticapi does not."""
    detection = pytest.importorskip("torchmetrics.detection")
    torch = pytest.importorskip("torch")
    metric = detection.PanopticQuality(
        {CAT, DOG}, {SKY}, allow_unknown_preds_category=True, return_sq_and_rq=True, return_per_class=True
    )
    random, counted = np.random.RandomState(0), PanopticQuality()
    for _ in range(20):
        true_ids, ids = random_map(random, 0), random_map(random, 1)
        ids = np.where(true_ids == 0, ids, true_ids)
        ids = np.where(np.kron(random.random((6, 6)) < 0.7, np.ones((8, 8))), ids, random_map(random, 1))
        segments = [segments_of(m) for m in (true_ids, ids)]
        counted.add(true_ids, segments[0], ids, segments[1])
        pairs = [torch.from_numpy(np.stack([m // 10, m % 10], axis=-1).astype(np.int64)[None]) for m in (ids, true_ids)]
        metric.update(*pairs)
    expected = metric.compute().numpy()  # [categories, (PQ, SQ, RQ)]
    found = counted.result(CATEGORIES)
    ours = [(row.PQ, row.SQ, row.RQ) for row in found.classes]
    assert expected.shape == (len(CATEGORIES), 3)
    assert 0.1 < expected.min() < expected.max() < 0.99
    np.testing.assert_allclose(ours, expected, atol=ORACLE_TOLERANCE)


def random_map(random: np.random.RandomState, least: int) -> np.ndarray:
    """Cells of segments whose id is ten times the category plus a number; 0 is the void, stuff has no number."""
    category = random.randint(least, 4, (6, 6))
    number = np.where((category == SKY) | (category == 0), 0, random.randint(1, 4, (6, 6)))
    return np.kron(category * 10 + number, np.ones((8, 8), np.int64)).astype(np.int32)


def segments_of(ids: np.ndarray) -> dict[int, Segment]:
    return {k: Segment(k // 10) for k in np.unique(ids).tolist() if k}
