"""Two answers about one image, box by box."""

from __future__ import annotations

from detr_onnx.bench.hosted.comparison import compare, figures_of, percentiles


def item(label: str, score: float, *xyxy: int) -> dict:
    return {"score": score, "label": label, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), xyxy, strict=True))}


def test_nothing_found_by_either_is_identical():
    one = compare([], [])
    assert (one.identical, one.distance, one.pairs) == (True, 0, ())
    assert figures_of([one])["iou_mean"] is None


def test_a_box_less_than_a_pixel_wide_matches_itself():
    line = item("kite", 0.5, 7, 3, 7, 30)
    assert compare([line], [line]).identical


def test_a_box_counts_once_and_only_under_its_label():
    cat = item("cat", 0.75, 0, 0, 100, 100)
    one = compare([cat], [item("dog", 0.5, 0, 0, 100, 100), cat, item("cat", 0.25, 0, 0, 100, 99)])
    assert (len(one.pairs), one.missing, one.extra, one.distance) == (1, (), (0.5, 0.25), 0.75)


def test_the_order_is_compared_and_looked_at_by_itself():
    cat, dog = item("cat", 0.75, 0, 0, 9, 9), item("dog", 0.5, 50, 50, 90, 90)
    one = compare([cat, dog], [dog, cat])
    assert (one.same_order, one.sorted, one.identical, one.distance) == (False, False, False, 0)


def test_percentiles_of_nothing_are_none():
    assert percentiles([]) == {"count": 0}
    assert percentiles(range(101)) == {"count": 101, "p50": 50, "p95": 95, "p99": 99}
