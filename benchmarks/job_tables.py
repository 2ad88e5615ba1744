"""What docs/jobs.md shows: images a second, memory over a million names, and jobs that were killed."""

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
            f"{row['relative_to_loop']:.2f}×",
            f"{row['peak_mb']['median']:.0f} MB",
        )
        for row in results["rows"]
    ]
    machine = results["machine"]
    note = (
        f"{results['images']} JPEGs of 640x480, start not counted. Model: {results['model']}; engine: "
        f"{results['engine']}; {machine['processor']}, {machine['cores']} cores; {results['threads']} threads; "
        f"medians of {results['runs']} runs in turns; {results['date']}."
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
