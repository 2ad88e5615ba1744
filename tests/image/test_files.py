"""Which images a command line means, and where what is made of them goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detr_onnx.errors import ImageError, OutputError, UsageError
from detr_onnx.image.files import ImageFile, find_images, image_ids, is_single_image, save_paths
from detr_onnx.text import printable


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """A directory to stand in, with images and other things on three floors."""
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/er/c.webp", "deep/a.jpg", "other/x.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str) -> list[str]:
    found, errors = find_images(arguments)
    assert errors == []
    return [image.name for image in found]


def troubles(*arguments: str) -> list[str]:
    found, errors = find_images(arguments)
    assert found == []
    return [str(error) for error in errors]


# Finding


def test_nothing_asked_is_nothing_found():
    assert find_images([]) == ([], [])


def test_a_file_is_itself_whatever_its_suffix(album):
    assert names("b.jpg", "./b.jpg", "notes.txt") == ["b.jpg", "./b.jpg", "notes.txt"]


def test_a_directory_is_searched_to_the_bottom_in_order(album):
    assert names(".") == ["a.PNG", "b.jpg", "deep/a.jpg", "deep/er/c.webp"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["b.jpg"]),
        ("**/*.jpg", ["b.jpg", "deep/a.jpg"]),
        ("?.*", ["a.PNG", "b.jpg"]),
        ("dee*/*", ["deep/a.jpg"]),
    ],
)
def test_a_pattern_finds_images(album, pattern, found):
    assert names(pattern) == found


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(album):
    (album / "a[1].jpg").write_bytes(b"")
    assert names("a[1].jpg") == ["a[1].jpg"]


def test_each_image_is_looked_at_once_at_its_first_place(album):
    assert names("b.jpg", ".", "b.jpg", "*.jpg", "-", "-") == ["b.jpg", "a.PNG", "deep/a.jpg", "deep/er/c.webp", "-"]


def test_what_names_nothing_is_told_and_the_others_go_on(album):
    found, errors = find_images(["gone.jpg", "b.jpg", "other", "*.gif"])
    assert [image.name for image in found] == ["b.jpg"]
    assert [str(error).split(":")[0] for error in errors] == [
        "cannot read 'gone.jpg'",
        "no images in other",
        "no image matches *.gif",
    ]
    assert {type(error) for error in errors} == {ImageError}


def test_a_name_too_long_for_any_disk_is_a_missing_file():
    (trouble,) = troubles("a" * 5000)
    assert len(trouble) < 200


def test_a_link_that_leads_nowhere_is_left_to_the_reader(album):
    (album / "broken.jpg").symlink_to("gone.jpg")
    assert names("broken.jpg") == ["broken.jpg"]
    assert "broken.jpg" not in names(".")


@pytest.mark.parametrize(
    ("arguments", "one"),
    [([], False), (["a.jpg"], True), (["-"], True), (["."], False), (["*.jpg"], False), (["a.jpg", "a.jpg"], False)],
)
def test_one_image_is_told_from_what_may_be_several(album, arguments, one):
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
def test_numbers_of_coco_are_kept_when_every_image_has_its_own(stems, ids):
    assert image_ids([f"somewhere/{stem}.jpg" for stem in stems]) == ids


def test_stdin_is_read_when_its_turn_comes(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    (image,), _ = find_images(["-"])
    with pytest.raises(ImageError, match="there is no stdin"):
        image.source()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("", ""), ("straße é.jpg", "straße é.jpg"), ("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\udcff", "\\udcff")],
)
def test_a_name_is_shown_without_steering_the_terminal(text, shown):
    assert printable(text) == shown


# Saving


def places(save: str, *sources: str, one: bool = False) -> list[str]:
    images = [ImageFile(name, None if name == "-" else Path(name)) for name in sources]
    return [path.as_posix() for path in save_paths(images, save, one)]


def test_no_images_need_no_places(album):
    assert places("out") == []


def test_one_image_goes_where_it_is_told(album):
    assert places("out.jpg", "b.jpg", one=True) == ["out.jpg"]
    assert places(str(album / "deep" / "OUT.PNG"), "b.jpg", one=True) == [(album / "deep" / "OUT.PNG").as_posix()]


@pytest.mark.parametrize("save", ["out", "out/", "new/er", "v1.5/", "other"])
def test_a_directory_is_made_and_takes_one_or_many(album, save):
    assert places(save, "b.jpg", "-", "notes.txt") == [
        f"{save.rstrip('/')}/{name}" for name in ("b.jpg", "stdin.png", "notes.png")
    ]
    assert places(save, "b.jpg", one=True) == [f"{save.rstrip('/')}/b.jpg"]
    assert Path(save).is_dir()


def test_images_of_the_same_name_get_names_of_their_own(album):
    sources = ("x/a.jpg", "y/a.jpg", "A.JPG", "a-2.jpg", "a.png")
    found = places("out", *sources)
    assert found == ["out/a.jpg", "out/a-2.jpg", "out/A-3.JPG", "out/a-2-2.jpg", "out/a.png"]


def refusal(error: type[Exception], save: str, *sources: str, one: bool = True) -> str:
    with pytest.raises(error) as refused:
        places(save, *(sources or ("b.jpg",)), one=one)
    return str(refused.value)


@pytest.mark.parametrize("save", ["out.xyz", "out.txt", "results.v2"])
def test_a_suffix_that_is_no_images_is_refused_at_once(album, save):
    assert "found the suffix" in refusal(UsageError, save)
    assert not Path(save).exists()


def test_several_images_do_not_go_into_one_file(album):
    assert refusal(UsageError, "out.jpg", "a.PNG", "b.jpg", one=False).endswith("name a directory")


def test_an_image_is_never_written_over_itself(album):
    (album / "link.jpg").symlink_to("b.jpg")
    for save in ("b.jpg", "./deep/../b.jpg", str(album / "b.jpg"), "link.jpg", "."):
        assert "would write over" in refusal(OutputError, save)
    assert "would write over" in refusal(OutputError, "deep", "b.jpg", "deep/a.jpg", one=False)


def test_a_directory_that_is_not_there_is_told_before_any_work(album):
    assert refusal(OutputError, "nowhere/out.jpg").endswith("found no directory nowhere; create it first")


def test_a_file_in_the_place_of_the_directory_is_told(album):
    (album / "out").write_bytes(b"")
    assert "found a file of that name" in refusal(OutputError, "out")


def test_a_directory_that_cannot_be_written_is_told(album, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "no permission" in refusal(OutputError, "out")
