"""How much an installation takes on disk: ours, fresh, beside the peers' environments.

    python -m benchmarks.install [--python-peers .venv-peers/bin/python] [--python-optimum .venv-optimum/bin/python]

Bytes are those of the files that the packages' own records list, without pip and setuptools, and without the bytecode
that Python adds later.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from detr_onnx.bench.setting import setting

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "install.json"
AT_MOST = 0.16  # of transformers with torch for CPUs

CORE, EVERYTHING = ".", ".[all]"
SIZES = """
import importlib.metadata, json
sizes = {}
for package in importlib.metadata.distributions():
    name = package.metadata["Name"].lower()
    files = {file.locate().resolve() for file in package.files or () if not file.name.endswith(".pyc")}
    sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
print(json.dumps(sizes))
"""
WITHOUT = {"pip", "setuptools"}


def sizes_of(python: str) -> dict[str, float]:
    """Megabytes of each package of an environment, the largest first."""
    done = subprocess.run([python, "-c", SIZES], check=True, capture_output=True, text=True)
    sizes = {name: count / 1e6 for name, count in json.loads(done.stdout).items() if name not in WITHOUT}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def fresh(what: str) -> dict[str, float]:
    """The same of a new environment with this checkout in it; "." or ".[extra]"."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = str(Path(directory, "bin", "python"))
        subprocess.run([python, "-m", "pip", "install", "-q", what], check=True, cwd=HERE.parent)
        return sizes_of(python)


def row(key: str, title: str, sizes: dict[str, float]) -> dict[str, Any]:
    """An environment's part of the results."""
    largest = {name: round(size, 1) for name, size in list(sizes.items())[:5]}
    return {
        "key": key,
        "title": title,
        "mb": round(sum(sizes.values()), 1),
        "packages": len(sizes),
        "largest_mb": largest,
    }


def main() -> None:
    """Installs, measures and writes the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.install", description="Disk that installing takes.")
    parser.add_argument("--python-peers", metavar="PYTHON", help="an interpreter that has transformers and torch alone")
    parser.add_argument("--python-optimum", metavar="PYTHON", help="an interpreter that has optimum-onnx alone")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    arguments = parser.parse_args()
    rows = [row("core", "detr-onnx", fresh(CORE)), row("all", "detr-onnx[all]", fresh(EVERYTHING))]
    for python, key, title in (
        (arguments.python_peers, "transformers", "transformers and torch for CPUs"),
        (arguments.python_optimum, "optimum", "optimum-onnx, transformers and torch for CPUs"),
    ):
        if python:
            rows.append(row(key, title, sizes_of(python)))
    results = {**setting("python -m benchmarks.install", sys.argv[1:]), "rows": rows, "at_most": AT_MOST}
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
