"""Inference with inputs and outputs in the memory of a GPU, reused as long as their sizes stay the same.

This saves an allocation per image. CUDA graphs need it, since they replay with the addresses that they recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines.graph_engine import ATTENDING, KEPT, PIXELS, Feeds, Port, Run

DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
"""The memory that a provider reads its inputs from; other providers read the CPU's."""


def bound_run(session: Any, value_type: Any, outputs: Sequence[Port], device: str, number: int) -> Run:
    """One inference on a device, with `io_binding`.

    Args:
        session: an `onnxruntime.InferenceSession`.
        value_type: the class `onnxruntime.OrtValue`.
        outputs: of the graph. One with a dynamic axis other than the batch is returned to the CPU.
        device, number: "cuda" and its index; "cpu" works, too.
    """
    binding, lock, buffers = session.io_binding(), threading.Lock(), dict[str, Any]()
    bound = list[str]()  # names of outputs

    def buffer(name: str, shape: Sequence[int], dtype: str, bind: Callable[[str, Any], None]) -> Any:
        """The device memory of a value, allocated and bound when its shape is new."""
        value = buffers.get(name)
        if value is None or value.shape() != list(shape):
            value = buffers[name] = value_type.ortvalue_from_shape_and_type(
                list(shape), np.dtype(dtype), device, number
            )
            bind(name, value)
        return value

    ports = {port.name: port for port in outputs}

    def run(feeds: Feeds, names: Sequence[str]) -> tuple[NDArray[np.generic], ...]:
        with lock:
            if bound != [*names]:  # those of another pass would be computed and returned, too
                binding.clear_binding_outputs()
                for name in bound:
                    buffers.pop(name, None)
                bound[:] = names
            for name, array in feeds.items():
                value = buffer(name, array.shape, array.dtype.name, binding.bind_ortvalue_input)
                value.update_inplace(np.ascontiguousarray(array))
            for port in map(ports.__getitem__, names):
                if (shape := _shape(port, len(feeds[PIXELS]))) is None:
                    binding.bind_output(port.name, "cpu")
                else:
                    buffer(port.name, shape, port.dtype, binding.bind_ortvalue_output)
            session.run_with_iobinding(binding)
            return tuple(answer.copy() for answer in binding.copy_outputs_to_cpu())

    return run


def _shape(port: Port, batch: int) -> list[int] | None:
    """The shape of an output at this batch size; None if another axis is dynamic, or the first one is not the batch."""
    if port.name in (KEPT, ATTENDING):
        return None
    lengths = [port.length(axis) for axis in range(1, len(port.shape))]
    known = [length for length in lengths if length is not None]
    return [batch, *known] if lengths and len(known) == len(lengths) else None
