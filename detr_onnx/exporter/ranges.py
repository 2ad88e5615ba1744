"""From what flowed through a network to the range that its 256 levels are spread over.

A range that holds every value wastes levels on outliers; one that is too narrow cuts off what matters. Which method is
best depends on the network, so there are several, and whoever calls tries them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detr_onnx.network.quantized import GRID_LEVELS, QuantParams

Floats = NDArray[np.float64]
Range = tuple[float, float]

BINS = 4096  # over both signs; a grid of 256 levels then still spans 16 bins a level for what ReLU has cut
CUT_OFF = 1e-4  # share of the values that the percentile leaves outside, half of it at each end
SHRUNK = np.linspace(0.2, 1.0, 81)  # of the whole range: what entropy and squares try


@dataclass
class Histogram:
    """How often which values came, in bins of equal width that double whenever a value lies outside.

    Attributes:
        limit: the bins reach from -limit to limit.
        counts: [BINS].
        low, high: the smallest and the largest value, exactly.
    """

    limit: float = 2.0**-20
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    low: float = 0.0
    high: float = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Counts the values; none is kept."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        while max(-self.low, self.high) > self.limit:
            self._widen()
        places = ((values + self.limit) * (BINS / (2 * self.limit))).astype(np.int64).clip(0, BINS - 1)
        self.counts += np.bincount(places, minlength=BINS)

    def _widen(self) -> None:
        """Twice the limit: two bins become one, and there are new ones at both ends."""
        self.limit *= 2
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.pad(pairs, BINS // 4)

    def centres(self) -> Floats:
        """[BINS] the middle of each bin."""
        return np.linspace(-self.limit, self.limit, BINS, endpoint=False, dtype=np.float64) + self.limit / BINS


def minmax(seen: Histogram) -> Range:
    """All that was seen."""
    return seen.low, seen.high


def percentile(seen: Histogram) -> Range:
    """All but `CUT_OFF` of what was seen."""
    below = np.cumsum(seen.counts) / seen.counts.sum()
    inside = np.flatnonzero((below > CUT_OFF / 2) & (below - seen.counts / seen.counts.sum() < 1 - CUT_OFF / 2))
    width = 2 * seen.limit / BINS
    low, high = seen.centres()[inside[[0, -1]]] + (-width / 2, width / 2)
    return max(seen.low, float(low)), min(seen.high, float(high))


def entropy(seen: Histogram) -> Range:
    """The range that loses least information: Kullback and Leibler's divergence of the rounded from what was seen."""
    return min(_candidates(seen), key=lambda range_: _divergence(seen, range_))


def mse(seen: Histogram) -> Range:
    """The range with the smallest mean square of what rounding and cutting change."""
    return min(_candidates(seen), key=lambda range_: _error(seen, range_))


METHODS: dict[str, Callable[[Histogram], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def _candidates(seen: Histogram) -> Iterator[Range]:
    for share in SHRUNK[::-1].tolist():
        yield seen.low * share, seen.high * share


def _error(seen: Histogram, range_: Range) -> float:
    """Sum of squares, each bin by its centre."""
    centres = seen.centres()
    difference = QuantParams.of_range(*range_).rounded(centres) - centres
    return float(np.sum(seen.counts * difference * difference))


def _divergence(seen: Histogram, range_: Range) -> float:
    """KL(P, Q): P what was seen, with what is cut off at its ends; Q each level's share spread over its bins.

    Without the bin that has 0: what ReLU has cut off would outweigh all the rest, and is exact on any grid.
    """
    grid, centres, counts = QuantParams.of_range(*range_), seen.centres(), seen.counts.astype(np.float64)
    counts[BINS // 2] = 0
    levels = np.clip(np.rint(centres / grid.scale) + grid.zero_point, 0, GRID_LEVELS).astype(np.int64)
    half = seen.limit / BINS
    inside = (centres >= range_[0] - half) & (centres <= range_[1] + half)
    p = np.where(inside, counts, 0)
    mass, bins = (np.bincount(levels, weights, GRID_LEVELS + 1) for weights in (p, p > 0))
    q = np.where(p > 0, mass[levels] / np.maximum(bins[levels], 1), 0)
    first, last = np.flatnonzero(inside)[[0, -1]]
    p[first] += counts[:first].sum()
    p[last] += counts[last + 1 :].sum()
    some = p > 0
    if not some.any():
        return 0.0
    p, q = p[some] / p.sum(), q[some] / max(q.sum(), 1)
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-12))))
