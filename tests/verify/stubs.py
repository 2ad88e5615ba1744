"""Engines that lie, as rows of the table."""

from __future__ import annotations

from dataclasses import replace

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.engines import Engine, Floats, Mask
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.engines.table import ENGINES, EngineRow


def stub_row(name: str, engine: Engine | None = None, **changes: object) -> EngineRow:
    """A row like numpy's, of another name."""
    return replace(ENGINES["numpy"], name=name, **changes)


def liar(offset: float) -> EngineRow:
    """An engine whose every logit is too large by `offset`."""

    def open_liar(checkpoint: Checkpoint) -> Engine:
        honest = numpy_engine(checkpoint)

        def network(pixels: Floats, mask: Mask | None) -> tuple[Floats, Floats]:
            logits, boxes = honest.network(pixels, mask)
            return logits + offset, boxes

        return replace(honest, title="liar 1.0, fp32", network=network)

    return stub_row("liar", checkpoint=open_liar)
