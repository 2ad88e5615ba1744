"""Two answers about the same image, compared box by box."""

from __future__ import annotations

from detr_onnx.bench.hosted.comparison import compare, summary_of


def item(label: str, score: float, *xyxy: int) -> dict:
    return {"score": score, "label": label, "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), xyxy, strict=True))}


def test_two_empty_answers_are_identical():
    comparison = compare([], [])
    assert (comparison.identical, comparison.distance, comparison.pairs) == (True, 0, ())
    assert summary_of([comparison])["iou_mean"] is None


def test_a_box_one_pixel_wide_matches_itself():
    line = item("kite", 0.5, 7, 3, 7, 30)
    assert compare([line], [line]).identical


def test_a_box_matches_once_and_only_with_its_label():
    cat = item("cat", 0.75, 0, 0, 100, 100)
    comparison = compare([cat], [item("dog", 0.5, 0, 0, 100, 100), cat, item("cat", 0.25, 0, 0, 100, 99)])
    assert (len(comparison.pairs), comparison.missing) == (1, ())
    assert (comparison.extra, comparison.distance) == ((0.5, 0.25), 0.75)


def test_order_is_compared_but_does_not_count_as_distance():
    cat, dog = item("cat", 0.75, 0, 0, 9, 9), item("dog", 0.5, 50, 50, 90, 90)
    comparison = compare([cat, dog], [dog, cat])
    assert (comparison.same_order, comparison.sorted) == (False, False)
    assert (comparison.identical, comparison.distance) == (False, 0)


def test_differences_of_a_pair_have_a_sign_for_scores_and_none_for_boxes():
    comparison = compare([item("cat", 0.75, 0, 0, 99, 99)], [item("cat", 0.5, 10, 0, 99, 99)])
    (pair,) = comparison.pairs
    assert (pair.score_difference, pair.box_px, round(pair.iou, 6)) == (-0.25, 10, 0.9)
    summary = summary_of([comparison])
    assert (summary["score_difference_mean"], summary["box_difference_px_most"]) == (0.25, 10)
