"""Compares the bytes of a model's files with pinned digests, or with those that name the blobs of the hub's cache.

A blob of Hugging Face's cache is named by the digest that the hub announced: sha256 for large files, git's sha1 for
small ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from detr_onnx.cache import sha256_of
from detr_onnx.engines import Engine
from detr_onnx.errors import CheckpointError
from detr_onnx.exporter.onnx_file import tensors_sha256
from detr_onnx.hub.names import PINNED, PinnedFile
from detr_onnx.hub.snapshots import CONFIG, PREPROCESSING
from detr_onnx.models.load import Source
from detr_onnx.models.metadata import read_model
from detr_onnx.models.open import model_files
from detr_onnx.text import reason_of
from detr_onnx.verify.checks import FAILED, OK, SHOWN, Check, Notice, judged

SECTION = "files"
SHA256, GIT_SHA1 = 64, 40  # hexadecimal digits
DIGITS = 16  # of a digest in the table; all of them are in the JSON
CHUNK_BYTES = 1 << 20


def pinned_files(official: str | None, revision: str = "") -> Mapping[str, PinnedFile]:
    """The pinned files of an official model; empty for others, and for a revision that is not the pinned one."""
    found = (model.files for model in PINNED if model.name == official and model.revision.startswith(revision))
    return next(found, {})


def official_name(source: Source) -> str | None:
    """The pinned model that has the same config.json, byte for byte, as this checkpoint; None if there is none."""
    if source.checkpoint is None:
        return None
    config = (source.checkpoint if source.checkpoint.is_dir() else source.checkpoint.parent) / CONFIG
    if not config.is_file():
        return None
    digest = sha256_of(config)
    return next((model.name for model in PINNED if model.files[CONFIG].sha256 == digest), None)


def check_files(source: Source, official: str | None, notice: Notice, revision: str = "") -> Iterator[Check]:
    """A check for each file of the model.

    Args:
        source: the files.
        official: the official model that it is, or should be.
        notice: called with the name of each file.
        revision: that was asked for; empty for the pinned one.

    Raises:
        DetrError: the weights cannot be found.
    """
    pinned = pinned_files(official, revision)
    weights = model_files(source)
    directory = weights[0].parent
    small = (directory / name for name in (CONFIG, *PREPROCESSING) if source.checkpoint is not None)
    for path in (*(path for path in small if path.is_file()), *weights):
        notice(path.name)
        yield _check_file(path, pinned.get(path.name))
    lacking = [name for name in pinned if not (directory / name).is_file()]
    yield from (Check(SECTION, name, FAILED, "missing", f"the pinned file of {official}") for name in lacking)


def _check_file(path: Path, pin: PinnedFile | None) -> Check:
    try:
        digest, size = sha256_of(path), path.stat().st_size
    except OSError as error:
        return Check(SECTION, path.name, FAILED, reason_of(error), "a readable file")
    figures = {"bytes": size, "sha256": digest}
    found = f"{size} bytes, sha256 {digest[:DIGITS]}…"
    if pin is not None:
        expected = f"the pinned file: {pin.bytes} bytes, sha256 {pin.sha256[:DIGITS]}…"
        return judged(SECTION, path.name, digest == pin.sha256, found, expected, {**figures, "pinned": pin.sha256})
    announced = announced_digest(path)
    if announced is not None:
        kind, actual = ("sha256", digest) if len(announced) == SHA256 else ("git's sha1", git_sha1(path))
        found = f"{size} bytes, {kind} {actual[:DIGITS]}…"
        expected = f"as the hub announced it: {announced[:DIGITS]}…"
        return judged(SECTION, path.name, actual == announced, found, expected, {**figures, "announced": announced})
    return Check(SECTION, path.name, OK, f"{found}; there is no published digest of it", figures=figures)


def announced_digest(path: Path) -> str | None:
    """The digest that names the blob which a file of Hugging Face's cache links to; None elsewhere."""
    blob = path.resolve()
    is_digest = re.fullmatch(rf"[0-9a-f]{{{SHA256}}}|[0-9a-f]{{{GIT_SHA1}}}", blob.name)
    return blob.name if is_digest and blob.parent.name == "blobs" else None


def git_sha1(path: Path) -> str:
    """The name that git gives to a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_input(graph: Path, engine: Engine) -> Iterator[Check]:
    """What a graph file takes, if its batch or size is fixed or it has no mask: other images are not compared."""
    limits = [
        f"{engine.batch} at a time" if engine.batch else "",
        "of {}x{}".format(*engine.canvas_hw) if engine.canvas_hw else "",
        "" if engine.batches_mixed_sizes else "without a mask",
    ]
    if any(limits):
        yield Check(SECTION, f"input of {graph.name}", SHOWN, ", ".join(["images", *filter(None, limits)]))


def check_source(source: Source, metadata: Mapping[str, str], reference: Path | None) -> Iterator[Check]:
    """A check, by the digest in its metadata, that a graph file was written from the weights it is compared with."""
    checkpoint = source.checkpoint if source.graph is not None else None
    checkpoint = reference or checkpoint
    said = metadata.get("detr_onnx.source_sha256")
    if checkpoint is None or said is None or source.graph is None:
        return
    try:
        digest = tensors_sha256(read_model(checkpoint)[0].tensors)
    except CheckpointError as error:
        yield Check(SECTION, checkpoint.name, FAILED, str(error), "a readable checkpoint")
        return
    name = f"weights of {source.graph.name}"
    yield judged(SECTION, name, said == digest, f"tensors {said[:DIGITS]}…", f"{digest[:DIGITS]}… of the checkpoint")
