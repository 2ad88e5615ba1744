"""The default config is the published model, and a config survives JSON."""

from __future__ import annotations

import json

import pytest

from detr_onnx.checkpoint.tensor_shapes import expected_shapes
from detr_onnx.errors import CheckpointError
from detr_onnx.network.config import DetrConfig
from tests.parity.seeded import CONFIGS

PARAMETERS = 41_631_008  # of facebook/detr-resnet-50, batch norm's included
TENSORS = 530


def test_the_default_is_the_published_model_to_the_last_number():
    shapes = expected_shapes(DetrConfig())
    numbers = 0
    for shape in shapes.values():
        size = 1
        for n in shape:
            size *= n
        numbers += size
    assert (len(shapes), numbers) == (TENSORS, PARAMETERS)


@pytest.mark.parametrize("name", CONFIGS)
def test_fields_survive_json(name):
    assert DetrConfig.from_fields(json.loads(json.dumps(CONFIGS[name].to_fields()))) == CONFIGS[name]


@pytest.mark.parametrize("change", [
    {"labels": None}, {"labels": "cat"}, {"labels": [1]}, {"labels": []}, {"backbone": None}, {"backbone": []},
    {"d_model": "256"}, {"d_model": 250, "encoder_heads": 2, "decoder_heads": 5}, {"d_model": 256, "encoder_heads": 3},
    {"d_model": 256, "decoder_heads": 3}, {"encoder_layers": 65536}, {"queries": 10**400},
    {"backbone": {"block": "wide", "depths": [1, 1, 1], "widths": [8, 8, 8], "stem_width": 8, "dilation": False}},
    {"backbone": {"block": "basic", "depths": [1, 1, 1], "widths": [8, 8], "stem_width": 8, "dilation": False}},
    {"backbone": {"block": ["basic"], "depths": [[]], "widths": {}, "stem_width": None}},
])  # fmt: skip
def test_damaged_fields_of_a_written_config_are_one_error(change):
    fields = json.loads(json.dumps(CONFIGS["small"].to_fields())) | change
    with pytest.raises(CheckpointError):
        DetrConfig.from_fields(fields)
