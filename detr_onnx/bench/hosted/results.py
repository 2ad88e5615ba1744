"""From the journal's lines and the detector's answers to figures: a dictionary for programs, a table for people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detr_onnx.bench.hosted.comparison import Comparison, compare, figures_of, percentiles
from detr_onnx.bench.hosted.images import HostedImage
from detr_onnx.bench.hosted.responses import Items
from detr_onnx.detector import Detector
from detr_onnx.errors import ImageError
from detr_onnx.text import printable

Line = Mapping[str, Any]
"""A line of the journal."""
MILLION = 1_000_000


@dataclass(frozen=True)
class View:
    """One image, seen from both sides.

    Attributes:
        photograph: which.
        line: the far side's reply, from the journal.
        hosted, local: what was found above the threshold, in the API's form; None where the image was refused.
        local_ms: from the file's bytes to the detections.
        comparison: None unless both answered.
    """

    photograph: HostedImage
    line: Line
    hosted: Items | None
    local: Items | None
    local_ms: float
    comparison: Comparison | None


def look_at_all(
    photographs: Sequence[HostedImage],
    lines: Sequence[Line],
    detector: Detector,
    threshold: float,
    show: Callable[[int, str], None],
) -> list[View]:
    """What the detector finds in each image, one at a time, beside the far side's reply."""
    any(_look(detector, one, threshold)[0] is not None for one in photographs)  # the first run of an engine is slow
    views = []
    for number, (photograph, line) in enumerate(zip(photographs, lines, strict=True), start=1):
        show(number, photograph.name)
        local, local_ms = _look(detector, photograph, threshold)
        answered = line["outcome"] == "answered"
        hosted = [item for item in line["detections"] if item["score"] > threshold] if answered else None
        comparison = compare(local, hosted) if local is not None and hosted is not None else None
        views.append(View(photograph, line, hosted, local, local_ms, comparison))
    return views


def _look(detector: Detector, photograph: HostedImage, threshold: float) -> tuple[Items | None, float]:
    content = photograph.read()
    started = time.perf_counter()
    try:
        found = detector(content, threshold).to_api()
    except ImageError:
        found = None
    return found, (time.perf_counter() - started) * 1e3


def results_of(views: Sequence[View], threshold: float, price: float) -> dict[str, Any]:
    """All figures: how far the answers differ, times, troubles, cost, and a row an image."""
    lines = list({view.photograph.sha256: view.line for view in views}.values())  # equal images were asked once
    answered = [line for line in lines if line["outcome"] == "answered"]
    local = percentiles(view.local_ms for view in views if view.local is not None)
    return {
        "threshold": threshold,
        "images": len(views),
        "differences": figures_of([view.comparison for view in views if view.comparison is not None]),
        "latency_ms": {"local": local, "hosted": _times(answered)},
        "troubles": {
            "refused_by_both": _count(views, hosted=False, local=False),
            "refused_there_only": _count(views, hosted=False, local=True),
            "refused_here_only": _count(views, hosted=True, local=False),
            "failed": sum(line["outcome"] == "failed" for line in lines),
            "retries": dict(Counter(name for line in lines for name in line["retried"]).most_common()),
            "errors": dict(Counter(_code(line) for line in lines if line["outcome"] != "answered").most_common()),
        },
        "cost": {
            "price_dollars": price,
            "answered": len(answered),
            "paid_dollars": round(len(answered) * price, 7),
            "million_dollars": round(price * MILLION, 4),
            "million_local_hours": round(local["p50"] * MILLION / 3.6e6, 1) if "p50" in local else None,
        },
        "rows": [_row(view) for view in views],
    }


def _times(answered: Sequence[Line]) -> dict[str, Any]:
    """Percentiles by the number of requests at a time; the first of a run does not count."""
    found: dict[int, list[float]] = {}
    for line in answered:
        if line["concurrency"] is not None:
            found.setdefault(line["concurrency"], []).append(line["ms"])
    return {str(concurrency): percentiles(times) for concurrency, times in sorted(found.items())}


def _count(views: Sequence[View], *, hosted: bool, local: bool) -> int:
    """Images that either side answered or refused, as asked; what failed there says nothing of an image."""
    settled = [view for view in views if view.line["outcome"] != "failed"]
    return sum((view.hosted is not None, view.local is not None) == (hosted, local) for view in settled)


def _code(line: Line) -> str:
    """Status and code of a trouble, without the message."""
    return "no answer" if line["trouble"].startswith("no answer") else line["trouble"].split(" ")[0]


def _row(view: View) -> dict[str, Any]:
    one = view.comparison
    row = {"file": view.photograph.name, "sha256": view.photograph.sha256, "outcome": view.line["outcome"]}
    row |= {"trouble": view.line["trouble"]} if view.line["trouble"] else {}
    row |= {"local": view.local is not None, "local_ms": round(view.local_ms, 2), "hosted_ms": view.line["ms"]}
    if one is None:
        return row
    return row | {
        "matched": len(one.pairs),
        "missing": len(one.missing),
        "extra": len(one.extra),
        "score_difference_most": max((abs(pair.score) for pair in one.pairs), default=None),
        "box_difference_px_most": max((pair.box_px for pair in one.pairs), default=None),
        "same_order": one.same_order,
        "distance": round(one.distance, 6),
    }


# For people


def sections_of(result: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headings with rows of a name and a figure."""
    return [
        ("Compared", _subject(result)),
        ("Differences", _differences(result["differences"])),
        ("Milliseconds, p50 / p95 / p99", _latency(result["latency_ms"])),
        ("Troubles", _troubles(result["troubles"])),
        ("Cost", _cost(result["cost"])),
    ]


def table_of(result: Mapping[str, Any]) -> str:
    """The sections as text."""
    sections = sections_of(result)
    width = max(len(name) for _, rows in sections for name, _ in rows)
    lines = [
        line
        for heading, rows in sections
        for line in ("", heading, *(f"  {name:<{width}}  {printable(figure)}" for name, figure in rows))
    ]
    return "\n".join(lines[1:]) + "\n"


def _subject(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    far, local, machine = result["remote_api"], result["local"], result["machine"]
    return [
        ("hosted", f"{far['model']} at {far['base_url']}"),
        ("local", f"{local['model']}, {local['engine']}; {machine['processor']}, {machine['cores']} cores"),
        ("images", f"{result['images']}, {result['differences']['images']} answered by both"),
        ("scores above", f"{result['threshold']:g}"),
        ("date", result["date"]),
    ]


def _differences(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    def two(name: str, second: str, form: str) -> str:
        mean, other = found[f"{name}_mean"], found[f"{name}_{second}"]
        return "-" if mean is None else f"{mean:{form}} and {other:{form}}"

    return [
        ("identical answers", f"{found['identical']} of {found['images']}"),
        ("boxes, local and hosted", f"{found['boxes_local']} and {found['boxes_hosted']}"),
        ("matched, one label and IoU 0.5", str(found["boxes_matched"])),
        ("missing in the hosted answer", _with_best(found["missing"], found["missing_best_score"])),
        ("extra in the hosted answer", _with_best(found["extra"], found["extra_best_score"])),
        ("IoU of matched, mean and least", two("iou", "least", ".4f")),
        ("scores differ by, mean and most", two("score_difference", "most", ".2g")),
        ("boxes differ by, mean and most, px", two("box_difference_px", "most", ".3g")),
        ("answers in another order", str(found["other_order"])),
        ("hosted answers not by falling score", str(found["unsorted"])),
    ]


def _latency(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("local, one at a time", found["local"])]
    rows += [(f"hosted, {concurrency} at a time", times) for concurrency, times in found["hosted"].items()]
    return [
        (name, f"{times['p50']:g} / {times['p95']:g} / {times['p99']:g} ({times['count']} images)")
        for name, times in rows
        if times["count"]
    ]


def _troubles(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    only = f"{found['refused_there_only']} and {found['refused_here_only']}"
    return [
        ("images that both refuse", str(found["refused_by_both"])),
        ("refused there only, here only", only),
        ("failed there after all retries", str(found["failed"])),
        ("errors, by status and code", _counts(found["errors"])),
        ("attempts that were made again", _counts(found["retries"])),
    ]


def _cost(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    hours = found["million_local_hours"]
    return [
        ("answers, paid for", f"{found['answered']}, ${found['paid_dollars']:.6f}"),
        ("a million images, hosted", f"${found['million_dollars']:,.2f}"),
        ("a million images, local", f"{hours:g} hours of this machine, one at a time" if hours is not None else "-"),
    ]


def _with_best(count: int, best: float | None) -> str:
    return str(count) if best is None else f"{count}, best score {best:.3f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
