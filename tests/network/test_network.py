"""The whole network: its stages by name, masks, batches, and that nothing in a checkpoint is there for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import detr, stage_names
from detr_onnx.network.numpy_ops import NumpyOps
from detr_onnx.network.resnet import fold_batch_norm
from tests.parity.seeded import CONFIGS, padded_batch, seeded_pixels, seeded_tensors
from tests.readings import READINGS, numpy_stages

# A batch and a single image share every number but the order in which a matrix product is summed.
SAME = 3e-5  # of logits and stages whose values are around 1
SAME_BOXES = 1e-5
# The least that any number of the outputs moves when a tensor is off by a tenth; readings differ by 1e-5.
SEEN = 1e-4

SMALL = ("small", "small-dc5", "small-basic-dc5", "basic-three-stages", "small-table-transformer")


def outputs(config, tensors, pixels, mask=None):
    return detr(NumpyOps(fold_batch_norm(tensors)), config, pixels, mask)


def test_stages_are_named_in_the_order_of_the_walk():
    config = CONFIGS["basic-three-stages"]
    assert stage_names(config) == (
        "stem", "stage1", "stage2", "stage3", "position", "projection",
        "encoder.0", "encoder.1", "decoder.0", "decoder.1", "decoder", "logits", "boxes",
    )  # fmt: skip


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", SMALL)
def test_every_stage_can_be_asked_for_in_both_readings(name, reading):
    config = CONFIGS[name]
    found = READINGS[reading](config, seeded_tensors(config, 1), seeded_pixels(1, 2, 3, 40, 56), None)
    assert set(found) == set(stage_names(config))


@pytest.mark.parametrize("name", SMALL)
def test_the_outputs_have_their_shapes_and_boxes_lie_in_the_image(name):
    config = CONFIGS[name]
    logits, boxes = outputs(config, seeded_tensors(config, 1), seeded_pixels(1, 2, 3, 40, 56))
    assert logits.shape == (2, config.queries, len(config.labels) + 1)
    assert boxes.shape == (2, config.queries, 4)
    assert logits.dtype == boxes.dtype == np.float32
    assert ((boxes > 0) & (boxes < 1)).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (31, 32)])
def test_tiny_and_narrow_images_go_through(size_hw):
    config = CONFIGS["small"]
    for stages in READINGS.values():
        found = stages(config, seeded_tensors(config, 1), seeded_pixels(1, 1, 3, *size_hw), None)
        assert all(np.isfinite(value).all() for value in found.values())


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", SMALL)
def test_a_mask_of_ones_says_what_no_mask_says(name, reading):
    config, tensors = CONFIGS[name], seeded_tensors(CONFIGS[name], 1)
    pixels = seeded_pixels(2, 2, 3, 70, 45)
    without = READINGS[reading](config, tensors, pixels, None)
    masked = READINGS[reading](config, tensors, pixels, np.ones((2, 70, 45), bool))
    np.testing.assert_allclose(masked["logits"], without["logits"], atol=SAME)
    np.testing.assert_allclose(masked["boxes"], without["boxes"], atol=SAME_BOXES)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", SMALL)
def test_an_image_in_a_batch_comes_out_as_it_would_alone_on_the_same_canvas(name, reading):
    config, tensors = CONFIGS[name], seeded_tensors(CONFIGS[name], 1)
    pixels, mask = padded_batch(seeded_pixels(3, 3, 3, 97, 131), [(97, 60), (50, 131), (97, 131)])
    together = READINGS[reading](config, tensors, pixels, mask)
    for b in range(3):
        alone = READINGS[reading](config, tensors, pixels[b : b + 1], mask[b : b + 1])
        np.testing.assert_allclose(together["logits"][b], alone["logits"][0], atol=SAME)
        np.testing.assert_allclose(together["boxes"][b], alone["boxes"][0], atol=SAME_BOXES)


def test_without_its_mask_a_padded_image_finds_other_things():
    """Why there is a mask: published exports leave it out, and lose a third of their precision in batches of eight."""
    config, tensors = CONFIGS["small"], seeded_tensors(CONFIGS["small"], 1)
    pixels, mask = padded_batch(seeded_pixels(3, 1, 3, 97, 131), [(50, 60)])
    difference = outputs(config, tensors, pixels, mask)[0] - outputs(config, tensors, pixels, None)[0]
    assert np.abs(difference).max() > 100 * SEEN


@pytest.mark.parametrize("name", ["small-table-transformer", "small"])
def test_every_tensor_of_a_checkpoint_counts(name):
    """But for the keys' biases, which softmax cannot see: they add the same to every score of a query."""
    config, tensors = CONFIGS[name], seeded_tensors(CONFIGS[name], 1)
    pixels, mask = padded_batch(seeded_pixels(4, 1, 3, 48, 80), [(48, 64)])
    logits, boxes = outputs(config, tensors, pixels, mask)
    unseen = []
    for tensor in tensors:
        off = tensors | {tensor: tensors[tensor] * np.float32(1.1) + np.float32(0.01)}
        other_logits, other_boxes = outputs(config, off, pixels, mask)
        if max(np.abs(other_logits - logits).max(), np.abs(other_boxes - boxes).max()) < SEEN:
            unseen.append(tensor)
    first = "decoder.layers.0.self_attn"  # of zeros: every query's answer is the same, whomever it asks
    blind = {f"{first}.q_proj.weight", f"{first}.k_proj.weight", f"{first}.q_proj.bias"}
    times_zero = f"{first}_layer_norm.weight" if config.pre_norm else f"{first}.v_proj.weight"
    keys = {name for name in tensors if name.endswith("k_proj.bias")}
    assert set(unseen) == keys | blind | {times_zero}


def test_the_default_config_is_the_published_network():
    assert len(stage_names(DetrConfig())) == 1 + 4 + 2 + 6 + 6 + 3


def test_an_untouched_stage_is_what_the_outputs_are():
    config, tensors = CONFIGS["small"], seeded_tensors(CONFIGS["small"], 1)
    pixels = seeded_pixels(1, 1, 3, 40, 56)
    logits, boxes = outputs(config, tensors, pixels)
    stages = numpy_stages(config, tensors, pixels, None)
    assert np.array_equal(stages["logits"], logits)
    assert np.array_equal(stages["boxes"], boxes)
