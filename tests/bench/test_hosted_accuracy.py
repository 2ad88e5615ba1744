"""AP of both sides and its bootstrap interval, compared with pycocotools run directly."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from detr_onnx.bench.hosted.accuracy import accuracy_of, annotated, only, rows_of_detections, rows_of_items
from detr_onnx.bench.hosted.images import ComparedImage
from detr_onnx.detections import Detections
from detr_onnx.errors import DatasetError
from detr_onnx.evaluation.bootstrap import average_precisions, match
from detr_onnx.evaluation.coco import Annotations, Row, parse_annotations

pytest.importorskip("pycocotools")

EXACT = 1e-12  # sums in another order
IMAGES, CATEGORIES = 12, 4


def box(left: float, top: float, width: float = 40, height: float = 40) -> list[float]:
    return [left, top, width, height]


def truth_of(images: int, objects: list[dict]) -> Annotations:
    return parse_annotations(
        {
            "images": [{"id": number, "file_name": f"{number}.png"} for number in range(1, images + 1)],
            "categories": [{"id": number, "name": f"Class {number}"} for number in range(1, CATEGORIES + 1)],
            "annotations": objects,
        },
        "annotations",
    )


@pytest.fixture(scope="module")
def random_data() -> tuple[Annotations, list[Row]]:
    """Objects and detections: some crowds, one empty image, scores that repeat but not within an image."""
    rng = np.random.default_rng(3)
    objects, rows = [], []
    for image_id in range(1, IMAGES):
        for _ in range(6):
            category, corner = int(rng.integers(1, CATEGORIES + 1)), rng.uniform(0, 200, 2)
            crowd = int(rng.random() < 0.15)
            objects.append(
                {"image_id": image_id, "category_id": category, "bbox": box(*corner.tolist()), "iscrowd": crowd}
            )
            for _ in range(int(rng.integers(0, 3))):
                moved = corner + rng.normal(0, 5, 2)
                score = int(rng.integers(1, 9)) / 10 + len(rows) % 50 / 1000  # never twice in an image
                rows.append(
                    {"image_id": image_id, "category_id": category, "bbox": box(*moved.tolist()), "score": score}
                )
        rows.append({"image_id": image_id, "category_id": 1, "bbox": box(300, 300), "score": 0.55})
    return truth_of(IMAGES, objects), rows


def by_pycocotools(truth: Annotations, rows: list[Row], ids: list[int]) -> tuple[float, float]:
    """AP and AP50 of images, of which some may occur several times, as copies with ids of their own."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    copies = list(enumerate(sorted(ids), start=1))
    categories = [{"id": number} for number in truth.categories]
    datasets = []
    for source in (truth.objects, rows):
        copied = [
            {**row, "image_id": copy, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": row.get("iscrowd", 0)}
            for copy, image_id in copies
            for row in source
            if row["image_id"] == image_id
        ]
        dataset = COCO()
        annotations = [{**row, "id": number} for number, row in enumerate(copied, start=1)]
        dataset.dataset = {
            "images": [{"id": copy} for copy, _ in copies], "categories": categories, "annotations": annotations,
        }  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            dataset.createIndex()
        datasets.append(dataset)
    evaluation = COCOeval(*datasets, "bbox")
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def test_without_resampling_ap_is_that_of_pycocotools(random_data):
    truth, rows = random_data
    ap, ap50 = average_precisions(match(truth, rows), np.ones((1, IMAGES), np.int64))
    expected = by_pycocotools(truth, rows, [*range(1, IMAGES + 1)])
    assert 0.1 < expected[0] < expected[1] < 0.9
    assert (ap[0], ap50[0]) == pytest.approx(expected, abs=EXACT)


def test_ap_of_each_resample_is_that_of_pycocotools_on_copies_of_the_images(random_data):
    truth, rows = random_data
    weights = np.random.default_rng(1).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=20)
    ap, ap50 = average_precisions(match(truth, rows), weights)
    for row, *found in zip(weights, ap, ap50, strict=True):
        ids = np.repeat(np.arange(1, IMAGES + 1), row).tolist()
        assert found == pytest.approx(by_pycocotools(truth, rows, ids), abs=EXACT)


def test_chunks_of_resamples_change_nothing(random_data, monkeypatch):
    truth, rows = random_data
    weights = np.random.default_rng(1).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), size=7)
    whole = average_precisions(match(truth, rows), weights)
    monkeypatch.setattr("detr_onnx.evaluation.bootstrap.CHUNK_NUMBERS", 1)
    assert np.array_equal(whole, average_precisions(match(truth, rows), weights))


def test_ap_by_hand():
    """Two objects; the better detection is right, the next wrong, the last right: precision 1 to recall 0.5, then 2/3.

    Of COCO's 101 recalls, 51 are at most 0.5.
    """
    truth = truth_of(2, [{"image_id": n, "category_id": 1, "bbox": box(10, 10)} for n in (1, 2)])
    rows = [
        {"image_id": 1, "category_id": 1, "bbox": box(10, 10), "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": box(200, 10), "score": 0.8},
        {"image_id": 2, "category_id": 1, "bbox": box(10, 10), "score": 0.7},
    ]
    ap, ap50 = average_precisions(match(truth, rows), np.array([[1, 1], [2, 0], [0, 0]]))
    assert (ap[0], ap50[0]) == pytest.approx([(51 + 50 * 2 / 3) / 101] * 2)
    assert ap[1] == 1
    assert np.isnan(ap[2])


def test_no_detections_have_an_ap_of_zero():
    truth = truth_of(1, [{"image_id": 1, "category_id": 1, "bbox": box(10, 10)}])
    assert average_precisions(match(truth, []), np.ones((1, 1), np.int64))[0] == 0


def test_the_interval_of_equal_sides_is_zero(random_data):
    truth, rows = random_data
    result = accuracy_of(truth, {"local_all": rows, "local": rows, "hosted": rows}, 200)
    assert result["difference"]["AP"] == {"value": 0, "low": 0, "high": 0}
    assert result["local"]["AP"] == pytest.approx(by_pycocotools(truth, rows, [*range(1, IMAGES + 1)])[0], abs=1e-6)
    crowds = sum(row["iscrowd"] for row in truth.objects)
    assert (result["images"], result["objects"]) == (IMAGES, len(truth.objects) - crowds)


def test_the_interval_contains_zero_for_sides_that_differ_by_chance(random_data):
    """Each side loses its detections of every other image: the images differ, the sides do not."""
    truth, rows = random_data
    odd, even = ([row for row in rows if row["image_id"] % 2 == rest] for rest in (1, 0))
    interval = accuracy_of(truth, {"local_all": rows, "local": odd, "hosted": even}, 500)["difference"]["AP"]
    assert interval["low"] < 0 < interval["high"]
    assert interval["low"] <= interval["value"] <= interval["high"]


def test_the_interval_excludes_zero_for_a_side_that_is_clearly_worse(random_data):
    truth, rows = random_data
    worse = [{**row, "bbox": [row["bbox"][0] + 12, *row["bbox"][1:]]} for row in rows]
    result = accuracy_of(truth, {"local_all": rows, "local": rows, "hosted": worse}, 500)
    assert result["difference"]["AP"]["low"] > 0
    assert result["difference_all"] == result["difference"]
    swapped = accuracy_of(truth, {"local_all": worse, "local": worse, "hosted": rows}, 500)
    assert swapped["difference"]["AP"]["high"] < 0


def test_intervals_are_reproducible(random_data):
    truth, rows = random_data
    sides = {"local_all": rows, "local": rows, "hosted": rows[::2]}
    assert accuracy_of(truth, sides, 100) == accuracy_of(truth, sides, 100)


def test_rows_have_coco_boxes_and_categories_by_name_in_any_case():
    truth = truth_of(1, [{"image_id": 1, "category_id": 2, "bbox": box(0, 0)}])
    items = [
        {"score": 0.5, "label": "class 2", "box": {"xmin": 1, "ymin": 2, "xmax": 11, "ymax": 5}},
        {"score": 0.5, "label": "hat", "box": {"xmin": 0, "ymin": 0, "xmax": 9, "ymax": 9}},
    ]
    assert rows_of_items(7, items, truth) == [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 10, 3], "score": 0.5}]
    boxes = np.array([[1.5, 2, 11.25, 5], [0, 0, 1, 1]], np.float32)
    found = Detections(np.array([0.5, 0.25], np.float32), np.array([1, 0]), boxes, ("hat", "CLASS 2"))
    assert rows_of_detections(7, found, truth) == [
        {"image_id": 7, "category_id": 2, "bbox": [1.5, 2, 9.75, 3], "score": 0.5}
    ]


def test_images_are_annotated_by_path_or_by_name():
    truth = truth_of(3, [{"image_id": n, "category_id": 1, "bbox": box(0, 0)} for n in (1, 2)])
    images = [ComparedImage(name, Path(name), name) for name in ("val/1.png", "3.png", "new.png")]
    assert annotated(images, truth) == {1: images[0], 3: images[1]}
    assert [row["image_id"] for row in only(truth, [2]).objects] == [2]
    with pytest.raises(DatasetError, match=r"does not annotate any of the images: found new.png, expected .* 1.png"):
        annotated(images[2:], truth)


def test_a_name_of_several_images_is_no_image_unless_one_has_this_path_or_all_are_equal():
    truth = truth_of(3, [{"image_id": n, "category_id": 1, "bbox": box(0, 0)} for n in (1, 2)])
    first, other, copy = (ComparedImage(f"{name}/3.png", Path(name), name[0]) for name in ("a", "b", "a copy"))
    with pytest.raises(DatasetError, match=r"has one image for several files: found 3.png for a and b; compare the "):
        annotated([first, other], truth)
    assert annotated([first, copy], truth) == {3: first}
    exact = ComparedImage("3.png", Path("c"), "c")
    assert annotated([first, exact, other], truth) == {3: exact}
