"""Memory is reused as soon as it is no longer in use, and never before."""

from __future__ import annotations

import numpy as np
import pytest

from detr_onnx.network.workspace import SMALL, Workspace

LARGE = 4 * SMALL


def address(array) -> int:
    return array.__array_interface__["data"][0]


def test_an_array_without_elements_has_its_shape():
    assert Workspace().empty(0, 7).shape == (0, 7)


def test_arrays_have_the_requested_shape_and_are_float32():
    for shape in ((3, 5), (2, SMALL, 3)):
        array = Workspace().empty(*shape)
        assert array.shape == shape
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_unused_memory_is_reused():
    workspace = Workspace()
    first = address(workspace.empty(LARGE))
    assert address(workspace.empty(2, LARGE // 2)) == first


def test_memory_in_use_is_not_reused():
    workspace = Workspace()
    first = workspace.empty(LARGE)
    view = first[10:20].reshape(2, 5)
    del first
    view[:] = 1
    workspace.empty(LARGE)[:] = 2
    assert (view == 1).all()


def test_small_arrays_share_a_large_buffer_which_is_merged_afterwards():
    workspace = Workspace()
    large = address(workspace.empty(4 * LARGE))
    first, second = workspace.empty(LARGE + 1), workspace.empty(LARGE)
    first[:], second[:] = 1, 2
    assert (first == 1).all()
    assert address(first) == large < address(second) < large + 4 * 4 * LARGE
    assert address(second) % 64 == large % 64
    del first, second
    assert address(workspace.empty(4 * LARGE)) == large


def test_the_smallest_part_that_is_large_enough_is_used():
    workspace = Workspace()
    arrays = [workspace.empty(n * LARGE) for n in (8, 2, 4)]
    places = [address(array) for array in arrays]
    del arrays
    assert address(workspace.empty(2 * LARGE)) == places[1]
    assert address(workspace.empty(3 * LARGE)) == places[2]


def test_parts_are_not_merged_across_one_in_use():
    workspace = Workspace()
    whole = address(workspace.empty(6 * LARGE))
    left, middle, right = (workspace.empty(2 * LARGE) for _ in range(3))
    middle[:] = 1
    assert [address(part) - whole for part in (left, middle, right)] == [0, 8 * LARGE, 16 * LARGE]
    del left, right
    workspace.empty(3 * LARGE)[:] = 2  # fits in neither gap
    assert (middle == 1).all()
    assert [len(buffer.parts) for buffer in workspace._buffers] == [3, 1]


def test_arrays_never_overlap():
    workspace, rng, held = Workspace(), np.random.default_rng(0), {}
    for number in range(400):
        held[number] = workspace.empty(int(rng.integers(SMALL, 9 * SMALL)))
        held[number][:] = number
        for freed in rng.choice(list(held), len(held) // 3, replace=False):
            del held[freed]
        assert all((array == key).all() for key, array in held.items())


def test_a_buffer_that_is_too_small_is_replaced():
    workspace = Workspace()
    for size in range(LARGE, 20 * LARGE, LARGE):
        workspace.empty(size)
    assert len(workspace._buffers) == 1


def test_shrinking_frees_the_largest_unused_buffer_the_first_time():
    workspace = Workspace()
    used, unused, smaller = (workspace.empty(n * LARGE) for n in (4, 3, 2))
    used[:] = 1
    del unused, smaller
    for _ in range(2):
        workspace.shrink_once()
        assert [len(buffer) // LARGE for buffer in workspace._buffers] == [4, 2]
    assert (used == 1).all()


@pytest.mark.parametrize("rows", [(0, 4), (-2, 3), (1, 7), (-1, 5)])
@pytest.mark.parametrize("columns", [(0, 5), (-1, 8), (2, 4)])
def test_a_padded_copy_is_0_outside_of_the_array(rows, columns):
    x = np.arange(1, 4 * 5 * 2 + 1, dtype=np.float32).reshape(4, 5, 2)
    whole = np.pad(x, ((3, 3), (3, 3), (0, 0)))
    expected = whole[rows[0] + 3 : rows[1] + 3, columns[0] + 3 : columns[1] + 3]
    np.testing.assert_array_equal(Workspace().padded(x, rows, columns), expected)
