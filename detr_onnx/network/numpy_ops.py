"""The operations, computed with numpy alone.

Feature maps are NHWC, so that a convolution is a matrix product. `numpy_conv.py` computes it, `winograd.py` does so
faster for 3x3 and stride 1, and `numpy_masks.py` has what the mask head computes for each query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detr_onnx.network import numpy_conv, numpy_masks, winograd
from detr_onnx.network.numpy_conv import Convolution
from detr_onnx.network.workspace import Array, Workspace

LAYER_NORM_EPS = 1e-5  # torch.nn.LayerNorm's default
PADDING_BIAS = -3e4  # e^-30000 is 0 in float32, and the number fits in float16 (up to 65504)
SCORES_FLOATS = 1 << 17  # of attention scores at a time: 512 KB


@dataclass(frozen=True)
class NumpyOps:
    """`ops.Ops` over arrays.

    Attributes:
        parameters: as `detr.parameters` returns them.
        path: of the module, such as `encoder.layers.0`.
        stages: filled by `stage`, with feature maps as [B,C,h,w]; None if they are not needed.
        workspace: provides large arrays; only one network at a time may use it.
    """

    parameters: Mapping[str, Array]
    path: str = ""
    stages: dict[str, Array] | None = field(default=None, compare=False)
    workspace: Workspace = field(default_factory=Workspace, compare=False)

    def at(self, step: str) -> NumpyOps:
        return replace(self, path=self._full_name(step))

    def has(self, name: str) -> bool:
        return f"{self._full_name(name)}.weight" in self.parameters

    def parameter(self, name: str) -> Array:
        parameter: Array = self.parameters[self._full_name(name)][None]
        return parameter

    def stage(self, name: str, value: Array) -> Array:
        if self.stages is not None:
            self.stages[name] = (value.transpose(0, 3, 1, 2) if value.ndim == 4 else value).copy()
        return value

    def _full_name(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _weights(self, name: str) -> tuple[Array, Array]:
        full_name = self._full_name(name)
        return self.parameters[f"{full_name}.weight"], self.parameters[f"{full_name}.bias"]

    # feature maps, NHWC

    def image(self, pixels: Array) -> Array:
        return pixels.transpose(0, 2, 3, 1)

    def conv(
        self,
        name: str,
        x: Array,
        *,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = False,
        residual: Array | None = None,
    ) -> Array:
        conv = Convolution(*self._weights(name), stride, dilation, relu)
        size, K = len(conv.kernel), len(conv.bias)
        out = self.workspace.empty(len(x), -(-x.shape[1] // stride), -(-x.shape[2] // stride), K)
        for b in range(len(x)):
            if size == 3 and K == 1 and residual is None:
                numpy_masks.convolve_to_plane(x[b], conv.kernel, conv.bias, out[b], self.workspace)
                continue
            convolve = winograd.convolve if size == 3 and stride == dilation == 1 else numpy_conv.convolve
            convolve(conv, x[b], None if residual is None else residual[b], out[b], self.workspace)
        return out

    def conv_max_pool(self, name: str, x: Array, *, stride: int) -> Array:
        conv = Convolution(*self._weights(name), stride, relu=True)
        h, w = (-(-size // (2 * stride)) for size in x.shape[1:3])
        out = self.workspace.empty(len(x), h, w, len(conv.bias))
        for b in range(len(x)):
            numpy_conv.convolve_and_pool(conv, x[b], out[b], self.workspace)
        return out

    def tokens(self, feature: Array) -> Array:
        B, h, w, C = feature.shape
        self.workspace.shrink_once()  # before the transformer's weights are read; tokens take a tenth of the memory
        return feature.reshape(B, h * w, C)

    def valid_cells(self, feature: Array, mask: Array | None) -> Array:
        h, w = feature.shape[1:3]
        if mask is None:
            return np.ones((1, h, w), np.float32)
        rows, columns = nearest(mask.shape[1], h), nearest(mask.shape[2], w)
        valid: Array = (mask[:, rows][:, :, columns] != 0).astype(np.float32)
        return valid

    def feature_map(self, tokens: Array, like: Array) -> Array:
        return tokens.reshape(1, *like.shape[1:3], -1)

    def conv_resized(self, name: str, x: Array, residual: Array) -> Array:
        kernel, out = self.parameters[f"{self._full_name(name)}.weight"], self.workspace.empty(*residual.shape)
        if numpy_masks.is_doubled(x.shape[1:3], residual.shape[1:3]):
            for b in range(len(x)):
                numpy_masks.convolve_doubled(x[b], kernel, residual[b], out[b], self.workspace)
            return out
        conv = Convolution(kernel, np.zeros(kernel.shape[-1], np.float32))
        rows, columns = (nearest(x.shape[axis], residual.shape[axis]) for axis in (1, 2))
        for b in range(len(x)):
            resized = x[b][rows][:, columns]
            winograd.convolve(conv, resized, residual[b], out[b], self.workspace)
        return out

    def group_norm(self, name: str, x: Array, groups: int) -> Array:
        weight, bias = self._weights(name)
        out = self.workspace.empty(*x.shape)
        for b in range(len(x)):
            numpy_masks.normalize(x[b], weight, bias, groups, LAYER_NORM_EPS, out[b])
        return out

    def plane(self, x: Array) -> Array:
        return x[..., 0]

    # tokens

    def linear(
        self, name: str, x: Array, *, plus: Array | None = None, scale: float = 1.0, relu: bool = False
    ) -> Array:
        weight, bias = self._weights(name)
        x = x if plus is None else x + plus
        out = np.matmul(x, weight.T, out=self.workspace.empty(*x.shape[:-1], len(weight)))
        out += bias
        if scale != 1.0:
            out *= np.float32(scale)
        return np.maximum(out, 0, out=out) if relu else out

    def attention(self, q: Array, k: Array, v: Array, heads: int, key_bias: Array | None) -> Array:
        B, Nq, Nk, D = max(len(q), len(k)), q.shape[1], k.shape[1], q.shape[2]
        out = self.workspace.empty(B, Nq, D)
        q, k, v = (_heads(np.broadcast_to(x, (B, *x.shape[1:])), heads) for x in (q, k, v))
        out_by_head = _heads(out, heads)
        rows = max(1, SCORES_FLOATS // Nk)
        for b, m, block in np.ndindex(B, heads, -(-Nq // rows)):
            part = np.s_[b, m, block * rows : (block + 1) * rows]
            powers = _powers(q[part], k[b, m], None if key_bias is None else key_bias[b, 0])  # [rows,Nk]
            out_by_head[part] = np.matmul(powers, v[b, m]) / powers.sum(axis=-1, keepdims=True)
        return out

    def attention_map(self, q: Array, k: Array, heads: int, key_bias: Array | None) -> Array:
        N, D = k.shape[1:]
        scores = np.einsum("md,nmd->nm", q.reshape(heads, -1), k.reshape(N, heads, D // heads))
        if key_bias is not None:
            scores = scores + key_bias.reshape(N, 1)
        powers = np.exp(scores - scores.max())
        return np.asarray(powers / powers.sum(), np.float32)[None]

    def key_bias(self, valid: Array) -> Array:
        padding = valid.reshape(len(valid), 1, 1, -1) == 0  # [B,h,w] -> [B,1,1,N]
        return np.where(padding, np.float32(PADDING_BIAS), np.float32(0))

    def layer_norm(self, name: str, x: Array) -> Array:
        weight, bias = self._weights(name)
        centred: Array = x - x.mean(axis=-1, keepdims=True)
        variance = np.mean(centred * centred, axis=-1, keepdims=True)
        centred /= np.sqrt(variance + np.float32(LAYER_NORM_EPS))
        centred *= weight
        centred += bias
        return centred

    def sigmoid(self, x: Array) -> Array:
        half: Array = 0.5 * np.tanh(0.5 * x)  # the logistic function; e^-x would overflow
        return half + np.float32(0.5)

    # queries

    def above(self, logits: Array, threshold: Array) -> Array:
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores = (powers[..., :-1] / powers.sum(axis=-1, keepdims=True)).max(axis=-1)
        return cast(Array, np.argwhere(scores > threshold))

    def of_image(self, x: Array, row: Array) -> Array:
        return x if len(x) == 1 else np.asarray(x[row[:1]])

    def of_query(self, x: Array, row: Array) -> Array:
        return np.asarray(x[row[:1], row[1:]][None])

    def for_each(self, rows: Array, like: Array, body: Callable[[NumpyOps, Array], Array]) -> Array:
        out = np.empty((len(rows), *like.shape[1:3]), np.float32)
        for i, row in enumerate(rows):
            out[i] = body(self, row)[0]
        return out

    # attention maps

    def attention_weights(self, q: Array, k: Array, heads: int, key_bias: Array | None) -> Array:
        powers = _powers(_heads(q, heads), _heads(k, heads), key_bias)  # [B,M,Nq,Nk]
        powers /= powers.sum(axis=-1, keepdims=True)
        return powers.transpose(0, 2, 1, 3)

    def of_queries(self, x: Array, rows: Array) -> Array:
        return np.asarray(x[rows[:, 0], rows[:, 1]])

    def rows_of(self, x: Array, numbers: Array) -> Array:
        return np.take_along_axis(x, cast(NDArray[np.int64], numbers)[..., None], axis=1)

    def stack(self, layers: Sequence[Array], axis: int) -> Array:
        return np.stack(layers, axis)

    def grid(self, x: Array, like: Array) -> Array:
        return x.reshape(*x.shape[:-1], *like.shape[1:3])

    # arithmetic

    def add(self, x: Array, y: Array | float) -> Array:
        return x + (np.float32(y) if isinstance(y, float) else y)

    def multiply(self, x: Array, y: Array | float) -> Array:
        return x * (np.float32(y) if isinstance(y, float) else y)

    def divide(self, x: Array, y: Array) -> Array:
        return x / y

    def sin(self, x: Array) -> Array:
        return np.sin(x)

    def cos(self, x: Array) -> Array:
        return np.cos(x)

    def constant(self, values: tuple[float, ...]) -> Array:
        return np.asarray(values, np.float32)

    def cumulative_sum(self, x: Array, axis: int) -> Array:
        return np.cumsum(x, axis=axis, dtype=np.float32)

    def last(self, x: Array, axis: int) -> Array:
        return np.take(x, [-1], axis=axis)

    def column(self, cells: Array) -> Array:
        return cells.reshape(len(cells), -1, 1)

    def interleave(self, even: Array, odd: Array) -> Array:
        return np.stack([even, odd], axis=-1).reshape(*even.shape[:-1], -1)

    def concatenate(self, x: Array, y: Array) -> Array:
        return np.concatenate([x, y], axis=-1)


def nearest(pixels: int, cells: int) -> NDArray[np.int64]:
    """[cells] the pixel for each cell, as nearest-neighbour scaling has it: floor(i · pixels / cells), in float32."""
    scale = np.float32(pixels) / np.float32(cells)
    floors: NDArray[np.int64] = np.floor(np.arange(cells, dtype=np.float32) * scale).astype(np.int64)
    return floors.clip(max=pixels - 1)


def _powers(q: Array, k: Array, key_bias: Array | None) -> Array:
    """e to the scores of [...,Nq,d] and [...,Nk,d], over their largest: [...,Nq,Nk]; softmax, but for its sum."""
    scores: Array = np.matmul(q, np.swapaxes(k, -1, -2))
    if key_bias is not None:
        scores += key_bias
    scores -= scores.max(axis=-1, keepdims=True)
    return np.exp(scores, out=scores)


def _heads(x: Array, heads: int) -> Array:
    """[B,N,D] -> [B,M,N,d], a view."""
    B, N, D = x.shape
    return x.reshape(B, N, heads, D // heads).transpose(0, 2, 1, 3)
