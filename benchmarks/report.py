"""Writes the tables and the plot of the documentation from the results files.

    python -m benchmarks.report            # write
    python -m benchmarks.report --check    # exit 1 when a page and its results differ
    python -m benchmarks.report --bars     # print which targets are reached

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` maps its name to a results file and a
function. A table without results, or whose results have no rows, stays as it is. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.choose_table import SOURCES, choose_table
from benchmarks.demo_tables import demo_panoptic_table, demo_table, engines_table
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
from benchmarks.scale_tables import ray_kill_sentence, ray_table, scale_table
from benchmarks.server_tables import serving_table, siege_table
from benchmarks.speed_tables import (
    containers_table,
    install_sentence,
    latency_in_short,
    latency_plot,
    latency_table,
    memory_in_short,
    memory_table,
    sizes_table,
    throughput_table,
    video_table,
)
from benchmarks.targets import bars

HERE = Path(__file__).parent
ROOT = HERE.parent

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
        """The results that exist and have rows, by the name of their table."""
        results = {name: read_results(self.results, TABLES[name][0]) for name in self.tables}
        return {name: content for name, content in results.items() if content and content.get("rows") != []}


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
    ("latency", "latency-without-amx", "throughput", "stream", "memory", "sizes"),
)
EXPERIMENTS = Page(ROOT / "docs" / "experiments.md", HERE / "results", ("regions", "regions-without-amx"))
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
PAGES = (
    README, SPEED, EXPERIMENTS, FILES, EDGE, GPU, CHOOSE, PANOPTIC, JOBS, SCALE, SERVER, VIDEO, BROWSER, WEIGHTS,
    SECURITY,
)  # fmt: skip
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
