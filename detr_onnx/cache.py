"""The cache of built graphs: each is built once, and used in later runs unless it is damaged.

    <cache>/built/<name>/    an entry: the files that `build` wrote, and manifest.json, written last
    <cache>/verified/        records of verified models, see hub/snapshots.py

A file counts as intact if its size, its modification time and a sample of its bytes are those on record. The sample is
the whole file up to 1 MiB, else 64 blocks of 4 KiB, so the check takes about a millisecond for any size. If only the
time differs, as in a copied cache, the sha256 of the whole file decides. A change between two sampled blocks, by
something that also restores the modification time, is not noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detr_onnx import locks
from detr_onnx.atomic import draft_directory, remove_abandoned_drafts, write_atomically
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.json_input import read_object, whole_numbers

MANIFEST = "manifest.json"
CHUNK_BYTES = 1 << 20
SAMPLED_WHOLE_BYTES = 1 << 20
SAMPLE_BLOCKS, SAMPLE_BLOCK_BYTES = 64, 4096


@dataclass(frozen=True)
class FileRecord:
    """What a file was when it was written or verified."""

    bytes: int
    modified_ns: int
    sample: str
    sha256: str


@dataclass(frozen=True)
class Entry:
    """Something in the cache: a name to show, its path, its size."""

    name: str
    path: Path
    bytes: int


def cache_directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The argument, else `DETR_ONNX_CACHE`, else `detr-onnx` in the platform's directory for caches; not created."""
    directory = cache_dir or os.environ.get("DETR_ONNX_CACHE")
    try:
        return Path(directory).expanduser() if directory else _platform_cache() / "detr-onnx"
    except RuntimeError as homeless:  # an unknown user id in a container
        raise OutputError("no home directory to keep a cache in", remedy="set DETR_ONNX_CACHE") from homeless


def _platform_cache() -> Path:
    """The directory for caches of Windows, macOS, or the XDG base directory specification."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def cached(name: str, build: Callable[[Path], None], *, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The directory that `build` filled, now or in an earlier run; a damaged entry is built again.

    Args:
        name: identifies the content and everything it was made of, such as "830f5e2eeaad-0.1.0-fp32-dynamic".
        build: writes its files into the empty directory it is given. Of several processes one builds, the others wait.
        cache_dir: the cache, in place of DETR_ONNX_CACHE.

    Raises:
        OutputError: the cache directory cannot be written.
    """
    if not name or name.startswith(".") or Path(name).name != name:
        raise UsageError("a name in the cache must be a plain file name", found=repr(name))
    root = cache_directory(cache_dir) / "built"
    entry = root / name
    remove_abandoned_drafts(root)
    if is_sound(entry, entry / MANIFEST):
        return entry
    with writing_in(root), lock(root / f".{name}.lock"):
        if not is_sound(entry, entry / MANIFEST):  # another process may have built it while this one waited
            _build(entry, build)
    return entry


def _build(entry: Path, build: Callable[[Path], None]) -> None:
    """Fills a directory beside the entry, then moves it into place in one step."""
    with draft_directory(entry.parent) as temporary:
        fresh = temporary / "fresh"  # not `temporary` itself, which nobody else may read
        fresh.mkdir()
        build(fresh)
        names = sorted(path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if path.is_file())
        write_records(fresh / MANIFEST, records_of(fresh, names))
        if os.path.lexists(entry):  # a dangling link too
            entry.rename(temporary / "spoilt")
        fresh.rename(entry)


def list_entries(cache_dir: str | os.PathLike[str] | None = None) -> list[Entry]:
    """The entries of the cache, by name."""
    root = cache_directory(cache_dir) / "built"
    directories = sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith("."))
    return [Entry(path.name, path, bytes_in(path)) for path in directories]


def bytes_in(directory: Path) -> int:
    """The bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def is_sound(directory: Path, manifest: Path) -> bool:
    """Whether the manifest can be read and every file in it is intact."""
    records = read_records(manifest)
    return bool(records) and all(is_intact(directory / name, record) for name, record in records.items())


def is_intact(path: Path, record: FileRecord) -> bool:
    """Whether the file is as recorded. If only its modification time has changed, that is restored."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or state.st_size != record.bytes:
            return False
        if state.st_mtime_ns == record.modified_ns:
            return sample_of(path) == record.sample
        if sha256_of(path) != record.sha256:
            return False
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False
    with contextlib.suppress(OSError):  # a read-only cache pays the full check at every start
        os.utime(path, ns=(state.st_atime_ns, record.modified_ns))
    return True


def record_of(path: Path) -> FileRecord:
    """The record of a file as it is now."""
    state = path.stat()
    return FileRecord(state.st_size, state.st_mtime_ns, sample_of(path), sha256_of(path))


def records_of(directory: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """A record for each of these files of a directory."""
    return {name: record_of(directory / name) for name in names}


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, in hexadecimal; a mebibyte at a time."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_of_all(paths: Sequence[Path]) -> str:
    """The sha256 of a file's bytes; of several files, the sha256 of their sha256s in hexadecimal, in a row."""
    digests = [sha256_of(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def sample_of(path: Path) -> str:
    """The sha256 of a small file's bytes, or of evenly spaced blocks of a large one, first and last included."""
    size = path.stat().st_size
    if size <= SAMPLED_WHOLE_BYTES:
        return sha256_of(path)
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for i in range(SAMPLE_BLOCKS):
            file.seek((size - SAMPLE_BLOCK_BYTES) * i // (SAMPLE_BLOCKS - 1))
            digest.update(file.read(SAMPLE_BLOCK_BYTES))
    return digest.hexdigest()


def read_records(manifest: Path) -> dict[str, FileRecord]:
    """The records of a manifest by file name; none when it is missing or damaged in any way."""
    try:
        rows = read_object(manifest, error=OutputError)
    except OutputError:
        return {}
    records = {name: _record(row) for name, row in rows.items()}
    if None in records.values():
        return {}
    return {name: record for name, record in records.items() if record}


def _record(row: Any) -> FileRecord | None:
    """The record in a row of a manifest, or None where the row is damaged."""
    if not isinstance(row, dict) or set(row) != {"bytes", "modified_ns", "sample", "sha256"}:
        return None
    numbers = whole_numbers([row["bytes"], row["modified_ns"]])
    if numbers is None or not isinstance(row["sample"], str) or not isinstance(row["sha256"], str):
        return None
    return FileRecord(numbers[0], numbers[1], row["sample"], row["sha256"])


def write_records(manifest: Path, records: Mapping[str, FileRecord]) -> None:
    """Writes a manifest in one step."""
    rows = {name: asdict(record) for name, record in records.items()}
    manifest.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(manifest, json.dumps(rows, indent=1, sort_keys=True).encode())


@contextlib.contextmanager
def writing_in(directory: Path) -> Iterator[None]:
    """Creates the directory, and turns an OSError inside the block into an OutputError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OutputError(
            f"the cache directory {directory} cannot be written",
            found=str(error),
            remedy="free some space or allow writing there, or set DETR_ONNX_CACHE to a directory that can be written",
        ) from error


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Keeps other processes out of the block. The system releases the lock of a dead process; the file stays."""
    with path.open("a+b") as file:
        locks.acquire(file.fileno())  # without locks two processes may build, and either result is right
        try:
            yield
        finally:
            locks.release(file.fileno())
