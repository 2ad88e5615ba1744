"""Finding images by files, directories, patterns and stdin."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from detr_onnx.errors import ImageError
from detr_onnx.image.files import find_images, image_ids, is_single_image
from detr_onnx.text import printable

links_needed = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


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


# Suffixes, hidden files and links


@pytest.fixture
def warnings_logged(caplog):
    """The warnings of a search."""
    caplog.set_level(logging.WARNING, "detr_onnx")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    "suffix",
    [
        ".jfif",
        ".jpe",
        ".mpo",
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".jp2",
        ".tga",
        ".ico",
        ".apng",
        ".pbm",
        ".psd",
        ".qoi",
    ],
)
def test_every_suffix_that_pillow_or_a_plug_in_reads_is_an_image(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    for name in (f"a{suffix}", f"B{suffix.upper()}"):
        Path(name).touch()
    assert names(".") == [f"B{suffix.upper()}", f"a{suffix}"]
    assert names(f"*{suffix}") == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".eps", ".pdf", ".mpg", ".wmf", ".h5", ".txt", ".json", ".mp4", ""])
def test_other_suffixes_are_not_images(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    (message,) = errors_of(str(tmp_path))
    assert message.startswith(f"no images in {tmp_path}: found 1 other files, expected files that end in .jpg")


def test_other_files_are_counted_in_one_warning(album, warnings_logged):
    for name in ("deep/b.txt", "deep/c.json", "README", "other/\x1b[31m.\x1b"):
        Path(name).touch()
    assert names(".", "deep") == ["a.PNG", "b.jpg", "deep/a.jpg", "deep/er/c.webp"]
    (warning,) = warnings_logged()
    assert warning.startswith("skipped 6 files that are not images: ")
    assert "3 .txt" in warning
    assert "1 .json" in warning
    assert "without suffix" in warning
    assert warning.isprintable()


def test_nothing_is_logged_when_every_file_is_an_image(album, warnings_logged):
    assert names("*.jpg", "deep") == ["b.jpg", "deep/a.jpg", "deep/er/c.webp"]
    assert warnings_logged() == []


LEFT_OUT = (
    "._a.jpg",
    "__MACOSX/a.jpg",
    ".ipynb_checkpoints/a-checkpoint.png",
    ".hidden/a.jpg",
    "@eaDir/a.jpg",
    "x/Thumbs.db",
)


def test_hidden_files_and_those_of_operating_systems_are_left_out(album, warnings_logged):
    for name in LEFT_OUT:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    expected = ["b.jpg", "deep/a.jpg"]
    assert [name for name in names(".") if name.endswith(".jpg")] == expected
    assert names("**/*.jpg") == expected
    assert names("*/*.jpg") == ["deep/a.jpg"]
    assert all("db" not in warning for warning in warnings_logged())
    assert names(".hidden", "__MACOSX/*.jpg") == [".hidden/a.jpg", "__MACOSX/a.jpg"]  # named as such
    assert names("._a.jpg") == ["._a.jpg"]


@links_needed
def test_a_linked_directory_is_searched(album, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "z.png").touch()
    Path("a_link").symlink_to(elsewhere)
    expected = ["a.PNG", "a_link/z.png", "b.jpg", "deep/a.jpg", "deep/er/c.webp"]
    assert names(".") == expected
    assert names("**/*.png") == ["a_link/z.png"]
    assert names("**/*") == expected


@links_needed
def test_loops_of_links_end_and_each_file_is_listed_once_by_its_real_name(album):
    Path("a_loop").symlink_to(".")
    Path("deep/loop").symlink_to("../deep")
    Path("deep/er/up").symlink_to("../..")
    Path("self").symlink_to("self")
    Path("a_copy.jpg").symlink_to("b.jpg")
    expected = ["a.PNG", "b.jpg", "deep/a.jpg", "deep/er/c.webp"]
    assert names(".") == expected
    assert names("**/*") == expected
    assert names("**/*.jpg") == ["b.jpg", "deep/a.jpg"]
    assert names("**/**/*.jpg") == ["b.jpg", "deep/a.jpg"]
    assert names("a_loop/**/*.webp") == ["a_loop/deep/er/c.webp"]
    assert names(".", "a_loop", "deep/loop/*") == expected


@links_needed
def test_hard_links_are_one_file(album):
    os.link("b.jpg", "c.jpg")
    assert names("*.jpg") == ["b.jpg"]
    assert names("c.jpg", "*.jpg") == ["c.jpg"]
    assert names("b.jpg", "c.jpg") == ["b.jpg", "c.jpg"]  # both are named as such


def test_a_pattern_below_a_directory_with_magic_characters(album):
    Path("a[1]/x").mkdir(parents=True)
    Path("a[1]/x/y.jpg").touch()
    assert names("a*/**/*.jpg") == ["a[1]/x/y.jpg"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every directory")
def test_a_directory_without_permission_is_logged(album, warnings_logged):
    Path("deep").chmod(0)
    assert names(".") == ["a.PNG", "b.jpg"]
    assert "cannot read the directory ./deep: Permission denied" in warnings_logged()
    Path("deep").chmod(0o755)


# Single images and ids


@pytest.mark.parametrize(
    ("arguments", "one"),
    [([], False), (["a.jpg"], True), (["-"], True), (["."], False), (["*.jpg"], False), (["a.jpg", "a.jpg"], False)],
)
def test_one_file_is_distinguished_from_arguments_that_may_name_several(album, arguments, one):
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


def test_a_directory_called_like_stdin_does_not_hide_it(album):
    Path("-").mkdir()
    Path("-/a.jpg").touch()
    assert names("-") == ["-"]
    assert is_single_image(["-"])
    assert names("./-") == ["-/a.jpg"]
