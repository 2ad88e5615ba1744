"""The engine that runs .onnx files: ONNX Runtime, with whatever execution provider it was built for.

Files of other exporters run too: a mask of a frozen size is filled with ones, and what takes no mask is told to the
caller, who then gives it pictures of one size at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detr_onnx.engines import Engine, Floats, Mask
from detr_onnx.errors import EngineError, ModelFileError

if TYPE_CHECKING:
    import onnxruntime

PIXELS, MASK, LOGITS, BOXES = "pixel_values", "pixel_mask", "logits", "pred_boxes"
ELEMENT_TYPES: dict[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
QUIET = 3  # severity of errors: warnings about a provider's optimisations are no news to a user


def onnxruntime_engine(path: Path, providers: Sequence[str] | None = None, threads: int | None = None) -> Engine:
    """The .onnx file, run by ONNX Runtime.

    Args:
        path: the model.
        providers: execution providers in order of preference, "CUDA" or "CUDAExecutionProvider"; None is the CPU.
        threads: of one operator; None is one for each physical core.

    Raises:
        EngineError: when a provider is not in this build of ONNX Runtime, or did not start.
        ModelFileError: when the file is missing, damaged, or no DETR.
    """
    session = _session(path, _provider_names(providers), threads)
    inputs = {value.name: value for value in session.get_inputs()}
    _check_signature(path, inputs, [value.name for value in session.get_outputs()])
    mask_input = inputs.get(MASK)
    mask_hw = _fixed(mask_input.shape[1:]) if mask_input else None
    canvas_hw = _fixed(inputs[PIXELS].shape[2:])
    pixel_type = ELEMENT_TYPES[inputs[PIXELS].type]

    def network(pixels: Floats, mask: Mask | None) -> tuple[Floats, Floats]:
        feeds: dict[str, Any] = {PIXELS: pixels.astype(pixel_type, copy=False)}
        if mask_input:
            frozen = mask_hw is not None and mask_hw != pixels.shape[2:]
            if mask is None or frozen:
                mask = np.ones((len(pixels), *(mask_hw or pixels.shape[2:])), np.bool_)
            feeds[MASK] = mask.astype(ELEMENT_TYPES[mask_input.type])
        logits, boxes = session.run([LOGITS, BOXES], feeds)
        return logits.astype(np.float32, copy=False), boxes.astype(np.float32, copy=False)

    return Engine(
        title=_title(session),
        network=network,
        batches_mixed_sizes=mask_input is not None and (mask_hw is None or mask_hw == canvas_hw),
        canvas_hw=canvas_hw,
        batch=inputs[PIXELS].shape[0] if isinstance(inputs[PIXELS].shape[0], int) else None,
        metadata=dict(session.get_modelmeta().custom_metadata_map),
    )


def _session(path: Path, providers: list[str], threads: int | None) -> onnxruntime.InferenceSession:
    import onnxruntime

    if not path.is_file():
        raise ModelFileError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.enable_mem_pattern = False  # a plan for each new input shape would be kept for good
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise _unreadable(path, error) from error
    lost = [name for name in providers if name not in session.get_providers()]
    if lost:
        raise EngineError(
            f"ONNX Runtime did not start {', '.join(lost)}",
            found=f"only {', '.join(session.get_providers())}",
            remedy="check the driver and the libraries that this provider needs",
        )
    return session


def _unreadable(path: Path, error: Exception) -> ModelFileError:
    """ONNX Runtime's own sentence, its first line without the code in front."""
    reason = str(error).splitlines()[0].rpartition(" : ")[2] if str(error) else type(error).__name__
    return ModelFileError(
        f"{path} cannot be loaded by ONNX Runtime", found=reason[:200], remedy="export or fetch the file again"
    )


def _provider_names(asked: Sequence[str] | None) -> list[str]:
    """Full names of the providers asked for; the CPU always stands last, for what the others leave."""
    import onnxruntime

    available = {name.removesuffix("ExecutionProvider").lower(): name for name in onnxruntime.get_available_providers()}
    names = []
    for name in asked or ():
        short = name.removesuffix("ExecutionProvider").lower()
        if short not in available:
            raise EngineError(
                f"this ONNX Runtime has no provider {name!r}",
                found=", ".join(available.values()),
                remedy="for CUDA or TensorRT install onnxruntime-gpu in place of onnxruntime, for others see its page",
            )
        names.append(available[short])
    return [*names, *([] if "CPUExecutionProvider" in names else ["CPUExecutionProvider"])]


def _check_signature(path: Path, inputs: dict[str, Any], outputs: list[str]) -> None:
    """The file takes pixels (and a mask) and gives logits and boxes."""
    needed, allowed = {PIXELS}, {PIXELS, MASK}
    unknown_types = [value.type for value in inputs.values() if value.type not in ELEMENT_TYPES]
    if not needed <= set(inputs) <= allowed or not {LOGITS, BOXES} <= set(outputs) or unknown_types:
        raise ModelFileError(
            f"{path} is no DETR",
            found=f"inputs {', '.join(inputs)}; outputs {', '.join(outputs)}",
            expected=f"inputs {PIXELS} and perhaps {MASK}; outputs {LOGITS} and {BOXES}",
        )


def _fixed(shape: Sequence[Any]) -> tuple[int, int] | None:
    """Height and width where both are numbers, None where one is free."""
    height, width = shape
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _title(session: onnxruntime.InferenceSession) -> str:
    import onnxruntime

    precision = session.get_modelmeta().custom_metadata_map.get("detr_onnx.precision", "as exported")
    return f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}, {precision}"
