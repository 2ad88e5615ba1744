"""Attention as colours: an even map, at the right place, over a grey image; figures of panels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from detr_onnx.image.figure import Panel, figure, percent
from detr_onnx.image.heatmap import ANCHORS, colour_map, colours, oklab, overlay, resized, shares_of_peak, srgb

UNEVEN = 0.35  # of a mean step: colours are rounded to whole numbers
CELLS = np.array([[0, 0.1, 0], [0, 0, 0.7]], np.float32)


def test_the_colour_map_is_even_to_the_eye_and_gets_lighter():
    lab = oklab(colour_map())
    steps = np.linalg.norm(np.diff(lab[::8], axis=0), axis=1)
    assert steps.min() > (1 - UNEVEN) * steps.mean()
    assert steps.max() < (1 + UNEVEN) * steps.mean()
    assert (np.diff(lab[::8, 0]) > 0).all()
    assert (colour_map()[0].tolist(), colour_map()[-1].tolist()) == ([*ANCHORS[0]], [*ANCHORS[-1]])


def test_oklab_and_back_is_the_same_colour():
    random = np.random.RandomState(0).randint(0, 256, (100, 3)).astype(np.uint8)
    assert np.array_equal(srgb(oklab(random)), random)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (0.628, 0.2249, 0.1258)),
        ((0, 255, 0), (0.8664, -0.2339, 0.1795)),
        ((0, 0, 255), (0.452, -0.0325, -0.3115)),
    ],
)
def test_the_primary_colours_are_those_of_css(rgb, lab):
    """The colours of CSS Color 4."""
    np.testing.assert_allclose(oklab(rgb), lab, atol=1e-3)


def test_shares_of_the_peak():
    shares, peak = shares_of_peak(CELLS)
    assert peak == pytest.approx(0.7)
    assert (shares.min(), shares.max()) == (0, 1)
    assert not shares_of_peak(0 * CELLS)[0].any()


def test_a_map_is_smooth_and_keeps_its_range_and_its_place():
    large = resized(CELLS, 90, 60)
    assert large.shape == (60, 90)
    assert (large.min(), large.max()) == (0, CELLS.max())
    assert large[45, 75] == pytest.approx(0.7, rel=0.02)  # the centre of the last cell
    assert large[15, 45] == pytest.approx(0.1, rel=0.2)


def test_more_attention_covers_more():
    opacity = np.asarray(colours(np.linspace(0, 1, 9, dtype=np.float32)[None]))[0, :, 3]
    assert (np.diff(opacity.astype(int)) > 0).all()


def test_an_overlay_is_lightest_at_the_peak_and_leaves_the_image_as_it_is():
    image = Image.new("RGB", (90, 60), (90, 120, 60))
    before = image.tobytes()
    drawn = np.asarray(overlay(image, CELLS)).sum(axis=-1)
    assert image.tobytes() == before
    assert drawn.shape == (60, 90)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert (row // 30, column // 30) == (1, 2)


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.02, "2 %"), (0.0314, "3.1 %"), (0.999, "100 %"), (1, "100 %"), (0.99, "99 %")]
)
def test_percent(share, text):
    assert percent(share) == text


def drawn(image, *panels, title="A title", note="a note"):
    return figure(image, panels, title, note)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (640, 480), (200, 900)])
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_figures_of_every_shape_have_a_sensible_size(size, count):
    image = Image.new("RGB", size, "teal")
    found = drawn(image, *[Panel(f"{i}  cat", CELLS, box=(0, 0, *size)) for i in range(count)])
    assert found.mode == "RGB"
    assert 100 < min(found.size) < max(found.size) < 3200


def test_the_box_the_point_and_every_text_are_drawn():
    image = Image.new("RGB", (320, 240), "grey")
    plain = drawn(image, Panel("cat", CELLS))
    others = [
        drawn(image, Panel("cat", CELLS, box=(10, 20, 100, 200))),
        drawn(image, Panel("cat", CELLS, point=(50, 60))),
        drawn(image, Panel("dog", CELLS)),
        drawn(image, Panel("cat", CELLS / 2)),  # another scale
        drawn(image, Panel("cat", CELLS), title="Another"),
        drawn(image, Panel("cat", CELLS), note="another"),
    ]
    assert len({plain.tobytes(), *(other.tobytes() for other in others)}) == 1 + len(others)


def test_a_box_is_where_it_belongs_and_is_cut_at_the_edges():
    image = Image.new("RGB", (960, 480), "grey")
    without = np.asarray(drawn(image, Panel("", CELLS))).astype(int)
    for box, rows, columns in (
        ((200, 100, 600, 300), 200, 400),
        ((-50, -50, 2000, 2000), 479, 959),
        ((-9, -9, -5, -5), 0, 0),
    ):
        changed = (np.asarray(drawn(image, Panel("", CELLS, box=box))) != without).any(axis=-1)
        y, x = np.nonzero(changed)
        assert abs(np.ptp(y) - rows) <= 4
        assert abs(np.ptp(x) - columns) <= 4


def test_long_texts_and_control_characters_stay_inside():
    image = Image.new("RGB", (320, 240), "grey")
    panel = Panel("x" * 500, CELLS)
    found = drawn(image, panel, title="word " * 50 + "y" * 300, note="a\x1bb\nc" * 200)
    assert found.width == drawn(image, Panel("cat", CELLS)).width
    assert found.height < 5000
