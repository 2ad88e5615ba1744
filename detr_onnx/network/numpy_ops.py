"""The vocabulary, computed: arrays in, arrays out, nothing but numpy.

Feature maps are NHWC, so that a convolution is a matrix product: each output cell's window, laid out as one row,
times the kernel [kh·kw·in, out]. Windows are gathered a few rows of the picture at a time, which keeps them, and what
is done to the product afterwards (bias, residual, ReLU), inside the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from detr_onnx.network.workspace import Workspace

Array = NDArray[np.float32]

LAYER_NORM_EPS = 1e-5  # torch.nn.LayerNorm's default
PADDING_BIAS = -3e4  # e^-30000 is 0 in float32, and the number still fits float16 (65504)
BLOCK_FLOATS = 1 << 20  # of gathered windows at a time: 4 MB, a share of the last-level cache


@dataclass(frozen=True)
class NumpyOps:
    """`ops.Ops` over arrays.

    Attributes:
        parameters: what `resnet.fold_batch_norm` gives.
        place: where in the network this stands.
        stages: filled by `stage`; None when nobody wants to look. Feature maps are noted as [B,C,h,w].
        workspace: where large arrays are taken from; one network at a time may use it.
    """

    parameters: Mapping[str, Array]
    place: str = ""
    stages: dict[str, Array] | None = field(default=None, compare=False)
    workspace: Workspace = field(default_factory=Workspace, compare=False)

    def at(self, step: str) -> NumpyOps:
        return replace(self, place=self._path(step))

    def has(self, name: str) -> bool:
        return f"{self._path(name)}.weight" in self.parameters

    def parameter(self, name: str) -> Array:
        parameter: Array = self.parameters[self._path(name)][None]
        return parameter

    def stage(self, name: str, value: Array) -> Array:
        if self.stages is not None:
            self.stages[name] = (value.transpose(0, 3, 1, 2) if value.ndim == 4 else value).copy()
        return value

    def _path(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name

    def _weights(self, name: str) -> tuple[Array, Array]:
        path = self._path(name)
        return self.parameters[f"{path}.weight"], self.parameters[f"{path}.bias"]

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
        kernel, bias = self._weights(name)
        kh, kw, _, channels = kernel.shape
        windows = _windows(self._padded(x, dilation * (kh - 1) // 2), kh, kw, stride, dilation)
        B, h, w = windows.shape[:3]
        matrix = kernel.reshape(-1, channels)
        out = self.workspace.empty(B, h, w, channels)
        rows = max(1, BLOCK_FLOATS // (w * max(matrix.shape)))
        buffer = self.workspace.empty(rows * w, len(matrix))
        for b, top in np.ndindex(B, -(-h // rows)):
            block = np.s_[b, top * rows : (top + 1) * rows]
            product = out[block].reshape(-1, channels)
            np.matmul(_as_rows(windows[block], buffer), matrix, out=product)
            product += bias
            if residual is not None:
                product += residual[block].reshape(-1, channels)
            if relu:
                np.maximum(product, 0, out=product)
        return out

    def _padded(self, x: Array, border: int) -> Array:
        """Zeros around the picture, [B,h,w,C] -> [B,h+2·border,w+2·border,C]."""
        if border == 0:
            return x
        B, h, w, C = x.shape
        out = self.workspace.empty(B, h + 2 * border, w + 2 * border, C)
        out[:, :border] = out[:, -border:] = out[:, :, :border] = out[:, :, -border:] = 0
        out[:, border:-border, border:-border] = x
        return out

    def max_pool(self, x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        h, w = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
        rows = np.maximum(padded[:, 0 : 2 * h : 2], padded[:, 1 : 2 * h : 2])
        np.maximum(rows, padded[:, 2 : 2 * h + 1 : 2], out=rows)
        out = np.maximum(rows[:, :, 0 : 2 * w : 2], rows[:, :, 1 : 2 * w : 2])
        np.maximum(out, rows[:, :, 2 : 2 * w + 1 : 2], out=out)
        return out

    def tokens(self, feature: Array) -> Array:
        B, h, w, C = feature.shape
        return feature.reshape(B, h * w, C)

    def valid_cells(self, feature: Array, mask: Array | None) -> Array:
        h, w = feature.shape[1:3]
        if mask is None:
            return np.ones((1, h, w), np.float32)
        rows, columns = nearest(mask.shape[1], h), nearest(mask.shape[2], w)
        valid: Array = (mask[:, rows][:, :, columns] != 0).astype(np.float32)
        return valid

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
        B = max(len(q), len(k))
        scores = self.workspace.empty(B, heads, q.shape[1], k.shape[1])
        np.matmul(_heads(q, heads), _heads(k, heads).swapaxes(-1, -2), out=scores)  # [B,M,Nq,Nk]
        if key_bias is not None:
            scores += key_bias
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        answer: Array = np.matmul(scores, _heads(v, heads))  # [B,M,Nq,d]
        answer /= scores.sum(axis=-1, keepdims=True)
        B, M, N, d = answer.shape
        merged: Array = answer.transpose(0, 2, 1, 3).reshape(B, N, M * d)
        return merged

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
        half: Array = 0.5 * np.tanh(0.5 * x)  # the same function; e^-x would overflow
        return half + np.float32(0.5)

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
    """[cells] the pixel that stands for each cell: floor(i · pixels / cells), in float32 as in torch."""
    scale = np.float32(pixels) / np.float32(cells)
    floors: NDArray[np.int64] = np.floor(np.arange(cells, dtype=np.float32) * scale).astype(np.int64)
    return floors.clip(max=pixels - 1)


def _windows(padded: Array, kh: int, kw: int, stride: int, dilation: int) -> Array:
    """[B,h,w,C] -> [B,h',w',kh,kw,C], a view: the window under the kernel at each place it stops."""
    B, H, W, C = padded.shape
    h = (H - dilation * (kh - 1) - 1) // stride + 1
    w = (W - dilation * (kw - 1) - 1) // stride + 1
    b, y, x, c = padded.strides
    strides = (b, y * stride, x * stride, y * dilation, x * dilation, c)
    return as_strided(padded, (B, h, w, kh, kw, C), strides, writeable=False)


def _as_rows(windows: Array, buffer: Array) -> Array:
    """[rows,w,kh,kw,C] -> [rows·w, kh·kw·C]: a view where the windows lie so, else a copy in the buffer."""
    count = windows.shape[0] * windows.shape[1]
    if windows.flags.c_contiguous:
        return windows.reshape(count, -1)
    np.copyto(buffer[:count].reshape(windows.shape), windows)
    return buffer[:count]


def _heads(x: Array, heads: int) -> Array:
    """[B,N,D] -> [B,M,N,d], a view."""
    B, N, D = x.shape
    return x.reshape(B, N, heads, D // heads).transpose(0, 2, 1, 3)
