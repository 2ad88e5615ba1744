"""Who takes part in `detr-onnx bench`, and as what: ours by engine, and the peers that are asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_onnx.bench.interleave import Entry, ours, theirs
from detr_onnx.bench.processes import Program
from detr_onnx.defaults import ENGINES
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.models.metadata import Description
from detr_onnx.models.open import Source

PEERS = ("transformers", "optimum", "openvino")
WAYS = {
    "eager": "transformers, PyTorch eager",
    "bf16": "transformers, eager under bf16 autocast",
    "torch.compile": "transformers, torch.compile",
}
HOW_TO_EXPORT = (
    "pip install optimum-onnx, then optimum-cli export onnx -m MODEL --task object-detection DIR, and DIR/model.onnx"
)


@dataclass(frozen=True)
class BenchmarkCase:
    """One that takes part.

    Attributes:
        key, title: its name in the results, and for people.
        parts: the command that goes from a file to its detections, part by part.
        throughput: the same for several at a time; None where that is not measured.
        whole: a program that does it once; None where that is not measured.
        peer: which of `PEERS` it is, None for ours.
    """

    key: str
    title: str
    parts: tuple[str, ...]
    throughput: tuple[str, ...] | None = None
    whole: tuple[str, ...] | None = None
    peer: str | None = None

    def entry(self, command: tuple[str, ...]) -> Entry:
        return Entry(self.key, self.title, command)

    def program(self, command: tuple[str, ...]) -> Program:
        return Program(self.key, self.title, command)


def our_own(options: Mapping[str, Any], image: Path) -> list[BenchmarkCase]:
    """Ours on the engine that is asked for, or on each.

    Args:
        options: those of the command line that `Detector` takes, by their names there.
        image: the file that is looked at.
    """
    asked = options["engine"]
    if asked not in ENGINES:
        raise UsageError("no such engine", found=repr(asked), expected=f"one of {', '.join(ENGINES)}")
    engines = [asked] if asked != "auto" else ["onnxruntime"] if options["providers"] else [*ENGINES[1:]]
    found = []
    for engine in sorted(engines, reverse=True):
        given = {**options, "engine": engine, "image": str(image)}
        whole = (sys.executable, "-m", "detr_onnx", "detect", str(image), *_words(given))
        found.append(BenchmarkCase(engine, f"ours, {engine}", ours("detect", given), ours("throughput", given), whole))
    return found


def _words(given: Mapping[str, Any]) -> list[str]:
    """The options as words of `detr-onnx detect`; numpy's threads are told by the environment."""
    names = ["model", "engine", "providers", "precision", "size", "config", "cache_dir"]
    names += [] if given["engine"] == "numpy" else ["threads"]
    words = [word for name in names if given[name] is not None for word in (f"--{name.replace('_', '-')}", given[name])]
    return [*map(str, words), *(["--offline"] if given["offline"] else [])]


def beside(
    peer: str, source: Source, image: Path, threads: int, python: str, graph: Path | None
) -> list[BenchmarkCase]:
    """A peer in all its ways.

    Args:
        peer: one of `PEERS`.
        source: the model's files.
        image: the file that is looked at.
        threads: of one operation.
        python: an interpreter that has transformers and torch.
        graph: optimum's export of the model.

    Raises:
        EngineError, UsageError: what it needs is not given.
    """
    given: dict[str, Any] = {"image": str(image), "threads": threads}
    if peer == "transformers":
        return _transformers(given | {"model": str(_directory(source))}, python)
    if graph is None or not graph.is_file():
        found = "no --optimum" if graph is None else f"no file {graph}"
        raise UsageError(f"--against {peer} runs optimum's export of the model", found=found, remedy=HOW_TO_EXPORT)
    runtime, title = ("onnxruntime", "onnxruntime") if peer == "optimum" else ("openvino", "OpenVINO")
    given |= {"graph": str(graph), "sizes": _sizes(source)}
    command = theirs(sys.executable, f"{runtime}-detect", given)
    return [BenchmarkCase(peer, f"optimum's export, {title}", command, whole=(*command, "once"), peer=peer)]


def _transformers(given: Mapping[str, Any], python: str) -> list[BenchmarkCase]:
    rows = [
        BenchmarkCase(way, title, theirs(python, f"{way}-parts", given), peer="transformers")
        for way, title in WAYS.items()
    ]
    throughput, pipeline = (theirs(python, kind, given) for kind in ("throughput", "pipeline"))
    whole = BenchmarkCase(
        "pipeline", "transformers, pipeline", pipeline, throughput, (*pipeline, "once"), "transformers"
    )
    return [*rows, whole]


def _directory(source: Source) -> Path:
    if source.checkpoint is None or not source.checkpoint.is_dir():
        found = str(source.graph or source.checkpoint)
        expected = "a name of the hub, or a directory in Hugging Face's layout"
        raise EngineError("transformers cannot read the model", found=found, expected=expected)
    return source.checkpoint


def _sizes(source: Source) -> tuple[int, int]:
    """The short and the long side that images are scaled to."""
    place = source.checkpoint or (source.graph or Path()).parent
    rules = Description.of(place).read_preprocessing()
    return rules.shortest_edge, rules.longest_edge
