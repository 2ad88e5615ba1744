"""Plots as inline SVG: score against score, and latency by the number of requests at the same time.

Colors come from the page's style, which has them for light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SIZE = 420  # of the scatter plot, in units of its viewBox
MARGIN = 48
MOST_POINTS = 5000  # on the page; the JSON file has all
ROW, WIDE, LABELS = 28, SIZE, 78  # of the latency plot: height of a row, width, room for the names of rows
RADIUS = 3.5

ScorePair = tuple[float | None, float | None]


def score_plot(pairs: Sequence[ScorePair]) -> str:
    """Hosted over local score of each detection; those of one side only lie on the axis of the other."""
    shown = pairs[:: max(1, math.ceil(len(pairs) / MOST_POINTS))]
    points = "".join(_point(local, hosted) for local, hosted in shown)
    low, high = _across(0), _across(1)
    parts = [
        _open(SIZE, SIZE, f"Scatter plot of {len(shown)} detections: hosted score over local score"),
        *(_score_ticks(tick / 5) for tick in range(6)),
        f'<line class="equal" x1="{low}" y1="{_up(0)}" x2="{high}" y2="{_up(1)}"/>',
        f'<text x="{(low + high) / 2}" y="{SIZE - 6}" text-anchor="middle">local score</text>',
        f'<text transform="translate(13 {(low + high) / 2}) rotate(-90)" text-anchor="middle">hosted score</text>',
        points,
        "</svg>",
    ]
    return "\n".join(parts)


def latency_plot(latency: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A row for each side and concurrency: p50 as a dot, p90 as a tick, p99 as the end of the line; log scale."""
    rows = [
        (side, concurrency, figures)
        for concurrency in latency["hosted"]
        for side, figures in (("local", latency["local"][concurrency]), ("hosted", latency["hosted"][concurrency]))
        if figures["count"]
    ]
    if not rows:
        return ""
    times = [figures[name] for _, _, figures in rows for name in ("p50", "p99")]
    ticks = log_ticks(min(times), max(times))
    height = ROW * len(rows) + 56
    parts = [
        _open(WIDE, height, "Latency of both sides: p50, p90 and p99 in milliseconds"),
        *(_time_tick(tick, ticks, height) for tick in ticks),
        f'<text x="{(LABELS + WIDE) / 2}" y="{height - 6}" text-anchor="middle">milliseconds, log scale</text>',
        *(_latency_row(number, *row, ticks) for number, row in enumerate(rows)),
        "</svg>",
    ]
    return "\n".join(parts)


def log_ticks(least: float, most: float) -> list[float]:
    """1, 2, 5, 10, … from at most `least` to at least `most`; two or more."""
    least = max(least, 0.1)
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(max(most, least))) + 2
    steps = [step * 10.0**power for power in range(first, last) for step in (1, 2, 5)]
    below = max(step for step in steps if step <= least)
    above = min(step for step in steps if step >= most and step > below)
    return [step for step in steps if below <= step <= above]


def _open(width: float, height: float, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{label}">'
    )


def _across(score: float) -> float:
    return round(MARGIN + score * (SIZE - MARGIN - 12), 1)


def _up(score: float) -> float:
    return round(SIZE - MARGIN + 8 - score * (SIZE - MARGIN - 12), 1)


def _score_ticks(score: float) -> str:
    x, y = _across(score), _up(score)
    return (
        f'<line class="grid" x1="{x}" y1="{_up(0)}" x2="{x}" y2="{_up(1)}"/>'
        f'<line class="grid" x1="{_across(0)}" y1="{y}" x2="{_across(1)}" y2="{y}"/>'
        f'<text x="{x}" y="{_up(0) + 16}" text-anchor="middle">{score:.1f}</text>'
        f'<text x="{_across(0) - 6}" y="{y + 4}" text-anchor="end">{score:.1f}</text>'
    )


def _point(local: float | None, hosted: float | None) -> str:
    kind = "both" if local is not None and hosted is not None else "single"
    return f'<circle class="{kind}" cx="{_across(local or 0)}" cy="{_up(hosted or 0)}" r="{RADIUS}"/>'


def _time_x(milliseconds: float, ticks: Sequence[float]) -> float:
    low, high = math.log(ticks[0]), math.log(ticks[-1])
    share = (math.log(max(milliseconds, ticks[0])) - low) / (high - low)
    return round(LABELS + share * (WIDE - LABELS - 24), 1)


def _time_tick(tick: float, ticks: Sequence[float], height: float) -> str:
    x = _time_x(tick, ticks)
    return (
        f'<line class="grid" x1="{x}" y1="4" x2="{x}" y2="{height - 44}"/>'
        f'<text x="{x}" y="{height - 28}" text-anchor="middle">{tick:g}</text>'
    )


def _latency_row(number: int, side: str, concurrency: str, figures: Mapping[str, Any], ticks: Sequence[float]) -> str:
    y = 4 + ROW * (number + 0.5)
    p50, p90, p99 = (_time_x(figures[name], ticks) for name in ("p50", "p90", "p99"))
    return (
        f'<g class="{side}"><text x="{LABELS - 10}" y="{y + 4}" text-anchor="end">{side}, {concurrency}</text>'
        f'<line x1="{p50}" y1="{y}" x2="{p99}" y2="{y}"/><line x1="{p90}" y1="{y - 5}" x2="{p90}" y2="{y + 5}"/>'
        f'<line x1="{p99}" y1="{y - 3}" x2="{p99}" y2="{y + 3}"/><circle cx="{p50}" cy="{y}" r="5"/></g>'
    )
