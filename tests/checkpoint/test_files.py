"""Weights are found as one file or several; what is not weights is named for what it is."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from detr_onnx.checkpoint.files import weight_files, weights_file
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.checkpoint.safetensors import write_safetensors
from detr_onnx.errors import CheckpointError
from detr_onnx.models.graph_cache import digest
from tests.parity.seeded import CONFIGS, SPELLINGS, seeded_tensors, spelled, write_checkpoint

SMALL = CONFIGS["small"]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:830f5e2e\nsize 166587896\n"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A seeded checkpoint in two shards."""
    directory = write_checkpoint(tmp_path / "sharded", SMALL, seed=1)
    (directory / "model.safetensors").unlink()
    tensors = spelled(seeded_tensors(SMALL, seed=1), SPELLINGS["huggingface-native"])
    names = list(tensors)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    for shard, half in zip(SHARDS, halves, strict=True):
        write_safetensors(directory / shard, {name: tensors[name] for name in half})
    weight_map = {name: shard for shard, half in zip(SHARDS, halves, strict=True) for name in half}
    write_index(directory, weight_map)
    return directory


def write_index(directory: Path, weight_map: object) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def tar_with(name: str) -> bytes:
    """A tar archive of one empty file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def directory_with(tmp_path: Path, names: Sequence[str], content: bytes = b"\x80\x04.") -> Path:
    for name in names:
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "r.json"])
def test_a_json_file_is_told_from_the_model_beside_it(tmp_path, name):
    directory_with(tmp_path, [name], b"{}")
    message = f"{tmp_path / name} is a .json file, which has no weights: expected a .safetensors file, or a directory"
    assert message in refusal(tmp_path / name)
    assert refusal(tmp_path / name).endswith("; give the model itself")
    write_safetensors(tmp_path / "model.safetensors", {})
    assert refusal(tmp_path / name).endswith(f"; give the directory {tmp_path}")


@pytest.mark.parametrize("suffix", [".bin", ".BIN", ".pth", ".pkl"])
def test_a_pickle_is_named_whatever_its_suffix_looks_like(tmp_path, suffix):
    file = directory_with(tmp_path, [f"weights{suffix}"]) / f"weights{suffix}"
    assert f"{file} is a pickle, which can run code and is never read here" in refusal(file)


@pytest.mark.parametrize(("start", "kind"), [
    (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x01", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a PNG image"),
    (b"PK\x03\x04\x14\x00\x00\x00\x00\x00\x00\x00", "a zip archive"),
    (b"GGUF\x03\x00\x00\x00\x01\x00\x00\x00", "a GGUF file"),
    (b"\x89HDF\r\n\x1a\n\x00\x00\x00\x00", "an HDF5 file"),
    (b'{"model_type": "detr"}', "a JSON text"),
    (b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00}", "a pickle"),
    (b"a text without weights", "a file that begins with b'a text witho'"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["model", "model.safetensors", "photo.jpg"])
def test_a_file_of_another_kind_is_named_for_what_it_is(tmp_path, start, kind, name):
    file = directory_with(tmp_path, [name], start) / name
    assert refusal(file) == (
        f"{file} is not a valid safetensors file: found {kind}, expected the weights of a DETR; "
        "give a .safetensors or .onnx file, or the directory of a model"
    )


@pytest.mark.parametrize(("content", "kind"), [
    (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", "a gzip archive"),
    (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03" + bytes(600_000), "a gzip archive"),  # 0x088b1f bytes of header
    (tar_with("model.safetensors"), "a tar archive"),
    (tar_with("m"), "a tar archive"),  # 0x6d bytes of header
])  # fmt: skip
def test_an_archive_is_named_with_what_to_do(tmp_path, content, kind):
    (tmp_path / "model.tar").write_bytes(content)
    assert refusal(tmp_path / "model.tar").endswith(
        f"found {kind}, expected the weights of a DETR; unpack it, and give the directory of the model"
    )


@pytest.mark.parametrize("name", ["detr.onnx", "detr.safetensors", "detr.ort"])
def test_of_a_directory_with_a_model_of_another_name_that_file_is_named(tmp_path, name):
    directory_with(tmp_path, ["a.txt", name])
    assert refusal(tmp_path).endswith(f"holds no checkpoint: found a.txt, {name}, expected config.json and "
                                      f"model.safetensors; name the file {tmp_path / name}")  # fmt: skip


def test_a_directory_of_images_is_no_checkpoint(tmp_path):
    directory_with(tmp_path, ["a.jpg", "b.jpg"])
    assert "holds no checkpoint: found a.jpg, b.jpg, expected config.json and model.safeten" in refusal(tmp_path)


def test_sharded_weights_are_those_of_one_file(sharded):
    checkpoint = load_checkpoint(sharded)
    expected = seeded_tensors(SMALL, seed=1)
    assert list(checkpoint.tensors) == list(expected)
    assert all(np.array_equal(checkpoint.tensors[name], expected[name]) for name in expected)
    assert load_checkpoint(sharded / "model.safetensors.index.json").config == SMALL
    assert weight_files(weights_file(sharded)) == [
        sharded / "model.safetensors.index.json",
        *(sharded / shard for shard in SHARDS),
    ]


def test_the_digest_of_sharded_weights_changes_with_a_shard(sharded):
    before = digest(sharded)
    shard = bytearray((sharded / SHARDS[1]).read_bytes())
    shard[-1] ^= 1
    (sharded / SHARDS[1]).write_bytes(shard)
    assert digest(sharded) != before


def test_a_missing_shard_is_named(sharded):
    (sharded / SHARDS[1]).unlink()
    assert f"names a file that is missing: found no {sharded / SHARDS[1]}" in refusal(sharded)


def test_a_tensor_that_is_not_in_its_shard_is_named(sharded):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())["weight_map"]
    write_index(sharded, dict.fromkeys(index, SHARDS[0]))
    assert "lack tensors: found no model." in refusal(sharded)


@pytest.mark.parametrize("weight_map", [
    None, [], 5, {"a": 5}, {"a": None}, {"a": "../secret.safetensors"}, {"a": "/etc/passwd"}, {"a": "a\0.safetensors"},
    {"a": "pytorch_model.bin"},
])  # fmt: skip
def test_an_index_of_something_else_is_refused(weight_map, sharded):
    write_index(sharded, weight_map)
    assert "is not an index of sharded weights" in refusal(sharded)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"weight_map": ' + "9" * 400 + "}"])
def test_an_index_that_is_not_json_is_refused(text, sharded):
    (sharded / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json" in refusal(sharded)


def test_a_git_lfs_pointer_is_named_with_the_command_that_helps(tmp_path, sharded):
    directory = directory_with(tmp_path, ["model.safetensors"], POINTER)
    for path in (directory, directory / "model.safetensors"):
        assert "is a git-lfs pointer, not the weights" in refusal(path)
        assert "run git lfs pull" in refusal(path)
    (sharded / SHARDS[0]).write_bytes(POINTER)
    assert f"{sharded / SHARDS[0]} is a git-lfs pointer" in refusal(sharded)


def test_an_adapter_is_named_with_the_calls_that_help(tmp_path):
    directory = directory_with(tmp_path, ["adapter_config.json", "adapter_model.safetensors"])
    for path in (directory, directory / "adapter_model.safetensors"):
        assert "holds an adapter (PEFT), not a whole model" in refusal(path)
        assert "merge_and_unload()" in refusal(path)


def test_pickled_weights_are_named_with_the_command_that_converts_them(tmp_path):
    names = ["config.json", "optimizer.pt", "pytorch_model.bin", "rng_state.pth", "training_args.bin"]
    directory = directory_with(tmp_path, names)
    message = refusal(directory)
    assert "has its weights only as a pickle: found pytorch_model.bin" in message
    command = f"detr-onnx convert {directory}/pytorch_model.bin -o DIRECTORY --config {directory}/config.json"
    assert message.endswith(f"; run {command}")


def test_a_directory_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CheckpointError, match="cannot be read: found Permission denied; check its permissions"):
        weights_file(tmp_path)


def test_the_state_of_a_training_run_is_not_taken_for_weights(tmp_path):
    assert "holds no checkpoint" in refusal(directory_with(tmp_path, ["optimizer.pt", "training_args.bin"]))
