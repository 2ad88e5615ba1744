"""The name of this processor and the instruction sets that decide which kernels run."""

from __future__ import annotations

import platform
import re
from pathlib import Path

X86 = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
CPU_FEATURES = (*X86, "asimd", "sve")


def processor() -> str:
    """The processor's name, as far as the platform tells it."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """The `CPU_FEATURES` of this processor; empty if the platform does not list them."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    has = set(found[1].split()) if found else set()
    return [feature for feature in CPU_FEATURES if feature in has]


def _cpuinfo() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
