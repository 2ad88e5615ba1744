"""Convolutions as matrix products (im2col): windows of the image, one per row, times the kernel [kh·kw·in, out].

Windows are gathered for a few rows of the image at a time, so that they, and the steps on the product (bias, residual,
ReLU), stay in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detr_onnx.network.workspace import Array, Workspace

BLOCK_FLOATS = 1 << 21  # of windows gathered at a time: 8 MB, a part of the last-level cache
PIECE_FLOATS = 1 << 18  # of a product that bias, residual and ReLU are applied to at a time: 1 MB, a core's own cache


@dataclass(frozen=True)
class Convolution:
    """A convolution, padded so that stride 1 keeps the size.

    Attributes:
        kernel: [k,k,C,K].
        bias: [K].
        stride, dilation: in pixels, the same along both axes.
        relu: whether ReLU follows.
    """

    kernel: Array
    bias: Array
    stride: int = 1
    dilation: int = 1
    relu: bool = False


def convolve(conv: Convolution, x: Array, residual: Array | None, out: Array, workspace: Workspace) -> None:
    """Fills `out` [h,w,K] with the convolution of x [H,W,C], plus the residual before ReLU."""
    h, w, K = out.shape
    matrix = conv.kernel.reshape(-1, K)
    rows = max(1, BLOCK_FLOATS // (w * max(matrix.shape)))  # of the output, at a time
    for top in range(0, h, rows):
        block = out[top : top + rows]
        np.matmul(_windows(conv, x, top, block.shape[:2], workspace), matrix, out=block.reshape(-1, K))
        _finish(block, conv.bias, None if residual is None else residual[top : top + rows], conv.relu)


def convolve_and_pool(conv: Convolution, x: Array, out: Array, workspace: Workspace) -> None:
    """Fills `out` [h,w,K] with the maximum of each 3x3 window, stride 2, of the convolution of x [H,W,C].

    Bias and ReLU come after the maximum: they keep the order, so the values are the same, and fewer.
    """
    (h, w, K), (H, W) = out.shape, (-(-size // conv.stride) for size in x.shape[:2])
    matrix = conv.kernel.reshape(-1, K)
    rows = min(h, max(1, BLOCK_FLOATS // (2 * W * max(matrix.shape))))  # of the output, at a time
    maxima = workspace.empty(2 * rows + 1, w, K)  # along each row of the convolution, from the one above the block on
    maxima[0] = -np.inf
    for top in range(0, h, rows):
        block = out[top : top + rows]
        end, count = 2 * len(block), min(2 * len(block), H - 2 * top)
        windows = _windows(conv, x, 2 * top, (count, W), workspace)
        product = np.matmul(windows, matrix, out=workspace.empty(count * W, K))
        _row_maxima(product.reshape(count, W, K), maxima[1 : count + 1])
        maxima[count + 1 :] = -np.inf
        np.maximum(maxima[0:end:2], maxima[1:end:2], out=block)
        np.maximum(block, maxima[2 : end + 1 : 2], out=block)
        maxima[0] = maxima[end]
        _finish(block, conv.bias, None, conv.relu)


def _row_maxima(x: Array, out: Array) -> None:
    """Fills `out` [h,w,K] with the maximum of three neighbours in a row of x [h,W,K], at every second position."""
    odd = x[:, 1::2]
    pairs = odd.shape[1]
    np.maximum(x[:, 0::2][:, :pairs], odd, out=out[:, :pairs])
    out[:, pairs:] = x[:, 0::2][:, pairs:]
    np.maximum(out[:, 1:], odd[:, : out.shape[1] - 1], out=out[:, 1:])


def _windows(conv: Convolution, x: Array, top: int, out_hw: tuple[int, ...], workspace: Workspace) -> Array:
    """The windows of x [H,W,C] for the output's rows from `top` on: [rows·w, k·k·C]."""
    (rows, w), C, size, stride, dilation = out_hw, x.shape[-1], len(conv.kernel), conv.stride, conv.dilation
    border = dilation * (size - 1) // 2
    lines = top * stride - border, (top + rows - 1) * stride + border + 1
    part = workspace.padded(x, lines, (-border, x.shape[1] + border))
    runs = 1 if dilation == 1 else size  # in a row of a window; a run lies side by side
    run = np.dtype((np.void, size // runs * C * part.itemsize))  # copied at once, since numpy is slow with short rows
    down, right, _ = part.strides
    strides = (down * stride, right * stride, down * dilation, right * dilation)
    windows = np.ndarray((rows, w, size, runs), run, part, strides=strides)
    if not windows.flags.c_contiguous:
        gathered = workspace.empty(rows, w, size, size * C).view(run)
        np.copyto(gathered, windows)
        windows = gathered
    return windows.view(np.float32).reshape(rows * w, -1)


def _finish(out: Array, bias: Array, residual: Array | None, relu: bool) -> None:
    """Adds bias and residual and applies ReLU in place, in pieces that stay in a core's cache."""
    flat = out.reshape(-1)
    flat_residual = None if residual is None else residual.reshape(-1)
    step = max(1, PIECE_FLOATS // len(bias)) * len(bias)
    biases = np.tile(bias, min(step, flat.size) // len(bias))  # one long row, since numpy is slow with many short ones
    for start in range(0, flat.size, step):
        piece = flat[start : start + step]
        piece += biases[: piece.size]
        if flat_residual is not None:
            piece += flat_residual[start : start + step]
        if relu:
            np.maximum(piece, 0, out=piece)
