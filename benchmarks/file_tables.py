"""The tables of docs/files.md: exporters, precisions, accuracy, end-to-end graphs, formats."""

from __future__ import annotations

from benchmarks.markdown import Results, versions
from detr_onnx.text import markdown_table, short_number

RUNTIMES = ("onnxruntime", "openvino")


def compare_table(results: Results) -> str:
    """A row for each graph: size, inputs, correctness and speed."""
    head = ("", "nodes", "size", "free axes", "mask", "one image", "another size", "batch of two sizes",
            "onnxruntime, ms", "OpenVINO, ms")  # fmt: skip
    rows = [row for row in results["rows"] if "refused" not in row]
    lines = [_compare_row(row, results["latency"], results["right_below"]) for row in rows]
    times = (
        f"medians of {results['runs']} interleaved runs, {results['threads']} threads, in the precision that a runtime "
        "uses by default (OpenVINO: bfloat16 where the processor has it)"
        if results["latency"]
        else "not measured with this table"
    )
    refused = "".join(f" {row['title']}: {row['refused']}." for row in results["rows"] if "refused" in row)
    note = (
        f"Right or wrong: the largest difference of the logits from {results['reference']}, in standard deviations of "
        f"the logits; the batch holds images of {' and '.join(results['mixed_sizes'])}. Times: {times}. "
        f"Model: {results['model']}; {versions(results)}.{refused}"
    )
    return f"{markdown_table(head, lines)}\n\n{note}"


def _compare_row(row: Results, latency: Results, right_below: float) -> tuple[str, ...]:
    differences, times = row["differences"], (latency.get(name, {}).get(row["key"]) for name in RUNTIMES)
    return (
        row["title"],
        str(row["nodes"]),
        f"{row['mb']:.0f} MB",
        ", ".join(row["free_axes"]) or "none",
        "yes" if row["mask"] else "no",
        *(_difference(differences[name], right_below) for name in ("single", "other", "mixed")),
        *("–" if time is None else short_number(time["ms"]["median"]) if "ms" in time else "cannot" for time in times),
    )


def accuracy_table(results: Results) -> str:
    """A row for each engine and precision: accuracy, and agreement with the reference."""
    full = results["full_size_mb"]
    head = ("", "file", "full-size file", "AP", "AP50", "identical detections", "scores differ by")
    lines = [
        (
            row["title"],
            f"{row['mb']:.1f} MB",
            f"{full[row['key']]:.1f} MB" if row["key"] in full else "",
            f"{row['AP']:.4f}",
            f"{row['AP50']:.4f}",
            "reference" if row["key"] == results["reference"] else f"{100 * row['identical']:.1f} %",
            "" if row["key"] == results["reference"] else f"{row['score_difference']:.1e}",
        )
        for row in results["rows"]
    ]
    left_out = "".join(f" Left out: {absent['title']} ({absent['why']})." for absent in results["left_out"])
    note = (
        f"Model: {results['model']}, {results['images']} held-out scenes. AP over all queries; agreement above "
        f"a score of {results['score']}, mean difference of scores. {versions(results)}; {results['date']}.{left_out}"
    )
    return f"{markdown_table(head, lines)}\n\n{note}"


def precisions_table(results: Results) -> str:
    """A row for each engine and precision: size, memory, and time relative to fp32 or optimum's export."""
    shares: dict[str, list[str]] = {}
    titles = {row["key"]: row["title"] for row in results["rows"]}
    for ratio in results["ratios"]:
        share = f"{ratio['ratio']['median']:.2f}× {titles[ratio['theirs']]}"
        shares.setdefault(ratio["ours"], []).append(share)
    lines = [
        (
            row["title"],
            f"{row['mb']:.0f} MB" if row["mb"] else "",
            f"{row['peak_mb']['median']:.0f} MB" if row["peak_mb"] else "",
            short_number(row["ms"]["network"]["median"]),
            "; ".join(shares.get(row["key"], [])),
        )
        for row in results["rows"]
    ]
    rows = markdown_table(("", "file", "peak memory of one `detect`", "network, ms", "relative to"), lines)
    note = f"Model: {results['model']}; {results['threads']} threads, medians of {results['runs']} interleaved runs"
    return f"{rows}\n\n{note}; {results['date']}."


def compare_int8_table(results: Results) -> str:
    """A row for each quantizer and model: time, size, and agreement with fp32 where the model has been trained."""
    head = ("", "time", "processor time", "file", "runs in", "identical detections", "scores differ by")
    models = (("demo", "demo"), (results.get("full_size_model", ""), "full_size"))
    lines = [_quantizer_row(title, row) for title, key in models for row in results.get(key, ())]
    versions_by_name = {name: v for row in results["demo"] for name, v in row["versions"].items()}
    circumstances = ", ".join(f"{name} {version}" for name, version in versions_by_name.items())
    demo, full = results["demo"], results.get("full_size", ())
    photographs = f", {full[0]['images']} photographs for the other" if full else ""
    note = (
        f"Images: {demo[0]['images']} scenes for the demo model{photographs}. "
        f"Agreement on {results['held_out']} held-out scenes, above a score of {results['score']}, with "
        f"{demo[0]['agreement']['reference']} detections of fp32. Whole processes, one after the other, "
        f"{results['threads']} threads; processor time is that of all cores, which other programs disturb less. "
        f"{circumstances}; {results['date']}."
    )
    return f"{markdown_table(head, lines)}\n\n{note}"


def _quantizer_row(model: str, row: Results) -> tuple[str, ...]:
    agreed = row.get("agreement")
    return (
        f"{row['title']}, {model}",
        f"{short_number(row['seconds'])} s",
        f"{short_number(row['processor_seconds'])} s",
        f"{row['mb']:.1f} MB",
        row.get("runtime", ""),
        f"{100 * agreed['identical']:.1f} %" if agreed else "",
        f"{agreed['score_difference']:.1e}" if agreed else "",
    )


def end_to_end_table(results: Results) -> str:
    """A row for each directory of images: the largest differences between the end-to-end graph and `Detector`."""
    head = ("model, images", "detections", "images with the same labels", "scores", "boxes")
    lines = [
        (
            f"{row['model']}, {row['images']} {row['title']}",
            str(row["detections"]),
            str(row["same_labels"]),
            f"{row['score_difference']:.0e}",
            f"{row['box_difference_px']:.0e} px",
        )
        for row in results["rows"]
    ]
    return markdown_table(head, lines)


def formats_table(results: Results) -> str:
    """A row for each kind of file: size on disk, and memory of a whole `detect`."""
    lines = [
        (row["title"], f"{row['mb']:.0f} MB", f"{row['peak_mb']['median']:.0f} MB", f"{row['own_mb']:.0f} MB")
        for row in results["rows"]
    ]
    rows = markdown_table(("", "on disk", "peak memory of one `detect`", "private memory afterwards"), lines)
    return f"{rows}\n\nModel: {results['model']}; one image, onnxruntime; {versions(results)}; {results['date']}."


def _difference(measured: Results | None, right_below: float) -> str:
    if measured is None:
        return "one size only"
    if "error" in measured:
        return "**fails**"
    return f"{'right' if measured['logits_of_std'] < right_below else '**wrong**'} ({measured['logits_of_std']:.0e})"


def regions_table(results: Results) -> str:
    """A row for each set of parts in bfloat16: milliseconds, agreement with float32, AP."""
    head = ("in bfloat16", "network", "of the stock export's time", "identical detections", "scores differ by", "AP")
    lines = [
        (
            row["title"],
            f"{row['network_ms']['median']:.0f} ms",
            f"{row['ratio']['median']:.2f}" if row["ratio"] else "",
            f"{row['identical']:.1%}",
            f"{row['score_difference']:.4f}",
            f"{row['AP']:.4f}",
        )
        for row in results["rows"]
    ]
    stock = f"optimum's export all in bf16: {results['stock_ms']['median']:.0f} ms; " if results["stock_ms"] else ""
    note = (
        f"Model: {results['model']}; {results['scenes']} held-out scenes; {stock}{results['machine']['processor']}, "
        f"{results['threads']} threads; medians of {results['runs']} interleaved runs; {results['date']}."
    )
    return f"{markdown_table(head, lines)}\n\n{note}"


def gpu_table(results: Results) -> str:
    """A row for each contender and batch: milliseconds an image, and relative to PyTorch eager; then agreement."""
    head = ("images at a time", "", "ms an image", "p10–p90", "of transformers, eager")
    lines = [
        (
            str(row["batch"]),
            row["title"],
            f"{row['image_ms']['median']:.2f}",
            f"{row['image_ms']['p10']:.2f}–{row['image_ms']['p90']:.2f}",
            f"{row['of_eager']['median']:.2f}×" if row["of_eager"] else "",
        )
        for row in results["rows"]
    ]
    agreement = "; ".join(
        f"{key}: logits {values['logits'] / values['logits_std']:.0e} of their spread, boxes {values['boxes']:.0e}"
        for key, values in results["agreement"].items()
    )
    streamed = "; ".join(f"{name} {rate}" for name, rate in results["stream_images_per_s"].items())
    device = results["card"] or results["machine"]["processor"]
    note = (
        f"Model: {results['model']}; {device}; medians of {results['runs']} interleaved runs. Largest differences from "
        f"float32 in numpy: {agreement}. `Detector.stream`, images a second: "
        f"{streamed}. {results['date']}."
    )
    return f"{markdown_table(head, lines)}\n\n{note}"


def browser_table(results: Results) -> str:
    """A row for each file in WebAssembly: megabytes, and milliseconds from opening to later images."""
    head = ("", "file", "open", "first image", "later images")
    lines = [
        (row["title"], f"{row['mb']:.1f} MB", row["error"], "", "")
        if "error" in row
        else (
            row["title"],
            f"{row['mb']:.1f} MB",
            *(f"{short_number(row[key])} ms" for key in ("open_ms", "first_ms", "ms")),
        )
        for row in results["rows"]
    ]
    versions, machine = results["versions"], results["machine"]
    note = (
        f"One 640x480 JPEG, resized by each model's own rule; without the download. onnxruntime-web "
        f"{versions['onnxruntime-web']}, WebAssembly, {results['threads']} threads, headless Chromium "
        f"{versions['chromium'].split('.')[0]}, {machine['processor']}; medians of {results['runs']} images; "
        f"{results['date']}."
    )
    return f"{markdown_table(head, lines)}\n\n{note}"
