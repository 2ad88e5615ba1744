"""Tables of jobs, streams and containers: rates, memory, kills, limits, what decoding ahead hides."""

from __future__ import annotations

from benchmarks.markdown import Results
from detr_onnx.text import markdown_table, short_number


def jobs_table(results: Results) -> str:
    """A row for each contender: images a second, time relative to the loop, peak memory."""
    head = ("", "images a second", "time an image", "peak memory")
    lines = [
        (
            row["title"],
            short_number(row["images_per_s"]) if row["images_per_s"] else "",
            f"{row['relative_to_loop']:.2f}×" if row["relative_to_loop"] is not None else "",
            f"{row['peak_mb']['median']:.0f} MB",
        )
        for row in results["rows"]
    ]
    machine = results["machine"]
    note = (
        f"{results['images']} JPEGs of 640x480, start not counted. Model: {results['model']}; engine: "
        f"{results['engine']}; {machine['processor']}, {machine['cores']} cores; {results['threads']} threads; "
        f"medians of {results['runs']} interleaved runs; {results['date']}."
    )
    left_out = "".join(f" Left out: {absent['title']}." for absent in results["left_out"])
    return f"{markdown_table(head, lines)}\n\n{note}{left_out}"


def memory_sentence(results: Results) -> str:
    """How much a job grows over many names."""
    first, *_, last = results["resident_mb"]
    return (
        f"Resident memory of a job over {results['names']:,} names with the network stubbed: "
        f"{results['resident_mb'][first]:.0f} MB after {int(first):,}, {results['resident_mb'][last]:.0f} MB after "
        f"{int(last):,} (`python -m benchmarks.jobs_memory`)."
    )


def kill_sentence(results: Results) -> str:
    """What killed jobs left, by format."""
    outcomes = [
        f"{outcome['kills']} times over {outcome['images']:,} images as {form}: {len(outcome['faults'])} faults"
        for form, outcome in results.items()
    ]
    return f"SIGKILL at random moments, {'; '.join(outcomes)} (`python -m tests.jobs.kill`)."


def stream_table(results: Results) -> str:
    """A row for each engine and size of the photographs."""
    head = ("photographs", "", "network", "decoding, preprocessing", "`stream`", "hidden")
    lines = [
        (
            row["size"],
            row["title"],
            *(f"{short_number(row['image_ms'][way]['median'])} ms" for way in ("network", "prepare", "stream")),
            _share(row["hidden"]),
        )
        for row in results["rows"]
    ]
    machine = results["machine"]
    note = (
        "Milliseconds an image; hidden: the share of decoding and preprocessing that `stream` does not cost beside "
        f"the network, with p10–p90. Model: {results['model']}; {machine['processor']}, {machine['cores']} cores; "
        f"{results['threads']} threads; medians of {results['runs']} interleaved runs of {results['images']} JPEGs; "
        f"{results['date']}."
    )
    return f"{markdown_table(head, lines)}\n\n{note}"


def _share(figures: dict[str, float]) -> str:
    """A share with its range; only that it is lost in the noise where the range is as wide as the whole."""
    if figures["p90"] - figures["p10"] > 1:
        return "less than the noise"
    return f"{figures['median']:.0%} ({figures['p10']:.0%}–{figures['p90']:.0%})"


def limits_table(results: Results) -> str:
    """A row for each program and state of the cache."""
    head = ("", "cache", "smallest limit", "seconds")
    titles = {"ready_s": "until ready", "drained_s": "to drain", "seconds": "in all"}
    lines = [
        (
            f"`{row['program']}`",
            "filled" if row["cache_filled"] else "empty: the graph is built",
            f"{row['limit_mb']} MB" if row["limit_mb"] else "more than all that were tried",
            ", ".join(f"{row[key]} {title}" for key, title in titles.items() if key in row),
        )
        for row in results["rows"]
    ]
    machine = results["machine"]
    note = (
        f"Model: {results['model']}; {results['requests']} requests of {results['clients']} clients at once, every "
        f"eighth image of 12 megapixels; {machine['processor']}, {machine['cores']} cores; {results['threads']} "
        f"threads; {results['date']} (`python -m benchmarks.limits`)."
    )
    return f"{markdown_table(head, lines)}\n\n{note}"
