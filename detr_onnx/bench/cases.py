"""What `detr-onnx bench` measures: this package on each engine, and the baselines that are requested."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_onnx.bench.interleave import Entry, baseline_command, our_command
from detr_onnx.bench.processes import Program
from detr_onnx.engines.options import EngineOptions
from detr_onnx.engines.table import ENGINES
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.models.load import Source
from detr_onnx.models.metadata import Description
from detr_onnx.models.open import check_names
from detr_onnx.paths import is_directory, is_file

BASELINES = ("transformers", "optimum", "openvino")
TRANSFORMERS_MODES = {
    "eager": "transformers, PyTorch eager",
    "bf16": "transformers, eager under bf16 autocast",
    "torch.compile": "transformers, torch.compile",
}
HOW_TO_EXPORT = (
    "pip install optimum-onnx, then optimum-cli export onnx -m MODEL --task object-detection DIR, and DIR/model.onnx"
)


@dataclass(frozen=True)
class BenchmarkCase:
    """One row of the results: the commands that are measured.

    Attributes:
        key: its name in the results.
        title: its name in the table.
        parts: the contender that goes from a file to its detections, part by part.
        throughput: the contender that handles several images at a time, or None to leave that out.
        whole: a program that handles one image and exits, or None to leave that out.
        baseline: which of `BASELINES` it is, or None for this package.
    """

    key: str
    title: str
    parts: tuple[str, ...]
    throughput: tuple[str, ...] | None = None
    whole: tuple[str, ...] | None = None
    baseline: str | None = None

    def entry(self, command: tuple[str, ...]) -> Entry:
        """A contender of this case with one of its commands."""
        return Entry(self.key, self.title, command)

    def program(self, command: tuple[str, ...]) -> Program:
        """A whole program of this case with one of its commands."""
        return Program(self.key, self.title, command)


def our_cases(options: Mapping[str, Any], image: Path) -> list[BenchmarkCase]:
    """This package on the requested engine, or on every engine for "auto".

    Args:
        options: the options of the command line that `Detector` takes, by their names there.
        image: the image file.

    Raises:
        UsageError: there is no such engine.
    """
    requested = options["engine"]
    check_names(EngineOptions(requested))
    engines = [requested] if requested != "auto" else ["onnxruntime"] if options["providers"] else [*ENGINES]
    return [_our_case({**options, "engine": engine, "image": str(image)}) for engine in engines]


def _our_case(options: Mapping[str, Any]) -> BenchmarkCase:
    engine = options["engine"]
    whole = (sys.executable, "-m", "detr_onnx", "detect", *_arguments(options), "--", options["image"])
    parts, throughput = our_command("detect", options), our_command("throughput", options)
    return BenchmarkCase(engine, f"ours, {engine}", parts, throughput, whole)


def _arguments(options: Mapping[str, Any]) -> list[str]:
    """The options as arguments of `detr-onnx detect`. numpy takes its threads from the environment."""
    names = ["model", "engine", "providers", "precision", "size", "config", "cache_dir"]
    names += [] if options["engine"] == "numpy" else ["threads"]
    values = {f"--{name.replace('_', '-')}": options[name] for name in names if options[name] is not None}
    arguments = [str(part) for pair in values.items() for part in pair]
    return [*arguments, *(["--offline"] if options["offline"] else [])]


def baseline_cases(
    baseline: str, source: Source, image: Path, threads: int, python: str, graph: Path | None
) -> list[BenchmarkCase]:
    """All rows of one baseline.

    Args:
        baseline: one of `BASELINES`.
        source: the model's files.
        image: the image file.
        threads: threads of one operation.
        python: an interpreter that has transformers and torch.
        graph: optimum's export of the model.

    Raises:
        EngineError: the baseline cannot read the model.
        UsageError: the graph that the baseline needs is missing.
    """
    options: dict[str, Any] = {"image": str(image), "threads": threads}
    if baseline == "transformers":
        return _transformers(options | {"model": str(_directory(source))}, python)
    if graph is None or not is_file(graph):
        found = "no --optimum" if graph is None else f"no file {graph}"
        raise UsageError(f"--against {baseline} runs optimum's export of the model", found=found, remedy=HOW_TO_EXPORT)
    runtime, title = ("onnxruntime", "onnxruntime") if baseline == "optimum" else ("openvino", "OpenVINO")
    options |= {"graph": str(graph), "sizes": _sizes(source)}
    command = baseline_command(sys.executable, f"{runtime}-detect", options)
    whole = (*command, "once")
    return [BenchmarkCase(baseline, f"optimum's export, {title}", command, whole=whole, baseline=baseline)]


def _transformers(options: Mapping[str, Any], python: str) -> list[BenchmarkCase]:
    rows = [
        BenchmarkCase(mode, title, baseline_command(python, f"{mode}-parts", options), baseline="transformers")
        for mode, title in TRANSFORMERS_MODES.items()
    ]
    throughput, pipeline = (baseline_command(python, kind, options) for kind in ("throughput", "pipeline"))
    whole = (*pipeline, "once")
    return [*rows, BenchmarkCase("pipeline", "transformers, pipeline", pipeline, throughput, whole, "transformers")]


def _directory(source: Source) -> Path:
    if source.checkpoint is None or not is_directory(source.checkpoint):
        found = str(source.graph or source.checkpoint)
        expected = "a name of the hub, or a directory in Hugging Face's layout"
        raise EngineError("transformers cannot read the model", found=found, expected=expected)
    return source.checkpoint


def _sizes(source: Source) -> tuple[int, int]:
    """Lengths of the short and the long side that images are resized to, in pixels."""
    path = source.checkpoint or (source.graph or Path()).parent
    preprocessing = Description.of(path).read_preprocessing()
    return preprocessing.shortest_edge, preprocessing.longest_edge
