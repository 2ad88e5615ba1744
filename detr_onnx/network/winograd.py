"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3) [Lavin & Gray, 2016].

A 3x3 kernel at the 4x4 positions of a 6x6 tile is a product of polynomials, which can be multiplied value by value:
tile and kernel are evaluated at 6 points an axis, the 36 pairs of values are multiplied, and the products interpolated.
The sum over channels comes in between, so the multiplications are 36 matrix products. The evaluations are matrix
products too, with the matrices of both axes in one (their Kronecker product), which is faster than sums in numpy.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from detr_onnx.network.numpy_conv import Convolution
from detr_onnx.network.workspace import Array, Workspace

STEP, TILE = 4, 6  # pixels of the output, and of the input they need, along each axis
VALUES, OUTPUTS = TILE * TILE, STEP * STEP
BORDER = (TILE - STEP) // 2  # pixels of a tile around its output
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
"""Where polynomials are evaluated, besides infinity. ±2 would triple the rounding errors [Barabasz, 2020]."""
AT_ONE = TILE + 1  # index of the point (1, 1), whose weight in each of the 16 outputs is 1
TILES = 512  # at a time: enough rows for the matrix products, and few enough to stay in the last-level cache


def convolve(conv: Convolution, x: Array, residual: Array | None, out: Array, workspace: Workspace) -> None:
    """Fills `out` [H,W,K] with the 3x3 convolution of x [H,W,C], of stride 1, plus the residual before ReLU.

    Rounding errors are at most some 1e-5 of the output's standard deviation; those of a direct sum are 3e-6.
    """
    (H, W, C), K = x.shape, len(conv.bias)
    evaluate_tile, evaluate_kernel, interpolate = matrices()
    kernel_values = workspace.empty(VALUES, C, K)
    np.matmul(evaluate_kernel, conv.kernel.reshape(9, C * K), out=kernel_values.reshape(VALUES, C * K))
    columns = -(-W // STEP)
    rows = max(1, TILES // columns)  # of tiles, at a time
    for top in range(0, H, rows * STEP):
        tiles = _tiles(x, top, min(rows, -(-(H - top) // STEP)), columns, workspace)  # [36,T·C]
        values = np.matmul(evaluate_tile, tiles, out=workspace.empty(*tiles.shape)).reshape(VALUES, -1, C)
        products = np.matmul(values, kernel_values, out=workspace.empty(*values.shape[:2], K))  # [36,T,K]
        products[AT_ONE] += conv.bias
        flat = products.reshape(VALUES, -1)
        outputs = np.matmul(interpolate, flat, out=workspace.empty(OUTPUTS, flat.shape[1]))
        block = np.s_[top : top + rows * STEP]
        block_residual = None if residual is None else residual[block]
        _assemble(outputs.reshape(STEP, STEP, -1, columns, K), block_residual, conv.relu, out[block])


@cache
def matrices() -> tuple[Array, Array, Array]:
    """The matrices that evaluate a tile [36,36] and a kernel [36,9], and interpolate the outputs [16,36].

    With V[point, power] the powers of the points, and the leading coefficient at infinity, they are (V⁻¹)ᵀ, V and Vᵀ,
    with as many powers as tile, kernel and output have pixels. Each row of the tile's matrix is scaled by a power of
    two to about 1, and the kernel's inversely.
    """
    tile = np.linalg.inv(_powers(TILE)).T
    scale = 2.0 ** np.round(np.log2(np.abs(tile).max(axis=1, keepdims=True)))
    axes = (tile / scale, _powers(TILE - STEP + 1) * scale, _powers(STEP).T)
    evaluate_tile, evaluate_kernel, interpolate = (np.kron(axis, axis).astype(np.float32) for axis in axes)
    return evaluate_tile, evaluate_kernel, interpolate


def _powers(count: int) -> NDArray[np.float64]:
    """[6,count] the powers 0 to count - 1 of each point; the last row, for infinity, has only the highest."""
    return np.vstack([np.vander(POINTS, count, increasing=True), np.eye(count)[-1]])


def _tiles(x: Array, top: int, rows: int, columns: int, workspace: Workspace) -> Array:
    """The tiles of x [H,W,C] for the output's pixels from row `top` on: [36,T·C], T = rows·columns."""
    H, W, C = x.shape
    tiles = workspace.empty(TILE, TILE, rows, columns, C)
    for down, right in product(_inside_and_edges(rows, top, H), _inside_and_edges(columns, 0, W)):
        lines = top + down.start * STEP - BORDER, top + down.stop * STEP + BORDER
        part = workspace.padded(x, lines, (right.start * STEP - BORDER, right.stop * STEP + BORDER))
        shape = TILE, TILE, down.stop - down.start, right.stop - right.start, C
        strides = (*part.strides[:2], STEP * part.strides[0], STEP * part.strides[1], part.strides[2])
        np.copyto(tiles[:, :, down, right], as_strided(part, shape, strides, writeable=False))
    return tiles.reshape(VALUES, -1)


def _inside_and_edges(count: int, start: int, size: int) -> list[slice]:
    """Divides tiles along an axis, so that those inside the map need no copy with padding.

    Args:
        count: of the tiles.
        start: the first output pixel of the first tile.
        size: pixels of the map.
    """
    first = -(-max(BORDER - start, 0) // STEP)
    last = max(first, min(count, (size - BORDER - start) // STEP))
    return [slice(*ends) for ends in pairwise((0, first, last, count)) if ends[0] < ends[1]]


def _assemble(outputs: Array, residual: Array | None, relu: bool, out: Array) -> None:
    """Writes the outputs [4,4,rows,columns,K] of the tiles to out [H,W,K], without what lies beyond its edge."""
    for i, j in np.ndindex(STEP, STEP):
        pixels = np.s_[i::STEP, j::STEP]
        h, w = out[pixels].shape[:2]
        part = outputs[i, j, :h, :w]
        if residual is not None:
            part += residual[pixels]
        if relu:
            np.maximum(part, 0, out=part)
        out[pixels] = part
