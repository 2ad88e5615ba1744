"""Every refusal is one sentence, of one tree."""

from __future__ import annotations

import copy
import pickle

import pytest

from detr_onnx import errors
from detr_onnx.errors import DetrError, MissingPackageError, UsageError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DetrError)]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, "what"),
        ({"found": "a"}, "what: found a"),
        ({"expected": "b"}, "what: expected b"),
        ({"found": "a", "expected": "b"}, "what: found a, expected b"),
        ({"remedy": "do"}, "what; do"),
        ({"found": "a", "expected": "b", "remedy": "do"}, "what: found a, expected b; do"),
    ],
)
def test_the_message_is_made_of_the_parts_that_are_given(parts, sentence):
    assert str(DetrError("what", **parts)) == sentence


@pytest.mark.parametrize("kind", KINDS)
def test_one_except_catches_them_all(kind):
    with pytest.raises(DetrError, match="what: found a; do"):
        raise kind("what", found="a", remedy="do")


def test_a_message_has_a_bounded_length_and_keeps_both_ends_of_each_part():
    error = DetrError(f"a{'x' * 5_000_000}b", found=f"c{'y' * 5_000_000}d", expected="e" * 1001, remedy="f" * 1000)
    assert len(str(error)) < 5000
    assert error.what.startswith("axx")
    assert error.what.endswith("xxb")
    assert f"xb: found cy{'y' * 100}" in str(error)
    assert len(error.expected or "") == 1000
    assert error.remedy == "f" * 1000


def test_a_wrong_argument_is_a_value_error_too_and_ends_with_status_2():
    assert issubclass(UsageError, ValueError)
    assert {kind.__name__: kind.exit_status for kind in KINDS if kind.exit_status != 1} == {"UsageError": 2}


def test_the_tree_in_the_docstring_has_every_error():
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_error_keeps_its_parts(kind):
    error = pickle.loads(pickle.dumps(kind("what", found="a", expected="b", remedy="do")))
    assert (type(error), str(error), error.found, error.remedy) == (kind, "what: found a, expected b; do", "a", "do")


@pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
@pytest.mark.parametrize("kind", [DetrError, UsageError, MissingPackageError])
def test_a_copy_of_an_error_has_the_whole_sentence(copied, kind):
    error = kind("a" * 900, found="b" * 900, expected="c" * 900, remedy="d" * 900)
    again = copied(error)
    assert (type(again), str(again), again.remedy, again.args) == (kind, str(error), error.remedy, error.args)
