"""The ONNX Runtime engine: .onnx and .ort files on any execution provider."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.engines import Engine, arm_bfloat16
from detr_onnx.engines.cpu import cpu_features
from detr_onnx.engines.deadline import FIRST_RUN_S, LOAD_S, limit_first_run, run_within
from detr_onnx.engines.error_messages import onnxruntime_reason
from detr_onnx.engines.graph_engine import Feeds, Port, Run, graph_engine, images_in, not_text_error
from detr_onnx.engines.graph_file import check_graph_file
from detr_onnx.engines.io_binding import DEVICES, bound_run
from detr_onnx.engines.providers import CPU, ON_CPU, ProviderSpec, ResolvedProviders, resolve_providers, start_remedy
from detr_onnx.errors import DetrError, EngineError, ModelFileError
from detr_onnx.text import printable

if TYPE_CHECKING:
    import onnxruntime

ELEMENT_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}  # others as in numpy: tensor(int64)
SLOWING_OPTIMIZERS = ["SkipLayerNormFusion"]  # on the CPU the fused node is seven times slower than the two it replaces
OPTIMIZED_DATA = "session.optimized_model_external_initializers_file_name"
OPTIMIZED_DATA_FROM_BYTES = "session.optimized_model_external_initializers_min_size_in_bytes"
MAPPED = ("session.use_memory_mapped_ort_model", "session.use_ort_model_bytes_for_initializers")
"""Maps an .ort file and uses its weights in place; older versions ignore the entries that they do not know."""
EXACT_INT8 = "session.x64quantprecision", "1"  # weights as uint8: no sum of two products overflows 16 bits
VNNI = {"avx512_vnni", "avx_vnni"}  # they accumulate in 32 bits; EXACT_INT8 would halve their speed
ERRORS, FATAL = 3, 4  # severities in ONNX Runtime's log on stderr
LONGEST_PRECISION = 20  # characters; a file may say anything
BF16 = "bf16"
NOT_INSTALLED = "run pip install onnxruntime, or use engine numpy with a checkpoint"
NO_32_BITS = "install a 64-bit system, since ONNX Runtime has no packages for 32 bits such as armv7"
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"  # from 1.32 on, wheels for Linux and macOS report to Microsoft unless it is set
NODE_ASSIGNMENT = "session.record_ep_graph_assignment_info"  # older versions ignore it

logger = logging.getLogger(__name__)


def onnxruntime_engine(
    path: Path, providers: ProviderSpec | None = None, threads: int | None = None, bfloat16: bool = False
) -> Engine:
    """Runs a graph file in ONNX Runtime.

    Args:
        path: of the file.
        providers: execution providers in order of preference, "CUDA" or "CUDAExecutionProvider", or pairs of such a
            name and options; None is the CPU.
        threads: used by one operator; None is one per physical core.
        bfloat16: whether the CPU computes float32's matrix products in bfloat16.

    Raises:
        EngineError: ONNX Runtime is not installed, or a provider is not in this build, did not start, or runs no node,
            or the processor has no bfloat16 that ONNX Runtime uses, or uses it wrongly.
        ModelFileError: the file is missing, damaged or not a DETR.
        UsageError: the providers are not names, or pairs of a name and options.
    """
    wanted = resolve_providers(providers, import_onnxruntime().get_available_providers())
    if bfloat16:
        arm_bfloat16.check_processor(wanted)
    session = new_session(path, wanted, threads, bfloat16=bfloat16)
    try:
        inputs, outputs = ([_port(v) for v in values] for values in (session.get_inputs(), session.get_outputs()))
        metadata = dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise not_text_error(path, error) from error
    one_pass = _one_pass(session, wanted, outputs)
    if wanted == ON_CPU:  # others may build kernels for minutes
        one_pass = limit_first_run(FIRST_RUN_S, path, one_pass, images_in)

    def run(feeds: Feeds, names: Sequence[str]) -> tuple[NDArray[np.generic], ...]:
        try:
            return one_pass(feeds, names)
        except DetrError:
            raise
        except Exception as error:
            raise _failed(path, {name: value.shape for name, value in feeds.items()}, error) from error

    engine = graph_engine(path, _title(session, metadata, bfloat16), inputs, outputs, metadata, run)
    if bfloat16:
        arm_bfloat16.check_results(path, engine, onnxruntime_engine(path, providers, threads))
    return engine


def named_outputs(path: Path) -> Callable[[Feeds, Sequence[str]], dict[str, Any]]:
    """A function that runs a graph file on the CPU and returns the requested outputs by name."""
    session = new_session(path, ON_CPU, None)

    def run(feeds: Feeds, names: Sequence[str]) -> dict[str, Any]:
        return dict(zip(names, session.run(list(names), dict(feeds)), strict=True))

    return run


def _one_pass(session: onnxruntime.InferenceSession, wanted: ResolvedProviders, outputs: Sequence[Port]) -> Run:
    """One inference, with inputs in the CPU's memory or in that of the first provider's device."""
    name, options = wanted[0]
    if name in DEVICES:
        number = int(str(options.get("device_id", 0)))
        return bound_run(session, import_onnxruntime().OrtValue, outputs, DEVICES[name], number)

    def run(feeds: Feeds, names: Sequence[str]) -> tuple[NDArray[np.generic], ...]:
        return tuple(session.run(list(names), dict(feeds)))

    return run


def _port(value: Any) -> Port:
    dtype = ELEMENT_TYPES.get(value.type) or value.type.removeprefix("tensor(").removesuffix(")")
    return Port(value.name, dtype, tuple(value.shape))


def import_onnxruntime() -> Any:
    """The package `onnxruntime`, with its telemetry off unless the environment switches it on.

    Raises:
        EngineError: it is not installed, or damaged.
    """
    os.environ.setdefault(NO_TELEMETRY, "1")  # read once, when the package is first imported
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            "engine onnxruntime needs the package onnxruntime",
            found=str(error),
            remedy=NO_32_BITS if sys.maxsize < 2**32 else NOT_INSTALLED,
        ) from error
    return onnxruntime


def new_session(
    path: Path,
    wanted: ResolvedProviders,
    threads: int | None,
    written: Path | None = None,
    bfloat16: bool = False,
) -> onnxruntime.InferenceSession:
    """A session for a file on the providers that `providers.resolve_providers` returns.

    Args:
        written: a path for the graph as ONNX Runtime has optimised it; its weights go into a second file beside it.
        bfloat16: whether products of float32 are computed in bfloat16, where an ARM64 processor can.

    Raises:
        EngineError: ONNX Runtime is not installed, or a provider did not start.
        ModelFileError: the file is missing or damaged.
    """
    onnxruntime = import_onnxruntime()
    check_graph_file(path)
    _check_name(path)
    names = [name for name, _ in wanted]
    options = _session_options(path, names == [CPU], threads, bfloat16)
    if written is not None:
        options.optimized_model_filepath = str(written)
        options.add_session_config_entry(OPTIMIZED_DATA, f"{written.name}.data")
        options.add_session_config_entry(OPTIMIZED_DATA_FROM_BYTES, "1024")
    if any(name in DEVICES for name in names):
        _load_libraries(onnxruntime)

    def start() -> Any:  # no fallback: it would print on stdout and run elsewhere
        return onnxruntime.InferenceSession(
            str(path), options, providers=wanted, enable_fallback=0, disabled_optimizers=SLOWING_OPTIMIZERS
        )

    try:
        session = run_within(LOAD_S, path, "load", start) if names == [CPU] else start()
    except DetrError:
        raise
    except Exception as error:
        raise _unreadable(path, names, error) from error
    _check_started(session, names)
    return session


def _check_name(path: Path) -> None:
    """Raises ModelFileError for a path that is not UTF-8, which ONNX Runtime does not take."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        remedy = "rename the file or its directory"
        raise ModelFileError(
            f"ONNX Runtime cannot open {path}", found="a name that is not UTF-8", remedy=remedy
        ) from error


def _session_options(path: Path, on_cpu: bool, threads: int | None, bfloat16: bool) -> Any:
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = FATAL if on_cpu else ERRORS  # a GPU's failure is only logged
    options.enable_mem_pattern = False  # it keeps a plan for every input shape for good
    for entry in MAPPED if path.suffix.lower() == ".ort" else ():
        options.add_session_config_entry(entry, "1")
    if _overflows(cpu_features()):
        options.add_session_config_entry(*EXACT_INT8)
    if bfloat16:
        options.add_session_config_entry(*arm_bfloat16.SESSION_ENTRY)
    options.add_session_config_entry(NODE_ASSIGNMENT, "0" if on_cpu else "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _overflows(features: Collection[str]) -> bool:
    """Whether int8 products saturate on this processor: x86 without VNNI."""
    return "avx2" in features and VNNI.isdisjoint(features)


def _load_libraries(onnxruntime: Any) -> None:
    """Loads CUDA and cuDNN as installed by pip (ONNX Runtime 1.21 and later); by itself it loads only the system's."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        getattr(onnxruntime, "preload_dlls", lambda: None)()
    for line in output.getvalue().splitlines():
        logger.warning("%s", line)


def _check_started(session: Any, names: Sequence[str]) -> None:
    """Raises EngineError if a provider was dropped, or if the first one runs no node."""
    running = session.get_providers()
    lost = [name for name in names if name not in running]
    if lost:
        found = f"only {', '.join(running)}"
        raise EngineError(f"ONNX Runtime did not start {', '.join(lost)}", found=found, remedy=start_remedy(lost[0]))
    if names == [CPU] or not hasattr(session, "get_provider_graph_assignment_info"):
        return
    nodes = Counter[str]()
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    counts = ", ".join(f"{name} {count}" for name, count in nodes.most_common())
    if not nodes[names[0]]:
        remedy = "leave it out, or export another form of the graph"
        raise EngineError(f"{names[0]} runs no node of the graph", found=f"nodes: {counts}", remedy=remedy)
    logger.info("nodes: %s", counts)


def _unreadable(path: Path, names: list[str], error: Exception) -> DetrError:
    if names != [CPU]:
        remedy = f"{start_remedy(names[0])}, and whether the file runs on the CPU"
        return EngineError(
            f"ONNX Runtime cannot start {path} on {', '.join(names)}", found=onnxruntime_reason(error), remedy=remedy
        )
    return ModelFileError(
        f"ONNX Runtime cannot load {path}", found=onnxruntime_reason(error), remedy="export or fetch the file again"
    )


def _failed(path: Path, shapes: dict[str, tuple[int, ...]], error: Exception) -> Exception:
    """The error to raise for an error of ONNX Runtime's during inference."""
    reason = onnxruntime_reason(error)
    if "alloc" in reason.lower():  # "Failed to allocate memory for requested buffer", "std::bad_alloc"
        return MemoryError(reason)
    inputs = " and ".join(f"{name} of shape {list(shape)}" for name, shape in shapes.items())
    return EngineError(f"ONNX Runtime failed on {path} with {inputs}", found=reason)


def _title(session: onnxruntime.InferenceSession, metadata: Mapping[str, str], bfloat16: bool) -> str:
    version = import_onnxruntime().__version__
    stored = metadata.get("detr_onnx.precision", "as exported")
    precision = BF16 if bfloat16 else printable(stored[:LONGEST_PRECISION])
    return f"onnxruntime {version}, {session.get_providers()[0]}, {precision}"
