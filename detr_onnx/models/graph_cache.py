"""The graphs of checkpoints, kept in the cache in the form that suits who runs them.

    checkpoint ── export ──► .onnx, weights outside ── finish ──► <cache>/built/<digest>-<version>-<kind>/

Each is written once; its name is made of all that it depends on.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detr_onnx import __version__
from detr_onnx.cache import cached, sha256_of
from detr_onnx.checkpoint.files import weight_files, weights_file
from detr_onnx.engines.openvino import convert_to_ir, openvino_release
from detr_onnx.engines.optimized import made_for, optimize
from detr_onnx.errors import CheckpointError
from detr_onnx.models.metadata import Description, read_model

GRAPH = "model.onnx"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphFormat:
    """What is done to a cached graph: the work, what the entry's name says of it, and the suffix it leaves."""

    work: Callable[[Path], None]
    mark: str
    suffix: str


AS_IT_IS = GraphFormat(lambda graph: None, "", ".onnx")


def optimized() -> GraphFormat:
    """Laid out by ONNX Runtime for this processor (`engines/optimized.py`)."""
    return GraphFormat(optimize, f"-{made_for()}", ".onnx")


def openvino_format(precision: str) -> GraphFormat:
    """In OpenVINO's own format, weights in as few bytes as the precision leaves."""
    return GraphFormat(partial(convert_to_ir, precision), f"-openvino-{openvino_release()}-{precision}", ".xml")


def built_graph(
    checkpoint: Path,
    config: Path | None,
    cache_dir: str | os.PathLike[str] | None,
    precision: str,
    fused: bool,
    finish: GraphFormat,
) -> Path:
    """The cached graph of a checkpoint, in the form that suits who runs it, written now if it was not there."""
    from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx

    def build(directory: Path) -> None:
        logger.info("writing the ONNX graph of %s, once", checkpoint)
        form = ExportOptions(precision=precision, fused_attention=fused)
        write_onnx(directory / GRAPH, *read_model(checkpoint, config), form, external_data=True)
        finish.work(directory / GRAPH)

    kind = f"{'fused' if fused else 'plain'}-{precision}{finish.mark}"
    entry = cached(f"{digest(checkpoint, config)[:24]}-{__version__}-{kind}", build, cache_dir=cache_dir)
    return (entry / GRAPH).with_suffix(finish.suffix)


def digest(checkpoint: Path, config: Path | None = None) -> str:
    """One sha256 of the weights and of the configs that describe them.

    Raises:
        CheckpointError: when they cannot be read.
    """
    weights = weights_file(checkpoint)
    described = Description.of(config or weights.parent)
    try:
        whole = hashlib.sha256("".join(map(sha256_of, weight_files(weights))).encode())
        for file in (described.config, described.preprocessing):
            whole.update(hashlib.sha256(file.read_bytes()).digest() if file else b"-")
    except OSError as error:
        raise CheckpointError(f"{checkpoint} cannot be read", found=error.strerror, remedy="check the path") from error
    return whole.hexdigest()
