"""What is at hand of a model of the hub: our own snapshots, and those in Hugging Face's cache.

Kept as huggingface_hub keeps it, so that its own cache is read by the same few lines:

    <cache>/hub/models--<owner>--<name>/snapshots/<commit>/    the files
                                        refs/<revision>        the commit a branch or tag led to when last asked
                                        verified/<commit>.json what was verified: sizes, times, sha256 (see cache.py)
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detr_onnx.cache import is_intact, read_records, record_of, write_records

REQUIRED = ("config.json", "model.safetensors")
OPTIONAL = ("preprocessor_config.json",)
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class PinnedFile:
    """What a file has to be, to the byte."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class ModelRef:
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


def known_commits(wanted: ModelRef) -> Iterator[str]:
    """The commits that the revision is known to stand for, ours first."""
    if COMMIT.fullmatch(wanted.revision):
        yield wanted.revision
        return
    for ref in (wanted.ref, _hugging_face_cache() / wanted.folder / "refs" / wanted.revision):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            commit = ref.read_text(encoding="utf-8").strip()
            if COMMIT.fullmatch(commit):
                yield commit


def cached_snapshot(wanted: ModelRef, commit: str) -> Path | None:
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
