"""ResNet, the backbone [He et al., 2015], with its batch norm folded into the convolutions.

Strides are in the 3x3 convolutions ("v1.5", as in torchvision). DC5 replaces the stride of the last stage by dilation
in all its 3x3 convolutions but the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from detr_onnx.network.config import ResNetConfig
from detr_onnx.network.ops import Ops, V

Array = NDArray[np.float32]

BATCH_NORM_EPS = 1e-5  # torchvision's FrozenBatchNorm2d


def stages(ops: Ops[V], config: ResNetConfig, pixels: V) -> Iterator[V]:
    """[B,3,H,W] pixels -> the feature map of each stage; the last has one cell every `config.stride` pixels."""
    x = ops.stage("stem", stem(ops, ops.image(pixels)))
    for s, depth in enumerate(config.depths, start=1):
        dilated = config.dilation and s == len(config.depths)
        for i in range(depth):
            stride = 2 if i == 0 and s > 1 and not dilated else 1
            first_dilation = 2 if dilated and i > 0 else 1
            x = BLOCKS[config.block](ops.at(f"layer{s}.{i}"), x, stride, first_dilation, 2 if dilated else 1)
        x = ops.stage(f"stage{s}", x)
        yield x


def stem(ops: Ops[V], image: V) -> V:
    """[3 channels, H, W] -> [stem_width, H/4, W/4]."""
    return ops.conv_max_pool("conv1", image, stride=2)


def bottleneck(ops: Ops[V], x: V, stride: int, first_dilation: int, dilation: int) -> V:
    """1x1 down, 3x3, 1x1 up, and the shortcut. The 3x3 is the first spatial convolution and the last."""
    y = ops.conv("conv1", x, relu=True)
    y = ops.conv("conv2", y, stride=stride, dilation=first_dilation, relu=True)
    return ops.conv("conv3", y, relu=True, residual=shortcut(ops, x, stride))


def basic(ops: Ops[V], x: V, stride: int, first_dilation: int, dilation: int) -> V:
    """3x3, 3x3, and the shortcut."""
    y = ops.conv("conv1", x, stride=stride, dilation=first_dilation, relu=True)
    return ops.conv("conv2", y, dilation=dilation, relu=True, residual=shortcut(ops, x, stride))


def shortcut(ops: Ops[V], x: V, stride: int) -> V:
    """The input itself, or its projection where the block changes size or width."""
    return ops.conv("downsample", x, stride=stride) if ops.has("downsample") else x


BLOCKS = {"bottleneck": bottleneck, "basic": basic}


def fold_batch_norm(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Canonical tensors -> parameters: every convolution with its batch norm inside, kernels as [kh,kw,in,out].

    norm(conv(x)) = scale · conv(x) + (bias - scale · mean) with scale = weight / √(variance + eps), so the scale moves
    into the kernel and the rest becomes the convolution's bias. Other tensors stay as they are.
    """
    parameters: dict[str, Array] = {}
    for name, tensor in tensors.items():
        conv = name.removesuffix(".weight")
        if tensor.ndim == 4 and conv.startswith("backbone."):
            parameters |= _folded(conv, tensor, tensors)
        elif tensor.ndim == 4:
            parameters[name] = _kernel(tensor)
        elif not name.startswith("backbone."):
            parameters[name] = tensor
    return parameters


def _folded(conv: str, weight: Array, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """`backbone.bn1` follows `backbone.conv1`; `downsample.1` follows `downsample.0`, which loses its number."""
    norm = conv.removesuffix("0") + "1" if conv.endswith("downsample.0") else conv.replace("conv", "bn")
    gamma, beta, mean, variance = (
        tensors[f"{norm}.{leaf}"].astype(np.float64) for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPS)
    conv = conv.removesuffix(".0")
    return {
        f"{conv}.weight": _kernel(weight * scale.astype(np.float32)[:, None, None, None]),
        f"{conv}.bias": (beta - mean * scale).astype(np.float32),
    }


def _kernel(weight: Array) -> Array:
    """[out,in,kh,kw] -> [kh,kw,in,out]: flattened, the right-hand side of the matrix product a convolution is."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
