"""The engine that runs .onnx files: ONNX Runtime, with whatever execution provider it was built for.

Files of other exporters run too: a mask of a frozen size is filled with ones, and what takes no mask is told to the
caller, who then gives it pictures of one size at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detr_onnx.engines import Engine, Floats, Mask
from detr_onnx.errors import DetrError, EngineError, ModelFileError, UsageError

if TYPE_CHECKING:
    import onnxruntime

PIXELS, MASK, LOGITS, BOXES = "pixel_values", "pixel_mask", "logits", "pred_boxes"
FLOAT_TYPES: dict[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
MASK_TYPES: dict[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    **FLOAT_TYPES,
}
AXES = {PIXELS: 4, MASK: 3, LOGITS: 3, BOXES: 3}
CPU = "CPUExecutionProvider"
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
    session = _session(path, _provider_names(providers), threads)
    inputs = {value.name: value for value in session.get_inputs()}
    outputs = {value.name: value for value in session.get_outputs()}
    _check_signature(path, inputs, outputs)
    mask_hw = _fixed(inputs[MASK].shape) if MASK in inputs else None
    canvas_hw = _fixed(inputs[PIXELS].shape)
    pixel_type = FLOAT_TYPES[inputs[PIXELS].type]
    takes_any_mask = MASK in inputs and (mask_hw is None or mask_hw == canvas_hw)

    def network(pixels: Floats, mask: Mask | None) -> tuple[Floats, Floats]:
        if not takes_any_mask:
            _check_unpadded(path, mask)
        feeds: dict[str, Any] = {PIXELS: pixels.astype(pixel_type, copy=False)}
        if MASK in inputs:
            if mask is None or not takes_any_mask:
                mask = np.ones((len(pixels), *(mask_hw or pixels.shape[2:])), np.bool_)
            feeds[MASK] = mask.astype(MASK_TYPES[inputs[MASK].type])
        try:
            logits, boxes = session.run([LOGITS, BOXES], feeds)
        except Exception as error:
            raise _failed(path, pixels.shape, error) from error
        return logits.astype(np.float32, copy=False), boxes.astype(np.float32, copy=False)

    return Engine(
        title=_title(session),
        network=network,
        batches_mixed_sizes=takes_any_mask,
        canvas_hw=canvas_hw,
        batch=_number(inputs[PIXELS].shape, 0),
        classes=_classes(outputs[LOGITS].shape),
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def _check_unpadded(path: Path, mask: Mask | None) -> None:
    if mask is not None and not mask.all():
        raise UsageError(
            f"{path} cannot tell padding from picture",
            found="a mask with padding",
            remedy="give it pictures of one size at a time, or export a graph that takes a mask",
        )


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


def _session(path: Path, providers: list[str], threads: int | None) -> onnxruntime.InferenceSession:
    onnxruntime = import_onnxruntime()
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise ModelFileError(f"cannot read {path}", found=found, remedy="check the path")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL if providers == [CPU] else ERRORS  # why a GPU does not start is only logged
    options.enable_mem_pattern = False  # a plan for each new input shape would be kept for good
    if threads is not None:
        options.intra_op_num_threads = threads
    try:  # without its fallback, which would print on stdout and run on something else
        session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
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


def _unreadable(path: Path, providers: list[str], error: Exception) -> DetrError:
    if providers != [CPU]:
        return EngineError(f"ONNX Runtime cannot start {path} on {', '.join(providers)}", found=_reason(error))
    return ModelFileError(
        f"ONNX Runtime cannot load {path}", found=_reason(error), remedy="export or fetch the file again"
    )


def _failed(path: Path, shape: tuple[int, ...], error: Exception) -> Exception:
    """What to raise when a run ends with ONNX Runtime's error."""
    reason = _reason(error)
    if "alloc" in reason.lower():  # "Failed to allocate memory for requested buffer", "std::bad_alloc"
        return MemoryError(reason)
    return EngineError(f"ONNX Runtime failed on {path} with pixels of shape {list(shape)}", found=reason)


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


def _check_signature(path: Path, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """The file takes pixels (and a mask) and gives logits and boxes, each with its axes and of a type that fits."""
    types = {PIXELS: FLOAT_TYPES, MASK: MASK_TYPES, LOGITS: FLOAT_TYPES, BOXES: FLOAT_TYPES}
    values = {**inputs, **{name: outputs[name] for name in (LOGITS, BOXES) if name in outputs}}
    fits = all(
        name in types and value.type in types[name] and len(value.shape) in (0, AXES[name])  # 0: not told
        for name, value in values.items()
    )
    fits = fits and PIXELS in inputs and len(inputs[PIXELS].shape) == AXES[PIXELS]
    if not fits or not {LOGITS, BOXES} <= outputs.keys() or _number(inputs[PIXELS].shape, 1) not in (3, None):
        raise ModelFileError(
            f"{path} is no DETR",
            found=f"inputs {_signature(inputs)}; outputs {_signature(outputs)}",
            expected=f"inputs {PIXELS} [batch,3,height,width] and perhaps {MASK}; outputs {LOGITS} and {BOXES}",
        )


def _signature(values: Mapping[str, Any]) -> str:
    shapes = {name: ",".join("?" if axis is None else str(axis) for axis in v.shape) for name, v in values.items()}
    return ", ".join(f"{name} {values[name].type} [{shape}]" for name, shape in shapes.items()) or "none"


def _number(shape: Sequence[Any], axis: int) -> int | None:
    """The length of an axis, None where it is free."""
    return shape[axis] if shape and isinstance(shape[axis], int) else None


def _fixed(shape: Sequence[Any]) -> tuple[int, int] | None:
    """Height and width, the last two axes, where both are numbers; None where one is free."""
    height, width = _number(shape, -2), _number(shape, -1)
    return (height, width) if height is not None and width is not None else None


def _classes(logits_shape: Sequence[Any]) -> int | None:
    """One less than there are logits."""
    logits = _number(logits_shape, -1)
    return None if logits is None else logits - 1


def _title(session: onnxruntime.InferenceSession) -> str:
    version = import_onnxruntime().__version__
    precision = session.get_modelmeta().custom_metadata_map.get("detr_onnx.precision", "as exported")
    return f"onnxruntime {version}, {session.get_providers()[0]}, {precision}"
