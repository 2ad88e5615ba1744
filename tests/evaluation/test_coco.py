"""Annotation files and results files are read, and their problems are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.coco import parse_annotations, read_annotations, read_results, some
from detr_onnx.evaluation.image_ids import read_image_ids
from detr_onnx.json_input import MAX_BYTES as LARGEST_CONFIG
from detr_onnx.labels import COCO_LABELS

CAT, DOG = 17, 18
BOX = [10.0, 20.0, 30.0, 40.0]


def content(**changes: object) -> dict[str, object]:
    """The content of a valid file with two images."""
    return {
        "images": [{"id": 139, "file_name": "a.jpg"}, {"id": 7, "file_name": "deep/b.jpg"}],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
        "annotations": [{"id": 0, "image_id": 139, "category_id": CAT, "bbox": BOX}],
    } | changes


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_images_categories_and_objects_have_the_fields_that_pycocotools_needs():
    truth = parse_annotations(content(), "truth.json")
    assert truth.files == {139: "a.jpg", 7: "deep/b.jpg"}
    assert truth.categories == {CAT: "cat", DOG: "dog"}
    assert truth.objects == [
        {"image_id": 139, "category_id": CAT, "bbox": BOX, "id": 1, "area": 1200.0, "iscrowd": 0}
    ]  # an id is never 0, which pycocotools takes for "no match"


def test_area_and_iscrowd_are_kept():
    row = {"image_id": 7, "category_id": DOG, "bbox": BOX, "area": 5.5, "iscrowd": 1}
    objects = parse_annotations(content(annotations=[row, row | {"iscrowd": 0}]), "truth.json").objects
    assert [(row["area"], row["iscrowd"]) for row in objects] == [(5.5, 1), (5.5, 0)]


@pytest.mark.parametrize("row", [{"iscrowd": None}, {"iscrowd": False, "area": None}, {}])
def test_a_missing_area_or_iscrowd_may_be_null(row):
    row = {"image_id": 7, "category_id": DOG, "bbox": BOX} | row
    (found,) = parse_annotations(content(annotations=[row]), "truth.json").objects
    assert (found["area"], found["iscrowd"]) == (1200.0, 0)
    assert type(found["iscrowd"]) is int


SIZED = [{"id": 139, "file_name": "a.jpg", "width": 640, "height": 480}, {"id": 7, "file_name": "b.jpg"}]


@pytest.mark.parametrize(
    ("image_id", "bbox", "fault"),
    [
        (7, [10, 20, 0, 40], "without an area"),
        (7, [10, 20, 30, 0], "without an area"),
        (7, [10, 20, 30, -40], "without an area"),
        (7, [10, 20, 1e6, 1e6], "too large for any image"),
        (7, [-1e9, 20, 30, 40], "too large for any image"),
        (7, [-30, 20, 30, 40], "outside of the image"),
        (139, [640, 20, 30, 40], "outside of the image"),
        (139, [10, 480, 30, 40], "outside of the image"),
    ],
)
def test_impossible_boxes_are_kept_with_a_warning(image_id, bbox, fault, caplog):
    bad = {"image_id": image_id, "category_id": CAT, "bbox": bbox}
    rows = [bad, {"image_id": 139, "category_id": CAT, "bbox": BOX}, bad]
    truth = parse_annotations(content(images=SIZED, annotations=rows), "truth.json")
    assert [row["bbox"] for row in truth.objects] == [bbox, BOX, bbox]
    assert all(0 <= row["area"] <= 1e10 for row in truth.objects)  # or pycocotools would ignore them
    consequence = "are impossible and count as objects, as in pycocotools"
    assert caplog.messages == [f"truth.json: 2 of 3 boxes {consequence}: 2 {fault}"]


def test_boxes_that_reach_over_the_edge_are_kept(caplog):
    boxes = [[-10, -10, 30, 40], [639, 479, 30, 40], [700, 20, 30, 40]]
    rows = [
        {"image_id": image, "category_id": CAT, "bbox": box} for image, box in zip((139, 139, 7), boxes, strict=True)
    ]
    assert len(parse_annotations(content(images=SIZED, annotations=rows), "truth.json").objects) == 3
    assert caplog.messages == []


def test_files_may_be_larger_than_a_config(tmp_path):
    """instances_val2017.json has 20 MB."""
    rows = [{"image_id": 7, "category_id": CAT, "bbox": BOX, "score": 0.5}]
    paths = [write(tmp_path / f"{n}.json", value) for n, value in enumerate((content(), rows))]
    for path in paths:
        path.write_text(path.read_text() + " " * LARGEST_CONFIG)
    truth = read_annotations(paths[0])
    objects = [{**row, "image_id": 7} for row in truth.objects]
    assert read_results(paths[1], replace(truth, objects=objects)) == rows
    assert read_image_ids(paths[0]) == {"a.jpg": 139, "deep/b.jpg": 7}


@pytest.mark.parametrize("value", [[], {}, "text", None, {"images": [], "annotations": {}, "categories": []}])
def test_other_json_files_are_not_annotation_files(tmp_path, value):
    with pytest.raises(DatasetError, match=r"truth.json is not a COCO annotation file: found no list of .*annotations"):
        read_annotations(write(tmp_path / "truth.json", value))


def test_a_file_without_objects_is_refused():
    with pytest.raises(DatasetError, match=r"truth.json has no objects"):
        parse_annotations(content(annotations=[]), "truth.json")


def test_a_file_with_only_crowds_is_refused():
    row = {"image_id": 7, "category_id": DOG, "bbox": BOX, "iscrowd": 1}
    with pytest.raises(DatasetError, match=r"truth.json has no objects"):
        parse_annotations(content(annotations=[row]), "truth.json")


def test_a_file_that_cannot_be_read_or_is_not_json_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"none.json cannot be read: found No such file or directory"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "bad.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DatasetError, match=r"bad.json cannot be read as JSON"):
        read_annotations(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"images": [{"id": "139", "file_name": "a.jpg"}]}, "image 0 without id and name"),
        ({"images": [7]}, "image 0 without id and name"),
        ({"images": [{"id": 139, "file_name": "a"}, {"id": 139, "file_name": "b"}]}, "image id 139 twice"),
        ({"categories": [{"id": CAT}]}, "category 0 without id and name"),
        ({"annotations": [{"image_id": 139, "category_id": CAT}]}, "annotation 0 without"),
        ({"annotations": [{"image_id": 139, "category_id": CAT, "bbox": [1, 2, 3, "4"]}]}, "annotation 0 without"),
        ({"annotations": [{"image_id": 139, "category_id": CAT, "bbox": BOX, "area": "big"}]}, "invalid area"),
        ({"annotations": [{"image_id": 139, "category_id": CAT, "bbox": [1, 2, 3, float("nan")]}]}, "four finite"),
        ({"annotations": [{"image_id": 139, "category_id": CAT, "bbox": [1, 2, 3, 10**400]}]}, "annotation 0 without"),
        ({"annotations": [{"image_id": 139, "category_id": CAT, "bbox": BOX, "area": -1}]}, "invalid area"),
        ({"annotations": [{"image_id": 139, "category_id": CAT, "bbox": BOX, "area": 1e11}]}, "invalid area"),
        ({"annotations": [{"image_id": 139, "category_id": CAT, "bbox": BOX, "iscrowd": 2}]}, "an invalid area"),
        ({"images": [{"id": 10**30, "file_name": "a.jpg"}]}, "image 0 without id and name"),
        ({"annotations": [{"image_id": 5, "category_id": CAT, "bbox": BOX}]}, "annotation 0 of image 5, which is not"),
        ({"annotations": [{"image_id": 7, "category_id": 99, "bbox": BOX}]}, "annotation 0 of category 99, which is"),
    ],
)
def test_a_wrong_row_is_named(changes, problem):
    with pytest.raises(DatasetError, match=f"truth.json has errors: found .*{problem}"):
        parse_annotations(content(**changes), "truth.json")


def test_of_many_problems_the_first_are_named_and_the_rest_counted():
    with pytest.raises(DatasetError, match=r"image 0 .*; image 1 .*; image 2 .*; 7 more"):
        parse_annotations(content(images=[{}] * 9), "truth.json")
    assert [some(range(n)) for n in (3, 4)] == ["0, 1, 2", "0, 1, 2, 1 more"]


def test_missing_images_are_named(tmp_path):
    truth = parse_annotations(content(), "truth.json")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DatasetError, match=r"that are not in .*: found 1 of 2, without deep/b.jpg"):
        truth.images(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.jpg").touch()
    assert truth.images(tmp_path) == {139: tmp_path / "a.jpg", 7: tmp_path / "deep" / "b.jpg"}


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/passwd", "x/../../a.jpg", "..", "C:\\a.jpg", "..\\a.jpg", "\\\\host\\share\\a.jpg"]
)
def test_a_file_name_that_leaves_the_directory_is_refused(name, tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "images").mkdir()
    images = [{"id": 139, "file_name": name}, {"id": 7, "file_name": "b.jpg"}]
    truth = parse_annotations(content(images=images), "truth.json")
    with pytest.raises(DatasetError, match=r"truth.json names files outside of .*images: found "):
        truth.images(tmp_path / "images")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", "a/" * 2000])
def test_a_file_name_that_no_file_can_have_is_missing(name, tmp_path):
    images = [{"id": 139, "file_name": name}, {"id": 7, "file_name": "b.jpg"}]
    with pytest.raises(DatasetError, match="images that are not in") as raised:
        parse_annotations(content(images=images), "truth.json").images(tmp_path)
    assert len(str(raised.value)) < 500


def test_the_classes_of_coco_have_their_own_ids():
    assert parse_annotations(content(), "truth.json").category_of(COCO_LABELS) == list(range(91))


def test_classes_are_matched_by_name_and_others_keep_a_free_id():
    truth = parse_annotations(content(categories=[{"id": 1, "name": "Dog "}, {"id": CAT, "name": "cat"}]), "truth.json")
    assert truth.category_of(["cat", "bird", "dog", "horse"]) == [CAT, None, 1, 3]


def test_of_two_classes_with_one_name_the_one_with_the_category_id_counts():
    assert parse_annotations(content(), "t").category_of([*["N/A"] * CAT, "cat", "cat", "dog"])[CAT : CAT + 2] == [
        CAT,
        None,
    ]


def test_an_unknown_category_is_an_error_only_if_it_has_objects():
    truth = parse_annotations(content(), "truth.json")
    with pytest.raises(DatasetError, match=r"found 'cat', expected the model's labels, such as 'dog', 'bird'"):
        truth.category_of(["N/A", "dog", "bird"])
    assert truth.category_of(["cat"]) == [CAT]  # the category "dog" has no objects


def test_results_are_read(tmp_path):
    truth = parse_annotations(content(), "truth.json")
    rows = [{"image_id": 139, "category_id": CAT, "bbox": BOX, "score": 0.25}]
    assert read_results(write(tmp_path / "rows.json", rows), truth) == rows


def test_results_of_some_images_give_a_warning(tmp_path, caplog):
    rows = [{"image_id": 139, "category_id": CAT, "bbox": BOX, "score": 0.25}]
    path = write(tmp_path / "rows.json", rows)
    read_results(path, parse_annotations(content(), "truth.json"))
    assert caplog.messages == [f"{path} has results of 1 of the 2 annotated images"]


def test_results_of_no_image_with_objects_are_refused(tmp_path):
    rows = [{"image_id": 7, "category_id": CAT, "bbox": BOX, "score": 0.25}]
    with pytest.raises(DatasetError, match=r"no results of an image with objects in truth.json: found image ids 7"):
        read_results(write(tmp_path / "rows.json", rows), parse_annotations(content(), "truth.json"))


def test_impossible_boxes_of_results_are_counted_and_kept(tmp_path, caplog):
    row = {"image_id": 139, "category_id": CAT, "bbox": BOX, "score": 0.25}
    rows = [row, row | {"bbox": [1, 1, 0, 2]}, row | {"image_id": 7}]
    path = write(tmp_path / "rows.json", rows)
    assert read_results(path, parse_annotations(content(), "truth.json")) == rows
    assert caplog.messages == [f"{path}: 1 of 3 boxes can match no object: 1 without an area"]


@pytest.mark.parametrize(
    "fields", [{"score": "high"}, {"score": float("nan")}, {"bbox": [1, 2, 3, "4"]}, {"bbox": None}, {"image_id": "7"}]
)
def test_the_first_wrong_row_of_results_is_named(fields, tmp_path):
    row = {"image_id": 139, "category_id": CAT, "bbox": BOX, "score": 0.25}
    with pytest.raises(DatasetError, match=r"rows.json is not a COCO results file: found row 1 \{"):
        read_results(write(tmp_path / "rows.json", [row, row | fields]), parse_annotations(content(), "truth.json"))


def test_results_may_be_empty_with_a_warning(tmp_path, caplog):
    path = write(tmp_path / "rows.json", [])
    assert read_results(path, parse_annotations(content(), "truth.json")) == []
    assert caplog.messages == [f"{path} has results of 0 of the 2 annotated images"]


@pytest.mark.parametrize("value", [{}, [[]], [1], [{"image_id": 7, "category_id": 1, "bbox": BOX}], None])
def test_other_json_files_are_not_results_files(tmp_path, value):
    with pytest.raises(DatasetError, match=r"rows.json is not a COCO results file"):
        read_results(write(tmp_path / "rows.json", value), parse_annotations(content(), "truth.json"))


def test_results_of_another_data_set_are_refused(tmp_path):
    truth = parse_annotations(content(), "truth.json")
    row = {"image_id": 1, "category_id": CAT, "bbox": BOX, "score": 0.25}
    with pytest.raises(DatasetError, match=r"other images than truth.json: found 1 images .* such as 1"):
        read_results(write(tmp_path / "rows.json", [row]), truth)
    with pytest.raises(DatasetError, match=r"other categories than truth.json: found ids 3, expected some of 17, 18"):
        read_results(write(tmp_path / "rows.json", [row | {"image_id": 139, "category_id": 3}]), truth)
