"""The tables of docs/server.md: the server under load, and its soak test."""

from __future__ import annotations

from benchmarks.markdown import Results
from detr_onnx.text import markdown_table


def serving_table(results: Results) -> str:
    """What the server was tested with, what was measured, and the limit."""
    load, siege, overhead, bars = (results[name] for name in ("load", "siege", "overhead", "bars"))
    requests = f"{load['requests']:,} requests of {len(load['by_kind'])} kinds, {load['concurrency']} at a time"
    rough = f"{siege['idle_or_half_open']} idle or half-open connections, {siege['slow_bodies']} slow bodies"
    rough += f", {siege['gigabyte_bodies_at_once']} bodies of a gigabyte, decompression bombs, huge arrays"
    image = f"overhead over `Detector` in the same process, {overhead['bytes'] / 1000:.0f} kB image"
    rows = (
        (f"{requests}: wrong answers", str(sum(load["wrong"].values())), "0"),
        ("resident memory, last quarter relative to the first", f"{load['memory_ratio']:.3f}×", f"{bars['memory']}×"),
        ("`/healthz` meanwhile, p50, p99", _milliseconds(load), f"{bars['health_ms']:.0f} ms"),
        (f"{rough}: `/healthz` p50, p99", _milliseconds(siege), f"{bars['health_ms']:.0f} ms"),
        (
            "highest resident memory meanwhile",
            f"{siege['memory_mb_most']:.0f} MB ({siege['memory_mb_before']:.0f} before)",
            "",
        ),
        (f"{image}, raw body", f"{overhead['raw_ms']:+.1f} ms", f"{bars['raw_ms']:.0f} ms"),
        ("the same as a JSON array", f"{overhead['json_ms']:+.1f} ms", f"{bars['json_ms']:.0f} ms"),
    )
    machine = results["machine"]
    note = f"Model: demo; {machine['processor']}, {machine['cores']} cores, clients on the same; {results['date']}."
    return f"{markdown_table(('', 'measured', 'limit'), rows)}\n\n{note}"


def _milliseconds(health: Results) -> str:
    return f"{health['health_ms_p50']:.0f}, {health['health_ms_p99']:.0f} ms"


def siege_table(results: Results) -> str:
    """What became of the requests of the soak test, the memory of what lived all along, and the limits."""
    limits, events = results["limits"], results["events"]
    killed, reloaded, attacked = events["kills"], events["reloads"], events["attacks"]
    disturbed = f"{killed} kills, {reloaded} reloads, {attacked} attacks of misbehaving clients"
    quarters, supervisor = results["memory_mb_by_quarter"], results["supervisor_mb"]
    counts = {name: sum(results[name].values()) for name in ("wrong", "lost", "killed_with_worker", "refused")}
    rows = (
        (f"requests of {len(results['by_kind'])} kinds", f"{results['requests']:,}", f"{limits['requests']:,}"),
        ("wrong answers", f"{counts['wrong']:,}", "0"),
        ("lost requests", f"{counts['lost']:,}", "0"),
        ("requests whose worker the test killed", f"{counts['killed_with_worker']:,}", ""),
        ("refused for the time being: 429, 503", f"{counts['refused']:,}", ""),
        ("resident memory of the older worker by quarter", f"{', '.join(f'{mb:.0f}' for mb in quarters)} MB", ""),
        ("the last quarter relative to the first", f"{results['memory_ratio']:.3f}×", f"{limits['memory']}×"),
        ("resident memory of the supervisor, before and after", f"{supervisor[0]:.0f}, {supervisor[1]:.0f} MB", ""),
        ("`/healthz` meanwhile, p50, p99", _milliseconds(results), ""),
    )
    machine = results["machine"]
    note = (
        f"{results['seconds'] / 60:.0f} minutes, {results['workers']} workers, {results['concurrency']} clients at a "
        f"time, {disturbed}. Model: {results['model']}; {machine['processor']}, {machine['cores']} cores, clients on "
        f"the same; {results['date']}."
    )
    return f"{markdown_table(('', 'measured', 'limit'), rows)}\n\n{note}"
