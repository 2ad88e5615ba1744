"""What the command lines of the benchmarks share: options, each defined once, and the results file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detr_onnx.bench.interleave import PAUSE_S

RESULTS = Path(__file__).parent / "results"
WARM_UP = 3
OPTIONS: dict[str, dict[str, Any]] = {
    "--work": {
        "type": Path, "default": Path("build/benchmarks"), "metavar": "DIR",
        "help": "for the files that are measured (default: %(default)s)",
    },
    "--model": {"type": Path, "metavar": "DIR", "help": "a checkpoint; default: DETR-R50 with seeded weights"},
    "--optimum": {"type": Path, "metavar": "PATH", "help": "a file or the directory of export.optimum_export"},
    "--python-peers": {"metavar": "PYTHON", "help": "an interpreter with transformers and torch"},
    "--int8": {"type": Path, "metavar": "FILE", "help": "the same model as an int8 file, from benchmarks.precisions"},
    "--threads": {"type": int, "default": 2, "metavar": "N", "help": "threads of each program (default: %(default)s)"},
    "--warm-up": {"type": int, "default": WARM_UP, "metavar": "N", "help": "runs before those (default: %(default)s)"},
    "--pause": {
        "type": float, "default": PAUSE_S, "metavar": "SECONDS", "help": "between two turns (default: %(default)s)",
    },
}  # fmt: skip


def benchmark_parser(
    module: str, description: str, *options: str, results: str, runs: int | None = None
) -> argparse.ArgumentParser:
    """The parser of a benchmark.

    Args:
        module: its dotted name, for the usage line.
        description: one sentence.
        options: the shared options it takes, of `OPTIONS`.
        results: the name of its results file, the default of --json.
        runs: the default of --runs; None for a benchmark without it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    for option in options:
        parser.add_argument(option, **OPTIONS[option])
    if runs is not None:
        help_text = "measured runs of each (default: %(default)s)"
        parser.add_argument("--runs", type=int, default=runs, metavar="N", help=help_text)
    file = RESULTS / f"{results}.json"
    help_text = f"the results file (default: benchmarks/results/{file.name})"
    parser.add_argument("--json", type=Path, default=file, metavar="FILE", help=help_text)
    return parser


def write_results(file: Path, results: Mapping[str, Any]) -> None:
    """Writes a results file and says so on stderr."""
    file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {file.name}", file=sys.stderr)


def absent(left_out: Mapping[str, str]) -> list[dict[str, str]]:
    """The `left_out` of a results file: titles and reasons."""
    return [{"title": title, "why": reason} for title, reason in left_out.items()]
