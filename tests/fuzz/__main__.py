"""`python -m tests.fuzz KIND --count N --seed S`; `--help` has the other options."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detr_onnx import __version__
from detr_onnx.atomic import write_atomically
from detr_onnx.bench.setting import setting
from detr_onnx.text import printable
from tests.fuzz.campaign import run_all, shares
from tests.fuzz.kinds import KINDS
from tests.fuzz.run import Report

MOST_SHOWN = 20
MOST_KEPT = 40  # outcomes of a kind in the results: some have thousands, with names in them


def main() -> int:
    """Exit status 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Seeded mutation fuzzers.")
    parser.add_argument("kind", choices=["all", *KINDS], help="what to fuzz")
    parser.add_argument("--count", type=int, default=100_000, help="inputs, of all kinds together (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same inputs (default: 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to repeat one (default: 0)")
    parser.add_argument("--processes", type=int, default=1, help="that share the work (default: 1)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which no more are begun (default: all)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="writes inputs with a fault into this directory")
    parser.add_argument("--results", type=Path, metavar="FILE", help="writes counts and outcomes as JSON")
    arguments = parser.parse_args()
    counts = shares(KINDS if arguments.kind == "all" else {arguments.kind: KINDS[arguments.kind]}, arguments.count)
    head, started = setting("python -m tests.fuzz", sys.argv[1:]), time.perf_counter()
    reports = run_all(counts, arguments.seed, arguments.first, arguments.processes, arguments.minutes * 60)
    seconds = time.perf_counter() - started
    show(reports, seconds)
    for name, report in reports.items() if arguments.keep else ():
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for fault in report.faults:
            (arguments.keep / f"{name}-{arguments.seed}-{fault.index}").write_bytes(fault.data)
    if arguments.results:
        facts = {"version": __version__, "seed": arguments.seed, "seconds": round(seconds, 1)}
        text = json.dumps({**head, **facts, "kinds": rows(reports)}, indent=1, ensure_ascii=False)
        write_atomically(arguments.results, text.encode("utf-8", "backslashreplace") + b"\n")
    return int(any(report.faults for report in reports.values()))


def show(reports: Mapping[str, Report], seconds: float) -> None:
    """Prints the most frequent outcomes of each kind, a table, and the first faults of each kind."""
    for name, report in reports.items():
        print(f"{name}:")
        for outcome, count in report.outcomes.most_common(MOST_SHOWN):
            print(f"  {count:>8} {outcome}")
    print(f"\n{'kind':20}{'inputs':>9}{'outcomes':>10}{'faults':>8}{'slowest':>10}{'peak':>9}")
    for name, row in rows(reports).items():
        figures = f"{row['inputs']:>9}{row['distinct_outcomes']:>10}{row['faults']:>8}"
        print(f"{name:20}{figures}{row['slowest_s']:>8.2f} s{row['peak_mb']:>6.0f} MB")
    print(f"{'all':20}{sum(row['inputs'] for row in rows(reports).values()):>9} in {seconds:.0f} s")
    for name, report in reports.items():
        _print_faults(name, report)


def _print_faults(name: str, report: Report) -> None:
    for fault in report.faults[:MOST_SHOWN]:
        print(f"fault in {name}, input {fault.index} from {fault.seed_name!r}: {printable(fault.what)}")


def rows(reports: Mapping[str, Report]) -> dict[str, Any]:
    """The figures of each kind, and its most frequent outcomes."""
    return {
        name: {
            "inputs": report.outcomes.total(),
            "faults": len(report.faults),
            "slowest_s": round(report.slowest_s, 3),
            "peak_mb": round(report.peak_mb),
            "distinct_outcomes": len(report.outcomes),
            "outcomes": dict(report.outcomes.most_common(MOST_KEPT)),
        }
        for name, report in reports.items()
    }


if __name__ == "__main__":
    sys.exit(main())
