"""Backgrounds like photographs, scenes with nothing in them, and the photographs that are collected for both."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weights.training import photographs
from weights.training.natural import dead_leaves, natural_background, photograph_crop, photograph_paths, spectrum_noise
from weights.training.pictograms import FONT_PATH
from weights.training.scenes import SceneRules, scene

SEGMENTS = Path(__file__).parent / "demo-scene-segments.png"
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_font = pytest.mark.skipif(not FONT_PATH.is_file(), reason="the font of the pictograms is not installed")


@pytest.fixture
def red(tmp_path) -> Path:
    """A directory with a photograph: red at the left, black at the right."""
    pixels = np.zeros((90, 160, 3), np.uint8)
    pixels[:, :80, 0] = 220
    directory = tmp_path / "red"
    directory.mkdir()
    Image.fromarray(pixels).save(directory / "red.jpg")
    return directory


def digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_a_background_has_the_size_and_is_reproducible(red):
    for seed in range(30):
        first, again = (natural_background(np.random.default_rng(seed), 40, 70, red) for _ in range(2))
        assert (first.mode, first.size) == ("RGB", (70, 40))
        assert digest(first) == digest(again)


def test_without_photographs_there_are_backgrounds_too():
    images = [natural_background(np.random.default_rng(seed), 40, 70) for seed in range(20)]
    assert len({digest(image) for image in images}) == 20
    assert min(np.asarray(image).std() for image in images) > 3


def test_a_crop_shows_the_photograph_and_varies(red):
    crops = [np.asarray(photograph_crop(np.random.default_rng(seed), 40, 70, red)) for seed in range(20)]
    assert len({crop.tobytes() for crop in crops}) > 15
    for crop in crops:
        assert (crop[..., 0].astype(int) + 8 >= crop[..., 1:].max(2)).all()


def test_noise_falls_with_the_frequency():
    grey = np.asarray(spectrum_noise(np.random.default_rng(0), 128, 128), np.float64).mean(2)
    spectrum = np.abs(np.fft.rfft2(grey - grey.mean()))
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    bands = [spectrum[(radius >= low) & (radius < 2 * low)].mean() for low in (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4)]
    assert all(coarse > 1.5 * fine for coarse, fine in pairwise(bands)), bands


def test_leaves_are_plain_areas_with_edges():
    pixels = np.asarray(dead_leaves(np.random.default_rng(1), 96, 96), np.int64)
    steps = np.abs(np.diff(pixels, axis=1)).max(2)
    assert (steps == 0).mean() > 0.15  # inside of plain leaves, which noise does not have
    assert (steps > 60).mean() > 0.01  # their edges


def test_a_directory_without_photographs_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"has no JPEG files; .*photographs\.py collects"):
        photograph_paths(tmp_path)


@needs_font
def test_shares_of_scenes_with_nothing_in_them_and_of_natural_ones(red):
    empty = [scene(9, k, SceneRules((96, 128), empty=1.0, photographs=red)) for k in range(3)]
    assert [len(one.coco_ids) for one in empty] == [0, 0, 0]
    assert not any(one.owners.any() for one in empty)
    rules = SceneRules((96, 128), empty=0.5, natural=0.5, photographs=red)
    counts = [len(scene(9, k, rules).coco_ids) for k in range(40)]
    assert 8 < counts.count(0) < 32


@needs_font
def test_the_scenes_of_the_first_training_and_of_the_measurements_stay_the_same():
    from weights.training.example import example_scene

    chosen = example_scene()
    with Image.open(SEGMENTS) as image:
        expected = np.asarray(image)
    assert (np.array([0, *chosen.coco_ids], np.uint8)[chosen.owners] == expected).mean() > 0.999


def repository(directory: Path) -> tuple[Path, str]:
    """A git repository with one image, and its commit."""
    git = ["git", "-C", str(directory), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    (directory / "folder").mkdir(parents=True)
    Image.new("RGB", (2048, 1024), (10, 200, 30)).save(directory / "folder" / "a b.png")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "image"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    return directory, commit


def listed(path: Path, commit: str, files: list[str]) -> None:
    source = {"url": "https://example.org/r", "commit": commit, "folder": "folder/", "train": files, "quiet": []}
    path.write_text(json.dumps({"source": source}))


@needs_git
def test_photographs_are_read_from_their_commit_and_shrunk(tmp_path, monkeypatch):
    _, commit = repository(tmp_path / "sources" / "source")
    listed(tmp_path / "list.json", commit, ["a b.png"])
    monkeypatch.setattr(photographs, "LIST", tmp_path / "list.json")
    assert photographs.collect(tmp_path / "sources", tmp_path / "out") == 1
    with Image.open(tmp_path / "out" / "train" / "source-a-b.jpg") as image:
        assert image.size == (1024, 512)
    assert list((tmp_path / "out" / "quiet").iterdir()) == []


@needs_git
@pytest.mark.parametrize("files", [["missing.png"], ["a b.png"]])
def test_a_photograph_that_is_not_there_is_an_error_with_the_remedy(files, tmp_path, monkeypatch):
    commit = "0" * 40
    if files == ["missing.png"]:
        _, commit = repository(tmp_path / "sources" / "source")
    listed(tmp_path / "list.json", commit, files)
    monkeypatch.setattr(photographs, "LIST", tmp_path / "list.json")
    with pytest.raises(ValueError, match=r"has no folder/.* git clone --bare https://example\.org/r"):
        photographs.collect(tmp_path / "sources", tmp_path / "out")


def test_every_photograph_has_a_source_and_a_licence_and_one_use():
    for source in json.loads(photographs.LIST.read_text(encoding="utf-8")).values():
        assert source["licence"].startswith(("CC0", "public domain"))
        assert source["url"].startswith("https://")
        assert len(source["commit"]) == 40
        assert source["train"]
        assert source["quiet"]
        assert set(source["train"]).isdisjoint(source["quiet"])


def test_the_readme_lists_the_photographs():
    readme = Path(photographs.__file__).parents[1] / "README.md"
    assert photographs.table() in readme.read_text(encoding="utf-8")
