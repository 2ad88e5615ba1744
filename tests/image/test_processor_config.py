"""Configurations of image processors of every year are read as transformers reads them, or refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_onnx.errors import CheckpointError
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import LARGEST_SIDE_PX, Preprocessing
from detr_onnx.image.sizes import bounded_hw

DETR = Preprocessing()
IMAGES_WH = [(640, 480), (300, 700), (1200, 400), (50, 50), (49, 48)]

Sizes = list[tuple[int, int]]

OFFICIAL = {
    "feature_extractor_type": "DetrFeatureExtractor",
    "format": "coco_detection",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_normalize": True,
    "do_resize": True,
}
LIMITS_480 = {"max_height": 480, "max_width": 480}
RULE_800: Sizes = [(800, 1066), (1333, 571), (444, 1333), (800, 800), (800, 816)]
RULE_480: Sizes = [(360, 480), (480, 205), (160, 480), (480, 480), (470, 480)]
RULE_600: Sizes = [(450, 600), (600, 257), (200, 600), (600, 600), (588, 600)]
WIDE: Sizes = [(480, 640), (480, 205), (213, 640), (480, 480), (480, 490)]

SIZES: list[tuple[dict[str, Any], Sizes, Sizes | None]] = [
    ({}, RULE_800, None),
    ({**OFFICIAL, "size": 800, "max_size": 1333}, RULE_800, None),
    ({**OFFICIAL, "size": 800}, RULE_800, None),
    ({"size": None, "max_size": 1333}, RULE_800, None),
    ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, RULE_800, None),
    ({"size": {"shortest_edge": 800, "longest_edge": 1333}, "max_size": 100}, RULE_800, None),
    ({"image_processor": {"size": 800}, "processor_class": "DetrProcessor"}, RULE_800, None),
    ({"size": 600, "max_size": 700}, [(525, 700), (700, 300), (233, 700), (600, 600), (600, 612)], None),
    ({"size": 600, "max_size": 600}, RULE_600, None),
    ({"size": {"shortest_edge": 900, "longest_edge": 600}}, RULE_600, None),
    ({"size": {"height": 480, "width": 640}}, [(480, 640)] * 5, None),
    ({"size": [480, 640], "image_processor_type": "DetrImageProcessor"}, [(480, 640)] * 5, None),
    ({"size": [480, 480], "feature_extractor_type": "DetrFeatureExtractor"}, [(480, 480)] * 5, None),
    ({"size": LIMITS_480}, RULE_480, None),
    ({"size": LIMITS_480, "max_size": 100}, RULE_480, None),
    ({"size": {"max_height": 480, "max_width": 640}}, WIDE, None),
    ({"size": LIMITS_480, "pad_size": {"height": 480, "width": 480}, "do_pad": True}, RULE_480, [(480, 480)] * 5),
    ({"size": LIMITS_480, "pad_size": 480}, RULE_480, [(480, 480)] * 5),
    ({"size": LIMITS_480, "pad_size": [480, 500]}, RULE_480, [(480, 500)] * 5),
    ({"size": LIMITS_480, "pad_size": {"height": 480, "width": 480}, "do_pad": False}, RULE_480, None),
    ({"size": LIMITS_480, "pad_size": 480, "pad_and_return_pixel_mask": False}, RULE_480, None),
    ({"pad_size": {"height": 1333, "width": 1333}}, RULE_800, [(1333, 1333)] * 5),
    ({"do_resize": False}, [(height, width) for width, height in IMAGES_WH], None),
]  # fmt: skip
"""Configuration, heights and widths that the images are resized to, and those that they are padded to."""


def size_id(case: Any) -> str | None:
    return json.dumps(case).replace('"', "")[:70] if isinstance(case, dict) else ""


def resized_and_padded(fields: dict[str, Any]) -> tuple[Sizes, Sizes]:
    """Heights and widths of each image alone, resized and padded, by this package."""
    preprocessing = Preprocessing.from_json(fields, "a test")
    resized, padded = [], []
    for wh in IMAGES_WH:
        pixels, mask, _ = batch([Image.new("RGB", wh)], preprocessing)
        resized.append((int(mask[0].any(axis=1).sum()), int(mask[0].any(axis=0).sum())))
        padded.append(tuple(pixels.shape[2:]))
    return resized, padded


def test_an_empty_configuration_is_that_of_detr():
    assert Preprocessing.from_json({}, "a test") == DETR


@pytest.mark.parametrize(("fields", "resized", "padded"), SIZES, ids=size_id)
def test_images_get_the_size_that_transformers_gives_them(fields: dict[str, Any], resized: Sizes, padded: Sizes | None):
    assert resized_and_padded(fields) == (resized, padded or resized)


@pytest.mark.oracle
@pytest.mark.parametrize(("fields", "resized", "padded"), SIZES, ids=size_id)
def test_the_stored_sizes_are_those_of_transformers(fields: dict[str, Any], resized: Sizes, padded: Sizes | None):
    module = pytest.importorskip("transformers.models.detr.image_processing_pil_detr")
    processor = module.DetrImageProcessorPil.from_dict(json.loads(json.dumps(fields.get("image_processor", fields))))
    for wh, resized_hw, padded_hw in zip(IMAGES_WH, resized, padded or resized, strict=True):
        output = processor(Image.new("RGB", wh), return_tensors="np")
        assert output["pixel_values"].shape[2:] == padded_hw
        if "pixel_mask" in output:
            mask = output["pixel_mask"][0]
            assert (int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())) == resized_hw


@pytest.mark.oracle
def test_the_limits_of_height_and_width_are_those_of_transformers():
    reference = pytest.importorskip("transformers.image_utils").get_image_size_for_max_height_width
    sides = np.random.default_rng(0).integers(1, 3000, (20_000, 4)).tolist()
    wrong = [
        (height, width, *limits)
        for height, width, *limits in sides
        if bounded_hw(height, width, (limits[0], limits[1]))
        != tuple(max(1, side) for side in reference((height, width), *limits))
    ]
    assert wrong == []


@pytest.mark.oracle
@pytest.mark.parametrize(
    "fields",
    [
        {"size": {"shortest_edge": 200, "longest_edge": 333}},
        {"size": {"height": 100, "width": 180}},
        {"size": LIMITS_480, "pad_size": {"height": 480, "width": 480}},
    ],
)
def test_a_configuration_saved_by_transformers_is_read(fields: dict[str, Any], tmp_path):
    module = pytest.importorskip("transformers.models.detr.image_processing_pil_detr")
    module.DetrImageProcessorPil(**fields).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert Preprocessing.from_json(written, "a test") == Preprocessing.from_json(fields, "a test")


@pytest.mark.oracle
def test_transformers_reads_the_configuration_that_is_written_here():
    module = pytest.importorskip("transformers.models.detr.image_processing_pil_detr")
    assert module.DetrImageProcessorPil(**DETR.to_json()).to_dict() == module.DetrImageProcessorPil().to_dict()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, DETR),
        ({"size": 800, "max_size": 1333, "feature_extractor_type": "DetrFeatureExtractor"}, DETR),
        ({"size": 600, "max_size": 900}, Preprocessing(600, 900)),
        ({"size": 600}, Preprocessing(600, 1333)),
        ({"size": {"height": 480, "width": 640}}, Preprocessing(fixed_hw=(480, 640))),
        ({"size": {"height": 480, "width": 640, "shortest_edge": None}}, Preprocessing(fixed_hw=(480, 640))),
        ({"size": {"max_height": 480, "max_width": 640}}, Preprocessing(480, 640, max_hw=(480, 640))),
        ({"pad_size": {"height": 1400, "width": 1333}}, Preprocessing(pad_hw=(1400, 1333))),
        ({"image_processor": {"size": 600}}, Preprocessing(600, 1333)),
        ({"image_processor_type": "ConditionalDetrImageProcessorFast"}, DETR),
        ({"do_resize": False}, Preprocessing(resize=False)),
        ({"do_rescale": False}, Preprocessing(rescale_factor=1.0)),
        ({"do_normalize": False}, Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))),
        ({"image_mean": 0.5, "image_std": [0.5, 0.5, 1]}, Preprocessing(mean=(0.5,) * 3, std=(0.5, 0.5, 1))),
        ({"rescale_factor": 0.00392156862745098, "resample": 2, "do_pad": True, "pad_size": None}, DETR),
    ],
)
def test_every_form_of_the_configuration_is_read(fields: dict[str, Any], expected: Preprocessing):
    read = Preprocessing.from_json(fields, "a test")
    assert read == expected
    assert Preprocessing.from_json(json.loads(json.dumps(read.to_json())), "a test") == read


def test_another_shortest_edge_replaces_every_form_of_size():
    limits = Preprocessing(480, 640, max_hw=(480, 640), pad_hw=(640, 640))
    assert limits.with_shortest_edge(240) == Preprocessing(240, 320)
    assert Preprocessing(fixed_hw=(480, 640)).with_shortest_edge(400) == Preprocessing(400, 666)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "large"}, "size.shortest_edge 'large' (expected a positive whole number)"),
        ({"size": {"shortest_edge": -1, "longest_edge": 1333}}, "size.shortest_edge -1"),
        ({"size": {}}, "size of nothing (expected shortest_edge and longest_edge, max_height and max_width, or height"),
        ({"size": {"longest_edge": 800}}, "size of longest_edge (expected shortest_edge and longest_edge, max_height"),
        ({"size": {"shortest_edge": 800}}, "size of shortest_edge (expected"),
        ({"size": {"shortest_edge": 600}, "max_size": 700}, "size of shortest_edge (expected"),
        ({"size": 800, "max_size": None}, "size of shortest_edge (expected"),
        (
            {"max_size": 1000},
            "max_size without size, which versions of transformers read differently (exp",
        ),
        ({"size": {"max_height": 8}}, "size of max_height (expected"),
        ({"size": {"height": 8, "width": 8, "shortest_edge": 9}}, "size of height, width, shortest_edge (expected"),
        ({"size": {"height": True, "width": 9}}, "size.height True"),
        ({"size": {"height": 10**400, "width": 9}}, f"(expected at most {LARGEST_SIDE_PX})"),
        ({"size": {"x" * 10**6: 1}}, f"size of {'x' * 20} (expected"),
        ({"size": [640, 480], "feature_extractor_type": "DetrFeatureExtractor"}, "size [640, 480], in an order that"),
        ({"size": [480, 640, 3]}, "size.shortest_edge [480, 640, 3] (expected a positive whole number)"),
        ({"pad_size": {"height": 8}}, "pad_size of height (expected height and width)"),
        ({"pad_size": "big"}, "pad_size.height 'big' (expected a positive whole number)"),
        ({"pad_size": {"height": 8, "width": 0}}, "pad_size.width 0"),
        ({"image_processor_type": "YolosImageProcessor"}, "'YolosImageProcessor' (expected DetrImageProcessor)"),
        ({"feature_extractor_type": ["x"]}, "feature_extractor_type ['x'] (expected DetrImageProcessor)"),
        ({"image_processor": {"size": "large"}}, "size.shortest_edge 'large'"),
        ({"image_mean": [0.5, 0.5]}, "image_mean [0.5, 0.5] (expected three numbers)"),
        ({"image_mean": [10**400] * 3}, "image_mean ["),
        ({"image_std": [0.5, 0, 0.5]}, "image_std [0.5, 0, 0.5] (expected three numbers, none of them 0)"),
        ({"image_std": [0.5, 1e-60, 0.5]}, "none of them 0"),
        ({"image_std": None}, "image_std None"),
        ({"image_mean": "red"}, "image_mean 'red'"),
        ({"rescale_factor": 0}, "rescale_factor 0 (expected a positive number)"),
        ({"rescale_factor": float("nan")}, "rescale_factor nan"),
        ({"rescale_factor": 10**400}, "(expected a positive number)"),
        ({"do_resize": "yes"}, "do_resize 'yes' (expected true or false)"),
        ({"resample": 3}, "resample 3 (expected 2, bilinear)"),
        ({"do_center_crop": True}, "do_center_crop True, which is not supported"),
    ],
)
def test_a_wrong_or_unsupported_field_is_named_in_a_short_message(fields: dict[str, Any], message: str):
    with pytest.raises(CheckpointError) as raised:
        Preprocessing.from_json(fields, "preprocessor_config.json")
    assert message in str(raised.value)
    assert str(raised.value).startswith("preprocessor_config.json does not describe DETR's preprocessing: found ")
    assert len(str(raised.value)) < 500


def test_one_message_names_all_problems_of_a_configuration():
    with pytest.raises(CheckpointError, match=r"shortest_edge 0 .*; image_mean .*; resample 3"):
        Preprocessing.from_json({"size": {"shortest_edge": 0}, "image_mean": [], "resample": 3}, "a test")


def test_a_deeply_nested_value_is_refused():
    nested: list[Any] = []
    for _ in range(900):
        nested = [nested]
    with pytest.raises(CheckpointError, match="image_mean"):
        Preprocessing.from_json({"image_mean": nested, "size": nested, "pad_size": nested}, "a test")
