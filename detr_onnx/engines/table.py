"""The table of engines, fastest first: what each reads, needs and takes, and how it opens a model.

`ENGINES` is the only place that knows which engines there are. To add one, write its module and add its row.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.defaults import EXPORT_PRECISIONS
from detr_onnx.engines import Engine
from detr_onnx.engines.bfloat16 import BF16_MIXED
from detr_onnx.engines.onnxruntime import BF16, onnxruntime_engine
from detr_onnx.engines.openvino import HINTS, convert_to_ir, openvino_engine
from detr_onnx.engines.openvino_package import has_bfloat16, openvino_release
from detr_onnx.engines.optimized_graph import check_probe, optimize, optimized_for
from detr_onnx.engines.options import EngineOptions
from detr_onnx.engines.providers import takes_fused_attention
from detr_onnx.errors import EngineError

ONNX = ".onnx"


@dataclass(frozen=True)
class GraphFormat:
    """The form in which the graph of a checkpoint is cached for an engine.

    Attributes:
        precision: of the exported graph, one of `defaults.EXPORT_PRECISIONS`.
        fused_attention: whether attention is one node, com.microsoft.MultiHeadAttention.
        suffix: of the file that is cached.
        mark: a part of the cache entry's name that identifies what `finish` does.
        finish: changes the exported file in place.
        check: raises EngineError if the opened file does not compute here what it computed where it was written.
    """

    precision: str = "fp32"
    fused_attention: bool = False
    suffix: str = ONNX
    mark: str = ""
    finish: Callable[[Path], None] = lambda graph: None
    check: Callable[[Engine, Path], None] = lambda engine, graph: None


@dataclass(frozen=True)
class GraphRunner:
    """How an engine runs graph files.

    Attributes:
        suffixes: of the files that it reads.
        open: loads a file with the given options.
        format_for: the form in which a checkpoint's graph is written for it, given the options.
    """

    suffixes: tuple[str, ...]
    open: Callable[[Path, EngineOptions], Engine]
    format_for: Callable[[EngineOptions], GraphFormat]


@dataclass(frozen=True)
class EngineRow:
    """One engine.

    Attributes:
        name: the value of `engine=`.
        package: the Python package that it needs.
        precisions: the values of `precision=`.
        options: the names of `EngineOptions.given` that it takes.
        instead_of_options: the remedy in the error for an option that it does not take.
        graphs: how it runs graph files; None if it does not.
        checkpoint: runs a checkpoint without a graph; None if it needs one.
    """

    name: str
    package: str
    precisions: tuple[str, ...]
    options: frozenset[str]
    instead_of_options: str
    graphs: GraphRunner | None = None
    checkpoint: Callable[[Checkpoint], Engine] | None = None

    def missing_packages(self, has_graph: bool) -> list[str]:
        """The missing packages without which it cannot run a model; with `has_graph`, no graph has to be written."""
        needed = [self.package, *(["onnx"] if self.graphs and not has_graph else [])]
        return [package for package in needed if importlib.util.find_spec(package) is None]


def _graph_precision(options: EngineOptions) -> str | None:
    """The precision of the graph that ONNX Runtime needs: bf16 is how it computes a graph in fp32."""
    return "fp32" if options.precision == BF16 else options.precision


def _open_in_onnxruntime(graph: Path, options: EngineOptions) -> Engine:
    wanted = _graph_precision(options)
    engine = onnxruntime_engine(graph, options.providers, options.threads, options.precision == BF16)
    stored = (engine.metadata or {}).get("detr_onnx.precision")
    if wanted is not None and wanted != (stored or "fp32"):  # other exporters say nothing, and write float32
        raise EngineError(
            f"the graph does not have precision {wanted}",
            found=stored or "no precision in its metadata",
            remedy="export it in that precision" if stored else "leave the precision out",
        )
    return engine


def _format_for_onnxruntime(options: EngineOptions) -> GraphFormat:
    fused, precision = takes_fused_attention(options.providers), _graph_precision(options) or "fp32"
    if options.precision not in (None, "fp32") or options.providers is not None:  # `check_probe` expects fp32's results
        return GraphFormat(precision, fused)
    return GraphFormat(precision, fused, mark=f"-{optimized_for()}", finish=optimize, check=check_probe)


def _open_in_openvino(graph: Path, options: EngineOptions) -> Engine:
    return openvino_engine(graph, options.precision, options.threads)


def _format_for_openvino(options: EngineOptions) -> GraphFormat:
    """An ONNX file in fp32, which OpenVINO converts when it loads; its own format where it computes in bfloat16."""
    if options.precision == "fp32" or not has_bfloat16():
        return GraphFormat()
    precision = options.precision or BF16_MIXED
    mark = f"-openvino-{openvino_release()}-{precision}"
    return GraphFormat(suffix=".xml", mark=mark, finish=partial(convert_to_ir, precision))


def _run_in_numpy(checkpoint: Checkpoint) -> Engine:
    from detr_onnx.engines.numpy import numpy_engine

    return numpy_engine(checkpoint)


ENGINES = {
    row.name: row
    for row in (
        EngineRow(
            name="openvino",
            package="openvino",
            precisions=tuple(HINTS),
            options=frozenset({"threads"}),
            instead_of_options="use engine onnxruntime",
            graphs=GraphRunner((ONNX, ".xml"), _open_in_openvino, _format_for_openvino),
        ),
        EngineRow(
            name="onnxruntime",
            package="onnxruntime",
            precisions=(*EXPORT_PRECISIONS, BF16),
            options=frozenset({"providers", "threads"}),
            instead_of_options="leave them out",
            graphs=GraphRunner((ONNX, ".ort"), _open_in_onnxruntime, _format_for_onnxruntime),
        ),
        EngineRow(
            name="numpy",
            package="numpy",
            precisions=("fp32",),
            options=frozenset(),
            instead_of_options="set OMP_NUM_THREADS or OPENBLAS_NUM_THREADS before Python starts, "
            "or use engine onnxruntime",
            checkpoint=_run_in_numpy,
        ),
    )
}
"""Every engine by name, in the order in which "auto" prefers them."""

GRAPH_SUFFIXES = tuple(dict.fromkeys(s for row in ENGINES.values() if row.graphs for s in row.graphs.suffixes))
"""Suffixes of all graph files that some engine reads."""

PRECISIONS = tuple(dict.fromkeys(precision for row in ENGINES.values() for precision in row.precisions))
"""Every precision that some engine has."""
