"""`to_supervision` with the real package: its annotators, its slicer for small objects, its CSV; and docs/tiling.md."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx.boxes import iou

sv = pytest.importorskip("supervision")

ROOT = Path(__file__).parents[1]
SCENE = ROOT / "examples" / "demo-scene.jpg"
PAGE = ROOT / "docs" / "tiling.md"
PLACES = [(0, 0), (2, 0), (1, 1), (0, 2), (2, 2)]  # of scenes in a mosaic of three by three


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return Image.open(SCENE).convert("RGB")


@pytest.fixture(scope="module")
def mosaic(scene) -> Image.Image:
    """A large image whose objects are a third of the size that the demo model knows."""
    canvas = Image.new("RGB", (scene.width * 3, scene.height * 3), scene.getpixel((2, 2)))
    for x, y in PLACES:
        canvas.paste(scene, (x * scene.width, y * scene.height))
    return canvas


@pytest.mark.parametrize("annotator", ["BoxAnnotator", "RoundBoxAnnotator", "LabelAnnotator", "MaskAnnotator"])
def test_annotators_draw(detector, scene, annotator):
    found = detector(scene).to_supervision()
    drawn = getattr(sv, annotator)().annotate(scene.copy(), found)
    changed = np.asarray(drawn) != np.asarray(scene)
    assert drawn.size == scene.size
    assert changed.any() == (annotator != "MaskAnnotator")  # a DETR for boxes has no masks


def test_labels_are_the_names_of_the_classes(detector, scene):
    found = detector(scene)
    theirs = found.to_supervision()
    assert theirs["class_name"].tolist() == found.labels
    assert theirs[theirs["class_name"] == "elephant"].class_id.tolist() == [found.class_names.index("elephant")]


def test_the_slicer_finds_the_small_objects_of_a_large_image(detector, scene, mosaic):
    def detect(tile):
        found = detector(tile, 0.5).to_supervision()
        found.xyxy = sv.clip_boxes(found.xyxy, tile.size)
        return found

    alone = detector(scene, 0.5)
    found = sv.InferenceSlicer(detect, slice_wh=scene.size, overlap_wh=(200, 200))(mosaic)
    elephants = found[found["class_name"] == "elephant"]
    assert len(elephants) == len(PLACES) * alone.labels.count("elephant")
    assert len(detector(mosaic, 0.5)) < len(PLACES) * len(alone) <= len(found)
    (box,) = alone.only("elephant").xyxy
    expected = [box + np.tile([x * scene.width, y * scene.height], 2) for x, y in PLACES]
    ious = iou(np.array(expected), elephants.xyxy)
    assert (ious.max(1) > 0.6).all()  # the box with the highest score may be that of a tile which cuts the object
    assert sorted(ious.argmax(1)) == [*range(len(PLACES))]


def test_the_csv_sink_writes_names_and_scores(detector, scene, tmp_path):
    found = detector(scene)
    with sv.CSVSink(str(tmp_path / "objects.csv")) as sink:
        sink.append(found.to_supervision(), custom_data={"image": "scene.jpg"})
    with (tmp_path / "objects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class_name"] for row in rows] == found.labels
    assert [float(row["confidence"]) for row in rows] == pytest.approx(found.scores.tolist(), abs=1e-6)
    assert {row["image"] for row in rows} == {"scene.jpg"}


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys, mosaic):
    mosaic.save(tmp_path / "aerial.jpg")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    exec(code.replace("Detector()", 'Detector("demo")'), {})
    whole, tiled = map(int, re.findall(r"\d+", capsys.readouterr().out))
    assert whole < tiled
    assert (tmp_path / "boxes.png").is_file()
    assert (tmp_path / "objects.csv").read_text().count("\n") == tiled + 1
