"""The tables of docs/panoptic.md."""

from __future__ import annotations

from benchmarks.markdown import Results, versions
from detr_onnx.text import markdown_table, short_number


def panoptic_table(results: Results) -> str:
    """A row for each engine and number of kept queries: time, the same relative to detection, and memory."""
    lines = [
        (
            row["title"],
            {None: "detection, no masks", "any": "all 100, whatever is kept"}.get(row["kept"], str(row["kept"])),
            short_number(row["ms"]["median"]),
            f"{row['relative']['median']:.2f}×" if "relative" in row else "",
            f"{row['peak_mb']['median']:,.0f} MB" if row["peak_mb"] else "",
        )
        for row in results["rows"]
    ]
    head = ("", "queries with masks", "a file to its segments, ms", "relative to its detection", "peak memory")
    left_out = "".join(f" Left out: {absent['title']} ({absent['why']})." for absent in results["left_out"])
    note = (
        f"{results['model']}, a JPEG of 640x480 at 800x1066; {results['threads']} threads of "
        f"{results['machine']['processor']}, medians of {results['runs']} interleaved runs, transformers of one to "
        f"three; {versions(results)}; {results['date']}.{left_out}"
    )
    return f"{markdown_table(head, lines)}\n\n{note}"


def compare_panoptic_table(results: Results) -> str:
    """A row for each graph of a panoptic model: what it takes and gives, whether that is right, and its time."""
    lines = [
        (
            row["title"],
            str(row["nodes"]),
            *("<br>".join(f"`{name}` [{', '.join(map(str, axes))}]" for name, axes in row[kind].items())
              for kind in ("inputs", "outputs")),
            *(_correct(row["differences"][case], results["right_below"]) for case in ("single", "other", "mixed")),
            "<br>".join(f"{short_number(ms)} ({count})" for count, ms in row["ms"].items()),
        )
        for row in results["rows"]
    ]  # fmt: skip
    head = ("", "nodes", "inputs", "outputs", "one image", "another size", "batch of two sizes", "ms (masks)")
    note = (
        "Right or wrong: the largest difference of the masks from our numpy model, in their standard deviations. "
        f"Times: onnxruntime, 800x1066, medians of {results['runs']} runs, {results['threads']} threads. "
        f"{results['model']}; {versions(results)}; {results['date']}."
    )
    return f"{markdown_table(head, lines)}\n\n{note}"


def _correct(measured: Results, right_below: float) -> str:
    if "error" in measured:
        return "**fails**"
    difference = measured["masks_of_std"]
    return f"{'right' if difference < right_below else '**wrong**'} ({difference:.0e})"
