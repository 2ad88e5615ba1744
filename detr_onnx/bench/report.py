"""Benchmark results: rows for the JSON file, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detr_onnx.bench.baselines.turns import CONCURRENCIES, DECODE, DETECT, NETWORK, PIXELS, POSTPROCESS
from detr_onnx.bench.interleave import Contender
from detr_onnx.bench.processes import Program
from detr_onnx.bench.timings import figures, ratio
from detr_onnx.text import aligned_table, printable, short_number

PARTS = (DECODE, PIXELS, NETWORK, POSTPROCESS, DETECT)
HEAD = ("milliseconds", "decode", "resize", "network", "postprocess", "total", "p10-p90")
AT_A_TIME = [f"{count} at a time" for count in CONCURRENCIES]
PROGRAM_HEAD = ("", "cold start", "peak memory", f"images/s, {AT_A_TIME[0]}", *AT_A_TIME[1:])

Row = dict[str, Any]


def result_rows(
    latencies: Sequence[Contender], throughputs: Sequence[Contender], programs: Sequence[Program]
) -> list[Row]:
    """One row per contender, in milliseconds, images per second, megabytes and seconds."""
    throughput_of = {contender.entry.key: contender.seconds for contender in throughputs}
    program_of = {program.key: program for program in programs}
    rows = []
    for contender in latencies:
        entry, seconds = contender.entry, contender.seconds
        row: Row = {"key": entry.key, "title": entry.title}
        row |= {"runs_on": contender.runs_on, "versions": contender.versions}
        row |= {"spun_ms": round(1000 * contender.spun_s / max(map(len, seconds.values())), 1)}
        row |= {"ms": {part: figures(values, 1000) for part, values in seconds.items()}}
        if throughput := throughput_of.get(entry.key):
            row |= {"images_per_s": {count: rate(values) for count, values in throughput.items()}}
        if program := program_of.get(entry.key):
            row |= {"cold_start_s": figures(program.wall_s), "peak_mb": figures(program.peak_mb, digits=1)}
        rows.append(row)
    return rows


def rate(seconds: Sequence[float]) -> dict[str, float]:
    """Figures of images per second, from seconds per image."""
    return figures([1 / value for value in seconds], digits=2)


def ratio_rows(latencies: Sequence[Contender], baselines: Sequence[str]) -> list[Row]:
    """The total time of each of ours divided by that of each baseline, paired by round.

    Args:
        latencies: all contenders.
        baselines: the keys of those that are baselines.
    """
    totals = {contender.entry.key: contender.seconds[DETECT] for contender in latencies}
    ours = [key for key in totals if key not in baselines]
    return [
        {"ours": our_key, "theirs": key, "ratio": ratio(totals[our_key], totals[key])}
        for our_key in ours
        for key in baselines
        if key in totals
    ]


def format_results(results: Mapping[str, Any]) -> str:
    """Both tables, the ratios, the conditions, and who was left out and why."""
    rows = results["rows"]
    latencies = aligned_table(HEAD, [_latency_cells(row) for row in rows])
    programs = aligned_table(PROGRAM_HEAD, [_program_cells(row) for row in rows])
    lines = [*latencies, "", *programs, *_ratio_lines(results), "", *_conditions(results)]
    lines += [f"left out: {title}: {reason}" for title, reason in results["left_out"].items()]
    return "\n".join(printable(line) for line in lines) + "\n"


def _latency_cells(row: Row) -> tuple[str, ...]:
    ms = row["ms"]
    cells = [short_number(ms[part]["median"]) if part in ms else "-" for part in PARTS]
    return row["title"], *cells, f"{short_number(ms[DETECT]['p10'])}-{short_number(ms[DETECT]['p90'])}"


def _program_cells(row: Row) -> tuple[str, ...]:
    cold, peak = row.get("cold_start_s"), row.get("peak_mb")
    rates = row.get("images_per_s", {})
    return (
        row["title"],
        f"{cold['median']:.2f} s" if cold else "-",
        f"{peak['median']:.0f} MB" if peak else "-",
        *(short_number(rates[str(count)]["median"]) if rates else "-" for count in CONCURRENCIES),
    )


def _ratio_lines(results: Mapping[str, Any]) -> list[str]:
    titles = {row["key"]: row["title"] for row in results["rows"]}
    lines = [
        f"{titles[row['ours']]}: {row['ratio']['median']:.2f} of the time of {titles[row['theirs']]}"
        for row in results["ratios"]
    ]
    return ["", *lines] if lines else []


def _conditions(results: Mapping[str, Any]) -> list[str]:
    machine, rows = results["machine"], results["rows"]
    features = f" ({' '.join(machine['features'])})" if machine["features"] else ""
    runs = f"medians of {results['runs']} interleaved runs"
    if results["long_runs"] < results["runs"]:
        runs += f", of {results['long_runs']} in the second table"
    runs += f"; threads: {results['threads']}"
    return [
        f"{results['model']}, {results['image']}; {runs}",
        f"{machine['processor']}, {machine['cores']} cores{features}; {machine['system']}, Python {machine['python']}",
        ", ".join([f"detr-onnx {results['version']}", *_versions(rows)]),
        *(f"{row['title']} runs on {row['runs_on']}" for row in rows),
    ]


def _versions(rows: Sequence[Row]) -> list[str]:
    """Each package with its version; with all of them where environments have different ones."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, version in row["versions"].items():
            found.setdefault(name, {})[version] = None
    return [f"{name} {' and '.join(versions)}" for name, versions in found.items()]
