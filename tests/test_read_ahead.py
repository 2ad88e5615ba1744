"""Items are prepared ahead: in order, a few at a time, while the caller works or before it does."""

from __future__ import annotations

import itertools
import threading

import pytest

from detr_onnx import read_ahead as module
from detr_onnx.read_ahead import AHEAD, MOST_AT_ONCE, read_ahead

WAYS = pytest.mark.parametrize("meanwhile", [True, False])


@WAYS
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_every_item_comes_in_order_with_its_result(meanwhile, count):
    assert [*read_ahead(lambda n: n * n, range(count), meanwhile=meanwhile)] == [(n, n * n) for n in range(count)]


@WAYS
def test_an_error_is_raised_when_its_item_is_due(meanwhile):
    results = read_ahead(lambda n: 1 // (1 - n), range(5), meanwhile=meanwhile)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert [*results] == []


@WAYS
@pytest.mark.parametrize("count", range(8))
def test_an_error_of_the_items_comes_after_the_results_of_those_before(meanwhile, count):
    def items():
        yield from range(count)
        raise OSError("the camera is gone")

    results = read_ahead(lambda n: n * n, items(), meanwhile=meanwhile)
    assert [next(results) for _ in range(count)] == [(n, n * n) for n in range(count)]
    with pytest.raises(OSError, match="the camera is gone"):
        next(results)
    assert [*results] == []


@WAYS
def test_what_is_not_an_error_of_the_items_ends_the_loop_at_once(meanwhile):
    def items():
        yield 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(read_ahead(lambda n: n, items(), meanwhile=meanwhile))


@WAYS
def test_a_generator_of_the_callers_goes_on_after_the_loop_was_left(meanwhile):
    items = iter(range(100))
    numbers = (n for n in items)
    results = read_ahead(lambda n: n, numbers, meanwhile=meanwhile)
    next(results)
    results.close()
    del results
    assert next(numbers) > 0


@WAYS
def test_only_a_few_items_are_taken_from_an_endless_series(meanwhile):
    taken = itertools.count()
    results = read_ahead(lambda n: n, taken, meanwhile=meanwhile)
    assert [next(results) for _ in range(3)] == [(n, n) for n in range(3)]
    assert next(taken) <= 3 + max(AHEAD, MOST_AT_ONCE)
    results.close()


def test_the_next_item_is_prepared_while_one_is_used():
    prepared = threading.Event()
    results = read_ahead(lambda n: prepared.set() if n == 1 else None, range(2))
    next(results)
    assert prepared.wait(timeout=30)
    results.close()


def test_as_many_as_there_are_cores_are_prepared_at_once_and_none_while_one_is_used(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 3)
    together, done = threading.Barrier(3, timeout=30), []

    def prepare(number: int) -> None:
        together.wait()
        done.append(number)

    for number, _ in read_ahead(prepare, range(6), meanwhile=False):
        assert len(done) == (3 if number < 3 else 6)
