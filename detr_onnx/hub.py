"""Model names of the hub -> a directory with config.json, model.safetensors and preprocessor_config.json.

    name ── wanted ── at hand? ── yes ──────────────────────────────────► directory   no request, no extra package
                         └─ no ── ask the hub ── download ── verify ──► directory

Kept as huggingface_hub keeps it, so that its own cache is read by the same few lines:

    <cache>/hub/models--<owner>--<name>/snapshots/<commit>/    the files
                                        refs/<revision>        the commit a branch or tag led to when last asked
                                        verified/<commit>.json what was verified: sizes, times, sha256 (see cache.py)

huggingface_hub does the talking (addresses, tokens, proxies, progress bars on a terminal); what is kept, resumed and
verified is decided here, because its downloads start over in a new process and its retries can take minutes.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlsplit

from detr_onnx.cache import (
    Entry,
    FileRecord,
    bytes_in,
    cache_directory,
    is_intact,
    lock,
    read_records,
    record_of,
    sha256_of,
    write_records,
    write_whole,
    writing_in,
)
from detr_onnx.errors import DetrError, HubError

REQUIRED = ("config.json", "model.safetensors")
OPTIONAL = ("preprocessor_config.json",)
TIMEOUT_S = 10.0  # for the hub's first answer
TIMEOUT_WITH_A_COPY_S = 3.0  # the same, when a cached copy will do
FILE_SUFFIXES = (".onnx", ".safetensors", ".json", ".bin", ".pt", ".pth")
NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@([\w.][\w./-]{0,199}))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}


@dataclass(frozen=True)
class PinnedFile:
    """What a file has to be, to the byte."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class PinnedModel:
    """A model whose bytes are known beforehand; its name without a revision means this commit."""

    name: str
    revision: str
    files: Mapping[str, PinnedFile]


PINNED = (
    PinnedModel(
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


@dataclass(frozen=True)
class _Wanted:
    """One model at one revision; `pins` is empty where nothing is known beforehand."""

    name: str
    revision: str
    hub: Path
    pins: Mapping[str, PinnedFile] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"models--{self.name.replace('/', '--')}"

    @property
    def store(self) -> Path:
        return self.hub / self.folder

    @property
    def ref(self) -> Path:
        return self.store / "refs" / self.revision

    def snapshot(self, commit: str) -> Path:
        return self.store / "snapshots" / commit

    def verified(self, commit: str) -> Path:
        return self.store / "verified" / f"{commit}.json"


class _UnreachableError(HubError):
    """The hub gave no answer, or none that says anything about the model; a cached copy will do."""


def is_hub_name(text: str) -> bool:
    """Whether a text reads `owner/name` or `owner/name@revision`, and is neither a path here nor a file's name."""
    name = NAME.fullmatch(text)
    if name is None or ".." in text or "--" in name[1] or text.lower().endswith(FILE_SUFFIXES):
        return False
    return not Path(text).exists()


def fetch(
    name: str,
    *,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda note: None,
    pinned: Sequence[PinnedModel] = PINNED,
) -> Path:
    """The directory of a model: from the cache, else from Hugging Face's cache, else downloaded.

    Args:
        name: `owner/name` (a pinned model's commit, else the branch main) or `owner/name@revision`.
        offline: make no request; so does HF_HUB_OFFLINE=1.
        progress: is told, in one line, about a download and about a copy that could not be compared with the hub's.

    Raises:
        HubError: there is no such model, it cannot be had now, or its bytes are not the pinned ones.
        OutputError: the cache cannot be written.
    """
    wanted = _wanted(name, cache_directory(cache_dir) / "hub", pinned)
    copy = next((found for commit in _known_commits(wanted) if (found := _at_hand(wanted, commit))), None)
    if copy and (offline or _is_offline() or COMMIT.fullmatch(wanted.revision)):
        return copy
    if offline or _is_offline():
        raise _nothing_cached(wanted, f"{wanted.name} is not cached and no request is to be made (offline)", None)
    try:
        return _fetch_online(wanted, TIMEOUT_WITH_A_COPY_S if copy else TIMEOUT_S, progress)
    except _UnreachableError as trouble:
        if copy is None:
            raise
        why = trouble.found or trouble.what
        progress(f"the hub could not be asked about {wanted.name} ({why}); using the copy of {copy.name[:7]}")
        return copy


def cached_models(cache_dir: str | os.PathLike[str] | None = None) -> list[Entry]:
    """The models downloaded so far, as `owner/name@commit`."""
    hub = cache_directory(cache_dir) / "hub"
    records = sorted(hub.glob("models--*/verified/*.json"))
    snapshots = [path.parent.parent / "snapshots" / path.stem for path in records]
    return [Entry(_title(path), path, bytes_in(path)) for path in snapshots if path.is_dir()]


def _title(snapshot: Path) -> str:
    owner, name = snapshot.parent.parent.name.removeprefix("models--").split("--", 1)
    return f"{owner}/{name}@{snapshot.name[:7]}"


def _wanted(text: str, hub: Path, pinned: Sequence[PinnedModel]) -> _Wanted:
    """What a name means; a pinned model keeps its pins when its own commit is spelt out, at least seven digits."""
    match = NAME.fullmatch(text)
    if match is None or ".." in text or "--" in match[1]:
        raise HubError(f"{text!r} is not a name of the hub", expected="owner/name or owner/name@revision")
    name, revision = match[1], match[2]
    for model in pinned:
        if model.name == name and (not revision or (len(revision) >= 7 and model.revision.startswith(revision))):
            return _Wanted(name, model.revision, hub, model.files)
    return _Wanted(name, revision or "main", hub)


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


# What is at hand


def _known_commits(wanted: _Wanted) -> Iterator[str]:
    """The commits that the revision is known to stand for, ours first."""
    if COMMIT.fullmatch(wanted.revision):
        yield wanted.revision
        return
    for ref in (wanted.ref, _hugging_face_cache() / wanted.folder / "refs" / wanted.revision):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            commit = ref.read_text(encoding="utf-8").strip()
            if COMMIT.fullmatch(commit):
                yield commit


def _at_hand(wanted: _Wanted, commit: str) -> Path | None:
    """A complete and sound snapshot of the commit: ours, else one in Hugging Face's cache, else None."""
    ours, record = wanted.snapshot(commit), wanted.verified(commit)
    theirs = _hugging_face_cache() / wanted.folder / "snapshots" / commit
    if wanted.pins:
        if _is_as_pinned(ours, wanted.pins, record):
            return ours
        return theirs if _is_as_pinned(theirs, wanted.pins, record.with_suffix(".theirs")) else None
    records = read_records(record)
    if set(REQUIRED) <= set(records) and all(is_intact(ours / name, row) for name, row in records.items()):
        return ours
    return theirs if all((theirs / name).is_file() for name in REQUIRED) else None


def _is_as_pinned(snapshot: Path, pins: Mapping[str, PinnedFile], record: Path) -> bool:
    """Whether every pinned file is there with the pinned bytes; remembers a full check, which takes 0.1 s."""
    if not all(_has_size(snapshot / name, pin.bytes) for name, pin in pins.items()):
        return False
    known = read_records(record)
    if all(name in known and known[name].sha256 == pin.sha256 for name, pin in pins.items()):
        return all(is_intact(snapshot / name, known[name]) for name in pins)
    found = {name: record_of(snapshot / name) for name in pins}
    if any(found[name].sha256 != pin.sha256 for name, pin in pins.items()):
        return False
    with contextlib.suppress(OSError):  # a read-only cache is checked in full every time
        write_records(record, found)
    return True


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _hugging_face_cache() -> Path:
    """Where huggingface_hub keeps its snapshots, as its documentation says."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    text = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")
    return Path(os.path.expanduser(os.path.expandvars(text)))  # noqa: PTH111 (no home is no error)


# What the hub has


@dataclass(frozen=True)
class _Connection:
    """The parts of huggingface_hub that are used, and the hub they talk to."""

    wanted: _Wanted
    endpoint: str
    download: ModuleType
    errors: ModuleType

    def address(self, file: str, revision: str) -> str:
        return f"{self.endpoint}/{self.wanted.name}/resolve/{quote(revision, safe='')}/{quote(file)}"

    def look_up(self, file: str, revision: str, timeout_s: float = TIMEOUT_S) -> Any:
        """The file's metadata (commit_hash, etag, size), or None when the repository has no such file."""
        with self._in_plain_words():
            try:
                return self.download.get_hf_file_metadata(self.address(file, revision), timeout=timeout_s)
            except self.errors.EntryNotFoundError:
                return None

    def append(self, file: str, revision: str, partial: Path, size: int | None) -> None:
        """Downloads what a partial file still lacks."""
        done = partial.stat().st_size if partial.exists() else 0
        if size is None or done > size:
            done = 0
        # an encoded answer could not be resumed
        headers = self.download.build_hf_headers() | {"Accept-Encoding": "identity"}
        with partial.open("ab") as target, self._in_plain_words(file):
            target.truncate(done)
            url = self.address(file, revision)
            self.download.http_get(
                url, target, resume_size=done, headers=headers, expected_size=size, displayed_filename=file
            )

    @contextlib.contextmanager
    def _in_plain_words(self, file: str | None = None) -> Iterator[None]:
        """Errors of huggingface_hub and of the library below it, as HubError; trouble with the disk passes."""
        try:
            yield
        except self.errors.HTTPError as trouble:
            raise self._refusal(trouble, file) from trouble
        except OSError as trouble:  # requests' errors are OSErrors too
            if trouble.errno in STORAGE_ERRORS and not isinstance(trouble, ConnectionError):
                raise
            raise self._refusal(trouble, file) from trouble

    def _refusal(self, trouble: Exception, file: str | None) -> DetrError:
        """The error to raise, by the status of the hub's answer if there was one."""
        status = getattr(getattr(trouble, "response", None), "status_code", None)
        name, revision, found = self.wanted.name, self.wanted.revision, f"status {status}"
        if status is None and file is not None:
            what, remedy = f"the download of {file} of {name} was cut off", "try again: it goes on where it stopped"
            return _UnreachableError(what, found=_first_line(trouble), remedy=remedy)
        if status is None:
            what = f"{name} is not cached and the hub at {self.endpoint} cannot be reached"
            return _nothing_cached(self.wanted, what, _first_line(trouble))
        if isinstance(trouble, self.errors.RevisionNotFoundError):
            remedy = "check what follows the @, or leave it out"
            return HubError(f"{name} has no revision {revision} on the hub", remedy=remedy)
        if isinstance(trouble, self.errors.GatedRepoError) or status == 403:
            remedy = "accept its terms on its page, then set HF_TOKEN to a token that may read it"
            return HubError(f"{name} is not open to everybody", found=found, remedy=remedy)
        if status in (401, 404):
            remedy = "check the name; for a private model set HF_TOKEN to a token that may read it"
            return HubError(f"the hub at {self.endpoint} has no {name} to show", found=found, remedy=remedy)
        what = f"the hub at {self.endpoint} could not serve {name}"
        return _UnreachableError(what, found=found, remedy="try again in a few minutes")


def _first_line(trouble: Exception) -> str:
    return (str(trouble) or type(trouble).__name__).splitlines()[0]


def _nothing_cached(wanted: _Wanted, what: str, found: str | None) -> HubError:
    """The error of someone who has neither the model nor a connection."""
    remedy = f"connect once (the model is then kept in {wanted.hub}), or pass a directory that holds it"
    return _UnreachableError(what, found=found, remedy=remedy)


def _connect(wanted: _Wanted) -> _Connection:
    """huggingface_hub and the endpoint, as the environment says at this moment."""
    try:
        download = importlib.import_module("huggingface_hub.file_download")
        errors = importlib.import_module("huggingface_hub.errors")
    except ImportError as missing:
        what = f"asking the hub for {wanted.name} needs huggingface_hub"
        raise _UnreachableError(what, remedy="pip install 'detr-onnx[export]'") from missing
    endpoint = os.environ.get("HF_ENDPOINT") or download.constants.ENDPOINT
    return _Connection(wanted, _checked_address(endpoint).rstrip("/"), download, errors)


def _checked_address(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        sound = (
            parts.scheme in ("http", "https") and re.fullmatch(r"[\w.:-]+", parts.hostname or "") and parts.port != 0
        )
    except ValueError:  # a port or an IPv6 address that is none
        sound = False
    if not sound:
        raise HubError("HF_ENDPOINT is no address", found=repr(endpoint), expected="https://host", remedy="correct it")
    return endpoint


def _fetch_online(wanted: _Wanted, timeout_s: float, progress: Callable[[str], None]) -> Path:
    """The snapshot of the commit that the revision stands for now, downloaded unless it is at hand."""
    connection = _connect(wanted)
    config = connection.look_up("config.json", wanted.revision, timeout_s)
    if config is None:
        raise HubError(f"{wanted.name} has no config.json at {wanted.revision}", remedy="name a DETR model of the hub")
    commit = config.commit_hash
    if not COMMIT.fullmatch(commit or ""):
        remedy = "check HF_ENDPOINT and the proxy settings"
        raise HubError(f"{connection.endpoint} does not answer as a hub does", remedy=remedy)
    with writing_in(wanted.store), lock(wanted.store / ".lock"):
        # another process may have fetched it while this one waited
        snapshot = _at_hand(wanted, commit) or _download(connection, commit, progress)
        if not COMMIT.fullmatch(wanted.revision):
            write_whole(wanted.ref, commit)
    return snapshot


def _download(connection: _Connection, commit: str, progress: Callable[[str], None]) -> Path:
    """Every file of the model that is there, verified, and remembered as verified."""
    wanted = connection.wanted
    names = tuple(wanted.pins) or REQUIRED + OPTIONAL
    listed = {name: connection.look_up(name, commit) for name in names}
    listed = {name: found for name, found in listed.items() if found is not None}
    _require(connection, commit, listed)
    size = sum(found.size or 0 for found in listed.values())
    snapshot = wanted.snapshot(commit)
    progress(f"fetching {wanted.name}@{commit[:7]} ({size / 1e6:.1f} MB) into {snapshot}")
    snapshot.mkdir(parents=True, exist_ok=True)
    records = {name: _download_file(connection, commit, name, found) for name, found in listed.items()}
    write_records(wanted.verified(commit), records)
    return snapshot


def _require(connection: _Connection, commit: str, listed: Mapping[str, Any]) -> None:
    """Refuses a repository that lacks a file, with a way out when it only has pickled weights."""
    wanted = connection.wanted
    missing = [name for name in tuple(wanted.pins) or REQUIRED if name not in listed]
    if "model.safetensors" in missing and connection.look_up("pytorch_model.bin", commit):
        raise HubError(
            f"{wanted.name} has its weights only as a pickle",
            found="pytorch_model.bin",
            expected="model.safetensors",
            remedy="download it, convert it with export/pth_to_safetensors.py and pass the directory",
        )
    if missing:
        raise HubError(f"{wanted.name} lacks {' and '.join(missing)}", remedy="name a DETR model of the hub")


def _download_file(connection: _Connection, commit: str, name: str, listed: Any) -> FileRecord:
    """One file put in place, unless the right bytes are there already."""
    path = connection.wanted.snapshot(commit) / name
    pin = connection.wanted.pins.get(name)
    expected = pin.sha256 if pin else listed.etag if SHA256.fullmatch(listed.etag or "") else None
    if expected and path.exists() and sha256_of(path) == expected:
        return record_of(path)
    partial = path.with_name(f"{name}.partial")
    _complete(connection, commit, name, partial, listed.size)
    found = record_of(partial)
    if expected and found.sha256 != expected:
        partial.unlink()
        raise HubError(
            f"{name} of {connection.wanted.name} did not arrive as it should and was removed",
            found=f"{found.bytes} bytes with sha256 {found.sha256}",
            expected=f"{pin.bytes} bytes with sha256 {expected}" if pin else f"sha256 {expected}",
            remedy="try again; if it stays so, the hub or HF_ENDPOINT serves another file",
        )
    partial.replace(path)
    return found


def _complete(connection: _Connection, commit: str, name: str, partial: Path, size: int | None) -> None:
    """Downloads a file, taking up a cut connection again as long as every attempt brings something."""
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            return connection.append(name, commit, partial, size)
        except _UnreachableError:
            if partial.stat().st_size <= before:
                raise
