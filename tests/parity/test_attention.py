"""Attention maps are the attention weights of transformers, layer by layer and head by head."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.onnxruntime import onnxruntime_engine
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.image.processor_config import Preprocessing
from tests.parity.seeded import CONFIGS, padded_batch, seeded_pixels, seeded_tensors
from tests.parity.test_parity import SMALL

pytestmark = pytest.mark.oracle

# Of weights in 0..1, beside transformers in float64. Scores of several units differ by some 1e-6 in float32, by more
# after Winograd's convolutions, which numpy has, and without AVX-512 (ONNX Runtime: 1.2e-5); a wrong head, layer,
# position or mask gives 1e-2 and more.
TOLERANCES = {"numpy": 3e-5, "onnxruntime": 2e-5}
EVERY_QUERY = -1.0  # a threshold that every score exceeds
FULL = [("detr-resnet-50", (320, 427)), ("table-transformer", (288, 384)), ("detr-resnet-50-dc5-panoptic", (160, 224))]


@pytest.fixture(scope="module")
def case_of(tmp_path_factory):
    """Name of a config -> the torch model, and our networks with attention maps by engine."""
    from tests.parity.oracle import torch_model

    @lru_cache(maxsize=len(SMALL))
    def case_of(name: str):
        tensors = seeded_tensors(CONFIGS[name], seed=1)
        checkpoint, path = Checkpoint(CONFIGS[name], tensors), tmp_path_factory.mktemp(name) / "m.onnx"
        write_onnx(path, checkpoint, Preprocessing(), ExportOptions(attention=True))
        engines = {"numpy": numpy_engine(checkpoint), "onnxruntime": onnxruntime_engine(path)}
        networks = {name: engine.attention() for name, engine in engines.items()}
        return torch_model(CONFIGS[name], tensors).double(), networks

    return case_of


def truth_of(model, pixels, mask):
    """The decoder's cross-attention [B,Q,L,M,N] and the encoder's self-attention [B,N,L,M,N], computed in float64."""
    import torch

    detector = getattr(model, "detr", model)  # of a panoptic model
    detector.set_attn_implementation("eager")
    with torch.no_grad():
        output = detector(
            pixel_values=torch.from_numpy(pixels).double(),
            pixel_mask=torch.from_numpy(mask.astype(np.int64)),
            output_attentions=True,
        )
    layers = (output.cross_attentions, output.encoder_attentions)
    return [np.stack([weights.numpy() for weights in each], axis=1).transpose(0, 3, 1, 2, 4) for each in layers]


def assert_same(name, case, pixels, mask):
    model, networks = case
    decoder, encoder = truth_of(model, pixels, mask)
    B, Q, N = len(pixels), decoder.shape[1], encoder.shape[1]
    cells = np.random.RandomState(0).randint(0, N, (B, 3))
    for engine, network in networks.items():
        found = network.attend(pixels, mask, EVERY_QUERY, cells)
        rows, columns = (-(-side // network.stride) for side in pixels.shape[2:])
        assert found.objects.shape == (B * Q, *decoder.shape[2:4], rows, columns)
        assert found.cells.shape == (B, 3, *encoder.shape[2:4], rows, columns)
        assert np.array_equal(found.kept, np.argwhere(np.ones((B, Q))))
        differences = [
            np.abs(found.objects.reshape(decoder.shape) - decoder).max(),
            np.abs(found.cells.reshape(B, 3, *encoder.shape[2:]) - encoder[np.arange(B)[:, None], cells]).max(),
        ]
        print(f"\n  {name}, {engine}: objects {differences[0]:.1e}, cells {differences[1]:.1e}")
        assert max(differences) < TOLERANCES[engine]


@pytest.mark.parametrize("size_hw", [(33, 47), (64, 64), (480, 333)], ids=lambda hw: f"{hw[0]}x{hw[1]}")
@pytest.mark.parametrize("name", SMALL)
def test_maps_of_a_small_model_of_every_kind_are_those_of_transformers(name, size_hw, case_of):
    assert_same(name, case_of(name), seeded_pixels(3, 1, 3, *size_hw), np.ones((1, *size_hw), bool))


@pytest.mark.parametrize("name", SMALL)
def test_maps_of_a_padded_batch_are_those_of_transformers(name, case_of):
    pixels, mask = padded_batch(seeded_pixels(5, 3, 3, 161, 214), [(161, 120), (77, 214), (33, 47)])
    assert_same(name, case_of(name), pixels, mask)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size_hw"), FULL)
def test_maps_of_a_full_size_model_are_those_of_transformers(name, size_hw, case_of):
    assert_same(name, case_of(name), seeded_pixels(3, 1, 3, *size_hw), np.ones((1, *size_hw), bool))
