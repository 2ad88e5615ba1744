"""Writes the tables and the plot of the documentation from the results files.

    python -m benchmarks.report            # write
    python -m benchmarks.report --check    # exit 1 when a page and its results differ
    python -m benchmarks.report --bars     # print which targets are reached

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` maps its name to a results file and a
function. A table without results stays as it is. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.choose_table import SOURCES, choose_table
from benchmarks.file_tables import (
    accuracy_table,
    browser_table,
    compare_int8_table,
    compare_table,
    end_to_end_table,
    formats_table,
    gpu_table,
    precisions_table,
    regions_table,
)
from benchmarks.fuzz_table import fuzz_table
from benchmarks.job_tables import jobs_table, kill_sentence, limits_table, memory_sentence, stream_table
from benchmarks.markdown import Results
from benchmarks.panoptic_tables import compare_panoptic_table, panoptic_table
from benchmarks.plot import bars as bars_of
from benchmarks.scale_tables import ray_kill_sentence, ray_table, scale_table
from benchmarks.server_tables import serving_table, siege_table
from detr_onnx.text import markdown_table, short_number

HERE = Path(__file__).parent
ROOT = HERE.parent
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
DIFFERENT_AT_MOST = {
    "onnxruntime-int8": 0.02,
    "openvino-int8": 0.02,
    "onnxruntime-fp16": 0.005,
    "onnxruntime-fp16-weights": 0.005,
    "openvino-fp32-bf16-mixed": 0.01,
    "openvino-fp32-bf16-backbone": 0.005,
}
"""Largest share of detections above 0.5 on the held-out scenes that may differ, by key of the accuracy table."""
AP_LOST_AT_MOST = {"openvino-fp32-bf16-mixed": 0.001, "onnxruntime-int8": 0.005}


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
    return bars_of([section for section in sections if section[2]], title, note)


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


def demo_table(results: Results) -> str:
    """Accuracy of the demo model, from the output of `detr-onnx evaluate --format json`."""
    figures = {name: value for name, value in results["figures"].items() if name.startswith("AP")}
    head = (
        *(name.replace("_", " ") for name in figures),
        "recall at score 0.5, IoU 0.5",
        "false detections per object",
    )
    values = (*figures.values(), results["recall_at_half"], results["false_at_half"])
    note = f"{results['images']} scenes, {results['objects']} objects; {results['engine']}, one image at a time."
    return f"{markdown_table(head, [[f'{value:.3f}' for value in values]])}\n\n{note}"


def engines_table(results: Results) -> str:
    """Largest differences between two engines on the same scenes, from the output of `agree.py`."""
    head = ("scenes", "detections above 0.5", "scenes with other labels", "scores differ by", "boxes differ by")
    row = (
        str(results["images"]),
        str(results["detections"]),
        str(results["images_with_other_labels"]),
        f"{results['score_difference']:.0e}",
        f"{results['box_difference_px']:.0e} px",
    )
    if "mask_pixels" in results:
        head = (*head, "pixels of masks that differ")
        row = (*row, f"{results['mask_pixels_that_differ']:,} of {results['mask_pixels']:,}")
    return f"{markdown_table(head, [row])}\n\nLargest differences, numpy against {results['engine']}."


def demo_panoptic_table(results: Results) -> str:
    """Panoptic quality on the held-out scenes, from the output of `panoptic_quality.py`."""
    head = ("PQ", "SQ", "RQ", "mean mask IoU of detected objects")
    values = (*(results["figures"][name] for name in head[:3]), results["mask_iou"])
    note = (
        f"{results['images']} scenes, {results['segments']} segments of {len(results['classes'])} categories, "
        f"{results['matched_detections']} of them detected; {results['engine']}, one image at a time."
    )
    return f"{markdown_table(head, [[f'{value:.3f}' for value in values]])}\n\n{note}"


TABLES: dict[str, tuple[str, Callable[[Results], str]]] = {
    "latency": ("latency", latency_table),
    "latency-in-short": ("latency", latency_in_short),
    "latency-without-amx": ("latency-without-amx", latency_table),
    "throughput": ("throughput", throughput_table),
    "video": ("video", video_table),
    "memory": ("memory", memory_table),
    "memory-in-short": ("memory", memory_in_short),
    "sizes": ("sizes", sizes_table),
    "regions": ("regions", regions_table),
    "regions-without-amx": ("regions-without-amx", regions_table),
    "gpu": ("gpu", gpu_table),
    "serving": ("serving", serving_table),
    "siege": ("siege", siege_table),
    "precisions": ("precisions", precisions_table),
    "compare": ("compare", compare_table),
    "compare-int8": ("compare-int8", compare_int8_table),
    "compare-panoptic": ("compare-panoptic", compare_panoptic_table),
    "panoptic": ("panoptic", panoptic_table),
    "accuracy": ("accuracy", accuracy_table),
    "end_to_end": ("end_to_end", end_to_end_table),
    "formats": ("formats", formats_table),
    "install": ("install", install_sentence),
    "browser": ("browser", browser_table),
    "containers": ("containers", containers_table),
    "fuzz": ("fuzz", fuzz_table),
    "choose": ("+".join(SOURCES), choose_table),
    "jobs": ("jobs", jobs_table),
    "stream": ("stream", stream_table),
    "limits": ("limits", limits_table),
    "jobs-memory": ("jobs-memory", memory_sentence),
    "jobs-kill": ("jobs-kill", kill_sentence),
    "ray": ("ray", ray_table),
    "scale": ("ray", scale_table),
    "ray-kill": ("ray-kill", ray_kill_sentence),
    "demo-results": ("demo-results", demo_table),
    "demo-engines": ("demo-engines", engines_table),
    "demo-panoptic": ("demo-panoptic", demo_panoptic_table),
    "demo-panoptic-engines": ("demo-panoptic-engines", engines_table),
}
"""A table's name -> the name of its results file, or several joined by +, and the function that writes it."""


@dataclass(frozen=True)
class Page:
    """A page, the directory of its results, and the names of its tables."""

    file: Path
    results: Path
    tables: tuple[str, ...]

    def read_results(self) -> dict[str, Results]:
        """The results that exist, by the name of their table."""
        results = {name: read_results(self.results, TABLES[name][0]) for name in self.tables}
        return {name: content for name, content in results.items() if content}


def read_results(directory: Path, name: str) -> Results:
    """A results file; empty where there is none yet. Of several, each by its name; empty unless all exist."""
    if "+" in name:
        several = {part: read_results(directory, part) for part in name.split("+")}
        return several if all(several.values()) else {}
    file = directory / f"{name}.json"
    results: Results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return results


README = Page(ROOT / "README.md", HERE / "results", ("latency-in-short", "memory-in-short", "install"))
SPEED = Page(
    ROOT / "docs" / "speed.md",
    HERE / "results",
    ("latency", "latency-without-amx", "throughput", "stream", "memory", "sizes", "regions", "regions-without-amx"),
)
FILES = Page(
    ROOT / "docs" / "files.md",
    HERE / "results",
    ("compare", "compare-panoptic", "compare-int8", "precisions", "accuracy", "end_to_end", "formats"),
)
GPU = Page(ROOT / "docs" / "gpu.md", HERE / "results", ("gpu",))
CHOOSE = Page(ROOT / "docs" / "choose.md", HERE / "results", ("choose",))
EDGE = Page(ROOT / "docs" / "edge.md", HERE / "results", ("containers",))
PANOPTIC = Page(ROOT / "docs" / "panoptic.md", HERE / "results", ("panoptic",))
JOBS = Page(ROOT / "docs" / "jobs.md", HERE / "results", ("jobs", "jobs-memory", "jobs-kill"))
SCALE = Page(ROOT / "docs" / "scale.md", HERE / "results", ("ray", "scale", "ray-kill"))
SERVER = Page(ROOT / "docs" / "server.md", HERE / "results", ("serving", "siege", "limits"))
VIDEO = Page(ROOT / "docs" / "video.md", HERE / "results", ("video",))
BROWSER = Page(ROOT / "examples" / "browser" / "README.md", HERE / "results", ("browser",))
DEMO_TABLES = ("demo-results", "demo-engines", "demo-panoptic", "demo-panoptic-engines")
WEIGHTS = Page(ROOT / "weights" / "README.md", ROOT / "weights", DEMO_TABLES)
SECURITY = Page(ROOT / "SECURITY.md", HERE / "results", ("fuzz",))
PAGES = (README, SPEED, FILES, EDGE, GPU, CHOOSE, PANOPTIC, JOBS, SCALE, SERVER, VIDEO, BROWSER, WEIGHTS, SECURITY)
PLOT = ROOT / "docs" / "latency.svg"


def filled(text: str, results: Mapping[str, Results]) -> str:
    """The text with each table replaced by the one that its results give.

    Raises:
        ValueError: when the text has no place for a table.
    """
    for name, content in results.items():
        marks = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marks.search(text):
            raise ValueError(f"the page lacks <!-- table: {name} --> … <!-- end -->")
        table = TABLES[name][1](content).replace("\\", r"\\")  # a backslash is an escape in a replacement
        text = marks.sub(rf"\1\n{table}\n\n\2", text)
    return text


def bars(results: Mapping[str, Results]) -> list[str]:
    """A line for each target: what was measured, the target, and whether it is reached."""
    ratios = [
        ratio | {"part": f"{ratio['part']}{suffix}"}
        for name, suffix in (("latency", ""), ("latency-without-amx", ", without AMX"), ("precisions", ""))
        for ratio in results.get(name, {}).get("ratios", ())
    ]
    peaks = [row for row in results.get("memory", {}).get("rows", ()) if row["at_most_mb"]]
    growth = results.get("sizes", {}).get("rows", ())
    installed = {row["key"]: row["mb"] for row in results.get("install", {}).get("rows", ())}
    theirs = installed.get("transformers")
    return [
        *(
            _bar(f"{r['ours']} / {r['theirs']}, {r['part']}", r["ratio"]["median"], r["at_most"])
            for r in ratios
            if r["at_most"]
        ),
        *(_bar(f"{row['key']}, peak MB", row["peak_mb"]["median"], row["at_most_mb"]) for row in peaks),
        *(_bar(f"{row['key']}, memory over sizes", row["growth"], row["at_most"]) for row in growth),
        *_agreement_bars(results.get("accuracy", {}).get("rows", ())),
        *([_bar("installed, of torch's", installed["core"] / theirs, results["install"]["at_most"])] if theirs else []),
    ]


def _agreement_bars(rows: Sequence[Results]) -> list[str]:
    """Agreement of each precision with float32, and the AP that it loses."""
    by_key = {row["key"]: row for row in rows}
    lines = [
        _bar(f"{key}, detections that differ", 1 - by_key[key]["identical"], at_most)
        for key, at_most in DIFFERENT_AT_MOST.items()
        if key in by_key
    ]
    lines += [
        _bar(f"{key}, AP lost", by_key["onnxruntime-fp32"]["AP"] - by_key[key]["AP"], at_most)
        for key, at_most in AP_LOST_AT_MOST.items()
        if key in by_key
    ]
    return lines


def _bar(title: str, measured: float, at_most: float) -> str:
    return f"{'reached' if measured <= at_most else 'missed '}  {title}: {measured:.4g}, at most {at_most:g}"


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
        f"medians of {results['runs']} runs in turns",
        *(f"{name} {version}" for name, version in packages.items()),
        results["date"],
    )
    return "; ".join(parts) + "."


def _left_out(results: Results) -> str:
    return "".join(f" Left out: {absent['title']}." for absent in results["left_out"])


def main() -> int:
    """Writes the tables and the plot; with --check, returns 1 when they differ from the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="The documentation's tables.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page and its results differ")
    parser.add_argument("--bars", action="store_true", help="print which targets are reached; write nothing")
    arguments = parser.parse_args()
    if arguments.bars:
        print("\n".join(bars({name: read_results(README.results, name) for name, _ in TABLES.values()})))
        return 0
    texts = {page.file: filled(page.file.read_text(encoding="utf-8"), page.read_results()) for page in PAGES}
    if latency := read_results(README.results, "latency"):
        texts[PLOT] = latency_plot(latency)
    different = [file for file, text in texts.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in different:
        if arguments.check:
            print(f"{file.name} differs from the results: run python -m benchmarks.report", file=sys.stderr)
        else:
            file.write_text(texts[file], encoding="utf-8")
    return 1 if arguments.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
