"""The whole network: stages, masks, batches, and that every tensor of a checkpoint matters."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import detr, stage_names
from detr_onnx.network.numpy_ops import NumpyOps
from detr_onnx.network.resnet import fold_batch_norm
from tests.network_stages import STAGES, numpy_stages
from tests.parity.seeded import CONFIGS, padded_batch, seeded_pixels, seeded_tensors

# A batch differs from a single image only in the order of sums in matrix products.
SAME = 3e-5  # of logits and stages with values around 1
SAME_BOXES = 1e-5
# The least change of some output when a tensor is off by a tenth; numpy and ONNX Runtime differ by 1e-5.
SEEN = 1e-4

SMALL = ("small", "small-dc5", "small-basic-dc5", "basic-three-stages", "small-table-transformer")


def outputs(config, tensors, pixels, mask=None):
    return detr(NumpyOps(fold_batch_norm(tensors)), config, pixels, mask)


def test_stages_are_named_in_the_order_of_computation():
    config = CONFIGS["basic-three-stages"]
    assert stage_names(config) == (
        "stem", "stage1", "stage2", "stage3", "position", "projection",
        "encoder.0", "encoder.1", "decoder.0", "decoder.1", "decoder", "logits", "boxes",
    )  # fmt: skip


@pytest.mark.parametrize("engine", STAGES)
@pytest.mark.parametrize("name", SMALL)
def test_every_engine_computes_every_stage(name, engine):
    config = CONFIGS[name]
    found = STAGES[engine](config, seeded_tensors(config, 1), seeded_pixels(1, 2, 3, 40, 56), None)
    assert set(found) == set(stage_names(config))


@pytest.mark.parametrize("name", SMALL)
def test_the_outputs_have_their_shapes_and_boxes_are_in_the_image(name):
    config = CONFIGS[name]
    logits, boxes = outputs(config, seeded_tensors(config, 1), seeded_pixels(1, 2, 3, 40, 56))
    assert logits.shape == (2, config.queries, len(config.labels) + 1)
    assert boxes.shape == (2, config.queries, 4)
    assert logits.dtype == boxes.dtype == np.float32
    assert ((boxes > 0) & (boxes < 1)).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (31, 32)])
def test_tiny_and_narrow_images_give_finite_outputs(size_hw):
    config = CONFIGS["small"]
    for stages in STAGES.values():
        found = stages(config, seeded_tensors(config, 1), seeded_pixels(1, 1, 3, *size_hw), None)
        assert all(np.isfinite(value).all() for value in found.values())


@pytest.mark.parametrize("engine", STAGES)
@pytest.mark.parametrize("name", SMALL)
def test_a_mask_of_ones_equals_no_mask(name, engine):
    config, tensors = CONFIGS[name], seeded_tensors(CONFIGS[name], 1)
    pixels = seeded_pixels(2, 2, 3, 70, 45)
    without = STAGES[engine](config, tensors, pixels, None)
    masked = STAGES[engine](config, tensors, pixels, np.ones((2, 70, 45), bool))
    np.testing.assert_allclose(masked["logits"], without["logits"], atol=SAME)
    np.testing.assert_allclose(masked["boxes"], without["boxes"], atol=SAME_BOXES)


@pytest.mark.parametrize("engine", STAGES)
@pytest.mark.parametrize("name", SMALL)
def test_an_image_in_a_batch_has_the_outputs_it_has_alone_with_the_same_padding(name, engine):
    config, tensors = CONFIGS[name], seeded_tensors(CONFIGS[name], 1)
    pixels, mask = padded_batch(seeded_pixels(3, 3, 3, 97, 131), [(97, 60), (50, 131), (97, 131)])
    together = STAGES[engine](config, tensors, pixels, mask)
    for b in range(3):
        alone = STAGES[engine](config, tensors, pixels[b : b + 1], mask[b : b + 1])
        np.testing.assert_allclose(together["logits"][b], alone["logits"][0], atol=SAME)
        np.testing.assert_allclose(together["boxes"][b], alone["boxes"][0], atol=SAME_BOXES)


def test_without_its_mask_a_padded_image_has_other_outputs():
    """Why there is a mask: published exports leave it out, and lose a third of their AP in batches of eight."""
    config, tensors = CONFIGS["small"], seeded_tensors(CONFIGS["small"], 1)
    pixels, mask = padded_batch(seeded_pixels(3, 1, 3, 97, 131), [(50, 60)])
    difference = outputs(config, tensors, pixels, mask)[0] - outputs(config, tensors, pixels, None)[0]
    assert np.abs(difference).max() > 100 * SEEN


@pytest.mark.parametrize("name", ["small-table-transformer", "small"])
def test_every_tensor_of_a_checkpoint_matters(name):
    """Except keys' biases, which cancel in softmax: they add the same to every score of a query."""
    config, tensors = CONFIGS[name], seeded_tensors(CONFIGS[name], 1)
    pixels, mask = padded_batch(seeded_pixels(4, 1, 3, 48, 80), [(48, 64)])
    logits, boxes = outputs(config, tensors, pixels, mask)
    ineffective = []
    for tensor in tensors:
        off = tensors | {tensor: tensors[tensor] * np.float32(1.1) + np.float32(0.01)}
        other_logits, other_boxes = outputs(config, off, pixels, mask)
        if max(np.abs(other_logits - logits).max(), np.abs(other_boxes - boxes).max()) < SEEN:
            ineffective.append(tensor)
    first = "decoder.layers.0.self_attn"  # its input is 0, so all queries have the same value
    cancelled = {f"{first}.q_proj.weight", f"{first}.k_proj.weight", f"{first}.q_proj.bias"}
    times_zero = f"{first}_layer_norm.weight" if config.pre_norm else f"{first}.v_proj.weight"
    keys = {name for name in tensors if name.endswith("k_proj.bias")}
    assert set(ineffective) == keys | cancelled | {times_zero}


def test_the_default_config_is_the_published_network():
    assert len(stage_names(DetrConfig())) == 1 + 4 + 2 + 6 + 6 + 3


def test_the_last_stages_are_the_outputs():
    config, tensors = CONFIGS["small"], seeded_tensors(CONFIGS["small"], 1)
    pixels = seeded_pixels(1, 1, 3, 40, 56)
    logits, boxes = outputs(config, tensors, pixels)
    stages = numpy_stages(config, tensors, pixels, None)
    assert np.array_equal(stages["logits"], logits)
    assert np.array_equal(stages["boxes"], boxes)
