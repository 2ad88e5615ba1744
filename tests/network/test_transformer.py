"""The transformer: what positions are added to, where the norms are, and that padding has no effect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detr_onnx.network.numpy_ops import NumpyOps
from detr_onnx.network.position import sine_position
from detr_onnx.network.resnet import fold_batch_norm
from detr_onnx.network.transformer import Cells, MultiHeadAttention, decoder, encoder, residual
from tests.parity.seeded import CONFIGS, seeded_tensors

ROUNDING = 2e-5  # float32 through two layers of each kind, values around 1
SEEN = 1e-3  # the least effect of a change that matters

SMALL = CONFIGS["small"]
D, Q = SMALL.d_model, SMALL.queries


@pytest.fixture(scope="module", params=["small", "small-table-transformer"])
def model(request):
    """A config and its ops; with norms after and before the sub-layers."""
    config = CONFIGS[request.param]
    return config, NumpyOps(fold_batch_norm(seeded_tensors(config, 1)))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def run(model, cells, valid):
    """[B,h,w,D] cells and [B,h,w] valid cells -> the decoder's output [B,Q,D]."""
    config, ops = model
    B, h, w, _ = cells.shape
    known = Cells(sine_position(ops, valid, D), ops.key_bias(valid))
    memory = encoder(ops.at("encoder"), config, cells.reshape(B, h * w, D), known)
    return decoder(ops.at("decoder"), config, ops.parameter("query_position_embeddings.weight"), memory, known)


def test_without_layers_the_input_is_returned():
    config = replace(SMALL, encoder_layers=0)
    x = normal(1, 1, 5, D)
    assert encoder(NumpyOps({}), config, x, Cells(x)) is x


def test_padding_does_not_change_the_output(model):
    cells = normal(2, 1, 3, 4, D)
    alone = run(model, cells, np.ones((1, 3, 4), np.float32))
    padded, valid = normal(3, 1, 6, 5, D), np.zeros((1, 6, 5), np.float32)
    padded[:, :3, :4], valid[:, :3, :4] = cells, 1
    np.testing.assert_allclose(run(model, padded, valid), alone, atol=ROUNDING)


def test_images_of_a_batch_do_not_affect_each_other(model):
    cells, valid = normal(4, 3, 3, 4, D), np.ones((3, 3, 4), np.float32)
    valid[1, 2:], valid[2, :, 1:] = 0, 0
    together = run(model, cells, valid)
    for b in range(3):
        np.testing.assert_allclose(together[b : b + 1], run(model, cells[b : b + 1], valid[b : b + 1]), atol=ROUNDING)


def test_the_order_of_the_cells_matters_only_through_their_positions(model):
    config, ops = model
    cells, position = normal(5, 1, 7, D), normal(6, 1, 7, D)
    backwards = np.s_[:, ::-1]
    found = encoder(ops.at("encoder"), config, cells, Cells(position))
    moved = encoder(ops.at("encoder"), config, cells[backwards], Cells(position[backwards]))
    np.testing.assert_allclose(moved[backwards], found, atol=ROUNDING)
    unmoved = encoder(ops.at("encoder"), config, cells[backwards], Cells(position))
    assert np.abs(unmoved[backwards] - found).max() > SEEN


def test_positions_are_not_added_to_values():
    """A single key gets all the attention, so a position could only have an effect through the value."""
    ops = NumpyOps(fold_batch_norm(seeded_tensors(SMALL, 1))).at("decoder").at("layers.0").at("encoder_attn")
    x, source = normal(7, 1, Q, D), normal(8, 1, 1, D)
    positions = [(normal(s, 1, Q, D), normal(s + 1, 1, 1, D)) for s in (9, 19)]
    found = [MultiHeadAttention(2, D, *position)(ops, x, source) for position in positions]
    np.testing.assert_allclose(found[0], found[1], atol=ROUNDING)


def test_attention_scales_by_the_width_of_a_head():
    """Scores grow with the square root of a head's width."""
    ops = NumpyOps(fold_batch_norm(seeded_tensors(SMALL, 1))).at("encoder").at("layers.0").at("self_attn")
    x, no_position = normal(7, 1, 5, D), np.zeros((1, 5, D), np.float32)
    found = MultiHeadAttention(1, D, no_position, no_position)(ops, x, x)
    q, k, v = (ops.linear(f"{part}_proj", x) for part in "qkv")
    scores = (q @ k.swapaxes(1, 2)) / np.sqrt(D)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    truth = ops.linear("out_proj", np.float32(shares / shares.sum(-1, keepdims=True)) @ v)
    np.testing.assert_allclose(found, truth, atol=ROUNDING)


def test_the_norm_is_after_the_sum_or_before_the_sub_layer():
    ops = NumpyOps({"n.weight": np.full(4, 2, "f4"), "n.bias": np.ones(4, "f4")})
    x = normal(1, 1, 3, 4)
    assert np.array_equal(residual(ops, "n", x, lambda y: y * 3, False), ops.layer_norm("n", x + x * 3))
    assert np.array_equal(residual(ops, "n", x, lambda y: y * 3, True), x + ops.layer_norm("n", x) * 3)
