"""The pages' tables and the plot, from the results: `python -m benchmarks.report`; `--check` whether they are equal.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` says which results it is made of. Where there
are none yet it stays as it is. Everything but `main` is a function from results to text; nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.file_tables import accuracy_table, compare_table, end_to_end_table, formats_table, precisions_table
from benchmarks.markdown import Results
from benchmarks.plot import bars as bars_of
from detr_onnx.text import markdown_table, short_number

HERE = Path(__file__).parent
ROOT = HERE.parent
SECTIONS = {"network": "network alone", "total": "a 640x480 JPEG to pixels", "detect": "a file to its detections"}
"""Headings by the part that is the whole of a row."""
PARTS = ("decode", "resize", "normalise", "processor", "pixels", "network", "postprocess")
TELLING_FEATURES = ("avx512f", "avx512_bf16", "amx_tile", "asimd")
DETAILS = ("-static", "-fixed", "-fp32", "-preprocessing")  # rows for docs/speed.md alone
DIFFERENT_AT_MOST = {
    "onnxruntime-int8": 0.02,
    "openvino-int8": 0.02,
    "onnxruntime-fp16": 0.005,
    "onnxruntime-fp16-weights": 0.005,
    "openvino-fp32-bf16": 0.005,
    "openvino-fp32-bf16-backbone": 0.005,
}
"""Of the detections above 0.5 on the held-out scenes, by the row of the accuracy table."""
AP_LOST_AT_MOST = 0.005


def latency_table(results: Results) -> str:
    """Rows of milliseconds, section by section, with what each is of its peers' time."""
    against = _by_ours(results["ratios"])
    titles = {row["key"]: row["title"] for row in results["rows"]}
    lines: list[tuple[str, ...]] = []
    for part, heading in SECTIONS.items():
        rows = _section(results, part)
        lines += [(f"**{heading}**", "", "", "")] if rows else []
        lines += [_latency_row(row, part, against.get((part, row["key"]), []), titles) for row in rows]
    rows = markdown_table(("", "ms", "p10–p90", "of the time of"), lines)
    return f"{rows}\n\n{_circumstances(results)}{_left_out(results)}"


def brief_latency_table(results: Results) -> str:
    """The same without graphs of one size and without preprocessing by itself."""
    kept = [row for row in results["rows"] if not row["key"].endswith(DETAILS)]
    keys = {row["key"] for row in kept}
    ratios = [one for one in results["ratios"] if {one["ours"], one["theirs"]} <= keys]
    return latency_table({**results, "rows": kept, "ratios": ratios})


def latency_plot(results: Results) -> str:
    """The network alone and a file to its detections, as bars."""
    kept = {**results, "rows": [row for row in results["rows"] if not row["key"].endswith(DETAILS)]}
    sections = [(SECTIONS[part], part, _section(kept, part)) for part in ("network", "detect")]
    machine = results["machine"]
    note = f"{machine['processor']}, {results['threads']} threads; medians, lines from p10 to p90; {results['date']}"
    title = f"Milliseconds for {results['model']}, ours and others"
    return bars_of([one for one in sections if one[2]], title, note)


def _section(results: Results, part: str) -> list[Results]:
    """The rows whose whole is this part: one that goes from a file to its detections has a network too."""
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
    """Rows of peak memory and of wall time, whole processes."""
    head = ("one photograph, a whole process", "peak memory", "wall time")
    lines = [
        (row["title"], f"{row['peak_mb']['median']:.0f} MB", f"{row['wall_s']['median']:.1f} s")
        for row in results["rows"]
    ]
    return f"{markdown_table(head, lines)}\n\n{_circumstances(results)}{_left_out(results)}"


def throughput_table(results: Results) -> str:
    """A row a contender: images a second, by how many are asked for at a time."""
    counts = [*results["rows"][0]["images_per_s"]]
    lines = [
        (row["title"], *(short_number(row["images_per_s"][count]["median"]) for count in counts))
        for row in results["rows"]
    ]
    head = ("images a second", *(f"{count} at a time" for count in counts))
    return f"{markdown_table(head, lines)}\n\n{_circumstances(results)}{_left_out(results)}"


def sizes_table(results: Results) -> str:
    """A row an engine: its resident memory after so many images, each of another size."""
    counts = [*results["rows"][0]["resident_mb"]]
    shown = [counts[0], counts[len(counts) // 2], counts[-1]]
    lines = [
        (row["title"], *(f"{row['resident_mb'][count]:.0f} MB" for count in shown), f"{row['growth']:.2f}×")
        for row in results["rows"]
    ]
    return markdown_table(("resident memory", *(f"after {count} sizes" for count in shown), "last of first"), lines)


def serving_table(results: Results) -> str:
    """A row each thing that the server has to bear: what was found, and what it may be at most."""
    load, siege, overhead, bars = (results[name] for name in ("load", "siege", "overhead", "bars"))
    asked = f"{load['requests']:,} requests of {len(load['by_kind'])} kinds, {load['concurrency']} at a time"
    rough = f"{siege['idle_or_half_open']} idle or half-open connections, {siege['slow_bodies']} slow bodies"
    rough += f", {siege['gigabyte_bodies_at_once']} of a gigabyte, decompression bombs, huge arrays"
    image = f"{overhead['bytes'] / 1000:.0f} kB image beside `Detector` in process"
    rows = (
        (f"{asked}: wrong answers", str(sum(load["wrong"].values())), "0"),
        ("resident memory, last quarter of first", f"{load['memory_ratio']:.3f}×", f"{bars['memory']}×"),
        ("`/healthz` meanwhile, p50, p99", _milliseconds(load), f"{bars['health_ms']:.0f} ms"),
        (f"{rough}: `/healthz` p50, p99", _milliseconds(siege), f"{bars['health_ms']:.0f} ms"),
        (
            "resident memory then, at most",
            f"{siege['memory_mb_most']:.0f} MB ({siege['memory_mb_before']:.0f} before)",
            "",
        ),
        (f"{image}, raw", f"{overhead['raw_ms']:+.1f} ms", f"{bars['raw_ms']:.0f} ms"),
        ("the same as a JSON array", f"{overhead['json_ms']:+.1f} ms", f"{bars['json_ms']:.0f} ms"),
    )
    machine = results["machine"]
    note = f"Model: demo; {machine['processor']}, {machine['cores']} cores, clients on the same; {results['date']}."
    return f"{markdown_table(('', 'seen', 'wanted'), rows)}\n\n{note}"


def _milliseconds(health: Results) -> str:
    return f"{health['health_ms_p50']:.0f}, {health['health_ms_p99']:.0f} ms"


def install_sentence(results: Results) -> str:
    """What installing takes, in one line."""
    rows = {row["key"]: row for row in results["rows"]}
    sizes = "; ".join(f"{row['title']} {row['mb']:.0f} MB" for row in rows.values())
    share = f" (ours {rows['core']['mb'] / rows['transformers']['mb']:.2f}×)" if "transformers" in rows else ""
    return f"On disk, freshly installed with all they need: {sizes}{share}."


def demo_table(results: Results) -> str:
    """How good the demo model is: what `detr-onnx evaluate --format json` said."""
    figures = {name: value for name, value in results["figures"].items() if name.startswith("AP")}
    head = (*(name.replace("_", " ") for name in figures), "recall at score 0.5, IoU 0.5", "false detections an object")
    values = (*figures.values(), results["recall_at_half"], results["false_at_half"])
    note = f"{results['images']} scenes, {results['objects']} objects; {results['engine']}, one image at a time."
    return f"{markdown_table(head, [[f'{value:.3f}' for value in values]])}\n\n{note}"


def engines_table(results: Results) -> str:
    """How far the engines differ on the same scenes: what `agree.py` said."""
    head = ("scenes", "detections above 0.5", "scenes with other labels", "scores differ by", "boxes differ by")
    row = (
        str(results["images"]),
        str(results["detections"]),
        str(results["images_with_other_labels"]),
        f"{results['score_difference']:.0e}",
        f"{results['box_difference_px']:.0e} px",
    )
    return f"{markdown_table(head, [row])}\n\nAt most, numpy against {results['engine']}."


TABLES: dict[str, tuple[str, Callable[[Results], str]]] = {
    "latency": ("latency", brief_latency_table),
    "latency-in-full": ("latency", latency_table),
    "latency-without-amx": ("latency-without-amx", latency_table),
    "throughput": ("throughput", throughput_table),
    "memory": ("memory", memory_table),
    "sizes": ("sizes", sizes_table),
    "serving": ("serving", serving_table),
    "precisions": ("precisions", precisions_table),
    "compare": ("compare", compare_table),
    "accuracy": ("accuracy", accuracy_table),
    "end_to_end": ("end_to_end", end_to_end_table),
    "formats": ("formats", formats_table),
    "install": ("install", install_sentence),
    "demo-results": ("demo-results", demo_table),
    "demo-engines": ("demo-engines", engines_table),
}
"""The name of the results that a table is made of, and how."""


@dataclass(frozen=True)
class Page:
    """A page, the directory of its results, and which tables it has."""

    file: Path
    results: Path
    tables: tuple[str, ...]

    def read_results(self) -> dict[str, Results]:
        """The results there are, by the name of their table."""
        return {name: found for name in self.tables if (found := read_results(self.results, TABLES[name][0]))}


def read_results(directory: Path, name: str) -> Results:
    """The results of that name; empty where there are none yet."""
    file = directory / f"{name}.json"
    found: Results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


README = Page(ROOT / "README.md", HERE / "results", ("latency", "memory", "install"))
SPEED = Page(
    ROOT / "docs" / "speed.md", HERE / "results", ("latency-in-full", "latency-without-amx", "throughput", "sizes")
)
FILES = Page(
    ROOT / "docs" / "files.md", HERE / "results", ("compare", "precisions", "accuracy", "end_to_end", "formats")
)
SERVER = Page(ROOT / "docs" / "server.md", HERE / "results", ("serving",))
WEIGHTS = Page(ROOT / "weights" / "README.md", ROOT / "weights", ("demo-results", "demo-engines"))
PAGES = (README, SPEED, FILES, SERVER, WEIGHTS)
PLOT = ROOT / "docs" / "latency.svg"


def filled(text: str, results: Mapping[str, Results]) -> str:
    """The text with the table of each of the results in its place; tables without results stay as they are.

    Raises:
        ValueError: when there is no place for a table.
    """
    for name, found in results.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"there is no place for the table {name}: no <!-- table: {name} --> with an <!-- end -->")
        table = TABLES[name][1](found).replace("\\", r"\\")  # a replacement's backslashes are its own language
        text = place.sub(rf"\1\n{table}\n\n\2", text)
    return text


def bars(results: Mapping[str, Results]) -> list[str]:
    """A line for each bar there is: what was measured, what it may be at most, and whether it is."""
    ratios = [ratio for name in ("latency", "precisions") for ratio in results.get(name, {}).get("ratios", ())]
    peaks = [row for row in results.get("memory", {}).get("rows", ()) if row["at_most_mb"]]
    grown = results.get("sizes", {}).get("rows", ())
    installed = {row["key"]: row["mb"] for row in results.get("install", {}).get("rows", ())}
    theirs = installed.get("transformers")
    return [
        *(
            _bar(f"{r['ours']} / {r['theirs']}, {r['part']}", r["ratio"]["median"], r["at_most"])
            for r in ratios
            if r["at_most"]
        ),
        *(_bar(f"{row['key']}, peak MB", row["peak_mb"]["median"], row["at_most_mb"]) for row in peaks),
        *(_bar(f"{row['key']}, memory over sizes", row["growth"], row["at_most"]) for row in grown),
        *_agreement_bars(results.get("accuracy", {}).get("rows", ())),
        *([_bar("installed, of torch's", installed["core"] / theirs, results["install"]["at_most"])] if theirs else []),
    ]


def _agreement_bars(rows: Sequence[Results]) -> list[str]:
    """Whether files and precisions agree with float32 as far as they have to, and int8 keeps its AP."""
    found = {row["key"]: row for row in rows}
    lines = [
        _bar(f"{key}, detections that differ", 1 - found[key]["identical"], at_most)
        for key, at_most in DIFFERENT_AT_MOST.items()
        if key in found
    ]
    lost = found["onnxruntime-fp32"]["AP"] - found["onnxruntime-int8"]["AP"] if "onnxruntime-int8" in found else None
    return lines if lost is None else [*lines, _bar("onnxruntime-int8, AP lost", lost, AP_LOST_AT_MOST)]


def _bar(what: str, found: float, at_most: float) -> str:
    return f"{'reached' if found <= at_most else 'missed '}  {what}: {found:.4g}, at most {at_most:g}"


def _by_ours(ratios: Iterable[Results]) -> dict[tuple[str, str], list[Results]]:
    found: dict[tuple[str, str], list[Results]] = {}
    for ratio in ratios:
        found.setdefault((ratio["part"], ratio["ours"]), []).append(ratio)
    return found


def _circumstances(results: Results) -> str:
    """One sentence: model, machine, threads, runs, versions, date."""
    machine = results["machine"]
    features = ", ".join(name for name in TELLING_FEATURES if name in machine["features"])
    versions = {name: v for row in results["rows"] for name, v in row.get("versions", {}).items()}
    parts = (
        f"{results['model']}",
        f"{machine['processor']}, {machine['cores']} cores{f' ({features})' if features else ''}",
        f"{results['threads']} threads",
        f"medians of {results['runs']} runs in turns",
        *(f"{name} {version}" for name, version in versions.items()),
        results["date"],
    )
    return "; ".join(parts) + "."


def _left_out(results: Results) -> str:
    return "".join(f" Left out: {absent['title']}." for absent in results["left_out"])


def main() -> int:
    """Writes the tables and the plot; with --check, 1 when they differ from the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="The README's tables.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page and its results differ")
    parser.add_argument("--bars", action="store_true", help="print which bars are reached, and write nothing")
    arguments = parser.parse_args()
    if arguments.bars:
        print("\n".join(bars({name: read_results(README.results, name) for name, _ in TABLES.values()})))
        return 0
    wanted = {page.file: filled(page.file.read_text(encoding="utf-8"), page.read_results()) for page in PAGES}
    if latency := read_results(README.results, "latency"):
        wanted[PLOT] = latency_plot(latency)
    different = [file for file, text in wanted.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    for file in different:
        if arguments.check:
            print(f"{file.name} differs from the results: run python -m benchmarks.report", file=sys.stderr)
        else:
            file.write_text(wanted[file], encoding="utf-8")
    return 1 if arguments.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
