"""The figures of a comparison, as a dictionary for JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detr_onnx.bench.hosted.comparison import Comparison, summary_of
from detr_onnx.bench.hosted.images import ComparedImage
from detr_onnx.bench.hosted.journal_lines import Line
from detr_onnx.bench.hosted.latency import TimedRun, latency_of, percentiles, remote_latency_of
from detr_onnx.bench.hosted.responses import Items
from detr_onnx.detections import Detections

MILLION = 1_000_000
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class ImageResult:
    """Both answers to one image, and how they differ.

    Attributes:
        image: the image.
        line: the remote API's reply, from the journal.
        hosted, local: detections above the threshold, in the API's form; None where the image was refused.
        detections: what the detector found, whatever the score; None where the image was refused.
        local_ms: from the file's bytes to the detections.
        comparison: None unless both sides answered.
    """

    image: ComparedImage
    line: Line
    hosted: Items | None
    local: Items | None
    detections: Detections | None
    local_ms: float
    comparison: Comparison | None


@dataclass(frozen=True)
class Prices:
    """In dollars.

    Attributes:
        request: of one request to the remote API.
        machine_hour: of one hour of this machine; None if not known.
    """

    request: float
    machine_hour: float | None = None


def answers_of(image_results: Sequence[ImageResult]) -> dict[str, Any]:
    """How far the answers differ, errors, times of the answers, and a row for each image."""
    lines = list(
        {image_result.image.sha256: image_result.line for image_result in image_results}.values()
    )  # equal images were sent once
    return {
        "images": len(image_results),
        "differences": summary_of(
            [image_result.comparison for image_result in image_results if image_result.comparison is not None]
        ),
        "answer_ms": {
            "local": percentiles(
                image_result.local_ms for image_result in image_results if image_result.local is not None
            ),
            "hosted": percentiles(line["ms"] for line in lines if line["outcome"] == "answered"),
        },
        "errors": {
            "refused_by_both": _count(image_results, hosted=False, local=False),
            "refused_by_hosted_only": _count(image_results, hosted=False, local=True),
            "refused_by_local_only": _count(image_results, hosted=True, local=False),
            "failed": sum(line["outcome"] == "failed" for line in lines),
            "retries": _counts(name for line in lines for name in line["retried"]),
            "by_code": _counts(_code(line) for line in lines if line["outcome"] != "answered"),
        },
        "rows": [_row(image_result) for image_result in image_results],
    }


def latencies_of(local: Mapping[int, TimedRun], hosted: Mapping[int, Sequence[Line]]) -> dict[str, Any]:
    """Latency of both sides by the number of requests at the same time."""
    return {
        "local": {str(concurrency): latency_of([timed_run]) for concurrency, timed_run in local.items()},
        "hosted": {str(concurrency): remote_latency_of(lines) for concurrency, lines in hosted.items()},
    }


def cost_of(answered: int, prices: Prices, latency: Mapping[str, Any], answer_ms: Mapping[str, Any]) -> dict[str, Any]:
    """What was paid, and what a million images cost on each side.

    Args:
        answered: requests that were answered.
        latency: of `latencies_of`; the local side's best throughput counts.
        answer_ms: of `answers_of`; its local median counts if no latency was measured.
    """
    per_second, concurrency = best_throughput(latency["local"], answer_ms["local"])
    hours = MILLION / per_second / SECONDS_PER_HOUR if per_second else None
    hour = prices.machine_hour
    return {
        "price_dollars": prices.request,
        "requests_answered": answered,
        "paid_dollars": round(answered * prices.request, 7),
        "million_dollars": round(prices.request * MILLION, 4),
        "machine_dollars_per_hour": hour,
        "local_images_per_second": round(per_second, 3) if per_second else None,
        "local_images_per_hour": round(per_second * SECONDS_PER_HOUR) if per_second else None,
        "local_concurrency": concurrency,
        "million_local_hours": round(hours, 2) if hours is not None else None,
        "million_local_dollars": round(hours * hour, 4) if hours is not None and hour is not None else None,
        "break_even_images_per_hour": _break_even(prices),
    }


def _break_even(prices: Prices) -> int | None:
    """How many requests cost as much as an hour of the machine; None if either is not known, or requests are free."""
    if prices.machine_hour is None or not prices.request:
        return None
    images = prices.machine_hour / prices.request
    return round(images) if math.isfinite(images) else None


def best_throughput(
    local: Mapping[str, Mapping[str, Any]], answer_ms: Mapping[str, Any]
) -> tuple[float | None, int | None]:
    """Images per second on this machine and how many at the same time; one by one if only that was measured."""
    measured = [(figures["per_second"], int(concurrency)) for concurrency, figures in local.items()]
    measured = [(per_second, concurrency) for per_second, concurrency in measured if per_second]
    if measured:
        return max(measured)
    return (1000 / answer_ms["p50"], 1) if answer_ms.get("p50") else (None, None)


def _count(image_results: Sequence[ImageResult], *, hosted: bool, local: bool) -> int:
    """Images with these answers (True) or refusals (False); a failed request tells nothing about its image."""
    settled = [image_result for image_result in image_results if image_result.line["outcome"] != "failed"]
    return sum(
        (image_result.hosted is not None, image_result.local is not None) == (hosted, local) for image_result in settled
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _code(line: Line) -> str:
    """Status and code of an error, without the message."""
    error: str = line["error"]
    return "no response" if error.startswith("no response") else error.split(" ")[0]


def _row(image_result: ImageResult) -> dict[str, Any]:
    row = {
        "file": image_result.image.name,
        "sha256": image_result.image.sha256,
        "outcome": image_result.line["outcome"],
    }
    row |= {"error": image_result.line["error"]} if image_result.line["error"] else {}
    row |= {
        "local": image_result.local is not None,
        "local_ms": round(image_result.local_ms, 2),
        "hosted_ms": image_result.line["ms"],
    }
    comparison = image_result.comparison
    if comparison is None:
        return row
    return row | {
        "matched": len(comparison.pairs),
        "missing": len(comparison.missing),
        "extra": len(comparison.extra),
        "score_difference_most": max((abs(pair.score_difference) for pair in comparison.pairs), default=None),
        "box_difference_px_most": max((pair.box_px for pair in comparison.pairs), default=None),
        "same_order": comparison.same_order,
        "distance": round(comparison.distance, 6),
        "scores": score_pairs(image_result),
    }


def score_pairs(image_result: ImageResult) -> list[tuple[float | None, float | None]]:
    """Local and hosted score of each detection; None on the side that does not have it."""
    comparison = image_result.comparison
    if comparison is None:
        return []
    local, hosted = image_result.local or [], image_result.hosted or []
    both = [(local[pair.local]["score"], hosted[pair.hosted]["score"]) for pair in comparison.pairs]
    return [*both, *((score, None) for score in comparison.missing), *((None, score) for score in comparison.extra)]
