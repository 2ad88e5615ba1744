"""A safetensors file is read to the bit, or refused in one line that says what is wrong with it."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_onnx.checkpoint.safetensors import forget_pages, read_safetensors, write_safetensors
from detr_onnx.errors import CheckpointError

SMAPS = Path("/proc/self/smaps")  # of Linux
ONE = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
EIGHT = bytes(8)


def written(directory: Path, header: Any, buffer: bytes = b"", *, length: int | None = None) -> Path:
    """A file with this header (JSON values, or bytes as they are), whose length may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = directory / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + buffer)
    return file


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_file_without_tensors_has_none(tmp_path):
    assert read_safetensors(written(tmp_path, {})) == {}


def test_metadata_is_not_a_tensor(tmp_path):
    assert read_safetensors(written(tmp_path, {"__metadata__": {"format": "pt"}})) == {}


def resident_kb(path: Path) -> int:
    """Memory that holds pages of a mapped file."""
    mappings = re.split(r"\n(?=[0-9a-f]+-)", SMAPS.read_text())
    return sum(int(re.search(r"^Rss: *(\d+)", text, re.MULTILINE)[1]) for text in mappings if str(path) in text)


def test_forgotten_pages_are_read_again(tmp_path):
    tensors = {"x": np.arange(1 << 18, dtype=np.float32), "none": np.zeros((0, 3), "f4")}
    path = tmp_path / "model.safetensors"
    write_safetensors(path, tensors)
    found = read_safetensors(path)
    for _ in range(2):
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(found[name], tensor)
        before = resident_kb(path) if SMAPS.exists() else 0
        forget_pages(found)
        assert not before or resident_kb(path) < before / 2


def test_written_tensors_are_read_back_in_their_order(tmp_path):
    tensors = {"b": np.float32([[1, 2, 3], [4, 5, 6]]), "a": np.float32([-0.0, np.inf]), "none": np.zeros((0, 3), "f4")}
    write_safetensors(tmp_path / "model.safetensors", tensors)
    found = read_safetensors(tmp_path / "model.safetensors")
    assert list(found) == ["b", "a", "none"]
    for name, tensor in tensors.items():
        assert found[name].tobytes() == tensor.tobytes()
        assert found[name].shape == tensor.shape
        assert found[name].dtype == np.float32


def test_a_file_of_the_safetensors_package_is_read(tmp_path):
    numpy_io = pytest.importorskip("safetensors.numpy")
    tensors = {"x": np.arange(6, dtype="f4").reshape(2, 3), "half": np.float16([0.5]), "n": np.int64([[7]])}
    numpy_io.save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "np"})
    found = read_safetensors(tmp_path / "model.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {n: v.tolist() for n, v in tensors.items()}


def test_our_files_are_read_by_the_safetensors_package(tmp_path):
    numpy_io = pytest.importorskip("safetensors.numpy")
    write_safetensors(tmp_path / "model.safetensors", {"x": np.float32([1, 2]), "y": np.float32([[3]])})
    found = numpy_io.load_file(tmp_path / "model.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {"x": [1, 2], "y": [[3]]}


@pytest.mark.parametrize(("dtype", "buffer", "values"), [
    ("F64", struct.pack("<d", 1.5), [1.5]),
    ("F64", struct.pack("<d", 1e300), [np.inf]),
    ("F32", struct.pack("<f", 1.5), [1.5]),
    ("F16", struct.pack("<e", 1.5), [1.5]),
    ("BF16", struct.pack("<f", 1.5)[2:], [1.5]),
    ("BF16", struct.pack("<f", -np.inf)[2:], [-np.inf]),
])  # fmt: skip
def test_floats_of_every_width_are_read_as_float32(dtype, buffer, values, tmp_path):
    found = read_safetensors(written(tmp_path, {"x": entry(dtype, [1], 0, len(buffer))}, buffer))["x"]
    assert found.dtype == np.float32
    assert found.tolist() == values


@pytest.mark.parametrize(("dtype", "buffer", "values"), [
    ("I64", struct.pack("<q", -5), [-5]),
    ("I32", struct.pack("<i", -5), [-5]),
    ("U8", b"\x05", [5]),
    ("BOOL", b"\x01", [True]),
])  # fmt: skip
def test_integers_keep_their_type(dtype, buffer, values, tmp_path):
    assert read_safetensors(written(tmp_path, {"x": entry(dtype, [1], 0, len(buffer))}, buffer))["x"].tolist() == values


def test_a_buffer_that_begins_at_an_odd_byte_is_read(tmp_path):
    file = written(tmp_path, json.dumps(ONE).encode() + b" " * (7 - len(json.dumps(ONE)) % 8), struct.pack("<2f", 1, 2))
    assert (read_safetensors(file)["x"] + 0).tolist() == [1, 2]


BROKEN_HEADERS = {
    "a header that is a list": ([], b"", "list"),
    "a header that is no JSON": (b"{'x'", b"", "cannot be parsed"),
    "a header that is no text": (b"\xff\xfe\xfd\x00", b"", "cannot be parsed"),
    "a name twice": (b'{"x": {}, "x": {}}', b"", "occurs twice"),
    "a name with a line break": ({"x\ny": ONE["x"]}, EIGHT, r"called 'x\ny'"),
    "a name that never ends": ({"x" * 9999: ONE["x"]}, EIGHT, "at most 200 characters"),
    "an entry that is a number": ({"x": 5}, EIGHT, "x: no dtype"),
    "an entry without offsets": ({"x": {"dtype": "F32", "shape": [2]}}, EIGHT, "x: no dtype, shape and data_offsets"),
    "three offsets": ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, EIGHT, "x: no dtype"),
    "an unknown dtype": ({"x": entry("F8_E4M3", [8], 0, 8)}, EIGHT, "dtype 'F8_E4M3'"),
    "a dtype that is a list": ({"x": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, EIGHT, "dtype"),
    "a negative shape": ({"x": entry("F32", [-2], 0, 8)}, EIGHT, "integers from 0"),
    "a shape of fractions": ({"x": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}, EIGHT, "integers from 0"),
    "a negative offset": ({"x": entry("F32", [2], -8, 0)}, EIGHT, "integers from 0"),
    "offsets the wrong way round": ({"x": entry("F32", [2], 8, 0)}, EIGHT, "bytes 8 to 0 of 8"),
    "an end beyond the file": ({"x": entry("F32", [4], 0, 16)}, EIGHT, "bytes 0 to 16 of 8"),
    "an end beyond all files": ({"x": entry("F32", [1 << 62], 0, 1 << 64)}, EIGHT, "0:18446744073709551616"),
    "a shape that the bytes do not hold": ({"x": entry("F32", [3], 0, 8)}, EIGHT, "8 bytes for F32 [3], which"),
    "tensors that overlap": ({"x": entry("F32", [2], 0, 8), "y": entry("F32", [1], 4, 8)}, EIGHT, "y overlaps"),
    "a gap between tensors": ({"x": entry("F32", [1], 0, 4), "y": entry("F32", [1], 8, 12)}, bytes(12), "y begins 4"),
    "bytes that belong to no tensor": (ONE, bytes(12), "4 bytes that belong to no tensor"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN_HEADERS)
def test_a_wrong_header_is_refused_with_what_is_wrong(fault, tmp_path):
    header, buffer, complaint = BROKEN_HEADERS[fault]
    file = written(tmp_path, header, buffer)
    with pytest.raises(CheckpointError) as refusal:
        read_safetensors(file)
    message = str(refusal.value)
    assert complaint in message
    assert str(file) in message
    assert "\n" not in message


@pytest.mark.parametrize("size", range(8))
def test_a_file_too_short_for_the_header_s_length_is_refused(size, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(size))
    with pytest.raises(CheckpointError, match=f"found {size} bytes"):
        read_safetensors(file)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    whole = written(tmp_path, ONE, EIGHT).read_bytes()
    for size in range(len(whole)):
        (tmp_path / "part.safetensors").write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="not a valid safetensors file"):
            read_safetensors(tmp_path / "part.safetensors")


def test_many_faults_are_reported_in_one_message_and_counted(tmp_path):
    header = {f"x{i}": entry("F32", [2], 0, 9 + i) for i in range(7)}
    with pytest.raises(CheckpointError, match=r"x0: .*x4: .* and 2 more"):
        read_safetensors(written(tmp_path, header, EIGHT))


@pytest.mark.parametrize("name", ["missing.safetensors", ""])
def test_a_file_that_is_missing_or_a_directory_is_refused(name, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_safetensors(tmp_path / name)
