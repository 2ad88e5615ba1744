"""Loads the files of a model on an engine, with the class names and the preprocessing of the model.

Attention maps come from a graph of their own, so that detection stays as fast as it is. It is written and opened when
maps are first asked for.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from detr_onnx.defaults import DEFAULT_ENGINE, EXPORT_PRECISIONS
from detr_onnx.engines import AttentionNetwork, Engine
from detr_onnx.engines.options import EngineOptions
from detr_onnx.engines.table import ENGINES, EngineRow, GraphRunner
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.graph_cache import cached_graph
from detr_onnx.models.metadata import describe_graph, read_model

Loaded = tuple[Engine, tuple[str, ...], Preprocessing]
"""An engine with the class names and the preprocessing of its model."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The files of a model: its checkpoint, its graph, or both."""

    checkpoint: Path | None
    graph: Path | None


@dataclass(frozen=True)
class Opening:
    """What is to be opened, and how; see `Detector` for the options."""

    source: Source
    options: EngineOptions
    config: Path | None
    labels: tuple[str, ...] | None
    cache_dir: str | os.PathLike[str] | None


def load(row: EngineRow, opening: Opening) -> Loaded:
    """The model on an engine; with attention maps if it has any."""
    engine, labels, preprocessing = _load(row, opening, with_attention=False)
    if engine.attention is None and opening.source.checkpoint is not None:
        engine = replace(engine, attention=_attention(row, opening))
    return engine, labels, preprocessing


def _load(row: EngineRow, opening: Opening, *, with_attention: bool) -> Loaded:
    if row.graphs is None:
        return _open_checkpoint(row, opening)
    return _open_graph(row.graphs, opening, with_attention)


def _attention(row: EngineRow, opening: Opening) -> Callable[[], AttentionNetwork]:
    """Opens the network with attention maps of a checkpoint, once.

    Where only the graph for detection is shipped and no other can be written, "auto" takes numpy.
    """
    lock, opened = threading.Lock(), list[AttentionNetwork]()

    def network() -> AttentionNetwork:
        use = row
        if opening.options.engine == DEFAULT_ENGINE and row.missing_packages(has_graph=False):
            use = next(other for other in ENGINES.values() if other.checkpoint)
        source = replace(opening.source, graph=None)
        engine, *_ = _load(use, replace(opening, source=source), with_attention=True)
        if engine.attention is None:
            raise UsageError("the model has no attention maps", found="no encoder layers or no decoder layers")
        logger.info("attention maps on %s", engine.title)
        return engine.attention()

    def once() -> AttentionNetwork:
        with lock:
            if not opened:
                opened.append(network())
        return opened[0]

    return once


def _open_checkpoint(row: EngineRow, opening: Opening) -> Loaded:
    """A checkpoint on an engine that needs no graph."""
    if row.checkpoint is None or opening.source.checkpoint is None:
        raise EngineError(f"engine {row.name} cannot run {opening.source.graph}", remedy="use another engine")
    checkpoint, preprocessing = read_model(opening.source.checkpoint, opening.config, opening.labels)
    return row.checkpoint(checkpoint), checkpoint.config.labels, preprocessing


def _open_graph(runner: GraphRunner, opening: Opening, with_attention: bool) -> Loaded:
    """A graph file, or the cached graph of a checkpoint."""
    source, options, config, labels = opening.source, opening.options, opening.config, opening.labels
    another_precision = options.precision in EXPORT_PRECISIONS and options.precision != "fp32"
    if source.checkpoint is None or (source.graph is not None and not another_precision):  # shipped graphs are fp32
        graph = source.graph or Path()
        return _described(graph, runner.open(graph, options), config, labels)
    graph_format = runner.format_for(options)
    _check_needs_no_calibration(graph_format.precision, source.checkpoint)
    graph, labels = cached_graph(
        source.checkpoint, config, opening.cache_dir, graph_format, labels, with_attention=with_attention
    )
    engine = runner.open(graph, options)
    graph_format.check(engine, graph)
    return _described(graph, engine, None, labels)


def _check_needs_no_calibration(precision: str, checkpoint: Path) -> None:
    """Raises EngineError for a precision that only an exported file can have."""
    if precision == "int8":
        raise EngineError(
            "int8 needs images for calibration",
            found=f"only the checkpoint {checkpoint}",
            remedy="run detr-onnx export with --precision int8 --calibrate DIR, and use the file it writes",
        )


def _described(graph: Path, engine: Engine, config: Path | None, labels: tuple[str, ...] | None) -> Loaded:
    """The engine with the class names and the preprocessing of its graph."""
    names, preprocessing = describe_graph(graph, engine, config, labels)
    if not engine.batches_mixed_sizes:  # without a mask, padding would be seen: stretch
        preprocessing = replace(preprocessing, fixed_hw=engine.canvas_hw or preprocessing.fixed_hw, pad_hw=None)
    return engine, names, preprocessing
