"""What every engine that runs .onnx files has in common: which files are a DETR's, and how to feed them.

Files of other exporters run too: a mask of a frozen size is filled with ones, and what takes no mask is told to the
caller, who then gives it images of one size at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import Engine, Floats, Mask
from detr_onnx.errors import ModelFileError, UsageError

PIXELS, MASK, LOGITS, BOXES = "pixel_values", "pixel_mask", "logits", "pred_boxes"
FLOATS = ("float32", "float16")
TYPES = {PIXELS: FLOATS, MASK: ("int64", "int32", "bool", *FLOATS), LOGITS: FLOATS, BOXES: FLOATS}
OURS = "detr_onnx.version"  # among the metadata of our own files
AXES = {PIXELS: 4, MASK: 3, LOGITS: 3, BOXES: 3}

Feeds = Mapping[str, NDArray[np.generic]]
Run = Callable[[Feeds], tuple[NDArray[np.generic], NDArray[np.generic]]]
"""Inputs by name -> logits and boxes."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: its name.
        dtype: numpy's name of its element type.
        shape: the length of each axis, None or a name where it is free; empty when the rank is not told.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def length(self, axis: int) -> int | None:
        """The length of an axis, None where it is free."""
        value = self.shape[axis] if self.shape else None
        return value if isinstance(value, int) else None

    def fixed_hw(self) -> tuple[int, int] | None:
        """Height and width, the last two axes, where both are numbers; None where one is free."""
        height, width = self.length(-2), self.length(-1)
        return (height, width) if height is not None and width is not None else None

    def __str__(self) -> str:
        axes = ",".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name} {self.dtype} [{axes}]"


def graph_engine(
    path: Path, title: str, inputs: Sequence[Port], outputs: Sequence[Port], metadata: Mapping[str, str], run: Run
) -> Engine:
    """The engine that runs a loaded graph.

    Args:
        path: the file, for messages.
        title: what it really runs on.
        inputs, outputs: the graph's.
        metadata: what the file says of itself.
        run: one pass through the graph.

    Raises:
        ModelFileError: when the graph does not map pixels to DETR's logits and boxes.
    """
    taken, given = {port.name: port for port in inputs}, {port.name: port for port in outputs}
    _check_signature(path, taken, given)
    canvas_hw, mask = taken[PIXELS].fixed_hw(), taken.get(MASK)
    mask_hw = mask.fixed_hw() if mask else None
    takes_any_mask = mask is not None and (mask_hw is None or mask_hw == canvas_hw)
    whole_hw = (1, 1) if mask_hw is None and OURS in metadata else mask_hw  # ours scale it; large ones would take 7 MB

    def network(pixels: Floats, valid: Mask | None) -> tuple[Floats, Floats]:
        if not takes_any_mask:
            _check_unpadded(path, valid)
        feeds: dict[str, NDArray[np.generic]] = {PIXELS: pixels.astype(taken[PIXELS].dtype, copy=False)}
        if mask is not None:
            if valid is None or valid.all() or not takes_any_mask:
                valid = np.ones((len(pixels), *(whole_hw or pixels.shape[2:])), np.bool_)
            feeds[MASK] = valid.astype(mask.dtype)
        logits, boxes = run(feeds)
        return logits.astype(np.float32, copy=False), boxes.astype(np.float32, copy=False)

    logits = given[LOGITS].length(-1)
    return Engine(
        title=title,
        network=network,
        batches_mixed_sizes=takes_any_mask,
        canvas_hw=canvas_hw,
        batch=taken[PIXELS].length(0),
        classes=None if logits is None else logits - 1,  # the last is "no object"
        metadata=metadata,
    )


def _check_unpadded(path: Path, mask: Mask | None) -> None:
    if mask is not None and not mask.all():
        raise UsageError(
            f"{path} cannot tell padding from image",
            found="a mask with padding",
            remedy="give it images of one size at a time, or export a graph that takes a mask",
        )


def _check_signature(path: Path, inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> None:
    """The file takes pixels (and a mask) and gives logits and boxes, each with its axes and of a type that fits."""
    if {"image", "threshold"} <= inputs.keys():
        remedy = "run it with ONNX Runtime alone, as in docs/files.md, or export it without --end-to-end"
        raise ModelFileError(f"{path} needs no program around it: it detects end to end", remedy=remedy)
    ports = [*inputs.values(), *(outputs[name] for name in (LOGITS, BOXES) if name in outputs)]
    fits = all(
        port.name in TYPES and port.dtype in TYPES[port.name] and len(port.shape) in (0, AXES[port.name])
        for port in ports
    )
    pixels = inputs.get(PIXELS)
    whole = pixels is not None and len(pixels.shape) == AXES[PIXELS] and pixels.length(1) in (3, None)
    if not fits or not whole or not {LOGITS, BOXES} <= outputs.keys():
        raise ModelFileError(
            f"{path} is no DETR",
            found=f"inputs {_listed(inputs)}; outputs {_listed(outputs)}",
            expected=f"inputs {PIXELS} [batch,3,height,width] and perhaps {MASK}; outputs {LOGITS} and {BOXES}",
        )


def _listed(ports: Mapping[str, Port]) -> str:
    return ", ".join(map(str, ports.values())) or "none"
