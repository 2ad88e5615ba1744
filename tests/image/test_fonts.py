"""Labels are legible in every script that a font has, and say so where none has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from detr_onnx.detections import Detections
from detr_onnx.image import fonts
from detr_onnx.image.draw import annotate
from detr_onnx.image.figure import Panel, figure

SIZE_PX = 15
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@pytest.fixture
def system_fonts(monkeypatch):
    """Sets the names of the system's fonts."""

    def are(*names: str) -> None:
        monkeypatch.setattr(fonts, "SYSTEM_FONTS", names)
        fonts._system_fonts.cache_clear()
        fonts._runs.cache_clear()

    yield are
    fonts._system_fonts.cache_clear()
    fonts._runs.cache_clear()


def written(text: str) -> bytes:
    image = Image.new("RGB", (400, 30), WHITE)
    fonts.write(ImageDraw.Draw(image), (5, 5), text, BLACK, SIZE_PX)
    return image.tobytes()


def drawn_with(*names: str, width: int = 200, height: int = 100, track_id: int | None = None) -> bytes:
    """An image with a box of class 1; `names` are those of the classes."""
    found = Detections(np.array([0.9], np.float32), np.array([1]), np.array([[20, 40, 180, 90]], np.float32), names)
    found = found if track_id is None else replace(found, track_ids=np.array([track_id]))
    return annotate(Image.new("RGB", (width, height)), found).tobytes()


def test_ascii_looks_as_in_pillow(system_fonts):
    system_fonts()
    image = Image.new("RGB", (400, 30), WHITE)
    ImageDraw.Draw(image).text((5, 5), "a cat 0.99", BLACK, ImageFont.load_default(SIZE_PX))
    assert written("a cat 0.99") == image.tobytes()
    assert fonts.width_of("a cat 0.99", SIZE_PX) == ImageFont.load_default(SIZE_PX).getlength("a cat 0.99")


def test_without_a_font_accents_are_left_out_and_other_characters_are_question_marks(system_fonts):
    system_fonts("no-such-font.ttf")
    assert written("ñandú é") == written("nandu e")
    assert written("人 Ö ह्र 기") == written("? O ?? ?")
    assert not fonts.is_drawable("人 と", SIZE_PX)
    assert fonts.is_drawable("人 é", SIZE_PX)


def test_a_label_that_cannot_be_drawn_is_the_number_of_its_class(system_fonts):
    system_fonts()
    assert drawn_with("", "自転車") == drawn_with("", "class 1")
    assert drawn_with("", "自転車", track_id=3) == drawn_with("", "class 1", track_id=3)
    assert drawn_with("", "ñu") == drawn_with("", "nu")


def test_characters_are_drawn_in_a_font_of_the_system(system_fonts):
    system_fonts(*fonts.SYSTEM_FONTS)
    font = next((font for font in fonts._system_fonts() if fonts._has(font, "ñ") and fonts._has(font, "a")), None)
    if font is None:
        pytest.skip("this system has no font with ñ")
    image = Image.new("RGB", (400, 30), WHITE)
    ImageDraw.Draw(image).text((5, 5), "ñandu", BLACK, font.font_variant(size=SIZE_PX))
    assert written("ñandu") == image.tobytes()


def test_parts_in_several_fonts_follow_each_other(system_fonts):
    system_fonts()
    parts = [part for part, _ in fonts._runs("a ñ 人 b", SIZE_PX)]
    assert "".join(parts) == "a n ? b"
    assert fonts.width_of("a ñ 人 b", SIZE_PX) == pytest.approx(fonts.width_of("a n ? b", SIZE_PX), abs=1)


@pytest.mark.parametrize("width", [0, 5, 20, 60, 100, 200])
def test_a_text_that_is_cut_fits_and_says_so(width):
    text = fonts.cut("a long label of a model", SIZE_PX, width)
    assert fonts.width_of(text, SIZE_PX) <= width
    assert text.endswith(("…", "model")) or text == ""
    assert fonts.cut("cat", SIZE_PX, 200) == "cat"


def test_a_long_name_is_cut_and_keeps_its_score():
    assert drawn_with("", "a" * 80, width=1000) == drawn_with("", f"{'a' * 39}…", width=1000)
    longer, shorter = (drawn_with("", "x" * count, width=90, height=60) for count in (30, 20))
    assert longer == shorter


def test_an_image_without_room_for_a_label_gets_thin_boxes_only():
    names = ("", "cat")
    box = np.array([[2, 2, 13, 13]], np.float32)
    drawn = annotate(Image.new("RGB", (16, 16)), Detections(np.array([0.9], np.float32), np.array([1]), box, names))
    painted = np.asarray(drawn).any(axis=2)
    frame = np.zeros((16, 16), bool)
    frame[2:14, 2:14] = True
    frame[3:13, 3:13] = False
    assert (painted == frame).all()


def test_titles_of_figures_are_drawn_the_same_way(system_fonts):
    system_fonts()
    image, cells = Image.new("RGB", (60, 40)), np.ones((2, 3), np.float32)
    accented = figure(image, [Panel("1  ñandú 0.99", cells)], "Où", "ö " * 200)
    plain = figure(image, [Panel("1  nandu 0.99", cells)], "Ou", "o " * 200)
    assert accented.tobytes() == plain.tobytes()


@pytest.mark.parametrize("width", [0, 3, 30, 100])
def test_cut_keeps_as_many_characters_as_fit(width):
    text = "a dog on a skateboard"
    fitting = [n for n in range(1, len(text)) if fonts.width_of(f"{text[:n]}…", SIZE_PX) <= width]
    assert fonts.cut(text, SIZE_PX, width) == (f"{text[: max(fitting)].rstrip()}…" if fitting else "")


def test_very_long_texts_are_measured_a_few_times_only(monkeypatch):
    measured = []
    monkeypatch.setattr(fonts, "width_of", lambda text, size: measured.append(text) or len(text))
    assert fonts.cut("x" * 100_000, SIZE_PX, 50) == "x" * 49 + "…"
    assert len(measured) < 30
