"""The engine that runs .onnx files: ONNX Runtime, with whatever execution provider it was built for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import Engine
from detr_onnx.engines.graph import BOXES, LOGITS, Feeds, Port, check_is_file, graph_engine
from detr_onnx.errors import DetrError, EngineError, ModelFileError, UsageError
from detr_onnx.processor import cpu_features

if TYPE_CHECKING:
    import onnxruntime

ELEMENT_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # others have numpy's names: tensor(int64)
CPU = "CPUExecutionProvider"
SLOWING_OPTIMIZERS = ["SkipLayerNormFusion"]  # on the CPU its node takes seven times as long as the two it replaces
OPTIMIZED_DATA = "session.optimized_model_external_initializers_file_name"
OPTIMIZED_DATA_FROM_BYTES = "session.optimized_model_external_initializers_min_size_in_bytes"
MAPPED = ("session.use_memory_mapped_ort_model", "session.use_ort_model_bytes_for_initializers")
"""Has an .ort file mapped, and its weights used where they lie; what ONNX Runtime is too old for, it passes over."""
EXACT_INT8 = "session.x64quantprecision", "1"  # weights as uint8: no sum of two products overflows 16 bits
VNNI = {"avx512_vnni", "avx_vnni"}  # instructions that add up in 32 bits; with them that would cost half the speed
ERRORS, FATAL = 3, 4  # severities of what ONNX Runtime logs on stderr


def onnxruntime_engine(path: Path, providers: Sequence[str] | None = None, threads: int | None = None) -> Engine:
    """The .onnx file, run by ONNX Runtime.

    Args:
        path: the model.
        providers: execution providers in order of preference, "CUDA" or "CUDAExecutionProvider"; None is the CPU.
        threads: of one operator; None is one for each physical core.

    Raises:
        EngineError: when ONNX Runtime is not installed, or a provider is not in this build of it, or did not start.
        ModelFileError: when the file is missing, damaged, or no DETR.
    """
    session = new_session(path, _provider_names(providers), threads)

    def run(feeds: Feeds) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        try:
            logits, boxes = session.run([LOGITS, BOXES], dict(feeds))
        except Exception as error:
            raise _failed(path, {name: value.shape for name, value in feeds.items()}, error) from error
        return logits, boxes

    metadata = dict(session.get_modelmeta().custom_metadata_map)
    inputs, outputs = ([_port(value) for value in values] for values in (session.get_inputs(), session.get_outputs()))
    return graph_engine(path, _title(session), inputs, outputs, metadata, run)


def named_outputs(path: Path) -> Callable[[Feeds, Sequence[str]], dict[str, Any]]:
    """The .onnx file on the CPU: a function from inputs to those of its outputs that are named, by name."""
    session = new_session(path, [CPU], None)

    def run(feeds: Feeds, names: Sequence[str]) -> dict[str, Any]:
        return dict(zip(names, session.run(list(names), dict(feeds)), strict=True))

    return run


def _port(value: Any) -> Port:
    dtype = ELEMENT_TYPES.get(value.type) or value.type.removeprefix("tensor(").removesuffix(")")
    return Port(value.name, dtype, tuple(value.shape))


def import_onnxruntime() -> Any:
    """The package `onnxruntime`.

    Raises:
        EngineError: when it is not installed, or not sound.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            "engine onnxruntime needs the package onnxruntime",
            found=str(error),
            remedy="run pip install onnxruntime, or use engine numpy with a checkpoint",
        ) from error
    return onnxruntime


def new_session(
    path: Path, providers: list[str], threads: int | None, written: Path | None = None
) -> onnxruntime.InferenceSession:
    """A session for a file, on providers by their full names.

    Args:
        written: where to write the graph as ONNX Runtime has optimised it, its weights in a second file beside it.

    Raises:
        EngineError: when ONNX Runtime is not installed, or a provider did not start.
        ModelFileError: when the file is missing or damaged.
    """
    onnxruntime = import_onnxruntime()
    check_is_file(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL if providers == [CPU] else ERRORS  # why a GPU does not start is only logged
    options.enable_mem_pattern = False  # a plan for each new input shape would be kept for good
    for entry in MAPPED if path.suffix.lower() == ".ort" else ():
        options.add_session_config_entry(entry, "1")
    if _overflows(cpu_features()):
        options.add_session_config_entry(*EXACT_INT8)
    if threads is not None:
        options.intra_op_num_threads = threads
    if written is not None:
        options.optimized_model_filepath = str(written)
        options.add_session_config_entry(OPTIMIZED_DATA, f"{written.name}.data")
        options.add_session_config_entry(OPTIMIZED_DATA_FROM_BYTES, "1024")
    try:  # without its fallback, which would print on stdout and run on something else
        session = onnxruntime.InferenceSession(
            str(path), options, providers=providers, enable_fallback=0, disabled_optimizers=SLOWING_OPTIMIZERS
        )
    except Exception as error:
        raise _unreadable(path, providers, error) from error
    lost = [name for name in providers if name not in session.get_providers()]
    if lost:
        raise EngineError(
            f"ONNX Runtime did not start {', '.join(lost)}",
            found=f"only {', '.join(session.get_providers())}",
            remedy="check the driver and the libraries that this provider needs",
        )
    return session


def _overflows(features: Collection[str]) -> bool:
    """Whether int8 of this processor cuts off large sums: x86 before VNNI."""
    return "avx2" in features and VNNI.isdisjoint(features)


def _unreadable(path: Path, providers: list[str], error: Exception) -> DetrError:
    if providers != [CPU]:
        return EngineError(f"ONNX Runtime cannot start {path} on {', '.join(providers)}", found=_reason(error))
    return ModelFileError(
        f"ONNX Runtime cannot load {path}", found=_reason(error), remedy="export or fetch the file again"
    )


def _failed(path: Path, shapes: dict[str, tuple[int, ...]], error: Exception) -> Exception:
    """What to raise when a run ends with ONNX Runtime's error."""
    reason = _reason(error)
    if "alloc" in reason.lower():  # "Failed to allocate memory for requested buffer", "std::bad_alloc"
        return MemoryError(reason)
    given = " and ".join(f"{name} of shape {list(shape)}" for name, shape in shapes.items())
    return EngineError(f"ONNX Runtime failed on {path} with {given}", found=reason)


def _reason(error: Exception) -> str:
    """ONNX Runtime's own sentence: its first line without the code in front."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rpartition(" : ")[2].strip()[:200]


def _provider_names(asked: Sequence[str] | None) -> list[str]:
    """Full names of the providers asked for, in this order; the CPU is always among them, for what the others leave."""
    names = []
    if asked is not None:
        if not asked or isinstance(asked, str):
            raise UsageError("providers are a list of names", found=repr(asked), expected='such as ["CUDA"]')
        known = import_onnxruntime().get_available_providers()
        available = {name.removesuffix("ExecutionProvider").lower(): name for name in known}
        for name in asked:
            short = name.removesuffix("ExecutionProvider").lower()
            if short not in available:
                raise EngineError(
                    f"this ONNX Runtime has no provider {name!r}",
                    found=", ".join(known),
                    remedy="for CUDA or TensorRT install onnxruntime-gpu in place of onnxruntime",
                )
            names.append(available[short])
    return list(dict.fromkeys([*names, CPU]))


def _title(session: onnxruntime.InferenceSession) -> str:
    version = import_onnxruntime().__version__
    precision = session.get_modelmeta().custom_metadata_map.get("detr_onnx.precision", "as exported")
    return f"onnxruntime {version}, {session.get_providers()[0]}, {precision}"
