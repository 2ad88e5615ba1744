"""Image ids of annotation files, by file name."""

from __future__ import annotations

import json

import pytest

from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.image_ids import find_image_ids, read_image_ids


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], []),
        (["1.jpg"], [1]),
        (["photos/val/2.jpg", "val/2.jpg", "/abs/val/2.jpg"], [2, 2, 2]),
        (["2.jpg", "elsewhere/2.jpg"], [2, 2]),
        (["3.jpg", "a/3.jpg", "x/b/3.jpg"], [None, 3, 4]),
        (["x1.jpg", "1.jpg/x", "-"], [None, None, None]),
    ],
)
def test_names_match_the_end_of_a_path_or_its_last_component(names, found):
    assert find_image_ids(names, {"1.jpg": 1, "val/2.jpg": 2, "a/3.jpg": 3, "b/3.jpg": 4}) == found


def test_ids_need_no_annotations(tmp_path):
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps({"images": [{"id": 5, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}]}))
    assert read_image_ids(path) == {"a.jpg": 5, "b.jpg": 0}


@pytest.mark.parametrize(
    "content",
    [[], {}, {"images": []}, {"images": {}}, {"images": [1]}, {"images": [{"id": "1", "file_name": "a"}]},
     {"images": [{"id": True, "file_name": "a"}]}, {"images": [{"id": 1}]}],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="is not a COCO annotation file"):
        read_image_ids(path)


def test_two_images_of_one_name_are_refused(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"images": [{"id": n, "file_name": "a.jpg"} for n in (1, 2)]}))
    with pytest.raises(DatasetError, match=r"several images of one name: found 'a.jpg'"):
        read_image_ids(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        read_image_ids(tmp_path / "none.json")
