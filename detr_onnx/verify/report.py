"""The checks as a table, and as JSON to attach to a bug report: without directories and without the environment."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from detr_onnx import __version__
from detr_onnx.engines.cpu import cpu_features, processor
from detr_onnx.paths import without_directories
from detr_onnx.text import printable
from detr_onnx.verify.checks import FAILED, NOT_TRIED, SHOWN, Check

PACKAGES = (
    "numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnx", "openvino", "huggingface_hub",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What was verified, and every check.

    Attributes:
        model, reference: as the user named them.
        checks: all of them.
        paths: that the user named; their directories do not belong into a bug report.
    """

    model: str
    reference: str | None
    checks: tuple[Check, ...]
    paths: tuple[str, ...] = ()

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.outcome == FAILED]

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        told = partial(without_directories, paths=self.paths)
        return {
            "format": "detr-onnx verify 1",
            "version": __version__,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "model": told(self.model),
            "reference": self.reference and told(self.reference),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "features": cpu_features(),
            "cores": os.cpu_count(),
            "packages": package_versions(),
            "agrees": not self.failed,
            "checks": [
                {k: told(v) if isinstance(v, str) else v for k, v in asdict(check).items()} for check in self.checks
            ],
        }

    def json(self) -> str:
        return json.dumps(self.fields(), indent=1, ensure_ascii=False) + "\n"


def package_versions() -> dict[str, str]:
    """The installed packages that compute or read models."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def table(report: Report) -> str:
    """The checks by section, and a last line with the verdict."""
    lines = [f"model: {printable(report.model)}"]
    if report.reference:
        lines.append(f"reference: {printable(report.reference)}")
    width = max((len(check.name) for check in report.checks), default=0)
    for section in dict.fromkeys(check.section for check in report.checks):
        lines += ["", section]
        lines += [_line(check, width) for check in report.checks if check.section == section]
    return "\n".join([*lines, "", verdict(report.checks)]) + "\n"


def _line(check: Check, width: int) -> str:
    words = printable(check.found + (f" (expected {check.expected})" if check.expected else ""))
    return f"  {printable(check.name):<{width}}  {check.outcome:<9}  {words}".rstrip()


def verdict(checks: Sequence[Check]) -> str:
    """One sentence: how many checks failed, and which."""
    failed = [f"{check.section}: {check.name}" for check in checks if check.outcome == FAILED]
    skipped = sum(check.outcome == NOT_TRIED for check in checks)
    tried = sum(check.outcome not in (NOT_TRIED, SHOWN) for check in checks)
    counted = f"{tried} checks, {skipped} not tried"
    return printable(
        f"{len(failed)} FAILED ({'; '.join(failed)}); {counted}" if failed else f"everything agrees; {counted}"
    )
