"""Installed size of our package, in fresh environments, and of the peers' environments.

    python -m benchmarks.install [--python-peers .venv-peers/bin/python] [--python-optimum .venv-optimum/bin/python]

Sizes are of the files that the packages' metadata lists, without pip, setuptools and bytecode.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from benchmarks.command import benchmark_parser, child_json, run_main, write_results
from detr_onnx.bench.setting import setting

HERE = Path(__file__).parent
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
IGNORED = {"pip", "setuptools"}


def sizes_of(python: str) -> dict[str, float]:
    """Megabytes of each package of an environment, largest first."""
    sizes = {name: count / 1e6 for name, count in child_json([python, "-c", SIZES]).items() if name not in IGNORED}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def fresh(requirement: str) -> dict[str, float]:
    """The same for a new environment with this checkout installed: "." or ".[extra]"."""
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = str(Path(directory, "bin", "python"))
        subprocess.run([python, "-m", "pip", "install", "-q", requirement], check=True, cwd=HERE.parent)
        return sizes_of(python)


def row(key: str, title: str, sizes: dict[str, float]) -> dict[str, Any]:
    """An environment's row of the results."""
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
    parser = benchmark_parser("benchmarks.install", "Installed size.", "--python-peers", results="install")
    parser.add_argument("--python-optimum", metavar="PYTHON", help="an interpreter with optimum-onnx")
    arguments = parser.parse_args()
    rows = [row("core", "detr-onnx", fresh(CORE)), row("all", "detr-onnx[all]", fresh(EVERYTHING))]
    for python, key, title in (
        (arguments.python_peers, "transformers", "transformers and torch for CPUs"),
        (arguments.python_optimum, "optimum", "optimum-onnx, transformers and torch for CPUs"),
    ):
        if python:
            rows.append(row(key, title, sizes_of(python)))
    results = {**setting("python -m benchmarks.install", sys.argv[1:]), "rows": rows, "at_most": AT_MOST}
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
