"""JSON from outside is parsed within bounds, or refused with one error."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from detr_onnx.errors import CheckpointError, DatasetError
from detr_onnx.json_input import (
    MAX_AXES,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DIGITS,
    parse_json,
    parse_object,
    read_json,
    read_object,
    whole_numbers,
)


def refusal(text: bytes | str, **options: object) -> str:
    with pytest.raises(CheckpointError) as error:
        parse_json(text, "the text", **options)  # type: ignore[arg-type]
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("value", [
    {}, [], None, 5, -1.5e300, "text", 'a "quoted" \\ text with [[[ and }}}', {"a": [{"b": [1, 2, 3]}] * 9, "ä": "€"},
    "\\", '\\"', "[" * 1000, "9" * 1000, [[]] * 100_000, ["]", "[", "{"] * 1000,
])  # fmt: skip
@pytest.mark.parametrize("form", [str, bytes, "with a byte order mark"])
def test_what_json_dumps_writes_is_read_back(value, form):
    text = json.dumps(value, ensure_ascii=False)
    raw = {str: text, bytes: text.encode()}.get(form, text.encode("utf-8-sig"))
    assert parse_json(raw, "the text") == value


@pytest.mark.parametrize(
    "text", ["", " ", "{", "[1,", "nul", "'a'", '"a', b"\xff", b'{"a": "\xff"}', '{"a" 1}', "[" * 40]
)
def test_what_is_not_json_is_refused(text):
    assert refusal(text).startswith("the text cannot be read as JSON: found ")


@pytest.mark.parametrize("depth", [MAX_DEPTH * 2 + 1, 1000, 5000, 100_000, 3_000_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_deep_nesting_is_refused_whatever_the_recursion_limit(depth, opening, closing):
    text = opening * depth + "1" + closing * depth
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        assert "nested more than" in refusal(text, max_bytes=1 << 30)
    finally:
        sys.setrecursionlimit(limit)


def test_nesting_cannot_hide_among_strings():
    hidden = '["]", ' * 5000 + '"["' + ', "["]' * 5000
    assert json.dumps(parse_json('["]", "["]', "text"))
    assert "nested more than" in refusal(hidden)


def test_nesting_up_to_the_bound_is_read():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(text, "the text")


@pytest.mark.parametrize("number", ["1" * (MAX_DIGITS + 1), "-" + "9" * 400, "0." + "3" * 400, "1e" + "0" * 5000])
def test_a_number_of_many_digits_is_refused(number):
    assert f"a number of more than {MAX_DIGITS} digits" in refusal(f'{{"a": [{number}]}}')


def test_a_text_that_is_too_large_is_refused_unparsed():
    assert "is too large" in refusal(b"[" * (MAX_BYTES + 1))
    assert "found more than 10 bytes" in refusal('"12345678901"', max_bytes=10)


def test_a_name_that_occurs_twice_is_refused_on_request():
    assert parse_json('{"a": 1, "a": 2}', "the text") == {"a": 2}
    assert "occurs twice" in refusal('{"b": {"a": 1, "a": 2}}', unique_names=True)


def test_something_else_than_an_object_is_refused_where_one_must_be(tmp_path):
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="found a JSON list, expected an object"):
        read_object(tmp_path / "list.json")
    with pytest.raises(DatasetError, match="the text is not a JSON object"):
        parse_object("[1]", "the text", error=DatasetError)


def test_a_file_is_read_or_refused_by_its_path(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    for name in ("missing.json", "", "a\0b"):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_json(tmp_path / name, error=DatasetError)


def test_pipes_and_endless_devices_are_refused_at_once(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="found not a file"):
            read_json(path)


def test_a_file_that_is_too_large_is_read_no_further_than_the_bound(tmp_path):
    with (tmp_path / "sparse.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="is too large"):
        read_json(tmp_path / "sparse.json")


def test_a_shape_is_a_short_list_of_integers():
    assert whole_numbers([]) == ()
    assert whole_numbers([1, 2**63 - 1]) == (1, 2**63 - 1)
    for value in (None, 5, "12", {1: 2}, [1.0], [True], [-1], [2**63], [0] * (MAX_AXES + 1), [[1]]):
        assert whole_numbers(value) is None
