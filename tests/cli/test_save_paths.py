"""Where `--save` puts annotated images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detr_onnx.cli.save_paths import save_paths
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.image.files import ImageFile


@pytest.fixture
def album(tmp_path, monkeypatch) -> Path:
    """The working directory, with two images and other files."""
    for name in ("b.jpg", "a.PNG", "deep/a.jpg", "other/x.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved_to(save: str, *sources: str, single: bool = False) -> list[str]:
    images = [ImageFile(name, None if name == "-" else Path(name)) for name in sources]
    return [path.as_posix() for path in save_paths(images, save, single)]


def test_no_images_give_no_paths(album):
    assert saved_to("out") == []


def test_one_image_is_saved_at_the_given_path(album):
    assert saved_to("out.jpg", "b.jpg", single=True) == ["out.jpg"]
    assert saved_to(str(album / "deep" / "OUT.PNG"), "b.jpg", single=True) == [(album / "deep" / "OUT.PNG").as_posix()]


@pytest.mark.parametrize("save", ["out", "out/", "new/er", "v1.5/", "other"])
def test_a_directory_is_created_for_one_image_or_several(album, save):
    assert saved_to(save, "b.jpg", "-", "notes.txt") == [
        f"{save.rstrip('/')}/{name}" for name in ("b.jpg", "stdin.png", "notes.png")
    ]
    assert saved_to(save, "b.jpg", single=True) == [f"{save.rstrip('/')}/b.jpg"]
    assert Path(save).is_dir()


def test_images_of_the_same_name_get_numbered_names(album):
    sources = ("x/a.jpg", "y/a.jpg", "A.JPG", "a-2.jpg", "a.png")
    paths = saved_to("out", *sources)
    assert paths == ["out/a.jpg", "out/a-2.jpg", "out/A-3.JPG", "out/a-2-2.jpg", "out/a.png"]


def refusal(error: type[Exception], save: str, *sources: str, single: bool = True) -> str:
    with pytest.raises(error) as refused:
        saved_to(save, *(sources or ("b.jpg",)), single=single)
    return str(refused.value)


@pytest.mark.parametrize("save", ["out.xyz", "out.txt", "results.v2"])
def test_a_suffix_of_no_image_format_is_refused(album, save):
    assert "found the suffix" in refusal(UsageError, save)
    assert not Path(save).exists()


def test_several_images_cannot_be_saved_in_one_file(album):
    assert refusal(UsageError, "out.jpg", "a.PNG", "b.jpg", single=False).endswith("name a directory")


def test_an_input_image_is_never_overwritten(album):
    (album / "link.jpg").symlink_to("b.jpg")
    for save in ("b.jpg", "./deep/../b.jpg", str(album / "b.jpg"), "link.jpg", "."):
        assert "would overwrite" in refusal(OutputError, save)
    assert "would overwrite" in refusal(OutputError, "deep", "b.jpg", "deep/a.jpg", single=False)


def test_a_missing_directory_is_an_error(album):
    assert refusal(OutputError, "nowhere/out.jpg").endswith("found no directory nowhere; create it first")


def test_a_file_with_the_directorys_name_is_an_error(album):
    (album / "out").write_bytes(b"")
    assert "found a file of that name" in refusal(OutputError, "out")


def test_a_directory_without_write_permission_is_an_error(album, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "no permission" in refusal(OutputError, "out")


@pytest.mark.parametrize("save", ["-", ""])
def test_stdout_and_nothing_are_no_directory(album, save):
    assert refusal(UsageError, save).startswith(f"--save needs a file or a directory: found {save!r}; name one")
    assert not Path("-").exists()
