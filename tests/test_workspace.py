"""Memory is used again as soon as nobody looks at it, and never before."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.network.workspace import SCRATCH, SMALL, Workspace

LARGE = 4 * SMALL


def address(array) -> int:
    return array.__array_interface__["data"][0]


def test_an_empty_array_has_its_shape_and_no_buffer():
    assert Workspace().empty(0, 7).shape == (0, 7)


def test_arrays_have_the_shape_asked_for_and_are_float32():
    for shape in ((3, 5), (2, SMALL, 3)):
        array = Workspace().empty(*shape)
        assert array.shape == shape
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_memory_that_nobody_looks_at_is_used_again():
    workspace = Workspace()
    first = address(workspace.empty(LARGE))
    assert address(workspace.empty(2, LARGE // 2)) == first


def test_memory_that_somebody_looks_at_is_left_alone():
    workspace = Workspace()
    first = workspace.empty(LARGE)
    view = first[10:20].reshape(2, 5)
    del first
    view[:] = 1
    workspace.empty(LARGE)[:] = 2
    assert (view == 1).all()


def test_a_small_array_does_not_take_a_large_buffer():
    workspace = Workspace()
    large = address(workspace.empty(4 * SCRATCH))
    small = workspace.empty(SCRATCH)
    assert address(small) != large
    assert address(workspace.empty(4 * SCRATCH)) == large


def test_scratch_of_any_size_shares_a_buffer():
    workspace = Workspace()
    scratch = address(workspace.empty(SCRATCH))
    assert address(workspace.empty(SMALL)) == scratch


def test_a_buffer_that_became_too_small_is_replaced_not_kept():
    workspace = Workspace()
    for size in range(LARGE, 20 * LARGE, LARGE):
        workspace.empty(size)
    assert len(workspace._buffers) == 1


def test_shrinking_lets_the_largest_go_that_nobody_looks_at():
    workspace = Workspace()
    kept, gone, smaller = (workspace.empty(n * SCRATCH) for n in (4, 3, 2))
    kept[:] = 1
    del gone, smaller
    workspace.shrink()
    assert [buffer.size for buffer in workspace._buffers] == [4 * SCRATCH, 2 * SCRATCH]
    assert (kept == 1).all()


@pytest.mark.parametrize("rows", [(0, 4), (-2, 3), (1, 7), (-1, 5)])
@pytest.mark.parametrize("columns", [(0, 5), (-1, 8), (2, 4)])
def test_a_padded_part_is_0_where_there_is_no_picture(rows, columns):
    x = np.arange(1, 4 * 5 * 2 + 1, dtype=np.float32).reshape(4, 5, 2)
    whole = np.pad(x, ((3, 3), (3, 3), (0, 0)))
    expected = whole[rows[0] + 3 : rows[1] + 3, columns[0] + 3 : columns[1] + 3]
    np.testing.assert_array_equal(Workspace().padded(x, rows, columns), expected)
