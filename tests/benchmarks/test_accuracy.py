"""Engines and precisions are measured on the same images; those that are not available have a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import end_to_end
from benchmarks.accuracy import REFERENCE, Entry, entries, exported, first, measured, missing
from detr_onnx.defaults import EXPORT_PRECISIONS
from detr_onnx.errors import EngineError
from detr_onnx.evaluation.coco import Annotations, parse_annotations
from tests.small_model import LABELS, sample_image

# float32 sums in another order: ONNX Runtime, numpy and the end-to-end graph
SCORES_TOLERANCE = 1e-4
BOXES_TOLERANCE_PX = 0.01

ROWS = (
    Entry(REFERENCE, "the reference", "onnxruntime"),
    Entry("end-to-end", "end to end", None, options=("--end-to-end",)),
    Entry("numpy", "numpy", "numpy", suffix=""),
    Entry("none", "an unknown engine", "none"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images."""
    directory = tmp_path_factory.mktemp("images")
    for number in (1, 2):
        sample_image(90, 60, seed=number).save(directory / f"{number}.png")
    return directory


@pytest.fixture(scope="module")
def truth() -> Annotations:
    """Annotations for them."""
    boxes = [{"image_id": n, "category_id": 0, "bbox": [10, 10, 40, 30]} for n in (1, 2)]
    images = [{"id": n, "file_name": f"{n}.png"} for n in (1, 2)]
    categories = [{"id": n, "name": name} for n, name in enumerate(LABELS)]
    return parse_annotations({"images": images, "annotations": boxes, "categories": categories}, "truth")


def test_every_precision_of_the_command_line_has_a_row_and_the_reference_comes_first() -> None:
    keys = [entry.key for entry in entries(None)]
    assert keys[0] == REFERENCE
    assert {f"onnxruntime-{precision}" for precision in EXPORT_PRECISIONS} <= set(keys)
    assert len(set(keys)) == len(keys)


def test_openvino_always_gets_a_precision_since_its_default_depends_on_the_processor() -> None:
    precisions = {entry.key: entry.precision for entry in entries(None) if entry.engine == "openvino"}
    assert {key: p for key, p in precisions.items() if "fp32" in key} == {
        "openvino-fp32": "fp32",
        "openvino-fp32-bf16": "bf16",
        "openvino-fp32-bf16-mixed": "bf16-mixed",
        "openvino-fp32-bf16-backbone": "bf16-backbone",
    }
    assert None not in precisions.values()


def test_int8_is_left_out_without_calibration_images() -> None:
    entry = Entry("int8", "int8", "onnxruntime", options=("--precision", "int8"))
    assert missing(entry, None) == "needs images to calibrate with (--calibrate DIR)"
    assert missing(entry, Path("images")) is None


def test_engines_agree_and_an_unknown_one_is_left_out_with_its_reason(
    small: Path, folder: Path, truth: Annotations, tmp_path: Path
) -> None:
    rows = list(measured(ROWS, str(small), tmp_path, truth, truth.images(folder)))
    assert [row["key"] for row in rows] == [entry.key for entry in ROWS]
    for row in rows[:-1]:
        assert row["identical"] == 1
        assert row["score_difference"] < SCORES_TOLERANCE
        assert row["objects"] == 2
        assert row["AP"] == pytest.approx(rows[0]["AP"])
    assert rows[2]["mb"] == pytest.approx((small / "model.safetensors").stat().st_size / 1e6, abs=0.01)
    assert rows[-1]["left_out"].startswith("no such engine: found 'none'")


def test_a_failed_export_raises_with_the_message_of_the_command(small: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^the shape is wrong: found 'wide'"):
        exported(str(small), tmp_path / "model.onnx", ["--shape", "wide"])


def test_the_first_images_keep_their_own_objects(truth: Annotations) -> None:
    limited = first(truth, 1)
    assert list(limited.files) == [1]
    assert [row["image_id"] for row in limited.objects] == [1]
    assert first(truth, None).files == truth.files


def test_an_end_to_end_graph_finds_what_the_detector_finds(small: Path, folder: Path) -> None:
    (row,) = end_to_end.rows(str(small), [f"two images={folder}"], 0.2)
    assert (row["title"], row["images"], row["same_labels"]) == ("two images", 2, 2)
    assert row["detections"] > 0
    assert row["score_difference"] < SCORES_TOLERANCE
    assert row["box_difference_px"] < BOXES_TOLERANCE_PX


def test_new_rows_replace_those_of_the_same_directory() -> None:
    before = [{"model": "demo", "title": "a", "images": 1}, {"model": "demo", "title": "b", "images": 2}]
    now = [{"model": "demo", "title": "b", "images": 3}]
    assert [row["images"] for row in end_to_end.merged(before, now)] == [1, 3]
    assert end_to_end.folder("build/held-out") == ("held-out", "build/held-out")


def test_the_recorded_command_has_no_absolute_path() -> None:
    assert end_to_end.short_folder("a title=/home/me/build/scenes") == "a title=build/scenes"  # `setting` quotes it
    assert end_to_end.short_folder("/home/me/build/scenes") == "build/scenes"
