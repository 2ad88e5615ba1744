"""Manifests of cache entries: whatever is in one, the entry holds the right files afterwards."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from detr_onnx.cache import MANIFEST, cached
from tests.fuzz.inputs import directory
from tests.fuzz.mutate import mutate_json_text
from tests.fuzz.run import Kind

FILES = {"model.onnx": b"graph", "model.onnx.data": bytes(range(256))}
WRITTEN_NS = 1_700_000_000 * 10**9
ODD_RECORDS = (5, 256, 10**90, -1, 2**63, "0" * 64, "../model.onnx", "x" * 300, "a\0b", "/dev/zero", "\ud800")


def build(entry: Path) -> None:
    for name, content in FILES.items():
        (entry / name).write_bytes(content)
        os.utime(entry / name, ns=(WRITTEN_NS, WRITTEN_NS))  # else inputs would depend on the time


@functools.cache
def seeds() -> Mapping[str, bytes]:
    """The manifest of an entry that was just built."""
    return {"manifest": (cached("model", build, cache_dir=directory("cache")) / MANIFEST).read_bytes()}


def mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return mutate_json_text(random, data, others, ODD_RECORDS)


def read(data: bytes) -> str:
    """Puts the manifest into the entry, and opens the entry until it is found."""
    seeds()
    (directory("cache") / "built" / "model" / MANIFEST).write_bytes(data)
    outcomes = [_open(), _open(), _open()]
    if outcomes[-1] != "found":
        raise AssertionError("the entry would be built again and again")
    return outcomes[0]


def _open() -> str:
    built = []
    entry = cached("model", lambda fresh: built.append(build(fresh)), cache_dir=directory("cache"))
    if {name: (entry / name).read_bytes() for name in FILES} != FILES:
        raise AssertionError("the entry does not hold its files")
    return "built again" if built else "found"


MANIFESTS = Kind(seeds, mutate, read, (), 2)
"""No error is allowed: a damaged entry is built again."""
