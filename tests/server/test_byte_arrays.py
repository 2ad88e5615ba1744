"""Arrays of bytes in JSON: the same values and the same refusals as `json.loads`."""

from __future__ import annotations

import json
import random

import pytest

from detr_onnx.server.protocols.byte_arrays import (
    CHUNK_BYTES,
    MOST_VALUES,
    NotBytesError,
    byte_array,
    first_wrong,
    loads,
)

EVERY_BYTE = bytes(range(256))


def bytes_of(text: str) -> bytes | None:
    try:
        return byte_array(text.encode())
    except NotBytesError:
        return None


@pytest.mark.parametrize(
    "text",
    ["", ",", "1,", ",1", "1,,2", "256", "999", "1000", "-1", "01", "00", "007", "1.5", "1 2", "1. 0", "1 .0", ".0",
     "1.0.0", "00.0", "-0.5", "\x0b1,\n2", "1,\n\x0b2", "1\n2", "true", "null", '"1"', "[1]", "0x1", "1;2", "+1",
     "1e3", " ", "1]", "9" * CHUNK_BYTES * 2],
)  # fmt: skip
def test_a_text_that_is_not_a_list_of_bytes_gives_none(text):
    assert bytes_of(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "255",
        "1,2",
        "1, 2",
        " 1 ,2 ",
        "\n  1,\n  2\n",
        "\t9\r\n",
        "47.0",
        "100.0, 0.0,10",
        "1e1,20",
        "250.00",
        "-0.0",
        "\n 0.0,\n 255.0\n",
        "1,\r\n\t22,\r\n\t233",
        "1,\n  2,\n 3",
    ],
)
def test_a_list_of_bytes_is_read_as_json_reads_it(text):
    assert byte_array(text.encode()) == bytes(map(int, json.loads(f"[{text}]")))


def test_of_all_numbers_of_up_to_four_digits_bytes_alone_are_accepted():
    for number in range(10_000):
        for text in {str(number), f"{number:04}", f"{number:03}"}:
            is_byte = text == str(number) and number < 256
            assert bytes_of(text) == (bytes([number]) if is_byte else None)
            assert bytes_of(f"7,{text},8") == (bytes([7, number, 8]) if is_byte else None)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (",\n", ":")])
def test_an_array_longer_than_a_chunk_is_read_whole(separators):
    values = random.Random(1).choices(range(256), k=CHUNK_BYTES)
    assert loads(json.dumps({"image": values}, separators=separators).encode()) == {"image": bytes(values)}


def test_a_wrong_element_in_a_later_chunk_is_named():
    values = [7] * CHUNK_BYTES
    values[-2] = 256
    with pytest.raises(NotBytesError) as caught:
        loads(json.dumps({"image": values}).encode())
    assert (caught.value.index, caught.value.value) == (CHUNK_BYTES - 2, 256)


@pytest.mark.parametrize(
    "text",
    ['{"a": [1, 2], "b": "[3, 4, 5, 6]"}', '{"a": "x[1,2]y"}', '{"a": "NaN [1]"}', "[]", "{}", '"]["', "[[1], [300]]",
     '{"a": [], "b": {"c": [0.5]}}', '{"shape": [1], "data": ["x"]}', "1", '{"[1,2]": 3}', '{"a": "\\"[1,2]\\""}'],
)  # fmt: skip
def test_other_values_are_read_as_json_reads_them(text):
    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | bytes) else value

    assert plain(loads(text.encode())) == json.loads(text)


def test_the_longest_array_comes_as_bytes():
    assert loads(b'{"shape": [1, 2], "data": [1, 2, 3], "rest": [4]}') == {
        "shape": [1, 2],
        "data": b"\1\2\3",
        "rest": [4],
    }


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1,2", b"NaN", b'{"a": NaN, "b": [1]}', b'{"a": [NaN]}', b"[Infinity]", b"\xff", b"[1]]", b"[1][2]",
     b'{"a" [1]}', b"[" * 10_000, b"[1]x"],
)  # fmt: skip
def test_a_text_that_is_not_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        loads(text)


def test_a_text_of_very_many_values_is_refused_before_it_is_parsed():
    with pytest.raises(ValueError, match=f"more than {MOST_VALUES} values"):
        loads(json.dumps({"image": [[]] * (MOST_VALUES + 2)}).encode())


@pytest.mark.parametrize(
    ("items", "index"), [([1, 2.5], 1), ([True], 0), ([0, None], 1), ([255, 256], 1), ([-1], 0), ([[]], 0)]
)
def test_the_first_element_that_is_not_a_byte_is_named(items, index):
    assert (first_wrong(items).index, first_wrong(items).value) == (index, items[index])


def test_integers_written_as_fractions_are_bytes():
    assert first_wrong([0.0, 255.0, 7]) is None
