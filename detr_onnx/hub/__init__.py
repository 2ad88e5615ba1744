"""Model names of the hub -> a directory with config.json, weights and preprocessor_config.json.

    name ── cached? ── yes ───────────────────────────────────────► directory   no request, no extra package
               └─ no ── huggingface_hub.snapshot_download ── verify ──► directory

Models are kept in Hugging Face's own cache, which transformers shares (`snapshots.py`). Locks, mirrors, tokens and
progress bars are huggingface_hub's (`download.py`). Ours are the pinned sha256 of the default model (`names.py`) and
the sentence for each refusal (`errors.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from detr_onnx.cache import cache_directory
from detr_onnx.hub.download import download_snapshot
from detr_onnx.hub.errors import not_cached, wrong_file
from detr_onnx.hub.names import COMMIT, PINNED, HubModel, parse_name
from detr_onnx.hub.snapshots import cached_snapshot, has_preprocessing, models_directory, wrong_files


def fetch(
    name: str,
    *,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    pinned: Sequence[HubModel] = PINNED,
) -> Path:
    """The directory of a model, downloaded unless it is cached.

    Args:
        name: `owner/name` (a pinned model's commit, else the branch main) or `owner/name@revision`.
        offline: make no request; so does HF_HUB_OFFLINE=1.
        cache_dir: keep models in `cache_dir/hub` in place of Hugging Face's cache.
        pinned: models whose files are verified.

    Raises:
        HubError: the model does not exist or cannot be downloaded now.
        WrongFileError: its files are not the pinned ones.
        MissingPackageError: the model is not cached and huggingface_hub is not installed.
        OutputError: the cache cannot be written.
    """
    model, models_dir = parse_name(name, pinned), models_directory(cache_dir)
    record = cache_directory(cache_dir) / "verified" / f"{model.folder}@{model.revision}.json"
    snapshot = cached_snapshot(model, models_dir)
    wrong = wrong_files(snapshot, model, record) if snapshot else []
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        if snapshot is None:
            raise not_cached(f"{model.name} is not cached and requests are switched off (offline)", models_dir)
    elif snapshot is None or wrong or not (COMMIT.fullmatch(model.revision) and has_preprocessing(snapshot)):
        snapshot = download_snapshot(model, models_dir, snapshot, wrong)
        wrong = wrong_files(snapshot, model, record)
    if wrong:
        raise wrong_file(model, snapshot, wrong[0])
    return snapshot
