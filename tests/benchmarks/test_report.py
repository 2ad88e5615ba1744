"""The tables of the documentation are those that the results files give."""

from __future__ import annotations

import copy
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, speed_tables

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def figures(median: float) -> dict[str, float]:
    return {"median": median, "p10": 0.9 * median, "p90": 1.2 * median}


LATENCY: dict[str, Any] = {
    "date": "2026-01-02",
    "machine": {"processor": "A Processor", "features": ["avx512f"], "cores": 2},
    "model": "seeded",
    "threads": 2,
    "runs": 9,
    "rows": [
        {"key": "ours", "title": "ours, numpy", "versions": {"numpy": "2.0"}, "ms": {"network": figures(1000)}},
        {"key": "theirs", "title": "torch", "versions": {"torch": "9.9"}, "ms": {"network": figures(2000)}},
        {"key": "pixels", "title": "ours", "versions": {}, "ms": {"decode": figures(3), "total": figures(10)}},
    ],
    "ratios": [{"part": "network", "ours": "ours", "theirs": "theirs", "at_most": 0.4, "ratio": figures(0.512)}],
    "left_out": [{"title": "optimum", "why": "not there"}],
}
MEMORY: dict[str, Any] = {
    **{key: LATENCY[key] for key in ("date", "machine", "model", "threads", "runs", "left_out")},
    "rows": [
        {"key": "ours", "title": "ours, numpy", "peak_mb": figures(300), "wall_s": figures(1.2), "at_most_mb": 500},
    ],
}
COMPARE_INT8: dict[str, Any] = {
    "date": "2026-01-02",
    "threads": 2,
    "load_before": 0.1,
    "held_out": 500,
    "score": 0.5,
    "demo": [
        {"title": "ours", "seconds": 30.0, "processor_seconds": 55.0, "mb": 4.9, "images": 100,
         "runtime": "onnxruntime", "versions": {"onnxruntime": "1.0"},
         "agreement": {"reference": 900, "identical": 0.988, "score_difference": 6e-3}},
        {"title": "NNCF", "seconds": 60.0, "processor_seconds": 110.0, "mb": 3.3, "images": 100,
         "runtime": "openvino", "versions": {"nncf": "3.0"},
         "agreement": {"reference": 900, "identical": 0.95, "score_difference": 1e-2}},
    ],
    "full_size_model": "seeded DETR-R50",
    "full_size": [
        {"title": "ours", "seconds": 80.0, "processor_seconds": 150.0, "mb": 48.2, "images": 64, "versions": {}},
    ],
}  # fmt: skip
RIGHT, WRONG = {"logits_of_std": 4e-6, "boxes": 1e-6}, {"logits_of_std": 2.5, "boxes": 0.3}
COMPARE: dict[str, Any] = {
    "model": "seeded",
    "threads": 2,
    "runs": 9,
    "latency": {
        "onnxruntime": {"ours": {"ms": figures(600)}, "dynamic": {"ms": figures(650)}},
        "openvino": {"ours": {"ms": figures(550)}, "dynamic": {"error": "RuntimeError: no such operation"}},
    },
    "versions": {"onnx": "1.0"},
    "reference": "transformers, PyTorch",
    "right_below": 1e-3,
    "mixed_sizes": ["800x1066", "608x800"],
    "rows": [
        {"key": "ours", "title": "ours", "nodes": 600, "mb": 166.4, "free_axes": ["batch", "height"], "mask": True,
         "differences": {"single": RIGHT, "other": RIGHT, "mixed": RIGHT}},
        {"key": "dynamic", "title": "optimum, dynamic", "nodes": 2400, "mb": 166.8, "free_axes": ["batch"],
         "mask": False, "differences": {"single": RIGHT, "other": {"error": "shapes"}, "mixed": WRONG}},
        {"key": "static", "title": "optimum, static", "nodes": 2400, "mb": 166.8, "free_axes": [], "mask": False,
         "differences": {"single": RIGHT, "other": None, "mixed": None}},
        {"key": "torch", "title": "torch, dynamo", "refused": "ValueError: constraints violated"},
    ],
}  # fmt: skip
ACCURACY: dict[str, Any] = {
    "date": "2026-01-02",
    "model": "demo",
    "images": 500,
    "score": 0.5,
    "reference": "fp32",
    "versions": {"onnxruntime": "1.0"},
    "full_size_mb": {"fp32": 166.7},
    "rows": [
        {"key": "fp32", "title": "onnxruntime, `fp32`", "mb": 11.8, "AP": 0.9, "AP50": 0.98, "identical": 1.0,
         "score_difference": 0.0},
        {"key": "fp16", "title": "onnxruntime, `fp16`", "mb": 5.9, "AP": 0.89, "AP50": 0.97, "identical": 0.9987,
         "score_difference": 2.5e-4},
    ],
    "left_out": [{"title": "OpenVINO", "why": "no such package"}],
}  # fmt: skip
END_TO_END: dict[str, Any] = {
    "rows": [
        {"model": "demo", "title": "photographs", "images": 64, "detections": 99, "same_labels": 64,
         "score_difference": 5.1e-6, "box_difference_px": 1e-3},
    ]
}  # fmt: skip
FORMATS: dict[str, Any] = {
    "date": "2026-01-02",
    "model": "seeded",
    "versions": {"onnxruntime": "1.0"},
    "rows": [{"title": ".ort, mapped", "mb": 167.2, "peak_mb": figures(400), "own_mb": 280}],
}
INSTALL: dict[str, Any] = {
    "at_most": 0.16,
    "rows": [
        {"key": "core", "title": "detr-onnx", "mb": 170.2},
        {"key": "transformers", "title": "transformers and torch", "mb": 1702},
    ],
}
DEMO: dict[str, Any] = {
    "images": 500,
    "objects": 2249,
    "engine": "numpy 2, fp32",
    "figures": {"AP": 0.75, "AP50": 0.95, "AP_small": 0.5, "AR_1": 0.4},
    "recall_at_half": 0.97,
    "false_at_half": 0.1,
}
ENGINES: dict[str, Any] = {
    "engine": "onnxruntime",
    "images": 500,
    "detections": 2300,
    "images_with_other_labels": 0,
    "score_difference": 3e-6,
    "box_difference_px": 4e-4,
}
DEMO_PANOPTIC: dict[str, Any] = {
    "engine": "onnxruntime",
    "images": 500,
    "segments": 2249,
    "figures": {"PQ": 0.61, "SQ": 0.8, "RQ": 0.75},
    "matched_detections": 2100,
    "mask_iou": 0.82,
    "classes": [{"id": 1}, {"id": 2}],
}
FUZZ: dict[str, Any] = {
    "date": "2026-01-02",
    "machine": {"processor": "A Processor"},
    "version": "1.2",
    "seed": 15,
    "seconds": 725.0,
    "kinds": {
        "images": {"inputs": 900_000, "faults": 0, "slowest_s": 0.25, "peak_mb": 90, "distinct_outcomes": 1},
        "kserve": {"inputs": 100_000, "faults": 2, "slowest_s": 1.5, "peak_mb": 130, "distinct_outcomes": 2},
    },
}
THROUGHPUT: dict[str, Any] = {
    **{key: LATENCY[key] for key in ("date", "machine", "model", "threads", "runs", "left_out")},
    "rows": [
        {
            "key": "numpy",
            "title": "ours, numpy",
            "versions": {},
            "images_per_s": {"1": figures(0.7), "4": figures(1.4)},
        }
    ],
}
PRECISIONS: dict[str, Any] = {
    **{key: LATENCY[key] for key in ("date", "model", "threads", "runs")},
    "rows": [
        {
            "key": "fp32",
            "title": "ONNX Runtime, fp32",
            "mb": 166.7,
            "peak_mb": figures(380.0),
            "ms": {"network": figures(500)},
        },
        {
            "key": "int8",
            "title": "ONNX Runtime, int8",
            "mb": 45.1,
            "peak_mb": figures(200.4),
            "ms": {"network": figures(240)},
        },
        {"key": "stock", "title": "optimum's", "mb": None, "peak_mb": None, "ms": {"network": figures(600)}},
    ],
    "ratios": [
        {"part": "network", "ours": "int8", "theirs": "fp32", "at_most": 0.5, "ratio": figures(0.48)},
        {"part": "network", "ours": "int8", "theirs": "stock", "at_most": None, "ratio": figures(0.4)},
    ],
}
SIZES: dict[str, Any] = {
    "rows": [
        {
            "key": "onnxruntime",
            "title": "onnxruntime 1",
            "resident_mb": {"10": 400.0, "150": 410.0, "300": 420.0},
            "growth": 1.05,
            "at_most": 1.15,
        }
    ]
}
SERVING: dict[str, Any] = {
    **{key: LATENCY[key] for key in ("date", "machine")},
    "overhead": {"bytes": 100_100, "raw_ms": 4.2, "json_ms": 20.0},
    "load": {
        "requests": 10_000,
        "by_kind": {"a": 1, "b": 2},
        "concurrency": 32,
        "wrong": {"bomb: 200": 2, "jpeg: 500": 1},
        "memory_ratio": 1.01,
        "health_ms_p50": 5.0,
        "health_ms_p99": 50.0,
    },
    "siege": {
        "idle_or_half_open": 1000,
        "slow_bodies": 9,
        "gigabyte_bodies_at_once": 3,
        "health_ms_p50": 6.0,
        "health_ms_p99": 60.0,
        "memory_mb_before": 200.0,
        "memory_mb_most": 300.0,
    },
    "bars": {"memory": 1.05, "raw_ms": 5.0, "json_ms": 25.0, "health_ms": 100.0},
}
SIEGE: dict[str, Any] = {
    **{key: LATENCY[key] for key in ("date", "machine")},
    "model": "demo-panoptic",
    "workers": 2,
    "requests": 123_456,
    "by_kind": {"a": 1, "b": 2},
    "concurrency": 32,
    "seconds": 3600.4,
    "wrong": {"bomb: 200": 2},
    "lost": {"raw: TimeoutError": 1, "json: RemoteDisconnected": 3},
    "killed_with_worker": {"raw: RemoteDisconnected": 1200},
    "refused": {},
    "events": {"kills": 160, "reloads": 80, "attacks": 79},
    "memory_mb_by_quarter": [200.0, 201.0, 202.0, 203.0],
    "memory_ratio": 1.015,
    "supervisor_mb": [50.1, 50.4],
    "health_ms_p50": 5.0,
    "health_ms_p99": 50.0,
    "limits": {"requests": 100_000, "memory": 1.05},
}
PANOPTIC: dict[str, Any] = {
    **{key: LATENCY[key] for key in ("date", "machine", "threads", "runs", "left_out")},
    "model": "Seeded panoptic DETR-R50",
    "versions": {"numpy": "2.0"},
    "rows": [
        {"engine": "numpy", "title": "ours, numpy", "kept": None, "ms": figures(1300), "peak_mb": None},
        {"engine": "numpy", "title": "ours, numpy", "kept": 10, "ms": figures(1600), "relative": figures(1.234),
         "peak_mb": figures(450)},
        {"engine": "transformers", "title": "theirs", "kept": "any", "ms": figures(16700),
         "relative": {"median": 15.2}, "peak_mb": figures(12500)},
    ],
}  # fmt: skip
COMPARE_PANOPTIC: dict[str, Any] = {
    **{key: LATENCY[key] for key in ("date", "threads", "runs")},
    "model": "Seeded panoptic DETR-R50",
    "versions": {"numpy": "2.0"},
    "right_below": 1e-3,
    "rows": [
        {"key": "ours", "title": "ours", "nodes": 800, "mb": 170.0, "inputs": {"threshold": [1]},
         "outputs": {"pred_masks": ["masks", "rows", "columns"]}, "ms": {"10": 700.0, "all": 4000.0},
         "differences": {name: {"logits_of_std": 1e-6, "masks_of_std": 2e-5} for name in ("single", "other", "mixed")}},
        {"key": "optimum", "title": "optimum", "nodes": 2600, "mb": 170.0, "inputs": {}, "outputs": {},
         "ms": {"all": 9000.0},
         "differences": {"single": {"logits_of_std": 1e-6, "masks_of_std": 1e-5},
                         "other": {"logits_of_std": 1e-6, "masks_of_std": 0.5}, "mixed": {"error": "no"}}},
    ],
}  # fmt: skip
CONTAINERS = {
    "date": "2026-01-01", "machine": {**LATENCY["machine"], "system": "Linux x86_64"},
    "load_before": 0.1, "base": "a base", "runs": 5,
    "at_most_mb": 120,
    "rows": [{"key": "small", "title": "small", "mb": 99.6, "engine": "numpy", "start_s": 1.24, "peak_mb": 201}],
}  # fmt: skip
RESULTS = {
    "latency": LATENCY,
    "memory": MEMORY,
    "containers": CONTAINERS,
    "compare": COMPARE,
    "accuracy": ACCURACY,
    "end_to_end": END_TO_END,
    "formats": FORMATS,
    "install": INSTALL,
    "precisions": PRECISIONS,
    "sizes": SIZES,
    "serving": SERVING,
    "siege": SIEGE,
    "fuzz": FUZZ,
    "demo-results": DEMO,
    "demo-engines": ENGINES,
    "panoptic": PANOPTIC,
    "compare-int8": COMPARE_INT8,
    "compare-panoptic": COMPARE_PANOPTIC,
    "demo-panoptic": DEMO_PANOPTIC,
    "demo-panoptic-engines": {**ENGINES, "mask_pixels": 1_000_000, "mask_pixels_that_differ": 12},
}
PAGE = "".join(f"{name}:\n<!-- table: {name} -->\n<!-- end -->\n" for name in RESULTS)


def test_a_page_without_results_stays_as_it_is() -> None:
    assert report.filled(PAGE, {}) == PAGE


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.file.relative_to(ROOT).as_posix())
def test_a_page_is_what_the_results_give(page: report.Page) -> None:
    text, results = page.file.read_text(encoding="utf-8"), page.read_results()
    assert results.keys() <= set(page.tables)
    assert all(f"<!-- table: {name} -->" in text for name in page.tables)
    assert report.filled(text, results) == text


def test_panoptic_rows_are_relative_to_detection() -> None:
    lines = report.TABLES["panoptic"][1](PANOPTIC).splitlines()
    assert lines[2] == "| ours, numpy | detection, no masks | 1300 | | |"
    assert lines[3] == "| ours, numpy | 10 | 1600 | 1.23× | 450 MB |"
    assert lines[4] == "| theirs | all 100, whatever is kept | 16700 | 15.20× | 12,500 MB |"


def test_quantizers_are_compared_by_time_size_and_agreement() -> None:
    ours, theirs, full_size = report.TABLES["compare-int8"][1](COMPARE_INT8).splitlines()[2:5]
    assert ours == "| ours, demo | 30.0 s | 55.0 s | 4.9 MB | onnxruntime | 98.8 % | 6.0e-03 |"
    assert theirs == "| NNCF, demo | 60.0 s | 110 s | 3.3 MB | openvino | 95.0 % | 1.0e-02 |"
    assert full_size == "| ours, seeded DETR-R50 | 80.0 s | 150 s | 48.2 MB | | | |"


def test_panoptic_graphs_are_compared_by_their_masks() -> None:
    lines = report.TABLES["compare-panoptic"][1](COMPARE_PANOPTIC).splitlines()
    assert "| `threshold` [1] | `pred_masks` [masks, rows, columns] | right (2e-05) |" in lines[2]
    assert lines[2].endswith("| 700 (10)<br>4000 (all) |")
    assert "| right (1e-05) | **wrong** (5e-01) | **fails** | 9000 (all) |" in lines[3]


def test_the_table_of_the_fuzzers_adds_up_all_kinds() -> None:
    table = report.TABLES["fuzz"][1](FUZZ)
    assert "| all | 1,000,000 | 3 | 2 | 1.50 s |" in table
    assert "Version 1.2, seed 15, in 12 minutes; 130 MB at most in a process; A Processor; 2026-01-02." in table


def test_the_plot_is_what_the_results_give_and_a_page_shows_it() -> None:
    latency = report.read_results(report.README.results, "latency")
    assert report.PLOT.read_text(encoding="utf-8") == report.latency_plot(latency)
    assert f"]({report.PLOT.name})" in report.SPEED.file.read_text(encoding="utf-8")


def test_a_table_without_a_results_file_stays_as_it_is(tmp_path: Path) -> None:
    page = report.Page(tmp_path / "page.md", tmp_path, ("throughput",))
    assert page.read_results() == {}
    text = "<!-- table: throughput -->\nNot measured yet.\n<!-- end -->\n"
    assert report.filled(text, page.read_results()) == text
    (tmp_path / "throughput.json").write_text('{"rows": [], "left_out": []}')
    assert report.filled(text, page.read_results()) == text


def test_a_plot_of_nothing_is_an_empty_one() -> None:
    assert "<rect" not in report.latency_plot({**LATENCY, "rows": []})


def test_the_plot_is_well_formed_and_has_a_bar_per_row_in_one_scale() -> None:
    results = {**LATENCY, "rows": [{**row, "title": f"{row['title']} & <b>"} for row in LATENCY["rows"]]}
    image = ET.fromstring(report.latency_plot(results))
    bars = {bar.get("class"): float(bar.get("width", "0")) for bar in image.iter(f"{SVG}rect")}
    assert bars["theirs"] == pytest.approx(2 * bars["ours"], abs=0.2)
    words = [text.text for text in image.iter(f"{SVG}text")]
    assert "torch & <b>" in words
    assert "1000 ms" in words
    assert "ours & <b>" not in words  # preprocessing has no bar


def test_the_plot_leaves_out_rows_of_one_size_and_of_preprocessing() -> None:
    rows = [{**row, "key": f"{row['key']}{end}"} for row in LATENCY["rows"] for end in ("", *speed_tables.DETAILS)]
    assert report.latency_plot({**LATENCY, "rows": rows}) == report.latency_plot(LATENCY)


def test_the_readme_has_three_rows_relative_to_transformers_and_a_sentence_on_optimum() -> None:
    keys = ("ours-detect-openvino", "ours-detect-onnxruntime", "ours-detect-numpy", "transformers-detect")
    titles = ("ours, OpenVINO", "ours, onnxruntime", "ours, numpy", "transformers")
    rows = [
        {"key": key, "title": title, "versions": {}, "ms": {"detect": figures(100 * (number + 1))}}
        for number, (key, title) in enumerate(zip(keys, titles, strict=True))
    ]
    ratios = [
        {"part": "detect", "ours": keys[0], "theirs": keys[3], "at_most": None, "ratio": figures(0.25)},
        {"part": "detect", "ours": keys[1], "theirs": keys[3], "at_most": None, "ratio": figures(0.5)},
        {
            "part": "network",
            "ours": "ours-onnxruntime-mask",
            "theirs": "optimum-dynamic",
            "at_most": None,
            "ratio": figures(0.95),
        },
    ]
    lines = report.latency_in_short({**LATENCY, "rows": rows, "ratios": ratios}).splitlines()
    assert lines[2:5] == [
        "| detr-onnx, OpenVINO | 100 ms | 0.25× |",
        "| detr-onnx, onnxruntime | 200 ms | 0.50× |",
        "| transformers | 400 ms | 1× |",
    ]
    assert lines[6] == "The network alone, relative to optimum's ONNX export: 0.95× on ONNX Runtime."


def test_the_readme_has_a_sentence_on_memory() -> None:
    row = {**MEMORY["rows"][0], "key": "ours-onnxruntime"}
    assert report.memory_in_short({**MEMORY, "rows": [row]}) == (
        "Peak memory of a whole process with one image: 300 MB (detr-onnx, numpy)."
    )


def test_a_row_from_file_to_detections_is_in_the_last_section_with_its_parts() -> None:
    whole = {"decode": figures(3), "pixels": figures(7), "network": figures(90), "detect": figures(101)}
    row = {"key": "whole", "title": "ours", "versions": {}, "ms": whole}
    lines = report.latency_table({**LATENCY, "rows": [*LATENCY["rows"], row]}).splitlines()
    assert lines[-3] == "| ours (decode 3.00, pixels 7.00, network 90.0) | 101 | 90.9–121 | |"
    assert lines[-4].startswith("| **a file to its detections**")


def test_throughput_has_a_row_per_contender_and_a_column_per_number_at_a_time() -> None:
    head, _, first = report.throughput_table(THROUGHPUT).splitlines()[:3]
    assert head == "| images a second | 1 at a time | 4 at a time |"
    assert first == "| ours, numpy | 0.70 | 1.40 |"


def test_a_video_has_its_rate_and_a_stream_its_latency() -> None:
    live = {"latency_ms": figures(300), "rows_per_s": 5.25, "dropped": 0.79, "frames": 500}
    rates = {"video": figures(5.5), "loop": figures(5)}
    row = {"key": "ours", "title": "ours, numpy", "frames_per_s": rates, "ratio": figures(0.9), "live": live}
    results = {**MEMORY, "camera": {"width": 640, "height": 480, "fps": 25}, "rows": [row, {**row, "live": None}]}
    table = report.video_table(results).splitlines()
    assert table[2] == "| ours, numpy | 5.50 | 5.00; ours takes 0.90× the time | 300 ms, 270–360 | 5.25 | 79% |"
    assert table[3] == "| ours, numpy | 5.50 | 5.00; ours takes 0.90× the time | | | |"
    assert "H.264 of 640x480; the stream has 25 frames a second" in table[5]


def test_a_changed_number_in_the_page_is_noticed() -> None:
    page = report.filled(PAGE, RESULTS)
    assert "| ours, numpy | 1000 | 900–1200 | 0.51× torch |" in page
    tampered = page.replace("0.51×", "0.41×")
    assert report.filled(tampered, RESULTS) == page != tampered


def test_a_changed_number_in_the_results_is_noticed() -> None:
    page, changed = report.filled(PAGE, RESULTS), copy.deepcopy(RESULTS)
    changed["memory"]["rows"][0]["peak_mb"]["median"] = 301
    assert report.filled(page, changed) != page


def test_filling_twice_changes_nothing() -> None:
    page = report.filled(PAGE, RESULTS)
    assert report.filled(page, RESULTS) == page


def test_only_what_is_between_the_marks_changes() -> None:
    page = report.filled(f"before\n{PAGE}<!-- commands: main -->\nkept\n<!-- end -->\nafter\n", RESULTS)
    assert page.startswith("before\n")
    assert page.endswith("<!-- commands: main -->\nkept\n<!-- end -->\nafter\n")


def test_a_page_without_a_place_for_a_table_says_which() -> None:
    with pytest.raises(ValueError, match="latency"):
        report.filled("nothing here", RESULTS)


def test_preprocessing_is_shown_with_its_parts() -> None:
    assert "| ours (decode 3.00) | 10.0 | 9.00–12.0 | |" in report.latency_table(LATENCY)


def test_a_contender_that_was_left_out_is_named() -> None:
    assert report.latency_table(LATENCY).endswith("Left out: optimum.")


def test_graphs_are_right_or_wrong_or_fail() -> None:
    ours, dynamic, static = report.compare_table(COMPARE).splitlines()[2:5]
    assert "| right (4e-06) | right (4e-06) | right (4e-06) |" in ours
    assert "| right (4e-06) | **fails** | **wrong** (2e+00) |" in dynamic
    assert "| right (4e-06) | one size only | one size only |" in static


def test_each_graph_has_its_times_or_the_reason_why_not() -> None:
    ours, dynamic, static = report.compare_table(COMPARE).splitlines()[2:5]
    assert ours.endswith("| 600 | 550 |")
    assert dynamic.endswith("| 650 | cannot |")
    assert static.endswith("| – | – |")
    assert "Times: medians of 9 interleaved runs, 2 threads, in the precision that" in report.compare_table(COMPARE)
    assert "Times: not measured with this table." in report.compare_table({**COMPARE, "latency": {}})


def test_the_failure_of_an_exporter_is_reported_with_its_reason() -> None:
    assert report.compare_table(COMPARE).endswith("torch, dynamo: ValueError: constraints violated.")


def test_accuracy_is_compared_with_the_reference() -> None:
    reference, half = report.accuracy_table(ACCURACY).splitlines()[2:4]
    assert reference == "| onnxruntime, `fp32` | 11.8 MB | 166.7 MB | 0.9000 | 0.9800 | reference | |"
    assert half == "| onnxruntime, `fp16` | 5.9 MB | | 0.8900 | 0.9700 | 99.9 % | 2.5e-04 |"
    assert report.accuracy_table(ACCURACY).endswith("Left out: OpenVINO (no such package).")


def test_folders_and_formats_have_a_row_each() -> None:
    assert report.end_to_end_table(END_TO_END).endswith("| demo, 64 photographs | 99 | 64 | 5e-06 | 1e-03 px |")
    assert report.formats_table(FORMATS).splitlines()[2] == "| .ort, mapped | 167 MB | 400 MB | 280 MB |"


def test_a_precision_has_its_costs_and_its_relative_time() -> None:
    first, int8, stock = report.precisions_table(PRECISIONS).splitlines()[2:5]
    assert first == "| ONNX Runtime, fp32 | 167 MB | 380 MB | 500 | |"
    assert int8 == "| ONNX Runtime, int8 | 45 MB | 200 MB | 240 | 0.48× ONNX Runtime, fp32; 0.40× optimum's |"
    assert stock == "| optimum's | | | 600 | |"


def test_memory_over_sizes_is_shown_at_the_start_in_the_middle_and_at_the_end() -> None:
    assert report.sizes_table(SIZES).splitlines()[2] == "| onnxruntime 1 | 400 MB | 410 MB | 420 MB | 1.05× |"


def test_the_table_of_the_server_has_measurements_and_limits() -> None:
    table = report.serving_table(SERVING)
    assert "| 10,000 requests of 2 kinds, 32 at a time: wrong answers | 3 | 0 |" in table
    assert "| highest resident memory meanwhile | 300 MB (200 before) | |" in table
    assert "| the same as a JSON array | +20.0 ms | 25 ms |" in table


def test_the_table_of_the_soak_test_tells_wrong_lost_and_killed_requests_apart() -> None:
    table = report.siege_table(SIEGE)
    assert "| requests of 2 kinds | 123,456 | 100,000 |" in table
    assert "| wrong answers | 2 | 0 |" in table
    assert "| lost requests | 4 | 0 |" in table
    assert "| requests whose worker the test killed | 1,200 | |" in table
    assert "| resident memory of the older worker by quarter | 200, 201, 202, 203 MB | |" in table
    assert table.splitlines()[-1].startswith("60 minutes, 2 workers, 32 clients at a time, 160 kills, 80 reloads")


def test_the_figures_of_the_demo_model_name_what_was_measured() -> None:
    head, _, row, _, note = report.demo_table(DEMO).splitlines()
    assert head == "| AP | AP50 | AP small | recall at score 0.5, IoU 0.5 | false detections per object |"
    assert row == "| 0.750 | 0.950 | 0.500 | 0.970 | 0.100 |"
    assert note == "500 scenes, 2249 objects; numpy 2, fp32, one image at a time."
    assert "| 500 | 2300 | 0 | 3e-06 | 4e-04 px |" in report.engines_table(ENGINES)


def test_a_container_has_its_size_engine_start_and_memory() -> None:
    assert "| small | 100 MB | numpy | 1.2 s | 201 MB |" in report.containers_table(CONTAINERS)


def test_installed_sizes_are_one_sentence() -> None:
    assert report.install_sentence(INSTALL) == (
        "Installed size with all dependencies: 170 MB (detr-onnx); 1702 MB (transformers and torch)."
    )


def test_targets_are_reached_or_missed() -> None:
    assert report.bars({}) == []
    assert report.bars(RESULTS) == [
        "missed   ours / theirs, network: 0.512, at most 0.4",
        "reached  int8 / fp32, network: 0.48, at most 0.5",
        "reached  ours, peak MB: 300, at most 500",
        "reached  onnxruntime, memory over sizes: 1.05, at most 1.15",
        "reached  installed, of torch's: 0.1, at most 0.16",
    ]


def test_each_precision_has_its_own_target_of_agreement() -> None:
    rows = [
        {"key": "onnxruntime-fp32", "AP": 0.72, "identical": 1.0},
        {"key": "onnxruntime-int8", "AP": 0.71, "identical": 0.985},
        {"key": "openvino-fp32-bf16-mixed", "AP": 0.718, "identical": 0.984},
    ]
    assert report.bars({"accuracy": {"rows": rows}}) == [
        "reached  onnxruntime-int8, detections that differ: 0.015, at most 0.02",
        "missed   openvino-fp32-bf16-mixed, detections that differ: 0.016, at most 0.01",
        "missed   openvino-fp32-bf16-mixed, AP lost: 0.002, at most 0.001",
        "missed   onnxruntime-int8, AP lost: 0.01, at most 0.005",
    ]


@pytest.mark.parametrize(("same", "status"), [(True, 0), (False, 1)])
def test_check_exits_with_1_when_page_and_results_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool, status: int
) -> None:
    page, results = tmp_path / "README.md", tmp_path / "results"
    results.mkdir()
    for name, content in RESULTS.items():
        (results / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    page.write_text(report.filled(PAGE, RESULTS) if same else PAGE, encoding="utf-8")
    only = report.Page(page, results, tuple(RESULTS))
    monkeypatch.setattr(report, "PAGES", (only,))
    monkeypatch.setattr(report, "README", only)
    monkeypatch.setattr(report, "PLOT", tmp_path / "latency.svg")
    (tmp_path / "latency.svg").write_text(report.latency_plot(LATENCY), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["report", "--check"])
    assert report.main() == status
