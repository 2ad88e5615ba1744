"""Where the weights of a checkpoint are: one .safetensors file, or several with an index.

For other files that people often have instead (pickles, adapters, git-lfs pointers), the error says what they are and
which command helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detr_onnx.checkpoint.safetensors import Tensors, check_safetensors, read_safetensors
from detr_onnx.errors import CheckpointError
from detr_onnx.json_input import read_object
from detr_onnx.paths import exists, is_directory, is_file
from detr_onnx.text import reason_of

NAMES = WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")
MODEL_SUFFIXES = (".safetensors", ".onnx", ".ort")  # of files that can be named by themselves
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
MERGE_ADAPTER = "load it with peft, call merge_and_unload() and save_pretrained(DIRECTORY), and pass that directory"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
TRAINING_STATE = ("training_args.", "optimizer.", "scheduler.", "rng_state", "scaler.")  # pickles without weights
NAMES_SHOWN = 8
LONGEST_NAME = 255  # bytes, of a file on most systems


def weights_file(path: Path) -> Path:
    """The .safetensors file that `path` is or holds, or the index of sharded weights.

    Raises:
        CheckpointError: when there is none; pickles, adapters, configs and git-lfs pointers are named with what helps.
    """
    file = next((path / name for name in NAMES if exists(path / name)), None) if is_directory(path) else path
    if file is None:
        raise _no_weights(path)
    if not exists(file):
        raise CheckpointError(f"{file} does not exist", remedy="check the path")
    if file.suffix.lower() in PICKLES:
        raise CheckpointError(
            f"{file} is a pickle, which can run code and is never read here",
            expected="a .safetensors file",
            remedy=_convert(file),
        )
    if file.name in ADAPTER:
        raise _adapter(file.parent)
    if file.suffix == ".json" and not file.name.endswith(".index.json"):
        has_weights = any(exists(file.parent / name) for name in NAMES)
        raise CheckpointError(
            f"{file} is a .json file, which has no weights",
            expected=f"a .safetensors file, or a directory with config.json and {WEIGHTS}",
            remedy=f"give the directory {file.parent}" if has_weights else "give the model itself",
        )
    _check_not_pointer(file)
    return file


def weight_files(file: Path) -> list[Path]:
    """The file itself; of an index of sharded weights, the index and its shards.

    Raises:
        CheckpointError: when the index cannot be read.
    """
    return [file, *_shards(file)] if file.name.endswith(".index.json") else [file]


def check_weights(file: Path) -> None:
    """Raises CheckpointError for a file, or a shard of an index, that is not what it should be; reads headers only."""
    for shard in _shards(file) if file.name.endswith(".index.json") else [file]:
        check_safetensors(shard)


def read_weights(file: Path) -> Tensors:
    """The tensors of a .safetensors file, or of all the shards that an index names.

    Raises:
        CheckpointError: when a file is missing or damaged, or the shards do not hold what the index says.
    """
    if not file.name.endswith(".index.json"):
        return read_safetensors(file)
    shards = {shard.name: _read_shard(shard, file) for shard in _shards(file)}
    weight_map = _weight_map(file)
    missing = [name for name, shard in weight_map.items() if name not in shards[shard]]
    if missing:
        raise CheckpointError(
            f"the shards of {file} lack tensors",
            found=f"no {', '.join(missing[:NAMES_SHOWN])}",
            expected=f"the {len(weight_map)} tensors of the index",
            remedy="fetch them again",
        )
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def _read_shard(shard: Path, index: Path) -> Tensors:
    if not exists(shard):
        raise CheckpointError(f"{index} names a file that is missing", found=f"no {shard}", remedy="fetch it again")
    _check_not_pointer(shard)
    return read_safetensors(shard)


def _shards(index: Path) -> list[Path]:
    return [index.parent / name for name in sorted(set(_weight_map(index).values()))]


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> name of the file beside the index."""
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(_is_plain_name(name) for name in weight_map.values()):
        raise CheckpointError(
            f"{index} is not an index of sharded weights",
            found="no weight_map from tensors to files beside it",
            expected='{"weight_map": {"…": "model-00001-of-00002.safetensors"}}',
            remedy="fetch it again",
        )
    return weight_map


def _is_plain_name(name: object) -> bool:
    """Whether this is the name of a file in the same directory, as file systems allow it."""
    if not isinstance(name, str) or not name.endswith(".safetensors") or not name.isprintable():
        return False
    return not set(name) & set("/\\") and len(name.encode()) <= LONGEST_NAME


def is_lfs_pointer(file: Path) -> bool:
    """Whether the file is the text that git leaves in place of a file when git-lfs did not fetch it."""
    if not is_file(file):  # opening a pipe would block
        return False
    try:
        with file.open("rb") as opened:
            return opened.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False  # the error of reading it says why


def _check_not_pointer(file: Path) -> None:
    if is_lfs_pointer(file):
        raise CheckpointError(
            f"{file} is a git-lfs pointer, not the weights",
            found=f"{file.stat().st_size} bytes of text",
            remedy="run git lfs pull in its directory, or name the model of the hub",
        )


def _no_weights(directory: Path) -> CheckpointError:
    """The error for a directory without .safetensors weights, by what it holds."""
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError as error:
        return CheckpointError(f"{directory} cannot be read", found=reason_of(error), remedy="check its permissions")
    if any(name in ADAPTER for name in names):
        return _adapter(directory)
    pickle, model = pickled_weights(names), next((name for name in names if name.endswith(MODEL_SUFFIXES)), None)
    remedy = f"name the file {directory / model}" if model else "check the path"
    return CheckpointError(
        f"{directory} has its weights only as a pickle" if pickle else f"{directory} holds no checkpoint",
        found=pickle or ", ".join(names[:NAMES_SHOWN]) or "an empty directory",
        expected=f"config.json and {WEIGHTS}",
        remedy=_convert(directory / pickle) if pickle else remedy,
    )


def pickled_weights(names: Sequence[str]) -> str | None:
    """The file among these that has weights as a pickle, or None."""
    pickles = [name for name in names if name.lower().endswith(PICKLES) and not name.startswith(TRAINING_STATE)]
    return min(pickles, key=lambda name: name != "pytorch_model.bin", default=None)


def _convert(pickle: Path) -> str:
    config = pickle.parent / "config.json"
    return f"run detr-onnx convert {pickle} -o DIRECTORY" + (f" --config {config}" if is_file(config) else "")


def _adapter(directory: Path) -> CheckpointError:
    return CheckpointError(
        f"{directory} holds an adapter (PEFT), not a whole model",
        found=ADAPTER[0],
        expected=WEIGHTS,
        remedy=MERGE_ADAPTER,
    )
