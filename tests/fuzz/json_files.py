"""Configurations of image processors, and COCO annotations and results, also panoptic ones."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detr_onnx.errors import CheckpointError, DatasetError, DetrError, ImageError
from detr_onnx.evaluation.coco import read_annotations, read_results
from detr_onnx.evaluation.panoptic_coco import evaluate_results, read_panoptic_results, read_truth
from detr_onnx.evaluation.panoptic_files import ids_to_rgb
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.json_input import parse_object
from tests.fuzz.inputs import directory, written
from tests.fuzz.mutate import mutate_json_text
from tests.fuzz.run import Kind

OFFICIAL = Path(__file__).parents[2] / "weights" / "demo" / "preprocessor_config.json"
SIZES_HW = ((480, 640), (1, 5000), (3, 2))

PROCESSORS: dict[str, Any] = {
    "2021": {"feature_extractor_type": "DetrFeatureExtractor", "size": 800, "max_size": 1333, "do_normalize": True},
    "2023": {**Preprocessing().to_json()},
    "2024": {**Preprocessing(480, 640, max_hw=(480, 640), pad_hw=(640, 640)).to_json()},
    "2026": {"image_processor": Preprocessing(fixed_hw=(480, 640)).to_json(), "processor_class": "DetrProcessor"},
}
ANNOTATIONS: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48},
        {"id": 2, "file_name": "b/c.png"},
    ],
    "categories": [{"id": 17, "name": "cat", "supercategory": "animal"}, {"id": 18, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 17, "bbox": [1, 2, 30, 40], "area": 1200.5, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 18, "bbox": [1.5, 2, 3, 4], "segmentation": [[1, 2, 3, 4, 5, 6]]},
        {"id": 3, "image_id": 2, "category_id": 17, "bbox": [0, 0, 9, 9], "area": None, "iscrowd": 1},
    ],
}
RESULTS = [
    {"image_id": 1, "category_id": 17, "bbox": [1, 2, 30, 40], "score": 0.9},
    {"image_id": 2, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.1},
]


PANOPTIC_IDS = {1: (7, 70000), 2: (300, 0)}  # of the left and right half of each image
PANOPTIC: dict[str, Any] = {
    "images": ANNOTATIONS["images"],
    "categories": [{"id": 17, "name": "cat", "isthing": 1}, {"id": 187, "name": "sky", "isthing": 0}],
    "annotations": [
        {
            "image_id": 1,
            "file_name": "1.png",
            "segments_info": [{"id": 7, "category_id": 17, "iscrowd": 1, "area": 2}, {"id": 70000, "category_id": 187}],
        },
        {"image_id": 2, "file_name": "2.png", "segments_info": [{"id": 300, "category_id": 17, "iscrowd": 0}]},
    ],
}


def kind(
    values: Mapping[str, Any], read: Callable[[bytes], str], errors: tuple[type[DetrError], ...], share: int
) -> Kind:
    """A kind of JSON files: values are changed in most inputs, bytes in the others."""
    texts = {name: json.dumps(value).encode() for name, value in values.items()}

    return Kind(lambda: texts, mutate_json_text, read, errors, share)


def read_processor(data: bytes) -> str:
    """Reads a configuration, and uses it as far as no image is needed."""
    preprocessing = Preprocessing.from_json(parse_object(data, "the configuration"), "the configuration")
    for height, width in SIZES_HW:
        if min(preprocessing.resized_hw(height, width)) < 1:
            raise AssertionError(f"{preprocessing} gives an empty image")
    if Preprocessing.from_json(preprocessing.to_json(), "the configuration") != preprocessing:
        raise AssertionError(f"{preprocessing} is not read as it is written")
    return "a configuration"


def read_annotation_file(data: bytes) -> str:
    """Reads annotations, and uses them as far as no model is needed."""
    truth = read_annotations(written("annotations.json", data))
    truth.category_of(["N/A"] * 17 + ["cat", "dog"])
    return "annotations"


def read_result_file(data: bytes) -> str:
    """Reads results that belong to `ANNOTATIONS`."""
    truth = read_annotations(written("annotations.json", json.dumps(ANNOTATIONS).encode()))
    return "results" if read_results(written("results.json", data), truth) else "no results"


@functools.cache
def pngs() -> Path:
    """The directory of the PNGs of `PANOPTIC`."""
    for image_id, halves in PANOPTIC_IDS.items():
        Image.fromarray(ids_to_rgb(np.array([halves], np.int32))).save(directory("pngs") / f"{image_id}.png")
    return directory("pngs")


def read_panoptic_file(data: bytes) -> str:
    """Reads panoptic annotations, and uses them as far as no model is needed."""
    truth = read_truth(written("panoptic.json", data), pngs())
    truth.stuff(truth.category_of(["N/A"] * 17 + ["cat", "sky"]))
    evaluate_results(truth, truth)
    return "panoptic annotations"


def read_panoptic_result_file(data: bytes) -> str:
    """Reads panoptic results that belong to `PANOPTIC`, and evaluates them."""
    truth = read_truth(written("panoptic.json", json.dumps(PANOPTIC).encode()), pngs())
    evaluate_results(truth, read_panoptic_results(written("found.json", data), pngs(), truth))
    return "panoptic results"


PROCESSOR_CONFIGS = kind(PROCESSORS, read_processor, (CheckpointError,), 10)
ANNOTATION_FILES = kind({"annotations": ANNOTATIONS}, read_annotation_file, (DatasetError,), 10)
RESULT_FILES = kind({"results": RESULTS}, read_result_file, (DatasetError,), 5)
PANOPTIC_FILES = kind({"panoptic": PANOPTIC}, read_panoptic_file, (DatasetError, ImageError), 5)
PANOPTIC_RESULT_FILES = kind({"panoptic": PANOPTIC}, read_panoptic_result_file, (DatasetError, ImageError), 5)
