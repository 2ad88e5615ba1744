"""Boxes and labels are legible, inside the image and in one colour per class; files are written whole or not at all."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx.detections import Detections
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.image.draw import _plates, annotate, colour_of, save_image, text_colour_on
from detr_onnx.labels import COCO_LABELS
from detr_onnx.masks import MaskLogits

LEAST_CONTRAST = 4.5  # WCAG 2.1, criterion 1.4.3: text of ordinary size
GREY = (128, 128, 128)


def detections(*boxes_xyxy: tuple[float, float, float, float], class_ids: list[int] | None = None) -> Detections:
    n = len(boxes_xyxy)
    scores = np.linspace(0.9, 0.6, n).astype(np.float32)
    ids = np.array(class_ids if class_ids else [17] * n, np.int64)
    return Detections(scores, ids, np.array(boxes_xyxy, np.float32).reshape(n, 4), COCO_LABELS)


def pixels_of(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """[h, w] bool, true where the image has this colour."""
    return (np.asarray(image) == colour).all(axis=2)


def luminance(colour: tuple[int, int, int]) -> float:
    return float(np.dot([0.2126, 0.7152, 0.0722], [(c / 255) ** 2.2 for c in colour]))


def test_no_detections_give_an_equal_copy():
    image = Image.new("RGB", (30, 20), GREY)
    drawn = annotate(image, detections())
    assert drawn is not image
    assert drawn.tobytes() == image.tobytes()


def test_the_original_image_is_not_changed():
    image = Image.new("RGB", (300, 200), GREY)
    drawn = annotate(image, detections((20, 60, 200, 150)))
    assert image.getcolors() == [(300 * 200, GREY)]
    assert len(drawn.getcolors()) > 1


@pytest.mark.parametrize("width", [300, 640, 6000])
def test_lines_and_fonts_grow_with_the_image(width: int):
    image = Image.new("RGB", (width, width * 3 // 4), GREY)
    box = (0.2 * width, 0.3 * width, 0.8 * width, 0.6 * width)
    drawn = np.asarray(annotate(image, detections(box)))
    # A column right of the label crosses only the two lines of the box.
    middle = (drawn[:, width * 3 // 4] == colour_of(17)).all(axis=1)
    line_px = middle.sum() / 2
    assert max(2, width / 500) <= line_px <= max(2, width / 200)
    # This column crosses the plate, left of its text.
    column = (drawn[: round(0.3 * width), round(0.2 * width) + 1] == colour_of(17)).all(axis=1)
    assert max(13, width / 50) <= column.sum() <= max(20, width / 20)


@pytest.mark.parametrize(
    "box", [(-50, -50, 40, 40), (280, 180, 400, 400), (0, 0, 300, 200), (500, 500, 600, 600), (10, 10, 10, 10)]
)
def test_boxes_at_and_beyond_the_edge_are_drawn_inside(box: tuple[float, float, float, float]):
    drawn = annotate(Image.new("RGB", (300, 200), GREY), detections(box))
    rows, columns = np.nonzero(~pixels_of(drawn, GREY))
    assert drawn.size == (300, 200)
    plate_px = 15 * 40  # the whole label "cat" in the smallest font
    assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) >= plate_px


def test_a_box_of_nan_is_drawn_without_an_error():
    nan = float("nan")
    assert annotate(Image.new("RGB", (300, 200)), detections((nan, nan, nan, nan))).size == (300, 200)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (8, 8)])
def test_images_smaller_than_a_label_are_drawn_on(size: tuple[int, int]):
    assert annotate(Image.new("RGB", size), detections((0, 0, *size))).size == size


def test_an_image_too_narrow_for_a_name_has_a_box_only():
    drawn = annotate(Image.new("RGB", (20, 200), GREY), detections((2, 50, 17, 150)))
    assert pixels_of(drawn, colour_of(17)).sum() == (~pixels_of(drawn, GREY)).sum() == 2 * (16 + 101 - 2)


def test_labels_of_boxes_in_one_place_do_not_cover_each_other():
    spot = (50.0, 60.0, 250.0, 150.0)
    ids = [1, 17, 18, 44]
    drawn = annotate(Image.new("RGB", (300, 200), GREY), detections(spot, spot, spot, spot, class_ids=ids))
    plates = [pixels_of(drawn, colour_of(class_id)).sum() for class_id in ids]
    assert min(plates) >= 400  # more than the visible lines of a covered box


def test_a_label_without_a_free_position_covers_least_of_the_others():
    box = (0.0, 0.0, 99.0, 60.0)
    plates = _plates([box] * 3, [(100, 25), (60, 20), (100, 20)], (100, 60))
    assert plates == [(0, 0, 99, 24), (0, 40, 59, 59), (0, 40, 99, 59)]


def test_the_best_detection_is_on_top():
    box = (50.0, 60.0, 250.0, 150.0)
    drawn = annotate(Image.new("RGB", (300, 200), GREY), detections(box, box, class_ids=[17, 18]))
    assert drawn.getpixel((150, 150)) == colour_of(17)


def test_a_tracked_object_shows_its_number():
    image = Image.new("RGB", (200, 100))
    one = detections((20, 40, 180, 90))
    plain, tracked, untracked = (
        annotate(image, replace(one, track_ids=ids)) for ids in (None, np.array([3]), np.array([-1]))
    )
    assert plain.tobytes() == untracked.tobytes() != tracked.tobytes()


def test_every_class_has_its_own_colour_far_from_its_neighbours():
    colours = [colour_of(class_id) for class_id in range(91)]
    assert colours == [colour_of(class_id) for class_id in range(91)]
    assert len(set(colours)) == 91
    assert min(np.abs(np.subtract(a, b)).sum() for a, b in itertools.pairwise(colours)) > 150


@pytest.mark.parametrize("class_id", range(91))
def test_text_has_enough_contrast_with_its_background(class_id: int):
    colour = colour_of(class_id)
    light, dark = sorted((luminance(colour), luminance(text_colour_on(colour))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= LEAST_CONTRAST


@pytest.mark.parametrize(("suffix", "form"), [(".png", "PNG"), (".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP")])
def test_the_suffix_selects_the_format(suffix: str, form: str, tmp_path: Path):
    path = tmp_path / f"out{suffix}"
    save_image(Image.new("RGB", (30, 20), GREY), path)
    with Image.open(path) as written:
        assert (written.format, written.size) == (form, (30, 20))
    assert [*tmp_path.iterdir()] == [path]


def test_an_existing_file_is_replaced_and_has_the_usual_permissions(tmp_path: Path):
    path, ordinary = tmp_path / "out.png", tmp_path / "ordinary"
    path.write_bytes(b"older")
    ordinary.touch()
    save_image(Image.new("RGB", (30, 20)), str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_mode == ordinary.stat().st_mode


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("out", "found no suffix, expected .jpg, .png, .webp"),
        ("out.txt", "found the suffix '.txt', expected .jpg"),
        ("nowhere/out.png", "found no directory .*nowhere; create it first"),
        ("directory.png", "found a directory; name a file in it"),
    ],
)
def test_a_file_that_cannot_be_written_says_why_and_leaves_nothing(name: str, sentence: str, tmp_path: Path):
    (tmp_path / "directory.png").mkdir()
    with pytest.raises(OutputError, match=f"cannot write .*{name}: {sentence}"):
        save_image(Image.new("RGB", (30, 20)), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["directory.png"]


def test_no_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match="no permission; choose a directory that this user may write to"):
        save_image(Image.new("RGB", (30, 20)), tmp_path / "out.png")


def test_a_write_that_fails_midway_keeps_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fill_the_disk(self: Image.Image, stream: object, form: str) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, os.strerror(28))

    path = tmp_path / "out.png"
    path.write_bytes(b"older")
    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    with pytest.raises(OutputError, match="No space left on device"):
        save_image(Image.new("RGB", (30, 20)), path)
    assert path.read_bytes() == b"older"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("name", ["out.gif", "out.tga", "out.sgi", "out.jpg"])
def test_an_image_that_is_too_wide_for_the_format_says_so(name: str, tmp_path: Path):
    with pytest.raises(OutputError, match=f"cannot write .*{name}: found "):
        save_image(Image.new("RGB", (70_000, 1)), tmp_path / name)
    assert [*tmp_path.iterdir()] == []


def test_a_directory_in_place_of_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")  # as Windows

    (tmp_path / "out.png").mkdir()
    monkeypatch.setattr("detr_onnx.image.draw.write_atomically", refuse)
    with pytest.raises(OutputError, match="found a directory; name a file in it"):
        save_image(Image.new("RGB", (30, 20)), tmp_path / "out.png")


def two_masks() -> Detections:
    """The left half and the right half of an image of 200x100 pixels, of one class."""
    logits = np.full((2, 4, 8), -20, np.float32)
    logits[0, :, :4], logits[1, :, 4:] = 20, 20
    return Detections(
        np.array([0.9, 0.8], np.float32), np.array([0, 0]), np.array([[0, 0, 3, 3]] * 2, np.float32), ("cat",),
        mask_logits=MaskLogits(logits, (1.0, 1.0), (100, 200)),
    )  # fmt: skip


def test_masks_of_another_image_are_not_drawn():
    with pytest.raises(UsageError, match="found an image of 100x200 pixels, expected 200x100, the size of the masks"):
        annotate(Image.new("RGB", (100, 200)), two_masks())


def test_masks_are_tinted_in_colours_of_their_own():
    drawn = annotate(Image.new("RGB", (200, 100), "white"), two_masks())
    left, right = drawn.getpixel((60, 90)), drawn.getpixel((160, 90))
    assert left != right
    for pixel, number in ((left, 0), (right, 1)):
        assert pixel == tuple(int(0.5 * 255 + 0.5 * side) for side in colour_of(number))


def test_where_masks_overlap_the_better_one_is_on_top():
    masks = two_masks()
    drawn = annotate(Image.new("RGB", (200, 100), "white"), masks[[1, 0]])
    assert drawn.tobytes() == annotate(Image.new("RGB", (200, 100), "white"), masks).tobytes()
    both = replace(masks, mask_logits=replace(masks.mask_logits, logits=np.full((2, 4, 8), 20, np.float32)))
    pixel = np.full(3, 255)
    for number in (1, 0):
        pixel = (0.5 * pixel + 0.5 * np.array(colour_of(number))).astype(np.uint8)
    assert annotate(Image.new("RGB", (200, 100), "white"), both).getpixel((60, 90)) == tuple(pixel)
