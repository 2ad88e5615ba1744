"""Every stage of the network agrees with the torch model of transformers, in numpy and in ONNX Runtime.

An error is the largest difference over the standard deviation of the stage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from detr_onnx.checkpoint.load import load_checkpoint, read_config
from detr_onnx.network.config import ResNetConfig
from detr_onnx.network.detr import stage_names
from tests.network_stages import STAGES, numpy_stages
from tests.parity.seeded import CONFIGS, padded_batch, seeded_pixels, seeded_tensors

pytestmark = pytest.mark.oracle

# Two orders of summation in float32 differ by some 1e-7 a layer. After a hundred layers that is up to 1.5e-5 of a
# stage's standard deviation, 1e-5 of the logits' and 3e-6 of the image's width in boxes. A wrong stride, norm or
# position gives 1e-2 and more. Attention over 3,417 cells amplifies it most: in one value of encoder.1 of the
# three-stage model, numpy is 1.03e-4 from torch on a processor with AVX2 alone, where torch itself is 2e-5 from its own
# float64.
STAGE_TOLERANCE = 2e-4
LOGITS_TOLERANCE = 5e-5
BOXES_TOLERANCE = 1e-5
# The peak of uniform attention, times the number of keys, is 1.
LEAST_PEAK = 3.0
# The share of the logits' variation that is between queries.
LEAST_QUERY_SPREAD = 0.05

LARGE = "DETR_ONNX_LARGE_ORACLE"  # environment variable

SMALL = ("small", "small-dc5", "small-basic-dc5", "basic-three-stages", "small-table-transformer",
         "small-auxiliary-loss", "small-panoptic", "small-panoptic-dc5", "three-stages-panoptic")  # fmt: skip
SIZES = [(33, 47), (64, 64), (801, 1067), (480, 1333)]
Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Oracle:
    """Seeded tensors, and the torch model that has them."""

    tensors: Mapping[str, Array]
    module: ModuleType
    model: object

    def stages(self, pixels: Array, mask: Mask | None) -> dict[str, Array]:
        return self.module.torch_stages(self.model, pixels, mask)


@pytest.fixture(scope="module")
def oracle_of():
    """Name of a config -> its oracle; cached, as many as there are small configs."""
    from tests.parity import oracle

    @lru_cache(maxsize=len(SMALL))
    def oracle_of(name: str) -> Oracle:
        tensors = seeded_tensors(CONFIGS[name], seed=1)
        return Oracle(tensors, oracle, oracle.torch_model(CONFIGS[name], tensors))

    return oracle_of


def assert_agree(found: Mapping[str, Array], truth: Mapping[str, Array], engine: str) -> None:
    """Every stage has the oracle's shape, and its values within the tolerances."""
    tolerances = {"logits": LOGITS_TOLERANCE}
    errors = {name: float(np.abs(found[name] - value).max() / value.std()) for name, value in truth.items()}
    boxes = float(np.abs(found["boxes"] - truth["boxes"]).max())
    errors.pop("boxes")
    worst = max(errors, key=lambda name: errors[name])
    print(f"\n  {engine}: logits {errors['logits']:.1e}, boxes {boxes:.1e}, worst stage {worst} {errors[worst]:.1e}")
    assert {name: v.shape for name, v in truth.items()} == {name: v.shape for name, v in found.items()}
    assert {name: e for name, e in errors.items() if not e < tolerances.get(name, STAGE_TOLERANCE)} == {}
    assert boxes < BOXES_TOLERANCE


@pytest.mark.parametrize("size_hw", SIZES, ids=lambda hw: f"{hw[0]}x{hw[1]}")
@pytest.mark.parametrize("name", SMALL)
def test_a_small_model_of_every_kind_agrees_at_every_stage(name, size_hw, oracle_of):
    oracle, pixels = oracle_of(name), seeded_pixels(3, 1, 3, *size_hw)
    mask = np.ones((1, *size_hw), bool)
    truth = oracle.stages(pixels, mask)
    assert set(truth) == set(stage_names(CONFIGS[name]))
    for engine, stages in STAGES.items():
        assert_agree(stages(CONFIGS[name], oracle.tensors, pixels, mask), truth, engine)


@pytest.mark.parametrize("name", SMALL)
def test_without_a_mask_a_small_model_agrees_too(name, oracle_of):
    oracle, pixels = oracle_of(name), seeded_pixels(4, 2, 3, 70, 95)
    truth = oracle.stages(pixels, None)
    for engine, stages in STAGES.items():
        found = stages(CONFIGS[name], oracle.tensors, pixels, None)
        found["position"] = np.broadcast_to(found["position"], truth["position"].shape)  # one for all images
        assert_agree(found, truth, engine)


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_of_mixed_sizes_agrees_at_every_stage(name, oracle_of):
    oracle = oracle_of(name)
    pixels, mask = padded_batch(seeded_pixels(5, 3, 3, 161, 214), [(161, 120), (77, 214), (33, 47)])
    truth = oracle.stages(pixels, mask)
    for engine, stages in STAGES.items():
        assert_agree(stages(CONFIGS[name], oracle.tensors, pixels, mask), truth, engine)


@pytest.mark.parametrize("name", ["small", "basic-three-stages"])
def test_padding_changes_an_image_s_outputs_as_much_as_it_does_in_torch(name, oracle_of):
    """Beyond an image's edge, convolutions read padding that is not zero after the first of them."""
    oracle, config = oracle_of(name), CONFIGS[name]
    pixels, mask = padded_batch(seeded_pixels(5, 2, 3, 128, 192), [(128, 192), (96, 128)])
    alone = pixels[1:, :, :96, :128]

    def ours(pixels: Array, mask: Mask | None) -> dict[str, Array]:
        return numpy_stages(config, oracle.tensors, pixels, mask)

    ours_changed, theirs_changed = (stages(pixels, mask)["logits"][1] - stages(alone, None)["logits"][0]
                       for stages in (ours, oracle.stages))  # fmt: skip
    assert (
        np.abs(ours_changed - theirs_changed).max() < 2 * LOGITS_TOLERANCE * oracle.stages(alone, None)["logits"].std()
    )


@pytest.mark.parametrize("name", SMALL)
def test_seeded_weights_reveal_errors(name, oracle_of):
    oracle, pixels = oracle_of(name), seeded_pixels(3, 1, 3, 224, 320)
    logits = oracle.stages(pixels, None)["logits"]
    assert logits.std(axis=1).mean() > LEAST_QUERY_SPREAD * logits.std()
    peaks = oracle.module.attention_peaks(oracle.module.torch_model(CONFIGS[name], oracle.tensors), pixels)
    assert min(peaks) > LEAST_PEAK


FULL = [
    ("table-transformer", 1, (288, 384)),
    ("detr-resnet-50", 1, (800, 1066)),
    ("detr-resnet-50", 3, (256, 352)),
    ("detr-resnet-50-dc5", 1, (352, 480)),
    ("detr-resnet-101", 1, (320, 427)),
    ("detr-resnet-50-panoptic", 1, (320, 427)),
    ("detr-resnet-50-dc5-panoptic", 1, (224, 288)),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch", "size_hw"), FULL, ids=lambda value: str(value).replace(", ", "x").strip("()")
)
def test_a_full_size_model_agrees_at_every_stage(name, batch, size_hw, oracle_of):
    oracle, (H, W) = oracle_of(name), size_hw
    sizes = [(H, W), (H * 2 // 3, W), (H, W // 2)][:batch]
    pixels, mask = padded_batch(seeded_pixels(3, batch, 3, H, W), sizes)
    truth = oracle.stages(pixels, mask)
    assert truth["logits"].std(axis=1).mean() > LEAST_QUERY_SPREAD * truth["logits"].std()
    for engine, stages in STAGES.items():
        assert_agree(stages(CONFIGS[name], oracle.tensors, pixels, mask), truth, engine)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(LARGE), reason=f"torch takes 13 GB for it; {LARGE}=1 runs it")
def test_a_full_size_panoptic_model_agrees_at_full_size(oracle_of):
    test_a_full_size_model_agrees_at_every_stage("detr-resnet-50-panoptic", 1, (800, 1066), oracle_of)


@pytest.mark.parametrize("name", ["small", "basic-three-stages", "small-table-transformer"])
def test_a_checkpoint_saved_by_transformers_loads_and_agrees(name, oracle_of, tmp_path):
    oracle, pixels = oracle_of(name), seeded_pixels(3, 1, 3, 64, 96)
    oracle.model.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.config == CONFIGS[name]
    truth = oracle.stages(pixels, None)
    found = numpy_stages(checkpoint.config, checkpoint.tensors, pixels, None)
    assert_agree(found, truth, "saved by transformers")


def test_default_labels_that_transformers_does_not_save_are_numbered(tmp_path):
    from transformers import DetrConfig, ResNetConfig

    DetrConfig(backbone_config=ResNetConfig(out_features=["stage4"])).save_pretrained(tmp_path)
    assert "id2label" not in json.loads((tmp_path / "config.json").read_text())
    assert read_config(tmp_path).labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(("backbone", "expected"), [
    ({}, ResNetConfig()),
    ({"dilation": True}, ResNetConfig(dilation=True)),
    ({"backbone": "resnet101"}, ResNetConfig(depths=(3, 4, 23, 3))),
    ({"backbone": "resnet18"}, ResNetConfig("basic", (2, 2, 2, 2), (64, 128, 256, 512))),
])  # fmt: skip
def test_a_config_with_timm_s_backbone_saved_by_transformers_is_read(backbone, expected, tmp_path):
    from transformers import DetrConfig

    DetrConfig(**backbone).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["backbone_config"]["model_type"] == "timm_backbone"
    assert read_config(tmp_path).backbone == expected
