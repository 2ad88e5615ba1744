"""Finding images by files, directories, patterns and stdin."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_onnx.errors import ImageError
from detr_onnx.image.files import find_images, image_ids, is_single_image
from detr_onnx.text import printable


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """The working directory, with images and other files three levels deep."""
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/er/c.webp", "deep/a.jpg", "other/x.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str) -> list[str]:
    images, errors = find_images(arguments)
    assert errors == []
    return [image.name for image in images]


def errors_of(*arguments: str) -> list[str]:
    images, errors = find_images(arguments)
    assert images == []
    return [str(error) for error in errors]


# Finding


def test_no_arguments_give_no_images():
    assert find_images([]) == ([], [])


def test_a_named_file_needs_no_image_suffix(album):
    assert names("b.jpg", "./b.jpg", "notes.txt") == ["b.jpg", "./b.jpg", "notes.txt"]


def test_a_directory_is_searched_recursively_and_sorted(album):
    assert names(".") == ["a.PNG", "b.jpg", "deep/a.jpg", "deep/er/c.webp"]


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("*.jpg", ["b.jpg"]),
        ("**/*.jpg", ["b.jpg", "deep/a.jpg"]),
        ("?.*", ["a.PNG", "b.jpg"]),
        ("dee*/*", ["deep/a.jpg"]),
    ],
)
def test_a_pattern_finds_images(album, pattern, files):
    assert names(pattern) == files


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(album):
    (album / "a[1].jpg").write_bytes(b"")
    assert names("a[1].jpg") == ["a[1].jpg"]


def test_each_image_is_listed_once_where_it_was_first_named(album):
    assert names("b.jpg", ".", "b.jpg", "*.jpg", "-", "-") == ["b.jpg", "a.PNG", "deep/a.jpg", "deep/er/c.webp", "-"]


def test_arguments_without_images_are_errors_beside_the_images_of_others(album):
    images, errors = find_images(["gone.jpg", "b.jpg", "other", "*.gif"])
    assert [image.name for image in images] == ["b.jpg"]
    assert [str(error).split(":")[0] for error in errors] == [
        "cannot read 'gone.jpg'",
        "no images in other",
        "no image matches *.gif",
    ]
    assert {type(error) for error in errors} == {ImageError}


def test_a_name_too_long_for_any_disk_is_a_missing_file():
    (message,) = errors_of("a" * 5000)
    assert len(message) < 200


def test_a_broken_link_is_listed_only_if_named(album):
    (album / "broken.jpg").symlink_to("gone.jpg")
    assert names("broken.jpg") == ["broken.jpg"]
    assert "broken.jpg" not in names(".")


@pytest.mark.parametrize(
    ("arguments", "one"),
    [([], False), (["a.jpg"], True), (["-"], True), (["."], False), (["*.jpg"], False), (["a.jpg", "a.jpg"], False)],
)
def test_one_file_is_told_from_arguments_that_may_name_several(album, arguments, one):
    assert is_single_image(arguments) == one


@pytest.mark.parametrize(
    ("stems", "ids"),
    [
        ([], []),
        (["x"], [1]),
        (["000000000139"], [139]),
        (["COCO_val2014_000000000042", "7"], [42, 7]),
        (["7", "street"], [1, 2]),
        (["7", "007"], [1, 2]),
    ],
)
def test_image_ids_are_cocos_if_every_file_name_has_its_own(stems, ids):
    assert image_ids([f"somewhere/{stem}.jpg" for stem in stems]) == ids


def test_stdin_is_read_only_when_it_is_used(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    (image,), _ = find_images(["-"])
    with pytest.raises(ImageError, match="there is no stdin"):
        image.source()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("straße é.jpg", "straße é.jpg"), ("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\udcff", "\\udcff")],
)
def test_control_characters_of_a_name_are_escaped(text, shown):
    assert printable(text) == shown
