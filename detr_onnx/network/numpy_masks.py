"""The convolutions and the group norm of the mask head, which run once for each kept query, in numpy.

A map that is resized to twice its size has every cell four times, so its 3x3 convolution needs no resized map: each 2x2
window of the small map, times one matrix, is a 2x2 block of the output. That is four multiplications a pixel instead of
nine, and the windows take a ninth of the memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from detr_onnx.network.workspace import Array, Workspace

Doubles = NDArray[np.float64]

WINDOW = 2
BLOCK_FLOATS = 1 << 18  # of windows, and of their products, at a time: 1 MB, a core's own cache
PIECE_FLOATS = 1 << 16  # of a map that is normalized at a time: 256 KB

# [line, line of the window, tap]: what a kernel's three taps read of a window, for the two lines of its block. Behind
# the last line of a map of odd height there is no second copy of it, so one tap reads nothing.
TAPS = np.array([[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]], np.float32)
LAST_TAPS = np.array([[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0]]], np.float32)


def is_doubled(lengths: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether a resize to the target takes every line twice, but the last one once if the target is odd."""
    return all(length == -(-doubled // 2) for length, doubled in zip(lengths, target, strict=True))


def convolve_doubled(x: Array, kernel: Array, residual: Array, out: Array, workspace: Workspace) -> None:
    """Fills `out` [H,W,K] with the residual plus the convolution of x [h,w,C], at twice its size, with [3,3,C,K]."""
    (H, W, K), C = out.shape, x.shape[-1]
    is_odd_h, is_odd_w = H % 2 == 1, W % 2 == 1
    height, width = H // 2 + 1, W // 2 + 1  # of the map of windows
    count = max(1, BLOCK_FLOATS // (4 * max(C, K) * width))
    inner, right = _block_kernel(kernel, False, False), _block_kernel(kernel, False, True) if is_odd_w else None
    for top in range(0, height, count):
        end = min(top + count, height)
        windows = _windows(x, top, end, width, workspace)  # [rows,width,4C]
        blocks = workspace.empty(end - top, width, 4 * K)
        np.matmul(windows.reshape(-1, 4 * C), inner, out=blocks.reshape(-1, 4 * K))
        if right is not None:
            blocks[:, -1] = windows[:, -1] @ right
        if is_odd_h and end == height:
            blocks[-1] = windows[-1] @ _block_kernel(kernel, True, False)
            if is_odd_w:
                blocks[-1, -1] = windows[-1, -1] @ _block_kernel(kernel, True, True)
        _spread(blocks.reshape(end - top, width, WINDOW, WINDOW, K), top, residual, out)


def _block_kernel(kernel: Array, is_last_row: bool, is_last_column: bool) -> Array:
    """[3,3,C,K] -> [4C,4K]: from a window to its block."""
    rows, columns = ((LAST_TAPS if is_last else TAPS).reshape(4, 3) for is_last in (is_last_row, is_last_column))
    C, K = kernel.shape[2:]
    parts = np.matmul(np.kron(rows, columns), kernel.reshape(9, C * K))  # [16,C·K]
    by_axis = parts.reshape(2, 2, 2, 2, C, K)  # row in block and in window, column in block and in window
    return np.asarray(by_axis.transpose(1, 3, 4, 0, 2, 5).reshape(4 * C, 4 * K), np.float32)


def _windows(x: Array, top: int, end: int, width: int, workspace: Workspace) -> Array:
    """The 2x2 windows of x [h,w,C] that begin one line before lines `top` to `end`: [end - top,width,4C]."""
    part = workspace.padded(x, (top - 1, end), (-1, width))
    down, right, channel = part.strides
    shape = (end - top, width, WINDOW, WINDOW, x.shape[-1])
    windows = workspace.empty(*shape)
    np.copyto(windows, as_strided(part, shape, (down, right, down, right, channel), writeable=False))
    return windows.reshape(end - top, width, -1)


def _spread(blocks: Array, top: int, residual: Array, out: Array) -> None:
    """Writes blocks [rows,width,2,2,K], plus the residual, to out [H,W,K]; a block begins a line before its cell."""
    for i, j in np.ndindex(WINDOW, WINDOW):
        skipped = 1 if top == i == 0 else 0  # the line before the first
        first, end = 2 * (top + skipped) - 1 + i, 2 * (top + len(blocks)) - 1 + i
        pixels = np.s_[first:end:2, 1 - j :: 2]
        target = out[pixels]
        h, w = target.shape[:2]
        np.add(blocks[skipped : skipped + h, 1 - j : 1 - j + w, i, j], residual[pixels], out=target)


def convolve_to_plane(x: Array, kernel: Array, bias: Array, out: Array, workspace: Workspace) -> None:
    """Fills `out` [H,W,1] with the convolution of x [H,W,C] with [3,3,C,1]: first its channels, then its taps."""
    H, W, C = x.shape
    planes = np.matmul(kernel.reshape(9, C), x.reshape(-1, C).T, out=workspace.empty(9, H * W)).reshape(3, 3, H, W)
    sums = out[..., 0]
    np.add(planes[1, 1], bias, out=sums)
    for i, j in np.ndindex(3, 3):
        if (i, j) != (1, 1):
            (rows, near_rows), (columns, near_columns) = _shifted(i - 1, H), _shifted(j - 1, W)
            sums[rows, columns] += planes[i, j, near_rows, near_columns]


def _shifted(by: int, length: int) -> tuple[slice, slice]:
    """The lines that have a neighbour `by` lines on, and these neighbours."""
    return slice(max(0, -by), length - max(0, by)), slice(max(0, by), length - max(0, -by))


def normalize(x: Array, weight: Array, bias: Array, groups: int, eps: float, out: Array) -> None:
    """Fills `out` with ReLU of the group norm of x [H,W,C]."""
    C = x.shape[-1]
    pieces, results = (_pieces(values.reshape(-1), C) for values in (x, out))
    size = C // min(groups, C)
    share = np.kron(np.eye(C // size), np.ones((size, size))) / size  # [C,C], from channels to the mean of their group
    means, variances = _moments(pieces, C)
    mean = means @ share
    variance = (variances + np.square(means)) @ share - np.square(mean)
    scale = weight / np.sqrt(variance + eps)
    factors, shifts = (_tiled(values, pieces[0]) for values in (scale, bias - mean * scale))
    for source, target in zip(pieces, results, strict=True):
        np.multiply(source, factors[: len(source)], out=target)
        target += shifts[: len(source)]
        np.maximum(target, 0, out=target)


def _moments(pieces: Sequence[Array], C: int) -> tuple[Doubles, Doubles]:
    """[C] mean and variance of each channel. Each piece is centred with its own mean first, so that nothing cancels."""
    counts, means, spreads = [], [], []
    for piece in pieces:
        ones = np.ones(len(piece) // C, np.float32)
        mean = ones @ piece.reshape(-1, C) / np.float32(len(ones))
        centred = piece - _tiled(mean, piece)
        spreads.append(ones @ np.square(centred, out=centred).reshape(-1, C))
        counts.append(len(ones))
        means.append(mean)
    weights, by_piece = np.array(counts) / sum(counts), np.array(means, np.float64)
    mean64 = weights @ by_piece
    return mean64, np.sum(spreads, axis=0, dtype=np.float64) / sum(counts) + weights @ np.square(by_piece - mean64)


def _pieces(flat: Array, C: int) -> list[Array]:
    """Parts of an array of cells of C channels; of about `PIECE_FLOATS`."""
    step = max(1, PIECE_FLOATS // C) * C
    return [flat[start : start + step] for start in range(0, len(flat), step)]


def _tiled(channels: NDArray[np.floating], piece: Array) -> Array:
    """[C] repeated to the length of a piece: numpy is slow with many short rows."""
    return np.tile(np.asarray(channels, np.float32), len(piece) // len(channels))
