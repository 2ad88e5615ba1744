"""`python -m tests.fuzz KIND --count N --seed S [--first I] [--keep DIR] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path

from tests.fuzz.kinds import KINDS
from tests.fuzz.run import Report, run

MOST_SHOWN = 20


def main() -> int:
    """Exit status 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Seeded mutation fuzzers.")
    parser.add_argument("kind", choices=["all", *KINDS], help="what to fuzz")
    parser.add_argument("--count", type=int, default=10_000, help="inputs of each kind (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same inputs (default: 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to repeat one (default: 0)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="writes inputs with a fault into this directory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the outcomes")
    arguments = parser.parse_args()
    reports = {
        name: run(kind, arguments.count, arguments.seed, arguments.first)
        for name, kind in KINDS.items()
        if arguments.kind in ("all", name)
    }
    for name, report in reports.items():
        print(f"{name}: {arguments.count} inputs, slowest {report.slowest_s:.2f} s, {len(report.faults)} faults")
        for outcome, count in outcomes(report).most_common(MOST_SHOWN):
            print(f"  {count:>8} {outcome}")
        for fault in report.faults[:MOST_SHOWN]:
            print(f"  fault in input {fault.index} from {fault.seed_name!r}: {fault.what}")
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            for fault in report.faults:
                (arguments.keep / f"{name}-{arguments.seed}-{fault.index}").write_bytes(fault.data)
    if arguments.json:
        results = {name: {"count": arguments.count, "seed": arguments.seed, "outcomes": outcomes(report),
                          "faults": len(report.faults)} for name, report in reports.items()}  # fmt: skip
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(any(report.faults for report in reports.values()))


def outcomes(report: Report) -> Counter[str]:
    """Outcomes without paths and numbers, so that equal ones are counted together."""
    counts: Counter[str] = Counter()
    for outcome, count in report.outcomes.items():
        counts[re.sub(r"\d+", "N", re.sub(r"/\S+", "FILE", outcome))] += count
    return counts


if __name__ == "__main__":
    sys.exit(main())
