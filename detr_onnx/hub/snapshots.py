"""Models in Hugging Face's cache: where they are, whether they are complete, and whether pinned files are intact.

Source of the cache's layout: huggingface_hub's documentation, "Understand caching".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from detr_onnx.cache import Entry, bytes_in, cache_directory, is_intact, read_records, record_of, write_records
from detr_onnx.checkpoint.files import INDEX, WEIGHTS, weight_files
from detr_onnx.checkpoint.huggingface_config import MODEL_TYPES
from detr_onnx.errors import CheckpointError, HubError
from detr_onnx.hub.names import COMMIT, HubModel, PinnedFile
from detr_onnx.json_input import read_object
from detr_onnx.paths import is_file
from detr_onnx.text import reason_of

CONFIG = "config.json"
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")


def models_directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where models are kept: `cache_dir/hub` if given, else Hugging Face's cache, as its documentation says."""
    if cache_dir is not None:
        return cache_directory(cache_dir) / "hub"
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    path = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")
    return Path(os.path.expanduser(os.path.expandvars(path)))  # noqa: PTH111 - Path.expanduser raises without a home


def cached_models(cache_dir: str | os.PathLike[str] | None = None) -> list[Entry]:
    """The DETR models in the cache, as `owner/name@commit`; other models in Hugging Face's cache are left out."""
    snapshots = sorted(models_directory(cache_dir).glob("models--*--*/snapshots/*"))
    return [Entry(_title(path), path, bytes_in(path)) for path in snapshots if _is_detr(path)]


def _title(snapshot: Path) -> str:
    owner, name = snapshot.parent.parent.name.removeprefix("models--").split("--", 1)
    return f"{owner}/{name}@{snapshot.name[:7]}"


def cached_snapshot(model: HubModel, models_dir: Path) -> Path | None:
    """The complete snapshot that the revision led to when the hub was last asked, or None."""
    commit = model.revision
    if not COMMIT.fullmatch(commit):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            commit = (models_dir / model.folder / "refs" / model.revision).read_text(encoding="utf-8").strip()
    snapshot = models_dir / model.folder / "snapshots" / commit
    return snapshot if COMMIT.fullmatch(commit) and is_complete(snapshot, model.files) else None


def is_complete(snapshot: Path, files: Mapping[str, PinnedFile]) -> bool:
    """Whether the snapshot holds the pinned files; of a model that is not pinned, a config and all weights."""
    if files:
        return all((snapshot / name).is_file() for name in files)
    try:
        weights = [snapshot / WEIGHTS] if (snapshot / WEIGHTS).is_file() else weight_files(snapshot / INDEX)
    except CheckpointError:
        return False
    return all(is_file(path) for path in (snapshot / CONFIG, *weights))


def has_preprocessing(snapshot: Path) -> bool:
    """Whether the image processor is cached or known not to exist: transformers may have loaded the weights alone."""
    absent = snapshot.parent.parent / ".no_exist" / snapshot.name
    if any((snapshot / name).exists() for name in PREPROCESSING):
        return True
    return all((absent / name).exists() for name in PREPROCESSING)


def _is_detr(snapshot: Path) -> bool:
    try:
        return is_complete(snapshot, {}) and read_object(snapshot / CONFIG).get("model_type") in MODEL_TYPES
    except CheckpointError:
        return False


def wrong_files(snapshot: Path, model: HubModel, record: Path) -> list[str]:
    """The pinned files whose bytes are not the pinned ones; remembers a full check, which takes a second at most."""
    known = read_records(record)
    wrong = []
    for name, pin in model.files.items():
        path = snapshot / name
        if name in known and known[name].sha256 == pin.sha256 and is_intact(path, known[name]):
            continue
        try:
            known[name] = record_of(path)
        except OSError as error:
            raise HubError(f"{path} cannot be read", found=reason_of(error), remedy="make it readable") from error
        if known[name].sha256 != pin.sha256:
            wrong.append(name)
            del known[name]
    if known != read_records(record):
        with contextlib.suppress(OSError):  # without a cache that can be written, every start pays the full check
            write_records(record, known)
    return wrong
