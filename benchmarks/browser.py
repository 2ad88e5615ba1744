"""Times examples/browser in headless Chromium: WebAssembly, one model file after the other.

    python -m benchmarks.browser --modules DIR NAME=FILE.onnx … [--runs N] [--json FILE]

DIR has npm's playwright-core and onnxruntime-web (`.ci/clients build/clients` makes build/clients/npm/node_modules).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import benchmark_parser, child_json, run_main, write_results
from detr_onnx.bench.setting import setting

HERE = Path(__file__).parent
PUBLISH = HERE.parent / "examples" / "browser" / "publish.py"


def measured(modules: Path, models: list[str], image: Path, runs: int) -> dict[str, Any]:
    """What browser.cjs prints of a site with these models."""
    with tempfile.TemporaryDirectory() as work:
        site = Path(work) / "site"
        named = [f"--model={model}" for model in models]
        runtime = ["--runtime", str(modules / "onnxruntime-web")]
        variables = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        subprocess.run([sys.executable, str(PUBLISH), str(site), *named, *runtime], check=True, env=variables)
        command = ["node", str(HERE / "browser.cjs"), str(site), str(image), str(runs)]
        browser = {"NODE_PATH": str(modules), "CHROMIUM": shutil.which("chromium") or ""}
        answer: dict[str, Any] = child_json(command, {**os.environ, **browser})
    return answer


def row(found: dict[str, Any]) -> dict[str, Any]:
    """A row of the results: megabytes, and milliseconds of opening, of the first and of later images."""
    if "error" in found:
        return {"title": found["name"], "mb": round(found["bytes"] / 1e6, 1), "error": found["error"]}
    return {
        "title": found["name"],
        "mb": round(found["bytes"] / 1e6, 1),
        "open_ms": found["open"],
        "first_ms": found["first"],
        "ms": statistics.median(found["times"]),
        "times_ms": found["times"],
    }


def main() -> None:
    """Measures and writes the results."""
    description = "Times examples/browser in WebAssembly."
    parser = benchmark_parser("benchmarks.browser", description, results="browser", runs=5)
    parser.add_argument("models", nargs="+", metavar="NAME=FILE.onnx")
    parser.add_argument("--modules", type=Path, required=True, metavar="DIR", help="npm's node_modules")
    parser.add_argument("--image", type=Path, default=HERE.parent / "examples" / "demo-scene.jpg", metavar="FILE")
    arguments = parser.parse_args()
    head = setting("python -m benchmarks.browser", sys.argv[1:])
    found = measured(arguments.modules, arguments.models, arguments.image, arguments.runs)
    package = json.loads((arguments.modules / "onnxruntime-web" / "package.json").read_text(encoding="utf-8"))
    threads = next((row["threads"] for row in found["rows"] if "threads" in row), None)
    results = {
        **head,
        "versions": {"onnxruntime-web": package["version"], "chromium": found["chromium"]},
        "threads": threads,
        "runs": arguments.runs,
        "rows": [row(one) for one in found["rows"]],
    }
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
