"""Model names of the hub -> a directory with config.json, model.safetensors and preprocessor_config.json.

    name ── wanted ── at hand? ── yes ──────────────────────────────────► directory   no request, no extra package
                         └─ no ── ask the hub ── download ── verify ──► directory

`store.py` knows what is at hand, `download.py` what the hub has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detr_onnx.cache import Entry, bytes_in, cache_directory
from detr_onnx.errors import HubError
from detr_onnx.hub.download import TIMEOUT_S, UnreachableError, fetch_online, nothing_cached
from detr_onnx.hub.store import COMMIT, ModelRef, PinnedFile, cached_snapshot, known_commits

TIMEOUT_WITH_A_COPY_S = 3.0  # for the hub's first answer, when a cached copy will do
FILE_SUFFIXES = (".onnx", ".safetensors", ".json", ".bin", ".pt", ".pth")
NAME = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@([\w.][\w./-]{0,199}))?", re.ASCII)


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
    copy = next((found for commit in known_commits(wanted) if (found := cached_snapshot(wanted, commit))), None)
    if copy and (offline or _is_offline() or COMMIT.fullmatch(wanted.revision)):
        return copy
    if offline or _is_offline():
        raise nothing_cached(wanted, f"{wanted.name} is not cached and no request is to be made (offline)", None)
    try:
        return fetch_online(wanted, TIMEOUT_WITH_A_COPY_S if copy else TIMEOUT_S, progress)
    except UnreachableError as trouble:
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


def _wanted(text: str, hub: Path, pinned: Sequence[PinnedModel]) -> ModelRef:
    """What a name means; a pinned model keeps its pins when its own commit is spelt out, at least seven digits."""
    match = NAME.fullmatch(text)
    if match is None or ".." in text or "--" in match[1]:
        raise HubError(f"{text!r} is not a name of the hub", expected="owner/name or owner/name@revision")
    name, revision = match[1], match[2]
    for model in pinned:
        if model.name == name and (not revision or (len(revision) >= 7 and model.revision.startswith(revision))):
            return ModelRef(name, model.revision, hub, model.files)
    return ModelRef(name, revision or "main", hub)


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
