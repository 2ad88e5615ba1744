"""Tables and the plot of speed, memory and size: latency, throughput, videos, whole processes, installations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from benchmarks.markdown import Results
from benchmarks.plot import bars
from detr_onnx.text import markdown_table, short_number

SECTIONS = {"network": "network alone", "total": "a 640x480 JPEG to pixels", "detect": "a file to its detections"}
"""Headings by the part that is the whole of a row."""
PARTS = ("decode", "resize", "normalise", "processor", "pixels", "network", "postprocess")
SHOWN_FEATURES = ("avx512f", "avx512_bf16", "amx_tile", "asimd")
DETAILS = ("-static", "-fixed", "-fp32", "-preprocessing")  # endings of keys that the plot leaves out
IN_SHORT = ("ours-detect-openvino", "ours-detect-onnxruntime", "transformers-detect")
"""The README's rows."""
IN_SHORT_NETWORKS = {
    "on ONNX Runtime": ("ours-onnxruntime-mask", "optimum-dynamic"),
    "on OpenVINO by default": ("ours-openvino", "openvino-dynamic"),
    "on OpenVINO with `--precision bf16`": ("ours-openvino-bf16", "openvino-dynamic"),
}
"""The README's note: where the network is compared with optimum's export, and the ratio's two keys."""
MEMORY_IN_SHORT = ("ours-openvino", "ours-onnxruntime", "optimum", "transformers")


def latency_table(results: Results) -> str:
    """Milliseconds, section by section, and each row's time relative to its peers."""
    against = _by_ours(results["ratios"])
    titles = {row["key"]: row["title"] for row in results["rows"]}
    lines: list[tuple[str, ...]] = []
    for part, heading in SECTIONS.items():
        rows = _section(results, part)
        lines += [(f"**{heading}**", "", "", "")] if rows else []
        lines += [_latency_row(row, part, against.get((part, row["key"]), []), titles) for row in rows]
    rows = markdown_table(("", "ms", "p10–p90", "relative to"), lines)
    return f"{rows}\n\n{_circumstances(results)}{_left_out(results)}"


def latency_in_short(results: Results) -> str:
    """The README's rows: a file to its detections, ours and what a reader would use instead."""
    rows = {row["key"]: row for row in results["rows"]}
    shares = {ratio["ours"]: ratio["ratio"]["median"] for ratio in results["ratios"] if ratio["theirs"] in IN_SHORT}
    lines = [
        (
            _with_name(rows[key]),
            f"{short_number(rows[key]['ms']['detect']['median'])} ms",
            f"{shares[key]:.2f}×" if key in shares else "1×",
        )
        for key in IN_SHORT
        if key in rows
    ]
    table = markdown_table(("JPEG of 640x480 to detections", "median", "relative"), lines)
    return f"{table}\n\n{_beside_optimum(results)}{_circumstances(results, versions=False)}"


def _with_name(row: Results) -> str:
    """The title of a row for readers who do not know yet who "ours" are."""
    return re.sub(r"^ours\b", "detr-onnx", row["title"])


def _beside_optimum(results: Results) -> str:
    """A sentence with the network's time relative to optimum's export; empty where that was not measured."""
    ratios = {(ratio["ours"], ratio["theirs"]): ratio["ratio"]["median"] for ratio in results["ratios"]}
    parts = [f"{ratios[keys]:.2f}× {where}" for where, keys in IN_SHORT_NETWORKS.items() if keys in ratios]
    return f"The network alone, relative to optimum's ONNX export: {', '.join(parts)}.\n\n" if parts else ""


def latency_plot(results: Results) -> str:
    """The network alone and a file to its detections, as bars."""
    brief = {**results, "rows": [row for row in results["rows"] if not row["key"].endswith(DETAILS)]}
    sections = [(SECTIONS[part], part, _section(brief, part)) for part in ("network", "detect")]
    machine = results["machine"]
    note = f"{machine['processor']}, {results['threads']} threads; medians, lines from p10 to p90; {results['date']}"
    title = f"Milliseconds for {results['model']}, ours and others"
    return bars([section for section in sections if section[2]], title, note)


def _section(results: Results, part: str) -> list[Results]:
    """The rows whose whole is this part: a row from a file to its detections has a network too."""
    wholes = [*SECTIONS][::-1]
    return [row for row in results["rows"] if next(name for name in wholes if name in row["ms"]) == part]


def _latency_row(row: Results, part: str, ratios: Iterable[Results], titles: Mapping[str, str]) -> tuple[str, ...]:
    figures, ms = row["ms"][part], row["ms"]
    pieces = ", ".join(f"{name} {short_number(ms[name]['median'])}" for name in PARTS if name in ms and name != part)
    title = f"{row['title']} ({pieces})" if pieces else row["title"]
    shares = "; ".join(f"{ratio['ratio']['median']:.2f}× {titles[ratio['theirs']]}" for ratio in ratios)
    return (
        title,
        short_number(figures["median"]),
        f"{short_number(figures['p10'])}–{short_number(figures['p90'])}",
        shares,
    )


def memory_table(results: Results) -> str:
    """Peak memory and wall time of whole processes."""
    head = ("one image, a whole process", "peak memory", "wall time")
    lines = [
        (row["title"], f"{row['peak_mb']['median']:.0f} MB", f"{row['wall_s']['median']:.1f} s")
        for row in results["rows"]
    ]
    return f"{markdown_table(head, lines)}\n\n{_circumstances(results)}{_left_out(results)}"


def memory_in_short(results: Results) -> str:
    """The README's sentence on memory."""
    rows = {row["key"]: row for row in results["rows"]}
    peaks = [
        f"{rows[key]['peak_mb']['median']:.0f} MB ({_with_name(rows[key])})" for key in MEMORY_IN_SHORT if key in rows
    ]
    return f"Peak memory of a whole process with one image: {'; '.join(peaks)}."


def throughput_table(results: Results) -> str:
    """Images a second of each contender, by the number of images processed at a time."""
    counts = [*results["rows"][0]["images_per_s"]]
    lines = [
        (row["title"], *(short_number(row["images_per_s"][count]["median"]) for count in counts))
        for row in results["rows"]
    ]
    head = ("images a second", *(f"{count} at a time" for count in counts))
    return f"{markdown_table(head, lines)}\n\n{_circumstances(results)}{_left_out(results)}"


def video_table(results: Results) -> str:
    """Frames a second of a file, and latency, rate and dropped frames of a live stream."""
    camera = results["camera"]
    head = ("", "frames a second of a file", "a loop of decoding and detecting", "glass to row, p10–p90",
            "rows a second", "frames dropped")  # fmt: skip
    lines = []
    for row in results["rows"]:
        per_s, live = row["frames_per_s"], row["live"]
        latency = live and live["latency_ms"]
        lines.append(
            (
                row["title"],
                short_number(per_s["video"]["median"]),
                f"{short_number(per_s['loop']['median'])}; ours takes {row['ratio']['median']:.2f}× the time",
                f"{latency['median']:.0f} ms, {latency['p10']:.0f}–{latency['p90']:.0f}" if latency else "",
                short_number(live["rows_per_s"]) if live else "",
                f"{live['dropped']:.0%}" if live else "",
            )
        )
    size = f"{camera['width']}x{camera['height']}"
    note = f"File and stream: H.264 of {size}; the stream has {camera['fps']} frames a second, by RTSP on loopback."
    return f"{markdown_table(head, lines)}\n\n{note} {_circumstances(results, versions=False)}{_left_out(results)}"


def sizes_table(results: Results) -> str:
    """Resident memory of each engine after so many images, each of another size."""
    counts = [*results["rows"][0]["resident_mb"]]
    shown = [counts[0], counts[len(counts) // 2], counts[-1]]
    lines = [
        (row["title"], *(f"{row['resident_mb'][count]:.0f} MB" for count in shown), f"{row['growth']:.2f}×")
        for row in results["rows"]
    ]
    return markdown_table(("resident memory", *(f"after {count} sizes" for count in shown), "growth"), lines)


def install_sentence(results: Results) -> str:
    """The sizes of fresh installations, in one sentence."""
    rows = {row["key"]: row for row in results["rows"]}
    sizes = "; ".join(f"{row['mb']:.0f} MB ({row['title']})" for row in rows.values())
    return f"Installed size with all dependencies: {sizes}."


def containers_table(results: Results) -> str:
    """Size, start and memory of the container images."""
    rows = [
        (row["title"], f"{row['mb']:.0f} MB", row["engine"], _start(row), f"{row['peak_mb']} MB")
        for row in results["rows"]
    ]
    machine = results["machine"]
    note = (
        "Size: of the files in the image. Start: from the first import to the detections in the demo scene, with the "
        f"demo model; medians of {results['runs']} processes. Base: {results['base']}, {machine['system']}; "
        f"{machine['processor']}, {machine['cores']} cores, load {results['load_before']}; {results['date']}."
    )
    return f"{markdown_table(('image', 'size', 'engine', 'start', 'peak memory'), rows)}\n\n{note}"


def _start(row: Results) -> str:
    """Of a container; a busy machine gives none that is worth keeping."""
    return f"{row['start_s']:.1f} s" if "start_s" in row else "not measured"


def _by_ours(ratios: Iterable[Results]) -> dict[tuple[str, str], list[Results]]:
    grouped: dict[tuple[str, str], list[Results]] = {}
    for ratio in ratios:
        grouped.setdefault((ratio["part"], ratio["ours"]), []).append(ratio)
    return grouped


def _circumstances(results: Results, versions: bool = True) -> str:
    """One sentence: model, machine, threads, runs, versions of packages, date."""
    machine = results["machine"]
    features = ", ".join(name for name in SHOWN_FEATURES if name in machine["features"])
    packages = {name: v for row in results["rows"] for name, v in row.get("versions", {}).items()} if versions else {}
    parts = (
        f"Model: {results['model']}",
        f"{machine['processor']}, {machine['cores']} cores{f' ({features})' if features else ''}",
        f"{results['threads']} threads",
        f"medians of {results['runs']} interleaved runs",
        *(f"{name} {version}" for name, version in packages.items()),
        results["date"],
    )
    return "; ".join(parts) + "."


def _left_out(results: Results) -> str:
    return "".join(f" Left out: {absent['title']}." for absent in results["left_out"])
