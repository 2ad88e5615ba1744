"""From the values of an activation to the range that its 256 levels cover.

A range that includes every value wastes levels on outliers; one that is too narrow clips too much. Which method is best
depends on the network, so there are several to try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detr_onnx.network.quantization import MAX_LEVEL, QuantParams

Floats = NDArray[np.float64]
Range = tuple[float, float]

BINS = 4096  # over both signs: at least four bins a level, even after a ReLU
CLIPPED = 1e-4  # share of the values that `percentile` clips, half of it at each end
SHARES = np.linspace(0.2, 1.0, 81)  # of the whole range: the candidates of `entropy` and `mse`


@dataclass
class Histogram:
    """Counts of values, in bins of equal width that doubles whenever a value is outside.

    Attributes:
        limit: the bins reach from -limit to limit.
        counts: [BINS].
        low, high: the smallest and the largest value.
    """

    limit: float = 2.0**-20
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    low: float = 0.0
    high: float = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Counts the values."""
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        while max(-self.low, self.high) > self.limit:
            self._widen()
        bins = ((values + self.limit) * (BINS / (2 * self.limit))).astype(np.int64).clip(0, BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def _widen(self) -> None:
        """Doubles the limit: two bins become one, and new ones are added at both ends."""
        self.limit *= 2
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.pad(pairs, BINS // 4)

    def centres(self) -> Floats:
        """[BINS] the centre of each bin."""
        return np.linspace(-self.limit, self.limit, BINS, endpoint=False, dtype=np.float64) + self.limit / BINS


def minmax(histogram: Histogram) -> Range:
    """All values."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> Range:
    """All values but a share of `CLIPPED`."""
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    inside = np.flatnonzero(
        (below > CLIPPED / 2) & (below - histogram.counts / histogram.counts.sum() < 1 - CLIPPED / 2)
    )
    width = 2 * histogram.limit / BINS
    low, high = histogram.centres()[inside[[0, -1]]] + (-width / 2, width / 2)
    return max(histogram.low, float(low)), min(histogram.high, float(high))


def entropy(histogram: Histogram) -> Range:
    """The range whose rounded values have the smallest Kullback-Leibler divergence from the original ones."""
    return min(_candidates(histogram), key=lambda range_: _divergence(histogram, range_))


def mse(histogram: Histogram) -> Range:
    """The range with the smallest mean squared error from rounding and clipping."""
    return min(_candidates(histogram), key=lambda range_: _squared_error(histogram, range_))


METHODS: dict[str, Callable[[Histogram], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def _candidates(histogram: Histogram) -> Iterator[Range]:
    for share in SHARES[::-1].tolist():
        yield histogram.low * share, histogram.high * share


def _squared_error(histogram: Histogram, range_: Range) -> float:
    """Sum over all values, each taken as its bin's centre."""
    centres = histogram.centres()
    error = QuantParams.of_range(*range_).rounded(centres) - centres
    return float(np.sum(histogram.counts * error * error))


def _divergence(histogram: Histogram, range_: Range) -> float:
    """KL(P, Q): P has the clipped values in its end bins; Q is each level's share spread over the level's bins.

    The bin with 0 is left out: the zeros of a ReLU would outweigh all the rest, and 0 is exact in any range.
    """
    params, centres, counts = QuantParams.of_range(*range_), histogram.centres(), histogram.counts.astype(np.float64)
    counts[BINS // 2] = 0
    levels = np.clip(np.rint(centres / params.scale) + params.zero_point, 0, MAX_LEVEL).astype(np.int64)
    half = histogram.limit / BINS
    inside = (centres >= range_[0] - half) & (centres <= range_[1] + half)
    p = np.where(inside, counts, 0)
    mass, bins = (np.bincount(levels, weights, MAX_LEVEL + 1) for weights in (p, p > 0))
    q = np.where(p > 0, mass[levels] / np.maximum(bins[levels], 1), 0)
    first, last = np.flatnonzero(inside)[[0, -1]]
    p[first] += counts[:first].sum()
    p[last] += counts[last + 1 :].sum()
    positive = p > 0
    if not positive.any():
        return 0.0
    p, q = p[positive] / p.sum(), q[positive] / max(q.sum(), 1)
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-12))))
