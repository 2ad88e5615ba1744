"""Model names of the hub -> a directory with config.json, weights and preprocessor_config.json.

    name ── cached? ── yes ───────────────────────────────────────► directory   no request, no extra package
               └─ no ── huggingface_hub.snapshot_download ── verify ──► directory

Models are kept in Hugging Face's own cache, which transformers shares. Downloading, locks, mirrors, tokens and progress
bars are huggingface_hub's. Ours are the pinned sha256 of the default model and the words for each refusal.

Source of the cache's layout: huggingface_hub's documentation, "Understand caching".
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from detr_onnx import locks
from detr_onnx.cache import Entry, bytes_in, cache_directory, is_intact, read_records, record_of, write_records
from detr_onnx.checkpoint.files import ADAPTER, INDEX, PICKLES, WEIGHTS, pickled_weights, weight_files
from detr_onnx.checkpoint.huggingface_config import MODEL_TYPES
from detr_onnx.errors import CheckpointError, HubError, MissingPackageError, OutputError
from detr_onnx.json_input import read_object
from detr_onnx.paths import exists, is_file

CONFIG = "config.json"
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
TIMEOUT_S = 10.0  # for the hub's first answer
COMMIT = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@([\w.][\w./-]{0,199}))?", re.ASCII)
FILE_SUFFIXES = (".onnx", ".safetensors", ".json", *PICKLES)
STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO,
                  errno.ENOTDIR, errno.EEXIST}  # fmt: skip

logger = logging.getLogger(__name__)


class UnreachableError(HubError):
    """The hub did not answer, or its answer says nothing about the model; a cached copy may be used instead."""


class WrongFileError(HubError):
    """A file of a pinned model is not the pinned one; `snapshot` is the directory with the model's files."""

    snapshot = Path()


@dataclass(frozen=True)
class PinnedFile:
    """The size and the sha256 that a file must have."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Model:
    """A model at a revision; `files` is empty unless the files are pinned."""

    name: str
    revision: str
    files: Mapping[str, PinnedFile] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"models--{self.name.replace('/', '--')}"


PINNED = (
    Model(
        "facebook/detr-resnet-50",
        "1d5f47bd3bdd2c4bbfa585418ffe6da5028b4c0b",
        {
            "config.json": PinnedFile(4592, "e7bcf3992363f27717a863f14b193140ad2e41d4338ee012730e58a92cae17e6"),
            "preprocessor_config.json": PinnedFile(
                290, "0673fea2a6d3cf92cdbab3c7426c0ecdf8a4729a2a4d5199033dcd66a2b8759b"
            ),
            "model.safetensors": PinnedFile(
                166587896, "830f5e2eeaada8c8c8281779dcc8ab12833972eb8514ed0a35be6c1d4420ad81"
            ),
        },
    ),
)
"""Models whose name without a revision means this commit, with these files."""


def is_hub_name(text: str) -> bool:
    """Whether the text is `owner/name` or `owner/name@revision`, and neither an existing path nor a file's name."""
    name = NAME.fullmatch(text)
    if name is None or ".." in text or "--" in name[1] or text.lower().endswith(FILE_SUFFIXES):
        return False
    return not exists(text)


def fetch(
    name: str,
    *,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    pinned: Sequence[Model] = PINNED,
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
    model, hub = _parse(name, pinned), models_directory(cache_dir)
    record = cache_directory(cache_dir) / "verified" / f"{model.folder}@{model.revision}.json"
    snapshot = _cached_snapshot(model, hub)
    wrong = _wrong_files(snapshot, model, record) if snapshot else []
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        if snapshot is None:
            raise _not_cached(f"{model.name} is not cached and requests are switched off (offline)", hub)
    elif snapshot is None or wrong or not (COMMIT.fullmatch(model.revision) and _has_preprocessing(snapshot)):
        snapshot = _download(model, hub, snapshot, wrong)
        wrong = _wrong_files(snapshot, model, record)
    for file in wrong:
        found, pin = record_of(snapshot / file), model.files[file]
        error = WrongFileError(
            f"{file} of {model.name} is not the pinned file",
            found=f"{found.bytes} bytes with sha256 {found.sha256}",
            expected=f"{pin.bytes} bytes with sha256 {pin.sha256}",
            remedy="download it again; if it stays so, the hub or HF_ENDPOINT serves another file",
        )
        error.snapshot = snapshot
        raise error
    return snapshot


def cached_models(cache_dir: str | os.PathLike[str] | None = None) -> list[Entry]:
    """The DETR models in the cache, as `owner/name@commit`; other models in Hugging Face's cache are left out."""
    snapshots = sorted(models_directory(cache_dir).glob("models--*--*/snapshots/*"))
    return [Entry(_title(path), path, bytes_in(path)) for path in snapshots if _is_detr(path)]


def models_directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where models are kept: `cache_dir/hub` if given, else Hugging Face's cache, as its documentation says."""
    if cache_dir is not None:
        return cache_directory(cache_dir) / "hub"
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    path = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")
    return Path(os.path.expanduser(os.path.expandvars(path)))  # noqa: PTH111 - Path.expanduser raises without a home


def _title(snapshot: Path) -> str:
    owner, name = snapshot.parent.parent.name.removeprefix("models--").split("--", 1)
    return f"{owner}/{name}@{snapshot.name[:7]}"


def _parse(text: str, pinned: Sequence[Model]) -> Model:
    """The model of a name. A pinned model may be named with its commit, of which seven digits are enough."""
    match = NAME.fullmatch(text)
    if match is None or ".." in text or "--" in match[1]:
        raise HubError(f"{text!r} is not a name of the hub", expected="owner/name or owner/name@revision")
    name, revision = match[1], match[2]
    for model in pinned:
        if model.name == name and (not revision or (len(revision) >= 7 and model.revision.startswith(revision))):
            return model
    return Model(name, revision or "main")


# The cache


def _cached_snapshot(model: Model, hub: Path) -> Path | None:
    """The complete snapshot that the revision led to when the hub was last asked, or None."""
    commit = model.revision
    if not COMMIT.fullmatch(commit):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            commit = (hub / model.folder / "refs" / model.revision).read_text(encoding="utf-8").strip()
    snapshot = hub / model.folder / "snapshots" / commit
    return snapshot if COMMIT.fullmatch(commit) and _is_complete(snapshot, model.files) else None


def _is_complete(snapshot: Path, files: Mapping[str, PinnedFile]) -> bool:
    """Whether the snapshot holds the pinned files; of a model that is not pinned, a config and all weights."""
    if files:
        return all((snapshot / name).is_file() for name in files)
    try:
        weights = [snapshot / WEIGHTS] if (snapshot / WEIGHTS).is_file() else weight_files(snapshot / INDEX)
    except CheckpointError:
        return False
    return all(is_file(path) for path in (snapshot / CONFIG, *weights))


def _has_preprocessing(snapshot: Path) -> bool:
    """Whether the image processor is cached or known not to exist: transformers may have loaded the weights alone."""
    absent = snapshot.parent.parent / ".no_exist" / snapshot.name
    if any((snapshot / name).exists() for name in PREPROCESSING):
        return True
    return all((absent / name).exists() for name in PREPROCESSING)


def _is_detr(snapshot: Path) -> bool:
    try:
        return _is_complete(snapshot, {}) and read_object(snapshot / CONFIG).get("model_type") in MODEL_TYPES
    except CheckpointError:
        return False


def _wrong_files(snapshot: Path, model: Model, record: Path) -> list[str]:
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
            raise HubError(f"{path} cannot be read", found=error.strerror, remedy="make it readable") from error
        if known[name].sha256 != pin.sha256:
            wrong.append(name)
            del known[name]
    if known != read_records(record):
        with contextlib.suppress(OSError):  # without a cache that can be written, every start pays the full check
            write_records(record, known)
    return wrong


# The hub


def _download(model: Model, hub: Path, cached: Path | None, wrong: Sequence[str]) -> Path:
    """The snapshot of the commit that the revision leads to now, by huggingface_hub.

    Args:
        hub: the cache.
        cached: a complete snapshot, returned if it is the current one, or if the hub does not answer.
        wrong: the files of it to download again.
    """
    try:
        library, endpoint = _import(model), _endpoint()
        with _plain_words(library, model, endpoint, hub, "connect"):
            info = library.HfApi(endpoint=endpoint).model_info(model.name, revision=model.revision, timeout=TIMEOUT_S)
    except (UnreachableError, MissingPackageError) as error:
        if cached is None or wrong:
            raise
        logger.info("%s; using the cached copy of commit %s", error.what, cached.name[:7])
        return cached
    if cached and cached.name == info.sha and not wrong and _has_preprocessing(cached):
        return cached
    files = list(wrong) or _files_to_download(model, [file.rfilename for file in info.siblings or ()])
    logger.info("fetching %s@%s into %s", model.name, str(info.sha)[:7], hub)
    with _plain_words(library, model, endpoint, hub, "download"):
        options = {"revision": model.revision, "cache_dir": hub, "endpoint": endpoint, "force_download": bool(wrong)}
        snapshot = Path(library.snapshot_download(model.name, allow_patterns=files, **options))
    _remove_abandoned_parts(model, hub)
    if not _is_complete(snapshot, model.files):
        raise UnreachableError(f"the download of {model.name} is incomplete", remedy="try again")
    return snapshot


def _remove_abandoned_parts(model: Model, hub: Path) -> None:
    """Removes what killed downloads left. huggingface_hub does not resume it; what is under way is locked."""
    for part in (hub / model.folder / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):
            descriptor = os.open(hub / ".locks" / model.folder / f"{part.name.split('.')[0]}.lock", os.O_RDWR)
            try:
                if locks.fcntl is not None and locks.acquire(descriptor, wait=False):
                    part.unlink()
            finally:
                os.close(descriptor)


def _files_to_download(model: Model, listed: Sequence[str]) -> list[str]:
    """The files of a repository that a DETR needs.

    Raises:
        HubError: when the config, the weights or a pinned file are missing; weights that are a pickle are named.
    """
    top = [name for name in listed if "/" not in name]
    weights = [WEIGHTS] if WEIGHTS in top else []
    if INDEX in top and not weights:
        weights = [INDEX, *(name for name in top if name.endswith(".safetensors"))]
    if not weights and ADAPTER[0] in top:
        remedy = "load it with peft, call merge_and_unload() and save_pretrained(DIRECTORY), and pass that directory"
        raise HubError(
            f"{model.name} is an adapter, not a whole model", found=ADAPTER[0], expected=WEIGHTS, remedy=remedy
        )
    if not weights and (pickle := pickled_weights(top)):
        remedy = f"download it, run detr-onnx convert {pickle} -o DIRECTORY and pass the directory"
        raise HubError(f"{model.name} has its weights only as a pickle", found=pickle, expected=WEIGHTS, remedy=remedy)
    missing = [name for name in (model.files or (CONFIG,)) if name not in listed] + ([] if weights else [WEIGHTS])
    if missing:
        what = f"{model.name} has no {' and no '.join(dict.fromkeys(missing))} at {model.revision}"
        raise HubError(what, remedy="name a DETR model of the hub")
    return list(model.files) or [CONFIG, *(name for name in PREPROCESSING if name in listed), *weights]


def _import(model: Model) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
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


@contextlib.contextmanager
def _plain_words(library: ModuleType, model: Model, endpoint: str | None, hub: Path, step: str) -> Iterator[None]:
    """Turns errors of huggingface_hub, and of the HTTP library below it, into ours; `step` is connect or download."""
    errors, endpoint = library.errors, endpoint or "huggingface.co"
    # requests, httpx or httpx2, by the version of huggingface_hub
    transport = next(
        kind for kind in errors.HfHubHTTPError.__mro__ if not kind.__module__.startswith("huggingface_hub")
    )
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, transport) as error:  # RuntimeError: hf_xet's
        cause = (error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None) or error
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status and isinstance(cause, errors.HfHubHTTPError):
            raise _refusal(cause, status, errors, model, endpoint) from error
        found = " ".join(str(cause).split()) or type(cause).__name__
        if getattr(cause, "errno", None) in STORAGE_ERRORS:
            remedy = "make room or give permission there, or set HF_HOME to a directory that can be written"
            raise OutputError(f"the cache of models {hub} cannot be written", found=found, remedy=remedy) from error
        if isinstance(cause, ValueError | KeyError | TypeError):  # an answer that is not the hub's JSON
            remedy = "check HF_ENDPOINT and the proxy settings"
            raise HubError(f"{endpoint} does not answer as a hub does", found=found, remedy=remedy) from error
        if step == "download":
            what = f"the download of {model.name} from {endpoint} broke off"
            raise UnreachableError(what, found=found, remedy="try again") from error
        raise _not_cached(f"{model.name} is not cached and {endpoint} cannot be reached", hub, found) from error


def _refusal(error: BaseException, status: int, errors: ModuleType, model: Model, endpoint: str) -> HubError:
    """The error to raise for the status of the hub's answer."""
    found = f"status {status}"
    if isinstance(error, errors.RevisionNotFoundError):
        remedy = "check what follows the @, or leave it out"
        return HubError(f"{model.name} has no revision {model.revision} on the hub", remedy=remedy)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        remedy = "accept its terms on its page, then set HF_TOKEN to a token that may read it"
        return HubError(f"{model.name} is not open to everybody", found=found, remedy=remedy)
    if status in (401, 404):
        remedy = "check the name; for a private model set HF_TOKEN to a token that may read it"
        return HubError(f"{endpoint} has no model {model.name}", found=found, remedy=remedy)
    return UnreachableError(
        f"{endpoint} could not serve {model.name}", found=found, remedy="try again in a few minutes"
    )


def _not_cached(what: str, hub: Path, found: str | None = None) -> HubError:
    """The error of someone who has neither the model nor a connection."""
    remedy = f"connect once (the model is then kept in {hub}), or pass a directory that holds it"
    return UnreachableError(what, found=found, remedy=remedy)
