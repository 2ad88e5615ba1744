"""The figures of a comparison as text: headings, and rows of a name and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detr_onnx.text import printable, short_number

Rows = list[tuple[str, str]]
Figures = Mapping[str, Any]


def sections_of(result: Figures) -> list[tuple[str, Rows]]:
    """All headings with their rows; a heading without figures has no rows."""
    return [
        ("Compared", _subject(result)),
        ("Differences", _differences(result["differences"])),
        ("COCO AP", _accuracy(result["accuracy"])),
        ("Latency, p50 / p90 / p99 in ms", _latency(result["latency"], result["answer_ms"])),
        ("Where a hosted request spends its time, medians in ms", _phases(result["latency"]["hosted"])),
        ("Errors", _errors(result["errors"])),
        ("Cost", cost_rows(result["cost"])),
    ]


def table_of(result: Figures) -> str:
    """The sections as text."""
    sections = [(heading, rows) for heading, rows in sections_of(result) if rows]
    width = max(len(name) for _, rows in sections for name, _ in rows)
    lines = []
    for heading, rows in sections:
        lines += ["", heading, *(f"  {name:<{width}}  {printable(figure)}" for name, figure in rows)]
    return "\n".join(lines[1:]) + "\n"


def _subject(result: Figures) -> Rows:
    remote, local, machine = result["remote_api"], result["local"], result["machine"]
    return [
        ("hosted", f"{remote['model']} at {remote['base_url']}"),
        ("local", f"{local['model']}, {local['engine']}; {machine['processor']}, {machine['cores']} cores"),
        ("images", f"{result['images']}, {result['differences']['images']} answered by both"),
        ("scores above", f"{result['threshold']:g}"),
        ("date", result["date"]),
    ]


def _differences(figures: Figures) -> Rows:
    return [
        ("identical answers", f"{figures['identical']} of {figures['images']}"),
        ("boxes, local and hosted", f"{figures['boxes_local']} and {figures['boxes_hosted']}"),
        ("matched, same label and IoU 0.5", str(figures["boxes_matched"])),
        ("missing in the hosted answer", _with_best(figures["missing"], figures["missing_best_score"])),
        ("extra in the hosted answer", _with_best(figures["extra"], figures["extra_best_score"])),
        ("IoU of matched, mean and least", _two(figures["iou_mean"], figures["iou_least"], ".4f")),
        (
            "difference of scores, mean and most",
            _two(figures["score_difference_mean"], figures["score_difference_most"], ".2g"),
        ),
        (
            "difference of boxes, mean and most, px",
            _two(figures["box_difference_px_mean"], figures["box_difference_px_most"], ".3g"),
        ),
        ("answers in another order", str(figures["other_order"])),
        ("hosted answers not sorted by score", str(figures["unsorted"])),
    ]


def _accuracy(figures: Figures | None) -> Rows:
    if figures is None:
        return []
    interval = f"{figures['confidence']:.0%} interval"
    return [
        ("annotated images, objects", f"{figures['images']}, {figures['objects']}"),
        ("hosted: scores above 0.1, whole pixels", _ap(figures["hosted"])),
        ("local, with the same limits", _ap(figures["local"])),
        ("local, every query, unrounded boxes", _ap(figures["local_all"])),
        ("local - hosted, same limits", _difference(figures["difference"]["AP"], interval)),
        ("local - hosted, same limits, AP50", _difference(figures["difference"]["AP50"], interval)),
        ("local with every query - hosted", _difference(figures["difference_all"]["AP"], interval)),
    ]


def _latency(latency: Figures, answer_ms: Figures) -> Rows:
    rows = []
    for concurrency, hosted in latency["hosted"].items():
        rows += [
            (f"{side}, {concurrency} at a time", _times(figures))
            for side, figures in (("local", latency["local"][concurrency]), ("hosted", hosted))
            if figures["count"]
        ]
    if not rows:
        named = (("local, one at a time", answer_ms["local"]), ("hosted, answers", answer_ms["hosted"]))
        rows = [(name, _times(figures)) for name, figures in named if figures["count"]]
    return rows


def _phases(hosted: Figures) -> Rows:
    rows = []
    for concurrency, figures in hosted.items():
        if figures["count"]:
            phases = [f"{name} {_ms(figures[f'{name}_ms'])}" for name in ("send", "wait", "transfer")]
            rows.append((f"{concurrency} at a time", ", ".join(phases)))
            rows.append(("  of that, server and network", _server(figures)))
            rows.append(("  opening a connection", _connecting(figures)))
            if figures["answers_changed"]:
                rows.append(("  answers that changed", f"{figures['answers_changed']} of {figures['count']}"))
    return rows


def _errors(figures: Figures) -> Rows:
    one_side = f"{figures['refused_by_hosted_only']} and {figures['refused_by_local_only']}"
    return [
        ("images that both sides refuse", str(figures["refused_by_both"])),
        ("refused by hosted only, by local only", one_side),
        ("failed after all retries", str(figures["failed"])),
        ("errors, by status and code", _counts(figures["by_code"])),
        ("attempts that were retried", _counts(figures["retries"])),
    ]


def cost_rows(figures: Figures) -> Rows:
    """What was paid, and what a million images cost on each side."""
    hours, dollars = figures["million_local_hours"], figures["million_local_dollars"]
    speed = f"{short_number(figures['local_images_per_second'])} images/s" if hours is not None else ""
    speed += f", {figures['local_concurrency']} at a time" if hours is not None else ""
    rows = [
        ("requests answered, paid", f"{figures['requests_answered']}, ${figures['paid_dollars']:.6f}"),
        ("a million images, hosted", f"${figures['million_dollars']:,.2f}"),
        ("a million images, local", f"{hours:g} hours at {speed}" if hours is not None else "-"),
    ]
    if dollars is not None:
        rows.append((f"at ${figures['machine_dollars_per_hour']:g} per hour", f"${dollars:,.2f}"))
        rows += _break_even(figures["break_even_images_per_hour"], figures["local_images_per_hour"])
    return rows


def _break_even(images_per_hour: int | None, capacity: int) -> Rows:
    """From how many images per hour on the machine costs less than requests, if it can process so many."""
    if images_per_hour is None:
        return []
    if images_per_hour > capacity:
        return [
            ("local is cheaper", f"never: it processes {capacity:,} images per hour, {images_per_hour:,} cost as much")
        ]
    return [("local is cheaper", f"from {images_per_hour:,} images per hour; it processes up to {capacity:,}")]


def _two(mean: float | None, extreme: float | None, form: str) -> str:
    return "-" if mean is None or extreme is None else f"{mean:{form}} and {extreme:{form}}"


def _with_best(count: int, best: float | None) -> str:
    return str(count) if best is None else f"{count}, best score {best:.3f}"


def _ap(figures: Figures) -> str:
    return f"AP {_figure(figures['AP'])}, AP50 {_figure(figures['AP50'])}"


def _difference(figures: Figures, interval: str) -> str:
    value, low, high = (figures[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "-"
    return f"{value:+.4f}, {interval} {low:+.4f} to {high:+.4f}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _times(figures: Figures) -> str:
    per_second = figures.get("per_second")
    speed = f"; {short_number(per_second)} images/s" if per_second else ""
    percentiles = " / ".join(short_number(figures[name]) for name in ("p50", "p90", "p99"))
    return f"{percentiles}{speed} ({figures['count']} requests)"


def _server(figures: Figures) -> str:
    if figures["server_ms"] is None:
        most = figures["server_most_ms"]
        bound = f"; server at most {_ms(most)}, the wait without one round trip" if most is not None else ""
        return f"unknown: no response header gives the server's time{bound}"
    share = figures["network_ms"] / (figures["network_ms"] + figures["server_ms"] or 1)
    return f"{_ms(figures['server_ms'])} and {_ms(figures['network_ms'])} ({share:.0%} network)"


def _connecting(figures: Figures) -> str:
    phases = [f"{name} {_ms(figures[f'{name.lower()}_ms'])}" for name in ("DNS", "TCP") if figures["connections"]]
    phases += [f"TLS {_ms(figures['tls_ms'])}"] if figures["tls_ms"] is not None else []
    return f"{', '.join(phases) or '-'}; opened {figures['connections']}"


def _ms(value: float | None) -> str:
    return "-" if value is None else short_number(value)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
