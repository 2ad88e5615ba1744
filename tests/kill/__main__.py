"""`python -m tests.kill [SCENARIO …|all] --count N --seed S [--results FILE]`, see `run.py`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.kill.run import Report, run_scenario
from tests.kill.scenarios import SCENARIOS, write_inputs


def main() -> int:
    """Exit status 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description="Kills commands at random moments.")
    choices = ["all", *SCENARIOS]
    parser.add_argument("names", nargs="*", default="all", choices=choices, metavar="NAME", help=", ".join(choices))
    parser.add_argument("--count", type=int, default=50, help="kills of each command (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same shares of the time")
    parser.add_argument("--results", type=Path, metavar="FILE", help="adds the outcomes to this file")
    arguments = parser.parse_args()
    faults = 0
    for name in SCENARIOS if "all" in arguments.names else arguments.names:
        if not SCENARIOS[name].is_possible():
            print(f"{name}: skipped, needs {', '.join(SCENARIOS[name].needs)}")
            continue
        with tempfile.TemporaryDirectory(prefix="detr-onnx-kill-") as home:
            inputs = Path(home, "inputs")
            write_inputs(inputs)
            report = run_scenario(SCENARIOS[name], arguments.count, arguments.seed, inputs, Path(home))
        show(name, report)
        faults += len(report.faults)
        if arguments.results:
            add_results(arguments.results, name, arguments, report)
    return int(faults > 0)


def show(name: str, report: Report) -> None:
    """Prints the outcomes and faults."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(report.outcomes.items()))
    print(f"{name}: {report.seconds:.2f} s undisturbed; {outcomes}; {len(report.faults)} faults", flush=True)
    for fault in report.faults:
        print(f"  {fault}", flush=True)


def add_results(file: Path, name: str, arguments: argparse.Namespace, report: Report) -> None:
    """Writes the outcomes of one command into a JSON file, beside those of others."""
    results = json.loads(file.read_text()) if file.exists() else {}
    results[name] = {
        "count": arguments.count,
        "seed": arguments.seed,
        "outcomes": dict(sorted(report.outcomes.items())),
        "faults": report.faults,
    }
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
