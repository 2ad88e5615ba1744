"""Statistics of timings: medians, tenth and ninetieth percentiles, and paired ratios.

A ratio is the median of the ratios of the rounds. Two programs of one round ran within seconds of each other, under
the same load; two medians may come from different moments.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Figures = dict[str, float]


def figures(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> Figures:
    """`median`, `p10` and `p90` of the values times `scale`, rounded to `digits`.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to take a median of")
    scaled = sorted(value * scale for value in values)
    named = {"median": statistics.median(scaled), "p10": quantile(scaled, 0.1), "p90": quantile(scaled, 0.9)}
    return {name: round(value, digits) for name, value in named.items()}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Figures:
    """Figures of ours divided by theirs, round by round. Both have one value per round."""
    return figures([a / b for a, b in zip(ours, theirs, strict=True)], digits=3)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of ordered values, 0 <= share <= 1, interpolated linearly as numpy does by default."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
