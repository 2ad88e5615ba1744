"""The pages' tables, from the results: `python -m benchmarks.report`, or `--check` whether they are still equal.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, and NAME is that of a results file. Everything but
`main` is a function from results to text; nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.file_tables import accuracy_table, compare_table, end_to_end_table, formats_table
from benchmarks.markdown import Results, number, table

HERE = Path(__file__).parent
ROOT = HERE.parent
SECTIONS = {"network": "network alone", "total": "a 640x480 JPEG to pixels", "detect": "a file to its detections"}
PARTS = ("decode", "resize", "normalise", "processor")


def latency_table(results: Results) -> str:
    """Rows of milliseconds, section by section, with what each is of its peers' time."""
    against = _by_ours(results["ratios"])
    titles = {row["key"]: row["title"] for row in results["rows"]}
    lines: list[tuple[str, ...]] = []
    for part, heading in SECTIONS.items():
        rows = [row for row in results["rows"] if part in row["ms"]]
        lines += [(f"**{heading}**", "", "", "")] if rows else []
        lines += [_latency_row(row, part, against.get((part, row["key"]), []), titles) for row in rows]
    rows = table(("", "ms", "p10–p90", "of the time of"), lines)
    return f"{rows}\n\n{_circumstances(results)}{_left_out(results)}"


def _latency_row(row: Results, part: str, ratios: Iterable[Results], titles: Mapping[str, str]) -> tuple[str, ...]:
    figures, ms = row["ms"][part], row["ms"]
    pieces = ", ".join(f"{name} {number(ms[name]['median'])}" for name in PARTS if name in ms)
    title = f"{row['title']} ({pieces})" if pieces else row["title"]
    shares = "; ".join(f"{ratio['ratio']['median']:.2f}× {titles[ratio['theirs']]}" for ratio in ratios)
    return title, number(figures["median"]), f"{number(figures['p10'])}–{number(figures['p90'])}", shares


def memory_table(results: Results) -> str:
    """Rows of peak memory and of wall time, whole processes."""
    head = ("one photograph, a whole process", "peak memory", "wall time")
    lines = [
        (row["title"], f"{row['peak_mb']['median']:.0f} MB", f"{row['wall_s']['median']:.1f} s")
        for row in results["rows"]
    ]
    return f"{table(head, lines)}\n\n{_circumstances(results)}{_left_out(results)}"


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
    note = f"{results['pictures']} scenes, {results['objects']} objects; {results['engine']}, one picture at a time."
    return f"{table(head, [[f'{value:.3f}' for value in values]])}\n\n{note}"


def engines_table(results: Results) -> str:
    """How far the engines differ on the same scenes: what `agree.py` said."""
    head = ("scenes", "detections above 0.5", "scenes with other labels", "scores differ by", "boxes differ by")
    row = (
        str(results["pictures"]),
        str(results["detections"]),
        str(results["pictures_with_other_labels"]),
        f"{results['score_difference']:.0e}",
        f"{results['box_difference_px']:.0e} px",
    )
    return f"{table(head, [row])}\n\nAt most, numpy against {results['engine']}."


TABLES: dict[str, Callable[[Results], str]] = {
    "latency": latency_table,
    "memory": memory_table,
    "compare": compare_table,
    "accuracy": accuracy_table,
    "end_to_end": end_to_end_table,
    "formats": formats_table,
    "install": install_sentence,
    "demo-results": demo_table,
    "demo-engines": engines_table,
}


@dataclass(frozen=True)
class Page:
    """A page, the directory of its results, and which tables it has."""

    file: Path
    results: Path
    tables: tuple[str, ...]

    def read_results(self) -> dict[str, Results]:
        """The results there are, by the name of their table."""
        files = {name: self.results / f"{name}.json" for name in self.tables}
        return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


README = Page(ROOT / "README.md", HERE / "results", ("latency", "memory", "install"))
FILES = Page(ROOT / "docs" / "files.md", HERE / "results", ("compare", "accuracy", "end_to_end", "formats"))
WEIGHTS = Page(ROOT / "weights" / "README.md", ROOT / "weights", ("demo-results", "demo-engines"))
PAGES = (README, FILES, WEIGHTS)


def filled(text: str, results: Mapping[str, Results]) -> str:
    """The text with the table of each of the results in its place; tables without results stay as they are.

    Raises:
        ValueError: when there is no place for a table.
    """
    for name, found in results.items():
        place = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"there is no place for the table {name}: no <!-- table: {name} --> with an <!-- end -->")
        table = TABLES[name](found).replace("\\", r"\\")  # a replacement's backslashes are its own language
        text = place.sub(rf"\1\n{table}\n\n\2", text)
    return text


def bars(results: Mapping[str, Results]) -> list[str]:
    """A line for each bar there is: what was measured, what it may be at most, and whether it is."""
    ratios = [ratio for ratio in results.get("latency", {}).get("ratios", ()) if ratio["at_most"]]
    peaks = [row for row in results.get("memory", {}).get("rows", ()) if row["at_most_mb"]]
    installed = {row["key"]: row["mb"] for row in results.get("install", {}).get("rows", ())}
    theirs = installed.get("transformers")
    return [
        *(_bar(f"{r['ours']} / {r['theirs']}, {r['part']}", r["ratio"]["median"], r["at_most"]) for r in ratios),
        *(_bar(f"{row['key']}, peak MB", row["peak_mb"]["median"], row["at_most_mb"]) for row in peaks),
        *([_bar("installed, of torch's", installed["core"] / theirs, results["install"]["at_most"])] if theirs else []),
    ]


def _bar(what: str, found: float, at_most: float) -> str:
    return f"{'reached' if found <= at_most else 'missed '}  {what}: {found:g}, at most {at_most:g}"


def _by_ours(ratios: Iterable[Results]) -> dict[tuple[str, str], list[Results]]:
    found: dict[tuple[str, str], list[Results]] = {}
    for ratio in ratios:
        found.setdefault((ratio["part"], ratio["ours"]), []).append(ratio)
    return found


def _circumstances(results: Results) -> str:
    """One sentence: model, machine, threads, runs, versions, date."""
    machine = results["machine"]
    features = ", ".join(feature for feature in ("avx512f", "amx_tile", "asimd") if feature in machine["features"])
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
    """Writes the tables; with --check, 1 when they differ from the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="The README's tables.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page and its results differ")
    parser.add_argument("--bars", action="store_true", help="print which bars are reached, and write nothing")
    arguments = parser.parse_args()
    if arguments.bars:
        print("\n".join(bars(README.read_results())))
        return 0
    different = 0
    for page in PAGES:
        text = page.file.read_text(encoding="utf-8")
        wanted = filled(text, page.read_results())
        if not arguments.check:
            page.file.write_text(wanted, encoding="utf-8")
        elif wanted != text:
            print(f"{page.file.name} differs from the results: run python -m benchmarks.report", file=sys.stderr)
            different = 1
    return different


if __name__ == "__main__":
    sys.exit(main())
