"""A pass through a graph on a GPU: inputs and outputs lie in memory of the device, the same as long as sizes are.

That spares an allocation for each image, and is what CUDA graphs need: they replay on the addresses they first saw.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines.graph import PIXELS, Feeds, Port, Run

DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
"""Where the inputs of a provider have to be; the others take them from the CPU."""


def bound_run(session: Any, value_type: Any, outputs: Sequence[Port], device: str, number: int) -> Run:
    """One pass on a device, by `io_binding`.

    Args:
        session: ONNX Runtime's.
        value_type: its class `OrtValue`.
        outputs: logits and boxes; where another axis than the batch's is free they come back to the CPU by themselves.
        device, number: "cuda", and which of them; "cpu" works too.
    """
    binding, turn, held = session.io_binding(), threading.Lock(), dict[str, Any]()

    def place(name: str, shape: Sequence[int], dtype: str, bind: Callable[[str, Any], None]) -> Any:
        """The device's memory for a value; where it is new, it is bound."""
        value = held.get(name)
        if value is None or value.shape() != list(shape):
            value = held[name] = value_type.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype), device, number)
            bind(name, value)
        return value

    def run(feeds: Feeds) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        with turn:
            for name, array in feeds.items():
                value = place(name, array.shape, array.dtype.name, binding.bind_ortvalue_input)
                value.update_inplace(np.ascontiguousarray(array))
            for port in outputs:
                if (shape := _shape(port, len(feeds[PIXELS]))) is None:
                    binding.bind_output(port.name, "cpu")
                else:
                    place(port.name, shape, port.dtype, binding.bind_ortvalue_output)
            session.run_with_iobinding(binding)
            logits, boxes = (answer.copy() for answer in binding.copy_outputs_to_cpu())
            return logits, boxes

    return run


def _shape(port: Port, batch: int) -> list[int] | None:
    """The shape of an output for so many images; None where that does not tell it."""
    lengths = [port.length(axis) for axis in range(1, len(port.shape))]
    known = [length for length in lengths if length is not None]
    return [batch, *known] if lengths and len(known) == len(lengths) else None
