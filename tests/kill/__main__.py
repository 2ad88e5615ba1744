"""`python -m tests.kill [NAME …|all] [--how kill|steps|interrupt] --count N --seed S [--results FILE]`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.kill.interrupts import INTERRUPTIBLE, interrupt
from tests.kill.run import Report, run_scenario
from tests.kill.scenarios import SCENARIOS, write_inputs
from tests.kill.steps import kill_before_each_change

HOW = {
    "kill": "SIGKILL at random moments",
    "steps": "SIGKILL before each change of a file",
    "interrupt": "SIGINT at random moments",
}
"""What is done, and its title in the results."""


def main() -> int:
    """Exit status 1 if there was a fault."""
    arguments = parser().parse_args()
    scenarios = INTERRUPTIBLE if arguments.how == "interrupt" else SCENARIOS
    faults = 0
    for name in scenarios if "all" in arguments.names else arguments.names:
        if not scenarios[name].is_possible():
            print(f"{name}: skipped, needs {', '.join(scenarios[name].needs)}")
            continue
        with tempfile.TemporaryDirectory(prefix="detr-onnx-kill-") as home:
            report = report_of(name, arguments, Path(home))
        show(name, report)
        faults += len(report.faults)
        if arguments.results:
            add_results(arguments.results, name, arguments, report)
    return int(faults > 0)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description="Kills commands at random moments.")
    choices = ["all", *dict.fromkeys([*SCENARIOS, *INTERRUPTIBLE])]
    add = parser.add_argument
    add("names", nargs="*", default="all", choices=choices, metavar="NAME", help=", ".join(choices))
    add("--how", choices=HOW, default="kill", help="SIGKILL at random moments, or before each change; or Ctrl-C")
    add("--count", type=int, default=50, help="kills of each command (default: 50); not of --how steps")
    add("--seed", type=int, default=0, help="the same seed gives the same shares of the time")
    add("--results", type=Path, metavar="FILE", help="adds the outcomes to this file")
    return parser


def report_of(name: str, arguments: argparse.Namespace, home: Path) -> Report:
    """What came of one command."""
    inputs = home / "inputs"
    write_inputs(inputs)
    if arguments.how == "steps":
        return kill_before_each_change(SCENARIOS[name], inputs, home)
    if arguments.how == "interrupt":
        return interrupt(name, arguments.count, arguments.seed, inputs, home)
    return run_scenario(SCENARIOS[name], arguments.count, arguments.seed, inputs, home)


def show(name: str, report: Report) -> None:
    """Prints the outcomes and faults."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(report.outcomes.items()))
    print(f"{name}: {report.seconds:.2f} s undisturbed; {outcomes}; {len(report.faults)} faults", flush=True)
    for fault in report.faults:
        print(f"  {fault}", flush=True)


def add_results(file: Path, name: str, arguments: argparse.Namespace, report: Report) -> None:
    """Writes the outcomes of one command into a JSON file, beside those of others."""
    results = json.loads(file.read_text()) if file.exists() else {}
    row = {"outcomes": dict(sorted(report.outcomes.items())), "faults": report.faults}
    seed = {} if arguments.how == "steps" else {"seed": arguments.seed}
    results.setdefault(HOW[arguments.how], {})[name] = {**seed, **row}
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
