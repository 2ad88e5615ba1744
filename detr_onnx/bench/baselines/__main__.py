"""Runs one baseline: `python detr_onnx/bench/baselines KIND JSON [once]`, in any environment with what it needs."""

from __future__ import annotations

import sys
import types
from pathlib import Path

HERE = Path(__file__).parent


def make_importable() -> None:
    """Makes this directory importable under its name, and nothing beside it.

    With the directory of detr_onnx on the path, all packages that are installed there could be imported, too.
    """
    del sys.path[0]  # this directory, whose modules have names that others may also use
    for name, directory in (("detr_onnx", HERE.parents[1]), ("detr_onnx.bench", HERE.parent)):
        package = types.ModuleType(name)
        package.__path__ = [str(directory)]
        sys.modules[name] = package


def main() -> None:
    """Loads the baseline and lets it take turns."""
    from detr_onnx.bench.baselines.kinds import KINDS, PACKAGES
    from detr_onnx.bench.baselines.protocol import take_turns

    take_turns(KINDS, PACKAGES, sys.argv[1:])


if __name__ == "__main__":
    make_importable()
    main()
