"""Attention maps: the weights that attention itself uses, of what is asked for only."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.network.detr import detr_with_attention, parameters
from detr_onnx.network.numpy_ops import NumpyOps
from detr_onnx.network.transformer import MultiHeadAttention
from tests.parity.seeded import CONFIGS, padded_batch, seeded_pixels, seeded_tensors

SMALL, ROUNDING = CONFIGS["small"], 1e-5  # float32 through a dozen layers
SIZES = [(161, 120), (77, 214), (33, 47)]
THRESHOLD = np.full(1, 0.2, np.float32)


@pytest.fixture(scope="module")
def ops():
    return NumpyOps(parameters(seeded_tensors(SMALL, 1)))


@pytest.fixture(scope="module")
def batch():
    pixels, mask = padded_batch(seeded_pixels(5, 3, 3, 161, 214), SIZES)
    return pixels, mask.astype(np.float32)


@pytest.fixture(scope="module")
def outputs(ops, batch):
    return detr_with_attention(ops, SMALL, *batch, THRESHOLD, np.array([[0, 9], [8, 1], [0, 7]]))


def test_each_head_s_weights_sum_to_one(outputs):
    _, _, kept, objects, cells = outputs
    assert objects.shape == (len(kept), SMALL.decoder_layers, SMALL.decoder_heads, 6, 7)
    assert cells.shape == (3, 2, SMALL.encoder_layers, SMALL.encoder_heads, 6, 7)
    np.testing.assert_allclose(objects.sum(axis=(-1, -2)), 1, atol=ROUNDING)
    np.testing.assert_allclose(cells.sum(axis=(-1, -2)), 1, atol=ROUNDING)


def test_padding_gets_no_attention(outputs):
    _, _, kept, objects, cells = outputs
    assert {*kept[:, 0].tolist()} >= {0, 1}
    for image, (height, width) in enumerate(SIZES):
        for maps in (objects[kept[:, 0] == image], cells[image]):
            assert not maps[..., -(-height // 32) :, :].any()
            assert not maps[..., -(-width // 32) :].any()


def test_kept_queries_are_those_above_the_threshold(ops, batch, outputs):
    logits, _, kept, objects, _ = outputs
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert np.array_equal(kept, np.argwhere(probabilities[..., :-1].max(axis=-1) > THRESHOLD))
    assert 0 < len(kept) < logits.shape[0] * logits.shape[1]
    every = detr_with_attention(ops, SMALL, *batch, np.full(1, -1, np.float32), np.zeros((3, 0), np.int64))[3]
    every = every.reshape(3, SMALL.queries, *every.shape[1:])
    np.testing.assert_allclose(objects, every[kept[:, 0], kept[:, 1]], atol=ROUNDING)


def test_the_weights_are_those_that_attention_applies(ops):
    """Times the values, they give what attention gives."""
    inputs: list[tuple[np.ndarray, np.ndarray]] = []
    random = np.random.RandomState(0)
    x, source, position = (random.standard_normal((2, n, SMALL.d_model)).astype(np.float32) for n in (5, 11, 11))
    own = ops.at("decoder").at("layers.0").at("encoder_attn")
    found = MultiHeadAttention(2, SMALL.d_model, 0 * x, position, inputs=inputs)(own, x, source)
    ((q, k),) = inputs
    weights = own.attention_weights(q, k, 2, None)
    assert weights.shape == (2, 5, 2, 11)
    values = own.linear("v_proj", source).reshape(2, 11, 2, -1)
    attended = np.einsum("bqmk,bkmd->bqmd", weights, values).reshape(2, 5, -1)
    np.testing.assert_allclose(own.linear("out_proj", attended), found, atol=ROUNDING)


def test_no_query_and_no_point_give_empty_maps_of_the_right_shape(ops, batch):
    nothing = np.full(1, 2, np.float32), np.zeros((3, 0), np.int64)
    _, _, kept, objects, cells = detr_with_attention(ops, SMALL, *batch, *nothing)
    assert kept.shape == (0, 2)
    assert objects.shape == (0, SMALL.decoder_layers, SMALL.decoder_heads, 6, 7)
    assert cells.shape == (3, 0, SMALL.encoder_layers, SMALL.encoder_heads, 6, 7)


def test_the_mask_head_is_not_computed_for_attention_maps():
    config = CONFIGS["small-panoptic"]
    tensors = parameters(seeded_tensors(config, 1))
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith(("mask_head", "bbox_attention"))}
    assert len(without) < len(tensors)
    pixels = seeded_pixels(5, 1, 3, 64, 64)
    outputs = detr_with_attention(NumpyOps(without), config, pixels, None, THRESHOLD, np.zeros((1, 1), np.int64))
    assert outputs[4].shape == (1, 1, config.encoder_layers, 8, 2, 2)
