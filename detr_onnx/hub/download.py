"""What the hub has of a model, asked and downloaded.

huggingface_hub does the talking (addresses, tokens, proxies, progress bars on a terminal); what is resumed and verified
is decided here, because its downloads start over in a new process and its retries can take minutes.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlsplit

from detr_onnx.atomic import write_atomically
from detr_onnx.cache import FileRecord, lock, record_of, sha256_of, write_records, writing_in
from detr_onnx.errors import DetrError, HubError
from detr_onnx.hub.store import COMMIT, OPTIONAL, REQUIRED, ModelRef, cached_snapshot

TIMEOUT_S = 10.0  # for the hub's first answer
SHA256 = re.compile(r"[0-9a-f]{64}")
STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}


class UnreachableError(HubError):
    """The hub gave no answer, or none that says anything about the model; a cached copy will do."""


def fetch_online(wanted: ModelRef, timeout_s: float, progress: Callable[[str], None]) -> Path:
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
        snapshot = cached_snapshot(wanted, commit) or _download(connection, commit, progress)
        if not COMMIT.fullmatch(wanted.revision):
            wanted.ref.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(wanted.ref, commit.encode())
    return snapshot


@dataclass(frozen=True)
class _Connection:
    """The parts of huggingface_hub that are used, and the hub they talk to."""

    wanted: ModelRef
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
            return UnreachableError(what, found=_first_line(trouble), remedy=remedy)
        if status is None:
            what = f"{name} is not cached and the hub at {self.endpoint} cannot be reached"
            return nothing_cached(self.wanted, what, _first_line(trouble))
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
        return UnreachableError(what, found=found, remedy="try again in a few minutes")


def _first_line(trouble: Exception) -> str:
    return (str(trouble) or type(trouble).__name__).splitlines()[0]


def nothing_cached(wanted: ModelRef, what: str, found: str | None) -> HubError:
    """The error of someone who has neither the model nor a connection."""
    remedy = f"connect once (the model is then kept in {wanted.hub}), or pass a directory that holds it"
    return UnreachableError(what, found=found, remedy=remedy)


def _connect(wanted: ModelRef) -> _Connection:
    """huggingface_hub and the endpoint, as the environment says at this moment."""
    try:
        download = importlib.import_module("huggingface_hub.file_download")
        errors = importlib.import_module("huggingface_hub.errors")
    except ImportError as missing:
        what = f"asking the hub for {wanted.name} needs huggingface_hub"
        raise UnreachableError(what, remedy="pip install 'detr-onnx[export]'") from missing
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
        except UnreachableError:
            if partial.stat().st_size <= before:
                raise
