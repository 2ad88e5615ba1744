"""The name of this processor and the instruction sets that decide which kernels run."""

from __future__ import annotations

import platform
import re
from pathlib import Path

X86 = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
ARM_BFLOAT16 = "bf16"  # Linux's name of the flag; x86's is avx512_bf16
CPU_FEATURES = (*X86, "asimd", "sve", ARM_BFLOAT16)
SYSCTL = "/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_BF16"  # on macOS: prints 1 or 0
SYSCTL_S = 5  # seconds


def processor() -> str:
    """The processor's name, as far as the platform tells it."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """The `CPU_FEATURES` of this processor; empty if the platform does not list them."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    has = set(found[1].split()) if found else set()
    return [feature for feature in CPU_FEATURES if feature in has]


def bfloat16_flag() -> tuple[str, bool]:
    """The name of the flag for ARM64's bfloat16 products on this system, and whether it is set; False if unknown."""
    system, machine = platform.system(), platform.machine().lower()
    if machine not in ("aarch64", "arm64"):
        return f"the flag {ARM_BFLOAT16} of ARM64, on {system} {machine}", False
    if system == "Darwin":
        return f"{SYSCTL[-1]} of sysctl", _sysctl() == "1"
    return f"the flag {ARM_BFLOAT16} in /proc/cpuinfo", ARM_BFLOAT16 in cpu_features()


def _sysctl() -> str:
    """The flag's value on macOS; empty where there is none, as on older versions."""
    import subprocess  # 1 MB, which Linux does not need

    try:
        return subprocess.run(SYSCTL, capture_output=True, text=True, timeout=SYSCTL_S, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _cpuinfo() -> str:
    """Linux's description of the processor; empty elsewhere, and where nobody may read it."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
