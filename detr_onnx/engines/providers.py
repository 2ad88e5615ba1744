"""ONNX Runtime's execution providers: what is asked for, by name and with options, and what there is.

    ["CUDA", ("TensorRT", {"trt_fp16_enable": True})]   in Python, as ONNX Runtime takes them, and names in short
    TensorRT:trt_fp16_enable=True:device_id=1,CUDA      on the command line; or JSON, for values with a comma or colon

Nothing that is asked for is dropped: what this build lacks is an error that says where to get it.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence

from detr_onnx.errors import EngineError, UsageError

Provider = str | tuple[str, Mapping[str, object]]
"""A name, such as "CUDA" or "CUDAExecutionProvider", or a name with options."""
ProviderSpec = Sequence[Provider]
"""In order of preference."""
ResolvedProviders = list[tuple[str, dict[str, object]]]
"""Full names with options, in order of preference."""

SUFFIX = "ExecutionProvider"
CPU = f"CPU{SUFFIX}"
ALSO_CALLED = {"directml": "dml"}
BRINGS = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "dml": "onnxruntime-directml",
    "openvino": "onnxruntime-openvino",
    "qnn": "onnxruntime-qnn",
    "migraphx": "onnxruntime-migraphx",
}
"""Distributions that have a provider, by its short name; each takes the place of onnxruntime."""
ELSEWHERE = {
    "coreml": "use onnxruntime on macOS, which has it",
    "xnnpack": "install a build of ONNX Runtime that has it, as those for phones do",
}
FUSED_ATTENTION = ("cpu", "cuda", "dml")  # who has a kernel for com.microsoft.MultiHeadAttention
FOR_MANY_SIZES: dict[str, dict[str, object]] = {
    "cuda": {
        "arena_extend_strategy": "kSameAsRequested",  # its default, the next power of two, doubles with each new size
        "cudnn_conv_algo_search": "HEURISTIC",  # its default tries every algorithm out, again for each new size
    }
}
"""Options that suit images of many sizes; those that are given win."""


def parse_providers(text: str) -> list[Provider]:
    """What the command line's --providers says.

    Raises:
        UsageError: it is neither names with options nor JSON.
    """
    if text.lstrip().startswith("["):
        return _from_json(text)
    return [_parse_one(part.strip()) for part in text.split(",")]


def _parse_one(text: str) -> Provider:
    name, *pairs = text.split(":")
    options = dict(pair.partition("=")[::2] for pair in pairs)
    if not name or "" in options or len(options) < len(pairs) or not all("=" in pair for pair in pairs):
        raise _misspelt(text)
    return (name, options) if options else name


def _from_json(text: str) -> list[Provider]:
    try:
        values = json.loads(text)
    except ValueError:
        raise _misspelt(text) from None
    if not all(isinstance(one, str) or _is_pair(one) for one in values):
        raise _misspelt(text)
    return [one if isinstance(one, str) else (one[0], one[1]) for one in values]


def _misspelt(text: str) -> UsageError:
    expected = """NAME or NAME:option=value:option=value, commas between, or JSON such as '[["CUDA", {…}], "CPU"]'"""
    return UsageError("--providers cannot be read", found=repr(text[:200]), expected=expected)


def _is_pair(value: object) -> bool:
    is_two = isinstance(value, tuple | list) and len(value) == 2
    return is_two and isinstance(value[0], str) and isinstance(value[1], Mapping)  # type: ignore[index]


def provider_names(asked: ProviderSpec) -> str:
    """The names, for people."""
    return ", ".join(one if isinstance(one, str) else str(one[0]) for one in asked)


def takes_fused_attention(asked: ProviderSpec | None) -> bool:
    """Whether attention as one node suits the providers; those without a kernel for it would leave it to the CPU."""
    names = [one if isinstance(one, str) else one[0] for one in asked or ()]
    return all(_short(name) in FUSED_ATTENTION for name in names)


def resolve_providers(asked: ProviderSpec | None, available: Sequence[str]) -> ResolvedProviders:
    """Full names and options of what is asked for; the CPU comes last, for what the others leave.

    Args:
        asked: in order of preference; None is the CPU.
        available: the full names that this build of ONNX Runtime has.

    Raises:
        UsageError: it is no list of names and options, or one that cannot be meant.
        EngineError: one is not in this build.
    """
    if asked is None:
        return [(CPU, {})]
    check_provider_spec(asked)
    found: dict[str, dict[str, object]] = {}
    for one in asked:
        name, options = (one, {}) if isinstance(one, str) else one
        full = _full_name(name, available)
        wanted = FOR_MANY_SIZES.get(_short(full), {}) | dict(options)
        if found.setdefault(full, wanted) != wanted:
            raise UsageError(f"provider {name} is asked for twice", remedy="give its options once")
    _check_cpu(found)
    return [*found.items(), *([] if CPU in found else [(CPU, {})])]


def check_provider_spec(asked: object) -> None:
    """Raises UsageError unless it is a list of names, or of pairs of a name and options."""
    is_list = isinstance(asked, Sequence) and not isinstance(asked, str) and len(asked) > 0
    if not is_list or not all(isinstance(one, str) or _is_pair(one) for one in asked):  # type: ignore[attr-defined]
        expected = 'such as ["CUDA"] or [("CUDA", {"device_id": 1})]'
        raise UsageError("providers are a list of names, or of names and options", found=repr(asked), expected=expected)


def _check_cpu(found: Mapping[str, Mapping[str, object]]) -> None:
    """ONNX Runtime is silent about both."""
    if found.get(CPU):
        raise UsageError("provider CPU has no options", found=", ".join(found[CPU]), remedy="leave them out")
    if CPU in found and list(found)[-1] != CPU:
        remedy = "name it last, or not at all"
        raise UsageError("provider CPU leaves nothing to those behind it", found=", ".join(found), remedy=remedy)


def _full_name(name: str, available: Sequence[str]) -> str:
    short = {_short(one): one for one in available}
    if _short(name) not in short:
        found = ", ".join(available)
        raise EngineError(f"this ONNX Runtime has no provider {name!r}", found=found, remedy=_remedy(_short(name)))
    return short[_short(name)]


def _short(name: str) -> str:
    lower = name.removesuffix(SUFFIX).lower()
    return ALSO_CALLED.get(lower, lower)


def _remedy(short: str) -> str:
    """How to come by a provider."""
    known = [*BRINGS, *ELSEWHERE]
    if short in ELSEWHERE:
        return ELSEWHERE[short]
    if short not in known:
        near = difflib.get_close_matches(short, known, 1)
        other = "for CUDA or TensorRT install onnxruntime-gpu in place of onnxruntime"
        return f"did you mean {near[0]}?" if near else other
    package = BRINGS[short]
    if _is_installed(package) and _is_installed("onnxruntime"):
        return f"onnxruntime hides {package}: run pip uninstall onnxruntime {package}, then pip install {package}"
    return f"run pip uninstall onnxruntime, then pip install {package}, which takes its place"


def start_remedy(name: str) -> str:
    """What to look at when a provider is there and does not start."""
    if BRINGS.get(_short(name)) == "onnxruntime-gpu":
        return (
            "check that nvidia-smi lists a GPU; pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries that it "
            "needs, but for TensorRT's"
        )
    return "check the driver and the libraries that this provider needs"


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
