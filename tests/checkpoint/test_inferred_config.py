"""The shapes of a model's tensors tell its config, but for heads, labels and dilation."""

from __future__ import annotations

import pytest

from detr_onnx.checkpoint.inferred_config import config_from_shapes
from detr_onnx.checkpoint.tensor_shapes import expected_shapes
from detr_onnx.errors import CheckpointError
from detr_onnx.labels import COCO_LABELS
from detr_onnx.network.config import DetrConfig
from tests.parity.seeded import CONFIGS

EIGHT_HEADS = ("detr-resnet-50", "detr-resnet-101", "table-transformer")


@pytest.mark.parametrize("name", EIGHT_HEADS)
def test_shapes_tell_the_config_but_for_the_labels(name):
    found = config_from_shapes(expected_shapes(CONFIGS[name]))
    labels = COCO_LABELS if len(CONFIGS[name].labels) == 91 else ("LABEL_0", "LABEL_1")
    assert found == DetrConfig(**{**vars(CONFIGS[name]), "labels": labels})


def test_a_dilation_is_an_argument_because_no_shape_tells_it():
    assert config_from_shapes(expected_shapes(CONFIGS["detr-resnet-50-dc5"]), dilation=True).backbone.dilation


@pytest.mark.parametrize(("shapes", "complaint"), [
    ({}, "no backbone.conv1.weight, query_position_embeddings.weight, class_labels_classifier.weight"),
    ({"backbone.conv1.weight": (64,)}, "no backbone.conv1.weight"),
    ({"query_position_embeddings.weight": (100, 250)}, "d_model 250 with 8 heads"),
    ({"backbone.layer999999999.0.conv1.weight": (1, 1, 1, 1)}, "5 stages"),
])  # fmt: skip
def test_shapes_that_no_detr_has_are_refused(shapes, complaint):
    known = expected_shapes(DetrConfig()) if shapes else {}
    with pytest.raises(CheckpointError, match=complaint):
        config_from_shapes({**known, **shapes})
