"""The graphs of checkpoints, cached in the format that the engine wants.

    checkpoint ── export ──► .onnx, weights beside it ── finish ──► <cache>/built/<digest>-<version>-<format>/

Each is written once. The name of a cache entry is made of everything that the graph depends on.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from detr_onnx import __version__
from detr_onnx.cache import cached, sha256_of
from detr_onnx.checkpoint.files import check_weights, weight_files, weights_file
from detr_onnx.checkpoint.load import Checkpoint, note_assumptions
from detr_onnx.engines.table import ONNX, GraphFormat
from detr_onnx.errors import CheckpointError, OutputError
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.json_input import read_object
from detr_onnx.models.metadata import Description, read_model
from detr_onnx.text import reason_of

GRAPH = f"model{ONNX}"
REVISION = 2  # of the graphs since the last release; raise it when they change, so that older ones are not used

logger = logging.getLogger(__name__)


def cached_graph(
    checkpoint: Path,
    config: Path | None,
    cache_dir: str | os.PathLike[str] | None,
    graph_format: GraphFormat,
    labels: tuple[str, ...] | None = None,
    *,
    with_attention: bool = False,
) -> tuple[Path, tuple[str, ...] | None]:
    """The cached graph of a checkpoint, written now if it was not there, and the names of its classes.

    The names are None if those in the graph are right. It may have the names that an earlier caller gave.

    Args:
        checkpoint: its weights, or their directory.
        config: a config.json or its directory.
        cache_dir: the cache, in place of DETR_ONNX_CACHE.
        graph_format: of the graph.
        labels: the caller's names of the classes, in place of the config's.
        with_attention: the graph with attention maps.

    Raises:
        CheckpointError: the checkpoint or its configs cannot be read.
        EngineError: the package onnx is not installed.
        OutputError: the cache cannot be written.
    """
    is_new = False

    def build(directory: Path) -> None:
        nonlocal is_new
        is_new = True
        logger.info("writing the ONNX graph of %s, once", checkpoint)
        _write(directory / GRAPH, read_model(checkpoint, config, labels), graph_format, with_attention)

    version = f"{__version__}.{REVISION}"
    name = f"{digest(checkpoint, config)[:24]}-{version}-{_kind(graph_format, with_attention)}"
    entry = cached(name, build, cache_dir=cache_dir)
    names = labels if is_new else _names_again(weights_file(checkpoint), config, labels)
    return (entry / GRAPH).with_suffix(graph_format.suffix), names


def _write(
    graph: Path, model: tuple[Checkpoint, Preprocessing], graph_format: GraphFormat, with_attention: bool
) -> None:
    """Writes the graph, and turns it into the engine's format.

    Raises:
        OSError: it cannot be written. `cached` names the cache then; nobody has chosen this file.
    """
    from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx

    precision, fused = graph_format.precision, graph_format.fused_attention
    options = ExportOptions(precision=precision, fused_attention=fused, attention=with_attention)
    try:
        write_onnx(graph, *model, options, external_data=True)
        graph_format.finish(graph)
    except OutputError as error:
        raise OSError(error.found) from error


def _names_again(weights: Path, config: Path | None, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The names of the classes, with the same errors and notes as when the graph was built."""
    described = Description.of(config or weights.parent).read_config(labels)
    if described is None:
        note_assumptions(str(weights))
        return labels
    return described.labels if labels is None else labels


def _kind(graph_format: GraphFormat, with_attention: bool) -> str:
    """Which of the graphs of a checkpoint it is, for the name of the cache entry."""
    attention = "fused" if graph_format.fused_attention else "plain"
    return f"{attention}{'-maps' if with_attention else ''}-{graph_format.precision}{graph_format.mark}"


def digest(checkpoint: Path, config: Path | None = None) -> str:
    """The sha256, in hexadecimal, of the weights and the configs that describe them.

    Raises:
        CheckpointError: a file cannot be read.
    """
    weights = weights_file(checkpoint)
    check_weights(weights)  # a sparse file of many gigabytes would be read to its end
    description = Description.of(config or weights.parent)
    try:
        whole = hashlib.sha256("".join(map(sha256_of, weight_files(weights))).encode())
        for file in (description.config, description.preprocessing):
            if file:
                read_object(file)  # refuses what is too large
            whole.update(hashlib.sha256(file.read_bytes()).digest() if file else b"-")
    except OSError as error:
        raise CheckpointError(
            f"{checkpoint} cannot be read", found=reason_of(error), remedy="check the path"
        ) from error
    return whole.hexdigest()
