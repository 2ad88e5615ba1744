"""What is drawn on the page: numbers beside their boxes, plots whose marks stand at their values."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from detr_onnx.bench.hosted import drawing, plots
from detr_onnx.bench.hosted.comparison import compare
from detr_onnx.bench.hosted.results import Prices, cost_of
from detr_onnx.bench.hosted.table import cost_rows

SVG = "{http://www.w3.org/2000/svg}"
MARGIN = 12  # around images in these tests, wider than a number is high


def overlap(one: drawing.Rectangle, other: drawing.Rectangle) -> bool:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across > 1e-6 and down > 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_a_number_never_covers_its_own_box_and_stays_in_the_frame(seed):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, 101, (30, 2, 2)), axis=1).reshape(30, 4)
    corners[0] = (0, 0, 100, 100)
    corners[1] = (100, 100, 100, 100)
    boxes = [tuple(map(float, corner)) for corner in corners]
    frame = (-MARGIN, -MARGIN, 100 + MARGIN, 100 + MARGIN)
    tags = drawing.tag_rectangles(boxes, [(14.0, 11.0)] * 30, frame)
    assert not any(overlap(box, tag) for box, tag in zip(boxes, tags, strict=True))
    for left, top, right, bottom in tags:
        assert frame[0] <= left < right <= frame[2]
        assert frame[1] <= top < bottom <= frame[3]


def test_numbers_of_equal_boxes_do_not_cover_each_other():
    tags = drawing.tag_rectangles([(20.0, 20.0, 80.0, 80.0)] * 6, [(14.0, 11.0)] * 6, (-12, -12, 112, 112))
    assert not any(overlap(one, other) for i, one in enumerate(tags) for other in tags[:i])


def test_a_pair_has_the_same_number_on_both_sides():
    def item(label: str, left: int, score: float) -> dict:
        return {"label": label, "score": score, "box": {"xmin": left, "ymin": 0, "xmax": left + 9, "ymax": 9}}

    local = [item("cat", 0, 0.9), item("dog", 50, 0.8), item("cup", 90, 0.7)]
    hosted = [item("kite", 70, 0.95), item("cup", 90, 0.6), item("cat", 0, 0.5)]
    ours, theirs = drawing.numbered(local, hosted, compare(local, hosted))
    both = {"cat": (1, True), "cup": (2, True)}
    assert {d.item["label"]: (d.number, d.matched) for d in ours} == {**both, "dog": (3, False)}
    assert {d.item["label"]: (d.number, d.matched) for d in theirs} == {**both, "kite": (4, False)}


def test_dots_stand_at_their_scores_and_equal_scores_on_the_line():
    plot = ET.fromstring(plots.score_plot([(0.5, 0.5), (0.25, None), (None, 0.75)]))
    equal, local_only, hosted_only = plot.iter(f"{SVG}circle")
    line = next(element for element in plot.iter(f"{SVG}line") if element.get("class") == "equal")
    x1, y1, x2, y2 = (float(line.get(name, "nan")) for name in ("x1", "y1", "x2", "y2"))
    assert (float(equal.get("cx", "")), float(equal.get("cy", ""))) == pytest.approx(((x1 + x2) / 2, (y1 + y2) / 2))
    assert (local_only.get("class"), float(local_only.get("cy", ""))) == ("single", y1)
    assert float(local_only.get("cx", "")) == pytest.approx(x1 + (x2 - x1) / 4, abs=0.1)
    assert (hosted_only.get("class"), float(hosted_only.get("cx", ""))) == ("single", x1)
    assert float(hosted_only.get("cy", "")) == pytest.approx(y1 + (y2 - y1) * 3 / 4, abs=0.1)


def test_a_plot_of_very_many_detections_shows_a_part_of_them():
    plot = plots.score_plot([(0.5, 0.5)] * (2 * plots.MOST_POINTS + 1))
    assert plot.count("<circle") <= plots.MOST_POINTS


def figures(p50: float, p90: float, p99: float) -> dict:
    return {"count": 1, "p50": p50, "p90": p90, "p99": p99}


def test_latencies_stand_on_a_log_scale():
    latency = {"local": {"1": figures(10, 20, 100)}, "hosted": {"1": figures(100, 200, 1000)}}
    plot = ET.fromstring(plots.latency_plot(latency))
    local, hosted = (float(circle.get("cx", "")) for circle in plot.iter(f"{SVG}circle"))
    texts = {text.text or "": float(text.get("x", "")) for text in plot.iter(f"{SVG}text")}
    ticks = {text: x for text, x in texts.items() if text.isdigit()}
    assert (local, hosted) == (ticks["10"], ticks["100"])
    assert ticks["100"] - ticks["10"] == pytest.approx(ticks["1000"] - ticks["100"], abs=0.2)
    assert [*texts][-2:] == ["local, 1", "hosted, 1"]


def test_without_latencies_there_is_no_plot():
    assert plots.latency_plot({"local": {}, "hosted": {}}) == ""
    assert plots.latency_plot({"local": {"1": {"count": 0}}, "hosted": {"1": {"count": 0}}}) == ""


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(12, 480, [10, 20, 50, 100, 200, 500]), (10, 10, [10, 20]), (3, 4, [2, 5]), (0, 0.15, [0.1, 0.2])],
)
def test_ticks_enclose_the_times(least, most, expected):
    assert plots.log_ticks(least, most) == pytest.approx(expected)


def cost_text(machine_hour: float | None, capacity: int) -> str:
    """The section of costs, at $0.0000075 per image."""
    latency = {"local": {"1": {"per_second": capacity / 3600}}}
    return "\n".join(map(str, cost_rows(cost_of(1, Prices(0.0000075, machine_hour), latency, {"local": {"count": 0}}))))


def test_a_machine_that_is_too_slow_to_be_cheaper_is_said_to_be():
    assert "from 4,000 images per hour; it processes up to 7,200" in cost_text(0.03, 7200)
    assert "never: it processes 7,200 images per hour, 40,000 cost as much" in cost_text(0.3, 7200)
    assert "cheaper" not in cost_text(None, 7200)
