"""Chooses the commit and the files of a model, and downloads them with huggingface_hub."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from detr_onnx import locks
from detr_onnx.checkpoint.files import ADAPTER, INDEX, MERGE_ADAPTER, WEIGHTS, pickled_weights
from detr_onnx.errors import HubError, MissingPackageError
from detr_onnx.hub.errors import UnreachableError, translated_errors
from detr_onnx.hub.names import HubModel
from detr_onnx.hub.snapshots import CONFIG, PREPROCESSING, has_preprocessing, is_complete

TIMEOUT_S = 10.0  # for the hub's first answer

logger = logging.getLogger(__name__)


def download_snapshot(model: HubModel, models_dir: Path, cached: Path | None, wrong: Sequence[str]) -> Path:
    """Downloads what is missing of the commit that the revision points to now; returns the directory of its files.

    Args:
        model: with its revision.
        models_dir: Hugging Face's cache, or the caller's.
        cached: a complete snapshot, returned if it is the current one, or if the hub does not answer.
        wrong: names of files of `cached` that are to be downloaded again.
    """
    try:
        library, endpoint = _import_huggingface_hub(model), _endpoint()
        with translated_errors(library, model, endpoint, models_dir, "connect"):
            info = library.HfApi(endpoint=endpoint).model_info(model.name, revision=model.revision, timeout=TIMEOUT_S)
    except (UnreachableError, MissingPackageError) as error:
        if cached is None or wrong:
            raise
        logger.info("%s; using the cached copy of commit %s", error.what, cached.name[:7])
        return cached
    if cached and cached.name == info.sha and not wrong and has_preprocessing(cached):
        return cached
    files = list(wrong) or _files_to_download(model, [file.rfilename for file in info.siblings or ()])
    logger.info("fetching %s@%s into %s", model.name, str(info.sha)[:7], models_dir)
    with translated_errors(library, model, endpoint, models_dir, "download"):
        options = {
            "revision": model.revision,
            "cache_dir": models_dir,
            "endpoint": endpoint,
            "force_download": bool(wrong),
        }
        with _bars_on_terminals(library):
            snapshot = Path(library.snapshot_download(model.name, allow_patterns=files, **options))
    _remove_abandoned_parts(model, models_dir)
    if not is_complete(snapshot, model.files):
        raise UnreachableError(f"the download of {model.name} is incomplete", remedy="try again")
    return snapshot


@contextlib.contextmanager
def _bars_on_terminals(library: ModuleType) -> Iterator[None]:
    """Shows huggingface_hub's progress bars on a terminal only; by itself it shows the bar of all files anywhere."""
    is_set = library.constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # by the user
    quiet = not is_set and not (sys.stderr and sys.stderr.isatty()) and not library.utils.are_progress_bars_disabled()
    if quiet:
        library.utils.disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            library.utils.enable_progress_bars()


def _remove_abandoned_parts(model: HubModel, models_dir: Path) -> None:
    """Removes the files of killed downloads, which huggingface_hub does not resume. Those under way are locked."""
    for part in (models_dir / model.folder / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):
            descriptor = os.open(models_dir / ".locks" / model.folder / f"{part.name.split('.')[0]}.lock", os.O_RDWR)
            try:
                if locks.fcntl is not None and locks.acquire(descriptor, wait=False):
                    part.unlink()
            finally:
                os.close(descriptor)


def _files_to_download(model: HubModel, listed: Sequence[str]) -> list[str]:
    """The files of a repository that a DETR needs.

    Raises:
        HubError: when the config, the weights or a pinned file are missing; weights that are a pickle are named.
    """
    top = [name for name in listed if "/" not in name]
    weights = [WEIGHTS] if WEIGHTS in top else []
    if INDEX in top and not weights:
        weights = [INDEX, *(name for name in top if name.endswith(".safetensors"))]
    if not weights and ADAPTER[0] in top:
        what = f"{model.name} is an adapter, not a whole model"
        raise HubError(what, found=ADAPTER[0], expected=WEIGHTS, remedy=MERGE_ADAPTER)
    if not weights and (pickle := pickled_weights(top)):
        remedy = f"download it, run detr-onnx convert {pickle} -o DIRECTORY and pass the directory"
        raise HubError(f"{model.name} has its weights only as a pickle", found=pickle, expected=WEIGHTS, remedy=remedy)
    missing = [name for name in (model.files or (CONFIG,)) if name not in listed] + ([] if weights else [WEIGHTS])
    if missing:
        what = f"{model.name} has no {' and no '.join(dict.fromkeys(missing))} at {model.revision}"
        raise HubError(what, remedy="name a DETR model of the hub")
    return list(model.files) or [CONFIG, *(name for name in PREPROCESSING if name in listed), *weights]


def _import_huggingface_hub(model: HubModel) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as missing:
        what = f"downloading {model.name} needs huggingface_hub"
        raise MissingPackageError(what, remedy="run pip install 'detr-onnx[export]'") from missing
    return huggingface_hub


def _endpoint() -> str | None:
    """HF_ENDPOINT as the environment has it now; None for huggingface_hub's default."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if endpoint and not re.fullmatch(r"https?://([\w.-]+|\[[\w:]+\])(:\d{1,5})?(/\S*)?", endpoint):
        raise HubError("HF_ENDPOINT is not an address", found=repr(endpoint), expected="https://host")
    return endpoint or None
