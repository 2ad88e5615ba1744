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
from detr_onnx.checkpoint.load import note_assumptions
from detr_onnx.engines.table import ONNX, GraphFormat
from detr_onnx.errors import CheckpointError
from detr_onnx.json_input import read_object
from detr_onnx.models.metadata import Description, read_model
from detr_onnx.text import reason_of

GRAPH = f"model{ONNX}"

logger = logging.getLogger(__name__)


def cached_graph(
    checkpoint: Path,
    config: Path | None,
    cache_dir: str | os.PathLike[str] | None,
    graph_format: GraphFormat,
    labels: tuple[str, ...] | None = None,
    *,
    with_attention: bool = False,
) -> Path:
    """The cached graph of a checkpoint, written now if it was not there.

    Args:
        checkpoint: its weights, or their directory.
        config: a config.json or its directory.
        cache_dir: the cache, in place of DETR_ONNX_CACHE.
        graph_format: of the graph.
        labels: the caller's names of the classes; the graph itself may have others.
        with_attention: the graph with attention maps.

    Raises:
        CheckpointError: the checkpoint or its configs cannot be read.
        EngineError: the package onnx is not installed.
    """
    from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx

    is_new = False

    def build(directory: Path) -> None:
        nonlocal is_new
        is_new = True
        logger.info("writing the ONNX graph of %s, once", checkpoint)
        precision, fused = graph_format.precision, graph_format.fused_attention
        options = ExportOptions(precision=precision, fused_attention=fused, attention=with_attention)
        write_onnx(directory / GRAPH, *read_model(checkpoint, config, labels), options, external_data=True)
        graph_format.finish(directory / GRAPH)

    attention = "fused" if graph_format.fused_attention else "plain"
    kind = f"{attention}{'-maps' if with_attention else ''}-{graph_format.precision}{graph_format.mark}"
    entry = cached(f"{digest(checkpoint, config)[:24]}-{__version__}-{kind}", build, cache_dir=cache_dir)
    weights = weights_file(checkpoint)
    if not is_new:  # the same errors and notes as when the graph was built
        description = Description.of(config or weights.parent)
        if description.read_config(labels) is None:
            note_assumptions(str(weights))
    return (entry / GRAPH).with_suffix(graph_format.suffix)


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
