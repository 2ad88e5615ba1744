"""The backbone: strides, dilation, shortcuts, and batch norm folded into the convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.network.config import ResNetConfig
from detr_onnx.network.numpy_ops import NumpyOps
from detr_onnx.network.resnet import fold_batch_norm, stages
from tests.parity.seeded import CONFIGS, seeded_pixels, seeded_tensors

ROUNDING = 1e-5  # relative, of folding in float32 against batch norm in float64

SMALL = CONFIGS["small"]
NAMES = ("small", "small-dc5", "small-basic-dc5", "basic-three-stages", "small-table-transformer")


def stages_of(name: str, pixels: np.ndarray) -> dict[str, np.ndarray]:
    config, noted = CONFIGS[name], {}
    ops = NumpyOps(fold_batch_norm(seeded_tensors(config, 1)), stages=noted).at("backbone")
    *_, feature = stages(ops, config.backbone, pixels)
    noted["last"] = feature.transpose(0, 3, 1, 2)
    return noted


def test_folding_no_tensors_gives_none():
    assert fold_batch_norm({}) == {}


def test_folding_equals_batch_norm_after_the_convolution():
    tensors = seeded_tensors(SMALL, 1)
    weight, folded = tensors["backbone.layer2.0.conv2.weight"], fold_batch_norm(tensors)
    norm = {leaf: tensors[f"backbone.layer2.0.bn2.{leaf}"].astype("f8")
            for leaf in ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
    window = np.random.RandomState(2).standard_normal(weight.shape[1:])  # [in,kh,kw], under the kernel
    product = np.tensordot(weight.astype("f8"), window, 3)
    truth = (product - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
    kernel, bias = folded["backbone.layer2.0.conv2.weight"], folded["backbone.layer2.0.conv2.bias"]
    found = np.tensordot(window.transpose(1, 2, 0), kernel, 3) + bias
    np.testing.assert_allclose(found, truth, rtol=ROUNDING, atol=ROUNDING)


def test_folding_leaves_no_batch_norm_and_loses_no_shortcut():
    folded = fold_batch_norm(seeded_tensors(SMALL, 1))
    assert not [name for name in folded if "bn" in name or "running" in name or "downsample.1" in name]
    assert folded["backbone.layer1.0.downsample.weight"].shape == (1, 1, 16, 32)
    assert "backbone.layer2.1.downsample.weight" not in folded


def test_tensors_without_batch_norm_are_not_changed():
    tensors = seeded_tensors(SMALL, 1)
    folded = fold_batch_norm(tensors)
    assert folded["encoder.layers.0.fc1.weight"] is tensors["encoder.layers.0.fc1.weight"]
    assert folded["input_projection.weight"].shape == (1, 1, 96, 64)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size_hw", [(1, 1), (32, 32), (33, 47), (64, 96), (97, 31)])
def test_every_stride_rounds_up(name, size_hw):
    config = CONFIGS[name].backbone
    found = stages_of(name, seeded_pixels(1, 1, 3, *size_hw))["last"]
    cells = tuple(-(-pixels // config.stride) for pixels in size_hw)
    assert found.shape == (1, config.widths[-1], *cells)


@pytest.mark.parametrize(("config", "stride"), [
    (ResNetConfig(), 32),
    (ResNetConfig(dilation=True), 16),
    (ResNetConfig("basic", (2, 2, 2), (64, 128, 256)), 16),
])  # fmt: skip
def test_the_stride_follows_from_stages_and_dilation(config, stride):
    assert config.stride == stride


class Recorder:
    """Ops that record every convolution's stride and dilation and compute nothing."""

    def __init__(self, shortcuts: set[str]) -> None:
        self.path, self.shortcuts, self.convs = "", shortcuts, {}

    def at(self, step: str) -> Recorder:
        self.path = step
        return self

    def has(self, name: str) -> bool:
        return self.path in self.shortcuts

    def conv(self, name, x, *, stride=1, dilation=1, relu=False, residual=None):
        self.convs[f"{self.path}.{name}".lstrip(".")] = (stride, dilation)

    def image(self, pixels):
        return pixels

    def conv_max_pool(self, name, x, *, stride):
        self.conv(name, x, stride=stride)

    def stage(self, name, value):
        return value


@pytest.mark.parametrize("block", ["bottleneck", "basic"])
def test_dc5_dilates_all_spatial_convolutions_of_the_last_stage_but_the_first(block):
    """Like torchvision's replace_stride_with_dilation; ports that dilate all of them get a lower AP."""
    recorder = Recorder({f"layer{s}.0" for s in (1, 2, 3, 4)})
    [*stages(recorder, ResNetConfig(block, (1, 2, 2, 3), dilation=True), "pixels")]
    last = {name: how for name, how in recorder.convs.items() if name.startswith("layer4")}
    spatial = [how for name, how in last.items() if name.endswith(("conv1", "conv2") if block == "basic" else "conv2")]
    assert spatial == [(1, 1), *[(1, 2)] * (len(spatial) - 1)]
    assert last["layer4.0.downsample"] == (1, 1)
    assert recorder.convs["layer3.0.downsample"] == (2, 1)


@pytest.mark.parametrize(("block", "strided"), [("bottleneck", "conv2"), ("basic", "conv1")])
def test_the_stride_of_a_block_is_in_its_first_spatial_convolution(block, strided):
    recorder = Recorder(set())
    [*stages(recorder, ResNetConfig(block, (1, 2, 1, 1)), "pixels")]
    assert {name for name, (stride, _) in recorder.convs.items() if stride == 2} == {
        "conv1", *(f"layer{s}.0.{strided}" for s in (2, 3, 4)),
    }  # fmt: skip
