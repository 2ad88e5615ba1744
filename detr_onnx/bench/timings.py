"""From seconds to figures: medians, tenth and ninetieth percentiles, and ratios taken round by round.

A ratio is the median of the rounds' own ratios: two things timed within seconds of each other share what the machine
was doing just then, two medians do not.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Figures = dict[str, float]


def figures(values: Sequence[float], scale: float = 1.0, digits: int = 2) -> Figures:
    """median, p10 and p90 of the values, times `scale`, rounded.

    Raises:
        ValueError: when there are no values.
    """
    if not values:
        raise ValueError("no values to take a median of")
    scaled = sorted(value * scale for value in values)
    named = {"median": statistics.median(scaled), "p10": quantile(scaled, 0.1), "p90": quantile(scaled, 0.9)}
    return {name: round(value, digits) for name, value in named.items()}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Figures:
    """Figures of ours over theirs, round by round; both have a value for every round."""
    return figures([a / b for a, b in zip(ours, theirs, strict=True)], digits=3)


def quantile(ordered: Sequence[float], share: float) -> float:
    """What this share of the ordered values lies below; linear between the two nearest, as numpy's default."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
