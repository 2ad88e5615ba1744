"""What was measured, as results for programs and a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detr_onnx.bench.baselines import AT_ONCE, DECODE, DETECT, NETWORK, PIXELS, POSTPROCESS
from detr_onnx.bench.interleave import Contender
from detr_onnx.bench.processes import Program
from detr_onnx.bench.timings import figures, ratio
from detr_onnx.text import aligned_table, printable, short_number

PARTS = (DECODE, PIXELS, NETWORK, POSTPROCESS, DETECT)
HEAD = ("milliseconds", "decode", "resize", "network", "postprocess", "total", "p10-p90")
AT_A_TIME = [f"{count} at a time" for count in AT_ONCE]
SECOND_HEAD = ("", "cold start", "peak memory", f"images/s, {AT_A_TIME[0]}", *AT_A_TIME[1:])

Row = dict[str, Any]


def rows_of(latencies: Sequence[Contender], throughputs: Sequence[Contender], programs: Sequence[Program]) -> list[Row]:
    """A row for each that took part; milliseconds, images a second, megabytes and seconds."""
    crowds = {one.entry.key: one.seconds for one in throughputs}
    whole = {one.key: one for one in programs}
    rows = []
    for one in latencies:
        row: Row = {"key": one.entry.key, "title": one.entry.title, "runs_on": one.runs_on, "versions": one.versions}
        row |= {"spun_ms": round(1000 * one.spun_s / max(map(len, one.seconds.values())), 1)}
        row |= {"ms": {part: figures(seconds, 1000) for part, seconds in one.seconds.items()}}
        if crowd := crowds.get(one.entry.key):
            row |= {"images_per_s": {count: rate(seconds) for count, seconds in crowd.items()}}
        if program := whole.get(one.entry.key):
            row |= {"cold_start_s": figures(program.wall_s), "peak_mb": figures(program.peak_mb, digits=1)}
        rows.append(row)
    return rows


def rate(seconds: Sequence[float]) -> dict[str, float]:
    """Images a second, from seconds an image."""
    return figures([1 / value for value in seconds], digits=2)


def ratios_of(latencies: Sequence[Contender], theirs: Sequence[str]) -> list[Row]:
    """Total time of each of ours over that of each peer, round by round."""
    totals = {one.entry.key: one.seconds[DETECT] for one in latencies}
    ours = [key for key in totals if key not in theirs]
    return [
        {"ours": mine, "theirs": key, "ratio": ratio(totals[mine], totals[key])}
        for mine in ours
        for key in theirs
        if key in totals
    ]


def text_of(results: Mapping[str, Any]) -> str:
    """Both tables, who was left out, and the circumstances."""
    rows = results["rows"]
    first = aligned_table(HEAD, [_latency(row) for row in rows])
    second = aligned_table(SECOND_HEAD, [_whole(row) for row in rows])
    lines = [*first, "", *second, *_ratios(results), "", *_circumstances(results)]
    lines += [f"left out: {title}: {why}" for title, why in results["left_out"].items()]
    return "\n".join(printable(line) for line in lines) + "\n"


def _latency(row: Row) -> tuple[str, ...]:
    ms = row["ms"]
    cells = [short_number(ms[part]["median"]) if part in ms else "-" for part in PARTS]
    return row["title"], *cells, f"{short_number(ms[DETECT]['p10'])}-{short_number(ms[DETECT]['p90'])}"


def _whole(row: Row) -> tuple[str, ...]:
    cold, peak = row.get("cold_start_s"), row.get("peak_mb")
    rates = row.get("images_per_s", {})
    return (
        row["title"],
        f"{cold['median']:.2f} s" if cold else "-",
        f"{peak['median']:.0f} MB" if peak else "-",
        *(short_number(rates[str(count)]["median"]) if rates else "-" for count in AT_ONCE),
    )


def _ratios(results: Mapping[str, Any]) -> list[str]:
    titles = {row["key"]: row["title"] for row in results["rows"]}
    found = [
        f"{titles[one['ours']]}: {one['ratio']['median']:.2f} of the time of {titles[one['theirs']]}"
        for one in results["ratios"]
    ]
    return ["", *found] if found else []


def _circumstances(results: Mapping[str, Any]) -> list[str]:
    machine, rows = results["machine"], results["rows"]
    versions = {name: version for row in rows for name, version in row["versions"].items()}
    features = f" ({' '.join(machine['features'])})" if machine["features"] else ""
    runs = f"{results['runs']} runs in turns, medians; threads: {results['threads']}"
    return [
        f"{results['model']}, {results['image']}; {runs}",
        f"{machine['processor']}, {machine['cores']} cores{features}; {machine['system']}, Python {machine['python']}",
        ", ".join(f"{name} {version}" for name, version in {"detr-onnx": results["version"], **versions}.items()),
        *(f"{row['title']} runs on {row['runs_on']}" for row in rows),
    ]
