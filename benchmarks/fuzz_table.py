"""The table of SECURITY.md: what the fuzzers found."""

from __future__ import annotations

from benchmarks.markdown import Results
from detr_onnx.text import markdown_table


def fuzz_table(results: Results) -> str:
    """A row for each kind of input: how many, distinct outcomes, faults, the slowest."""
    head = ("", "inputs", "distinct outcomes", "faults", "slowest")
    kinds = results["kinds"]
    lines = [
        (name, f"{row['inputs']:,}", f"{row['distinct_outcomes']:,}", str(row["faults"]), f"{row['slowest_s']:.2f} s")
        for name, row in kinds.items()
    ]
    total = sum(row["inputs"] for row in kinds.values())
    faults = sum(row["faults"] for row in kinds.values())
    slowest = max(row["slowest_s"] for row in kinds.values())
    peak = max(row["peak_mb"] for row in kinds.values())
    outcomes = sum(row["distinct_outcomes"] for row in kinds.values())
    lines.append(("all", f"{total:,}", f"{outcomes:,}", str(faults), f"{slowest:.2f} s"))
    note = (
        f"Version {results['version']}, seed {results['seed']}, in {results['seconds'] / 60:.0f} minutes; "
        f"{peak:.0f} MB at most in a process; {results['machine']['processor']}; {results['date']}."
    )
    return f"{markdown_table(head, lines)}\n\n{note}"
