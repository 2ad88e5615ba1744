"""ONNX Runtime's execution providers: parsing a request, and resolving it against the installed build.

    ["CUDA", ("TensorRT", {"trt_fp16_enable": True})]   in Python, as in ONNX Runtime, with short names
    TensorRT:trt_fp16_enable=True:device_id=1,CUDA      on the command line; or JSON, for values with a comma or colon

No requested provider is dropped: one that this build lacks is an error that says where to get it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from detr_onnx.errors import EngineError, UsageError
from detr_onnx.json_input import parse_json

Provider = str | tuple[str, Mapping[str, object]]
"""A name, such as "CUDA" or "CUDAExecutionProvider", or a name with options."""
ProviderSpec = Sequence[Provider]
"""In order of preference."""
ResolvedProviders = list[tuple[str, dict[str, object]]]
"""Full names with options, in order of preference."""

SUFFIX = "ExecutionProvider"
CPU = f"CPU{SUFFIX}"
ON_CPU: ResolvedProviders = [(CPU, {})]
ALIASES = {"directml": "dml"}
PACKAGES = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "dml": "onnxruntime-directml",
    "openvino": "onnxruntime-openvino",
    "qnn": "onnxruntime-qnn",
    "migraphx": "onnxruntime-migraphx",
}
"""The package of PyPI that contains a provider, by the provider's short name; each replaces onnxruntime."""
OTHER_REMEDIES = {
    "coreml": "use onnxruntime on macOS, which has it",
    "xnnpack": "install a build of ONNX Runtime that has it, as those for phones do",
}
FUSED_ATTENTION = ("cpu", "cuda", "dml")  # providers with a kernel for com.microsoft.MultiHeadAttention
DEFAULT_OPTIONS: dict[str, dict[str, object]] = {
    "cuda": {
        "arena_extend_strategy": "kSameAsRequested",  # the default, the next power of two, doubles with each new size
        "cudnn_conv_algo_search": "HEURISTIC",  # the default tries every algorithm, again for each new size
    }
}
"""Options for images of many sizes; those of the user win."""


OPTION_START = re.compile(r":(?![\\/])")  # not the colon of C:\cache
ON_THE_CPU = {"cpu", "dnnl", "openvino", "xnnpack"}  # providers that compute on the processor's cores


def parse_providers(text: str) -> list[Provider]:
    """The value of the command line's --providers.

    Raises:
        UsageError: it is neither names with options nor JSON.
    """
    if text.lstrip().startswith("["):
        return _from_json(text)
    return [_parse_provider(part.strip()) for part in text.split(",")]


def _parse_provider(text: str) -> Provider:
    name, *pairs = OPTION_START.split(text)
    options = dict(pair.partition("=")[::2] for pair in pairs)
    if not name or "" in options or len(options) < len(pairs) or not all("=" in pair for pair in pairs):
        raise _unreadable(text)
    return (name, options) if options else name


def _from_json(text: str) -> list[Provider]:
    try:
        values = parse_json(text, "--providers", error=UsageError)
    except UsageError:
        raise _unreadable(text) from None
    if not all(isinstance(provider, str) or _is_pair(provider) for provider in values):
        raise _unreadable(text)
    return [provider if isinstance(provider, str) else (provider[0], provider[1]) for provider in values]


def _unreadable(text: str) -> UsageError:
    expected = """NAME or NAME:option=value:option=value, commas between, or JSON such as '[["CUDA", {…}], "CPU"]'"""
    return UsageError("--providers cannot be read", found=repr(text[:200]), expected=expected)


def _is_pair(value: object) -> bool:
    is_two = isinstance(value, tuple | list) and len(value) == 2
    return is_two and isinstance(value[0], str) and isinstance(value[1], Mapping)  # type: ignore[index]


def provider_names(spec: ProviderSpec) -> str:
    """The names, separated by commas."""
    return ", ".join(provider if isinstance(provider, str) else str(provider[0]) for provider in spec)


def takes_fused_attention(spec: ProviderSpec | None) -> bool:
    """Whether all providers have a kernel for attention as one node; others would leave it to the CPU."""
    names = [provider if isinstance(provider, str) else provider[0] for provider in spec or ()]
    return all(_short(name) in FUSED_ATTENTION for name in names)


def keeps_cores_busy(spec: ProviderSpec | None) -> bool:
    """Whether the first provider, which gets most of the work, computes on the cores of the processor."""
    first = next(iter(spec or (CPU,)))
    return _short(first if isinstance(first, str) else first[0]) in ON_THE_CPU


def resolve_providers(spec: ProviderSpec | None, available: Sequence[str]) -> ResolvedProviders:
    """Full names and options of the requested providers, then the CPU for the nodes that they leave.

    Args:
        spec: in order of preference; None is the CPU.
        available: full names of the providers in this build of ONNX Runtime.

    Raises:
        UsageError: it is not a list of names and options, or contradicts itself.
        EngineError: a provider is not in this build.
    """
    if spec is None:
        return [*ON_CPU]
    check_provider_spec(spec)
    resolved: dict[str, dict[str, object]] = {}
    for provider in spec:
        name, options = (provider, {}) if isinstance(provider, str) else provider
        full = _full_name(name, available)
        merged = DEFAULT_OPTIONS.get(_short(full), {}) | dict(options)
        if resolved.setdefault(full, merged) != merged:
            raise UsageError(f"provider {name} is requested twice, with different options", remedy="name it once")
    _check_cpu(resolved)
    return [*resolved.items(), *([] if CPU in resolved else ON_CPU)]


def check_provider_spec(spec: object) -> None:
    """Raises UsageError unless `spec` is a list of names, or of pairs of a name and options."""
    is_list = isinstance(spec, Sequence) and not isinstance(spec, str) and len(spec) > 0
    if not is_list or not all(isinstance(provider, str) or _is_pair(provider) for provider in spec):  # type: ignore[attr-defined]
        expected = 'such as ["CUDA"] or [("CUDA", {"device_id": 1})]'
        raise UsageError("providers are a list of names, or of names and options", found=repr(spec), expected=expected)


def _check_cpu(found: Mapping[str, Mapping[str, object]]) -> None:
    """Raises UsageError for options of the CPU, or providers after it; ONNX Runtime ignores both silently."""
    if found.get(CPU):
        raise UsageError("provider CPU has no options", found=", ".join(found[CPU]), remedy="leave them out")
    if CPU in found and list(found)[-1] != CPU:
        remedy = "name it last, or not at all"
        raise UsageError("providers after CPU are never used", found=", ".join(found), remedy=remedy)


def _full_name(name: str, available: Sequence[str]) -> str:
    short = {_short(provider): provider for provider in available}
    if _short(name) not in short:
        found = ", ".join(available)
        raise EngineError(f"this ONNX Runtime has no provider {name!r}", found=found, remedy=_remedy(_short(name)))
    return short[_short(name)]


def _short(name: str) -> str:
    lower = name.removesuffix(SUFFIX).lower()
    return ALIASES.get(lower, lower)


def _remedy(short: str) -> str:
    """What to do about a provider that this build lacks."""
    known = [*PACKAGES, *OTHER_REMEDIES]
    if short in OTHER_REMEDIES:
        return OTHER_REMEDIES[short]
    if short not in known:
        import difflib

        near = difflib.get_close_matches(short, known, 1)
        other = "for CUDA or TensorRT install onnxruntime-gpu in place of onnxruntime"
        return f"did you mean {near[0]}?" if near else other
    package = PACKAGES[short]
    if _is_installed(package) and _is_installed("onnxruntime"):
        return f"onnxruntime hides {package}: run pip uninstall onnxruntime {package}, then pip install {package}"
    return f"run pip uninstall onnxruntime, then pip install {package}, which takes its place"


def start_remedy(name: str) -> str:
    """What to check if an installed provider does not start."""
    if PACKAGES.get(_short(name)) == "onnxruntime-gpu":
        return (
            "check that nvidia-smi lists a GPU; pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries that it "
            "needs, but for TensorRT's"
        )
    return "check the driver and the libraries that this provider needs"


def _is_installed(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, distribution  # 4 MB of modules

    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
