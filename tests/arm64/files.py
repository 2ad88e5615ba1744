"""Writes the demo model in the forms that `answers.py` runs.

    python -m tests.arm64.files DIR

int8 is calibrated with views of the demo scene and written with --force: a dozen views of one scene are too few for the
exporter's own judgement, which wants an error of sampling below its bound. `compare.py` applies the bound itself.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.demo_views import write_views
from tests.docs.stage import write_checkpoint

INT8, ORT, END_TO_END, CHECKPOINT = "int8.onnx", "model.ort", "end-to-end.onnx", "checkpoint"
VIEWS = 8
EXPORTS: dict[str, tuple[str, ...]] = {ORT: (), END_TO_END: ("--end-to-end",)}


def export(file: Path, *options: str) -> None:
    """Writes a file of the demo model."""
    subprocess.run([sys.executable, "-m", "detr_onnx", "export", "demo", "-o", file, *options], check=True)


def main() -> None:
    directory = Path(sys.argv[1])
    for name, options in EXPORTS.items():
        export(directory / name, *options)
    write_checkpoint(directory / CHECKPOINT)
    with tempfile.TemporaryDirectory() as views:
        write_views(Path(views), VIEWS)
        export(directory / INT8, "--precision", "int8", "--calibrate", views, "--force")


if __name__ == "__main__":
    main()
