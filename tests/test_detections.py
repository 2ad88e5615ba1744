"""From logits and boxes to detections: what is kept, in which order, in which units, in which form."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from detr_onnx.boxes import cxcywh_to_xyxy, iou, xyxy_to_xywh
from detr_onnx.detections import Box, Detection, Detections, detections_of, softmax
from detr_onnx.errors import MissingPackageError, UsageError
from detr_onnx.masks import MaskLogits

LABELS = ("cat", "dog", "bird")
SCORE_ULPS = 1.2e-7  # one rounding of float32 near 1: torch adds up softmax in another order
BOX_PX = 1e-4  # two roundings of float32 for a box on an image of a thousand pixels


def detections(scores=(), class_ids=(), xyxy=()) -> Detections:
    return Detections(
        np.array(scores, np.float32), np.array(class_ids, np.int64), np.array(xyxy, np.float32).reshape(-1, 4), LABELS
    )


THREE = detections([0.5, 0.9, 0.7], [0, 2, 0], [[0.9, -0.9, 10.99, 20.5], [1, 2, 3, 4], [-5.5, 0, 7, 8]])


def random_answer(seed: int, images: int = 2, queries: int = 20):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (images, queries, len(LABELS) + 1)).astype(np.float32)
    boxes = random.uniform(0, 1, (images, queries, 4)).astype(np.float32)
    return logits, boxes, np.array([[480, 640], [333, 1000]][:images], np.int64)


# A Detections


def test_no_detections_are_empty_in_every_form():
    none = detections()
    assert len(none) == 0
    assert list(none) == []
    assert none.to_dicts() == none.to_api() == none.labels == []
    assert len(none[[]]) == len(none[:1]) == len(none[none.scores > 0]) == 0
    assert repr(none) == "<Detections: 0>"
    assert none.to_coco(1) == []
    assert len(none.by_score()) == 0
    assert len(none.only(["cat"])) == 0


def test_iterating_gives_score_label_and_box():
    first = next(iter(THREE))
    assert first == THREE[0]
    assert first == Detection(0.5, "cat", Box(*THREE.xyxy[0].tolist()), 0)
    assert type(first.score) is float
    assert type(first.box.xmin) is float


def test_an_index_past_the_end_ends_a_loop():
    with pytest.raises(IndexError):
        THREE[3]


@pytest.mark.parametrize(
    ("index", "scores"),
    [
        (slice(None, 2), [0.5, 0.9]),
        (slice(None, None, -1), [0.7, 0.9, 0.5]),
        ([2, 0], [0.7, 0.5]),
        (np.array([1, 1, -1]), [0.9, 0.9, 0.7]),
        ([True, False, True], [0.5, 0.7]),
        (np.array([False, True, False]), [0.9]),
        ([], []),
    ],
)
def test_slices_masks_and_integer_arrays_select(index, scores):
    selected = THREE[index]
    assert isinstance(selected, Detections)
    assert selected.scores.tolist() == np.array(scores, np.float32).tolist()
    assert [THREE.scores.tolist().index(score) for score in selected.scores.tolist()] == [
        np.array([0.5, 0.9, 0.7], np.float32).tolist().index(score) for score in np.array(scores, np.float32).tolist()
    ]
    assert all(detection in list(THREE) for detection in selected)
    assert selected.class_names is LABELS


@pytest.mark.parametrize("index", [np.int64(1), 1, -2])
def test_an_integer_of_any_type_gives_one_detection(index):
    assert THREE[index] == Detection(float(np.float32(0.9)), "bird", Box(1, 2, 3, 4), 2)


@pytest.mark.parametrize("index", [[True, False], np.zeros(0, bool), 1.5, "cat", [[0, 1]], np.array([0.5])])
def test_what_is_not_an_index_is_refused(index):
    with pytest.raises(UsageError, match="the index does not fit Detections: found"):
        THREE[index]


def test_labels_has_one_name_per_detection():
    assert THREE.labels == ["cat", "bird", "cat"]
    assert [d.class_id for d in THREE] == [0, 2, 0]


def test_the_repr_is_short():
    assert repr(THREE) == "<Detections: 3 - cat 0.50, bird 0.90, cat 0.70>"
    many = detections([0.5] * 100, [1] * 100, np.zeros((100, 4)))
    assert repr(many) == "<Detections: 100 - dog 0.50, dog 0.50, dog 0.50, dog 0.50, dog 0.50, …>"


def test_a_notebook_shows_a_table_with_escaped_names():
    one = Detections(np.array([0.5], np.float32), np.array([0]), np.array([[1, 2, 3, 4]], np.float32), ["<b>"])
    page = one._repr_html_()
    assert "<td>0.500</td><td>&lt;b&gt;</td><td>1.0</td><td>2.0</td><td>3.0</td><td>4.0</td>" in page
    assert "<img" not in page


def test_a_notebook_shows_the_image_too_if_it_can_be_read(tmp_path):
    Image.new("RGB", (2000, 100)).save(tmp_path / "a.png")
    for name, count in (("a.png", 1), ("gone.png", 0)):
        assert replace(THREE, path=str(tmp_path / name))._repr_html_().count("<img") == count


def test_draw_returns_an_annotated_copy(tmp_path):
    image = Image.new("RGB", (60, 40), "white")
    drawn = THREE.draw(image)
    assert (drawn.size, drawn.mode) == (image.size, "RGB")
    assert drawn.tobytes() != image.tobytes() == Image.new("RGB", (60, 40), "white").tobytes()
    image.save(tmp_path / "a.png")
    assert replace(THREE, path=str(tmp_path / "a.png")).draw().tobytes() == drawn.tobytes()
    with pytest.raises(UsageError, match=r"no path to read the image from; pass it: detections.draw\(image\)"):
        THREE.draw()


def test_to_supervision_has_the_same_arrays():
    supervision = pytest.importorskip("supervision")
    theirs = THREE.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    np.testing.assert_array_equal(theirs.xyxy, THREE.xyxy)
    np.testing.assert_array_equal(theirs.confidence, THREE.scores)
    assert theirs.class_id.tolist() == [0, 2, 0]
    assert theirs["class_name"].tolist() == THREE.labels
    assert len(detections().to_supervision()) == 0


def test_track_ids_go_along_with_their_detections():
    tracked = replace(THREE, track_ids=np.array([4, -1, 7]))
    assert [d.track_id for d in tracked] == [4, -1, 7]
    assert tracked[1:].track_ids.tolist() == [-1, 7]
    assert tracked[[2, 0]].track_ids.tolist() == [7, 4]
    by_score = {d["score"]: d["track_id"] for d in tracked.to_dicts()}
    assert by_score == dict(zip(THREE.scores.tolist(), [4, None, 7], strict=True))
    assert THREE[0].track_id is None
    assert "track_id" not in THREE.to_dicts()[0]
    with pytest.raises(UsageError, match="the arrays of a Detections differ in length"):
        replace(THREE, track_ids=np.array([1]))


def test_to_supervision_has_the_track_ids():
    pytest.importorskip("supervision")
    assert replace(THREE, track_ids=np.array([4, -1, 7])).to_supervision().tracker_id.tolist() == [4, -1, 7]
    assert THREE.to_supervision().tracker_id is None


def test_to_pandas_has_a_row_for_each_detection():
    pytest.importorskip("pandas")
    frame = THREE.to_pandas()
    assert list(frame.columns) == ["score", "label", "class_id", "xmin", "ymin", "xmax", "ymax"]
    assert frame.to_dict("records")[1] == {
        "score": np.float32(0.9), "label": "bird", "class_id": 2, "xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4,
    }  # fmt: skip
    assert len(detections().to_pandas()) == 0


@pytest.mark.parametrize(("method", "package"), [("to_supervision", "supervision"), ("to_pandas", "pandas")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"{method} needs the package {package}; run pip install {package}"):
        getattr(THREE, method)()


def test_the_best_come_first_and_equals_keep_their_order():
    equal = detections([0.5, 0.9, 0.5, 0.9], [0, 1, 2, 0], np.zeros((4, 4)))
    assert equal.by_score().class_ids.tolist() == [1, 0, 0, 2]
    many = replace(detections([0.5, 0.9] * 50, [0] * 100, np.zeros((100, 4))), track_ids=np.arange(100))
    assert many.by_score().track_ids.tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


def test_only_some_labels_can_be_kept():
    assert [d.label for d in THREE.only(["cat"])] == ["cat", "cat"]
    assert [d.label for d in THREE.only("cat")] == ["cat", "cat"]
    assert len(THREE.only([])) == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("Cat", "the model has no label 'Cat'; did you mean 'cat'?"),
        (["c", "dog", "zz"], "the model has no label 'c', 'zz'; did you mean 'cat'?"),
        (["cat", 17], "the model has no label 17: expected some of "),
        (1, "the model has no label 1: expected some of "),
    ],
)
def test_a_label_that_the_model_lacks_is_an_error(labels, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        THREE.only(labels)


@pytest.mark.parametrize("image_id", ["139", "a.jpg", 1.5, None])
def test_an_image_id_is_an_integer(image_id):
    with pytest.raises(UsageError, match="image_id is not an integer: found "):
        THREE.to_coco(image_id)


@pytest.mark.parametrize(
    ("scores", "class_ids", "xyxy"),
    [
        (np.zeros(2), np.zeros(1, int), np.zeros((2, 4))),
        (np.zeros(2), np.zeros(2, int), np.zeros((2, 3))),
        (np.zeros(2), np.zeros(2, int), np.zeros(8)),
        (np.zeros((2, 1)), np.zeros((2, 1), int), np.zeros((2, 4))),
        (np.float32(0), np.int64(0), np.zeros(4)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(scores, class_ids, xyxy):
    with pytest.raises(UsageError, match=r"differ in length: found scores .* expected \[n\], \[n\] and \[n, 4\]"):
        Detections(scores, class_ids, xyxy, LABELS)


@pytest.mark.parametrize("class_id", [-1, 3])
def test_a_class_without_a_label_is_refused(class_id):
    with pytest.raises(UsageError, match="a class id of a Detections has no name"):
        detections([0.5], [class_id], [[0, 0, 1, 1]])


# Its forms


def test_the_api_form_is_sorted_and_has_its_keys_in_order():
    rows = THREE.to_dicts()
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert [list(row) for row in rows] == [["score", "label", "box"]] * 3
    assert list(rows[0]["box"]) == ["xmin", "ymin", "xmax", "ymax"]


def test_the_api_form_truncates_boxes_towards_zero():
    boxes = {row["score"]: list(row["box"].values()) for row in THREE.to_dicts()}
    assert boxes[0.5] == [0, 0, 10, 20]
    assert boxes[float(np.float32(0.7))] == [-5, 0, 7, 8]
    assert {type(side) for box in boxes.values() for side in box} == {int}


def test_the_api_form_keeps_every_digit_of_a_float32_score():
    text = json.dumps(THREE.to_dicts())
    assert '"score": 0.8999999761581421' in text
    assert [np.float32(row["score"]) for row in json.loads(text)] == [np.float32(s) for s in (0.9, 0.7, 0.5)]


def test_the_coco_form_has_left_top_width_height_and_keeps_the_order():
    rows = THREE.to_coco(139)
    assert rows[1] == {"image_id": 139, "category_id": 2, "bbox": [1.0, 2.0, 2.0, 2.0], "score": rows[1]["score"]}
    assert [row["category_id"] for row in rows] == [0, 2, 0]
    assert json.loads(json.dumps(rows)) == rows


# Boxes and scores


@pytest.mark.parametrize(
    ("cxcywh", "xyxy"),
    [
        (np.zeros((0, 4)), np.zeros((0, 4))),
        ([[0.5, 0.5, 1, 1]], [[0, 0, 1, 1]]),
        ([[0.25, 0.5, 0.5, 0.25]], [[0, 0.375, 0.5, 0.625]]),
        ([[[0, 0, 1, 2]]], [[[-0.5, -1, 0.5, 1]]]),
    ],
)
def test_centre_and_size_become_corners(cxcywh, xyxy):
    found = cxcywh_to_xyxy(np.array(cxcywh, np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(xyxy, np.float32))


def test_corners_become_left_top_width_height():
    np.testing.assert_array_equal(xyxy_to_xywh(np.array([[1, 2, 4, 8]], np.float32)), [[1, 2, 3, 6]])


def test_probabilities_of_extreme_logits_are_finite_and_sum_to_one():
    probabilities = softmax(np.array([[1e4, -1e4, 0], [-1e30, -1e30, -1e30]], np.float32))
    np.testing.assert_array_equal(probabilities[0], [1, 0, 0])
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=SCORE_ULPS)


# From logits


def test_no_queries_give_no_detections():
    found = detections_of(
        np.zeros((1, 0, 4), np.float32), np.zeros((1, 0, 4), np.float32), np.array([[9, 9]]), LABELS, 0.0
    )
    assert [len(one) for one in found] == [0]


def test_no_object_is_never_a_detection_however_sure():
    logits = np.array([[[0, 0, 0, 50]]], np.float32)
    found = detections_of(logits, np.full((1, 1, 4), 0.5, np.float32), np.array([[10, 10]]), LABELS, 0.5)
    assert len(found[0]) == 0


def test_a_score_has_to_exceed_the_threshold():
    logits = np.log(np.array([[[1, 2, 1, 4], [5, 1, 1, 1]]], np.float32))  # scores 0.25 and 0.625
    boxes = np.full((1, 2, 4), 0.5, np.float32)
    at = float(softmax(logits)[0, 0, :-1].max())
    below = float(np.nextafter(np.float32(at), np.float32(0)))
    sizes = np.array([[10, 10]])
    assert [len(detections_of(logits, boxes, sizes, LABELS, t)[0]) for t in (at, below, 0.0, 1.0)] == [1, 2, 2, 0]


def test_the_kept_queries_may_be_given_in_place_of_those_above_the_threshold():
    logits, boxes, sizes_hw = random_answer(1, images=1)
    kept = np.arange(20)[None] % 3 == 0
    every, some = (detections_of(logits, boxes, sizes_hw, LABELS, t, k)[0] for t, k in ((0.0, None), (0.9, kept)))
    assert 0 < len(some) == kept.sum() < len(every)
    np.testing.assert_array_equal(some.xyxy, every.xyxy[kept[0]])


def test_the_order_is_that_of_the_queries():
    logits, boxes, sizes_hw = random_answer(1)
    for found, row in zip(detections_of(logits, boxes, sizes_hw, LABELS, 0.0), logits, strict=True):
        assert found.class_ids.tolist() == row[:, :-1].argmax(-1).tolist()


def test_boxes_are_in_pixels_of_each_image_as_it_came():
    logits = np.zeros((2, 1, 4), np.float32)
    boxes = np.array([[[0.5, 0.25, 0.5, 0.5]]] * 2, np.float32)
    found = detections_of(logits, boxes, np.array([[480, 640], [100, 10]]), LABELS, 0.0)
    assert [one.xyxy[0].tolist() for one in found] == [[160, 0, 480, 240], [2.5, 0, 7.5, 50]]


def test_the_answer_is_that_of_the_definition():
    logits, boxes, sizes_hw = random_answer(2)
    for found, rows, quads, (height, width) in zip(
        detections_of(logits, boxes, sizes_hw, LABELS, 0.4), logits, boxes, sizes_hw.tolist(), strict=True
    ):
        expected = []
        for row, (cx, cy, w, h) in zip(rows.astype(float), quads.astype(float), strict=True):
            powers = np.exp(row)
            score, best = max((p, -i) for i, p in enumerate((powers / powers.sum())[:-1]))
            if score > 0.4:
                corners = ((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
                expected.append((score, -best, *corners))
        assert 0 < len(found) < len(rows)
        np.testing.assert_allclose(found.scores, [e[0] for e in expected], atol=2 * SCORE_ULPS)
        assert found.class_ids.tolist() == [e[1] for e in expected]
        np.testing.assert_allclose(found.xyxy, [e[2:] for e in expected], atol=2 * BOX_PX)


@pytest.mark.oracle
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_the_answer_is_that_of_transformers(threshold):
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("transformers.models.detr.image_processing_pil_detr")
    logits, boxes, sizes_hw = random_answer(3)
    outputs = SimpleNamespace(logits=torch.tensor(logits), pred_boxes=torch.tensor(boxes))
    theirs = module.DetrImageProcessorPil().post_process_object_detection(
        outputs, threshold=threshold, target_sizes=torch.tensor(sizes_hw)
    )
    for found, expected in zip(detections_of(logits, boxes, sizes_hw, LABELS, threshold), theirs, strict=True):
        assert found.class_ids.tolist() == expected["labels"].tolist()
        np.testing.assert_allclose(found.scores, expected["scores"].numpy(), atol=SCORE_ULPS)
        np.testing.assert_allclose(found.xyxy, expected["boxes"].numpy(), atol=BOX_PX)


def test_sizes_may_be_a_list_of_pairs_as_in_transformers():
    logits, boxes = np.zeros((2, 3, 5), np.float32), np.full((2, 3, 4), 0.5, np.float32)
    names = ("a", "b", "c", "d")
    listed = detections_of(logits, boxes, [(480, 640), (200, 100)], names, 0.1)
    arrays = detections_of(logits, boxes, np.array([(480, 640), (200, 100)]), names, 0.1)
    for one, other in zip(listed, arrays, strict=True):
        np.testing.assert_array_equal(one.xyxy, other.xyxy)


@pytest.mark.parametrize("sizes", [(480, 640), [(480, 640)], [(480, 640)] * 3, [], [(3, 480, 640)] * 2])
def test_sizes_that_do_not_fit_the_batch_are_an_error(sizes):
    logits, boxes = np.zeros((2, 3, 5), np.float32), np.full((2, 3, 4), 0.5, np.float32)
    with pytest.raises(UsageError, match=r"the sizes do not fit the batch: found shape .*, expected \[2, 2\]"):
        detections_of(logits, boxes, sizes, ("a", "b", "c", "d"), 0.1)


def test_boxes_overlap_by_what_they_share_of_what_they_cover():
    box = np.array([[0, 0, 2, 2]], np.float32)
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [5, 5, 6, 6], [1, 1, 1, 1]], np.float32)
    np.testing.assert_allclose(iou(box, others), [[1, 1 / 3, 0, 0, 0]])
    assert iou(others, box).shape == (5, 1)
    assert iou(np.empty((0, 4), np.float32), box).shape == (0, 1)
    np.testing.assert_array_equal(iou(others[4:], others[4:]), [[0]])  # a box without area covers nothing


# What callers may give


@pytest.mark.parametrize("names", [lambda: (name for name in ("cat", "bird")), lambda: {"cat", "bird"}])
def test_labels_to_keep_may_come_from_a_generator_or_a_set(names):
    assert [d.label for d in THREE.only(names())] == ["cat", "bird", "cat"]


def test_lists_in_place_of_arrays_are_refused():
    with pytest.raises(UsageError, match=r"found scores list, .* expected \[n\], \[n\] and \[n, 4\], in numpy"):
        Detections([0.5], [0], [[0, 0, 1, 1]], LABELS)


def test_class_ids_that_are_not_whole_are_refused():
    with pytest.raises(UsageError, match=r"has no name: found float64 from 1.0 to 1.0, expected whole numbers"):
        Detections(np.zeros(1), np.ones(1), np.zeros((1, 4)), LABELS)


def test_track_ids_of_another_length_are_named():
    with pytest.raises(UsageError, match=r"track_ids \(1,\)"):
        replace(THREE, track_ids=np.array([1]))


def test_true_is_not_the_number_of_a_detection():
    with pytest.raises(UsageError, match="the index does not fit Detections: found bool"):
        THREE[True]


def test_coco_rows_of_an_image_id_of_numpy_are_json():
    assert json.loads(json.dumps(THREE.to_coco(np.int64(139)))) == THREE.to_coco(139)


def test_to_supervision_has_the_masks():
    pytest.importorskip("supervision")
    logits = np.where(np.arange(12).reshape(3, 2, 2) % 2, 9, -9).astype(np.float32)
    masked = replace(THREE, mask_logits=MaskLogits(logits, (1.0, 1.0), (4, 6)))
    np.testing.assert_array_equal(masked.to_supervision().mask, masked.masks)
    assert masked[:0].to_supervision().mask.shape == (0, 4, 6)
    assert THREE.to_supervision().mask is None
