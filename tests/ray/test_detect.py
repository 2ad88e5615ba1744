"""`Detect` without a cluster: a class that turns batches of paths into the rows of a job."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_onnx import Detector
from detr_onnx import detector as detector_module
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.jobs.detect import detect_rows
from detr_onnx.jobs.inputs import Input
from detr_onnx.jobs.rows import arrow_schema
from detr_onnx.jobs.settings import JobSettings
from detr_onnx.models.open import demo_image
from detr_onnx.ray import Detect
from tests.jobs.stand_in import CLASSES, stand_in_detector
from tests.panoptic_stand_in import panoptic_stand_in
from tests.small_model import sample_image

pa = pytest.importorskip("pyarrow")

NAMES = ["photos/a.jpg", "photos/bad.jpg", "photos/missing.jpg", "photos/b.png"]


@pytest.fixture
def detector(monkeypatch):
    return stand_in_detector(monkeypatch)


@pytest.fixture
def photos(tmp_path, detector) -> Path:
    """A directory that is not the current one, with two images and a bad file."""
    (tmp_path / "photos").mkdir()
    sample_image(40, 30, 1).save(tmp_path / "photos/a.jpg")
    sample_image(50, 30, 2).save(tmp_path / "photos/b.png")
    (tmp_path / "photos/bad.jpg").write_bytes(b"not an image")
    return tmp_path


def test_a_batch_has_the_rows_of_a_job(photos, detector, monkeypatch):
    table = Detect("stand-in", directory=photos)(pa.table({"path": NAMES}))
    monkeypatch.chdir(photos)
    expected = pa.Table.from_pylist(
        [*detect_rows(detector, [Input(name, name) for name in NAMES], 0.5)], arrow_schema()
    ).to_pylist()
    assert table.to_pylist() == expected
    assert [row["path"] for row in expected] == NAMES
    assert [row["error"] is None for row in expected] == [True, False, False, True]
    assert [len(row["detections"]) for row in expected] == [1, 0, 0, 1]


def test_numpy_is_an_engine_too():
    table = Detect("demo", engine="numpy", threads=None)({"path": np.array([str(demo_image())])})
    expected = Detector("demo", engine="numpy")(demo_image())
    assert [len(row["detections"]) for row in table.to_pylist()] == [len(expected)]


def test_every_format_of_a_batch_gives_the_same_rows(photos):
    detect = Detect("stand-in", directory=photos)
    expected = detect(pa.table({"path": NAMES, "id": [1, 2, 3, 4]}))
    assert detect({"path": np.array(NAMES, object)}).equals(expected)
    assert detect({"path": np.array(NAMES)}).equals(expected)
    pandas = pytest.importorskip("pandas")
    assert detect(pandas.DataFrame({"path": NAMES})).equals(expected)


def test_the_rows_of_a_panoptic_model_have_masks(photos, monkeypatch):
    detector = panoptic_stand_in(monkeypatch)
    Image.new("RGB", (40, 30), "white").save(photos / "white.png")
    (row,) = Detect("stand-in", directory=photos)(pa.table({"path": ["white.png"]})).to_pylist()
    monkeypatch.chdir(photos)
    (expected,) = detect_rows(detector, [Input("white.png", "white.png")], 0.5)
    assert [d["mask"] for d in row["detections"]] == [d["mask"] for d in expected["detections"]]
    assert len(row["detections"]) == 4


def test_an_empty_batch_has_no_rows_and_the_same_schema(photos):
    detect = Detect("stand-in", directory=photos)
    empty = detect(pa.table({"path": pa.array([], pa.string())}))
    assert empty.num_rows == 0
    assert empty.schema.equals(detect(pa.table({"path": NAMES})).schema, check_metadata=True)


def test_the_schema_says_what_made_the_rows(photos, detector):
    table = Detect("stand-in", threshold=0.25, labels=["cat"])(pa.table({"path": NAMES}))
    metadata = table.schema.metadata
    assert metadata[b"detr_onnx.model_sha256"].decode() == detector.sha256
    assert json.loads(metadata[b"detr_onnx.threshold"]) == 0.25
    assert json.loads(metadata[b"detr_onnx.labels"]) == ["cat"]
    assert json.loads(metadata[b"detr_onnx.class_names"]) == [*CLASSES]


def test_threshold_and_labels_decide_what_is_kept(photos):
    paths = pa.table({"path": NAMES[:1]})
    assert Detect("stand-in", directory=photos, threshold=1.0)(paths)["detections"].to_pylist() == [[]]
    assert Detect("stand-in", directory=photos, labels=["dog"])(paths)["detections"].to_pylist() == [[]]


def test_names_that_are_not_text_come_as_bytes(photos):
    name = b"photos/caf\xe9.jpg"
    try:
        os.link(photos / "photos/a.jpg", os.path.join(os.fsencode(photos), name))  # noqa: PTH118
    except OSError:
        pytest.skip("this file system has no such names")
    (row,) = Detect("stand-in", directory=photos)(pa.table({"path": [name]})).to_pylist()
    assert (row["path"], row["error"], row["width"]) == ("photos/caf\\xe9.jpg", None, 40)


@pytest.mark.parametrize("value", [None, ""])
def test_a_value_that_is_missing_is_a_row_with_an_error(photos, value):
    table = Detect("stand-in", directory=photos)(pa.table({"path": pa.array([value, NAMES[0]], pa.string())}))
    assert table["error"].to_pylist() == ["there is no path: found an empty value", None]


def test_what_pandas_has_for_a_missing_text_is_a_row_with_an_error(photos):
    pandas = pytest.importorskip("pandas")
    detect = Detect("stand-in", directory=photos)
    for missing in (None, float("nan"), pandas.NA):
        table = detect(pandas.DataFrame({"path": pandas.Series([missing, NAMES[0]], dtype=object)}))
        assert table["error"].to_pylist() == ["there is no path: found an empty value", None]


def test_another_column_can_have_the_paths(photos):
    detect = Detect("stand-in", directory=photos, column="file")
    assert detect(pa.table({"file": NAMES}))["path"].to_pylist() == NAMES
    with pytest.raises(UsageError, match="no column 'file' of paths: found the columns path, id; name it by column="):
        detect({"path": np.array(NAMES), "id": np.arange(4)})


def test_a_column_of_numbers_is_an_error(photos):
    with pytest.raises(UsageError, match="the column 'path' has no paths: found values of type int, expected text"):
        Detect("stand-in")(pa.table({"path": [1, 2]}))


def test_a_threshold_out_of_range_is_an_error(detector):
    with pytest.raises(UsageError, match="the threshold is out of range"):
        Detect("stand-in", threshold=2)


def test_a_node_with_another_model_is_refused(detector):
    settings = JobSettings.of(detector, "stand-in", 0.5, None, "ndjson", 1)
    Detect("stand-in", settings=settings)
    words = "the rows of this node would differ from those of the job: "
    words += r"found model stand-in \(sha256 e3b0c44298fc…\), precision fp32, "
    words += "expected model .*abab.*, precision bf16; give all nodes the same model and version"
    with pytest.raises(EngineError, match=words):
        Detect("stand-in", settings=replace(settings, model_sha256="ab" * 32, precision="bf16"))


def test_the_model_is_opened_once_with_the_threads_that_were_asked_for(photos, monkeypatch):
    opened = []
    original = detector_module.open_model
    monkeypatch.setattr(
        "detr_onnx.detector.open_model", lambda model, options, **more: opened.append(options) or original(model)
    )
    detect = Detect("stand-in", threads=3)
    for _ in range(2):
        detect(pa.table({"path": NAMES}))
    assert [options.threads for options in opened] == [3]
