"""`detr-onnx bench`: figures, turns, cases, the command and its report. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detr_onnx.bench import interleave, report, setting
from detr_onnx.bench.baselines import turns
from detr_onnx.bench.baselines.exported_graphs import feeds
from detr_onnx.bench.cases import BenchmarkCase, baseline_cases, our_cases
from detr_onnx.bench.interleave import baseline_command
from detr_onnx.bench.setting import short_path
from detr_onnx.bench.timings import figures, quantile, ratio
from detr_onnx.cli import bench
from detr_onnx.cli import results as results_files
from detr_onnx.errors import EngineError, OutputError, UsageError
from detr_onnx.models.load import Source
from detr_onnx.models.open import demo_directory, demo_image
from tests.bench.stub_contenders import stub_command
from tests.cli.command_line import PREFIX, complaint, outcome

pytest.importorskip("onnxruntime")

OPTIONS = {
    "model": "demo", "engine": "auto", "providers": None, "precision": None, "threads": 1, "size": None,
    "config": None, "offline": False, "cache_dir": None,
}  # fmt: skip

# Figures


def test_no_values_have_no_median():
    with pytest.raises(ValueError, match="no values"):
        figures([])


def test_figures_are_the_median_and_the_tenth_and_ninetieth_percentile():
    assert figures([3, 1, 2]) == {"median": 2, "p10": 1.2, "p90": 2.8}
    assert figures([0.5], 1000) == {"median": 500, "p10": 500, "p90": 500}
    assert quantile([1.0, 3.0], 0.5) == 2


def test_a_ratio_is_paired_by_round():
    assert ratio([1, 20, 3], [2, 40, 6])["median"] == 0.5


# Turns


def test_throughput_uses_the_same_number_of_images_at_each_concurrency():
    calls = []
    turn = turns.concurrent(lambda: calls.append(1))
    assert [*turn()] == [str(count) for count in turns.CONCURRENCIES]
    assert len(calls) == turns.IMAGES_A_TURN * len(turns.CONCURRENCIES)


def test_each_step_takes_the_result_of_the_step_before_and_the_times_add_up():
    seen = []
    steps = [("one", lambda value: 7), ("two", lambda value: seen.append(value))]
    parts = turns.in_parts("all", steps)()
    assert seen == [7]
    assert parts["all"] == pytest.approx(parts["one"] + parts["two"])


def test_graphs_of_other_exporters_get_their_masks():
    import numpy as np

    values = feeds(np.zeros((1, 3, 8, 9)), {"pixel_mask": ["b", 64, None]})
    assert {name: value.shape for name, value in values.items()} == {
        "pixel_values": (1, 3, 8, 9),
        "pixel_mask": (1, 64, 9),
    }


# Cases


def test_our_cases_are_all_engines_or_the_requested_one():
    assert {case.key for case in our_cases(OPTIONS, Path("p.jpg"))} == {"numpy", "onnxruntime", "openvino"}
    assert [case.key for case in our_cases({**OPTIONS, "engine": "numpy"}, Path("p.jpg"))] == ["numpy"]
    assert [case.key for case in our_cases({**OPTIONS, "providers": "CPU"}, Path("p.jpg"))] == ["onnxruntime"]
    with pytest.raises(UsageError, match="no such engine: found 'gpu'"):
        our_cases({**OPTIONS, "engine": "gpu"}, Path("p.jpg"))


def test_the_whole_program_is_the_command_line_with_the_same_options():
    options = {**OPTIONS, "engine": "onnxruntime", "offline": True, "cache_dir": "c"}
    (case,) = our_cases(options, Path("p.jpg"))
    assert case.whole is not None
    assert " ".join(case.whole[1:]) == (
        "-m detr_onnx detect --model demo --engine onnxruntime --cache-dir c --threads 1 --offline -- p.jpg"
    )


def test_transformers_has_three_modes_and_its_pipeline():
    cases = baseline_cases("transformers", Source(demo_directory(), None), Path("p.jpg"), 1, "python", None)
    assert [case.key for case in cases] == ["eager", "bf16", "torch.compile", "pipeline"]
    assert {case.parts[0] for case in cases} == {"python"}
    assert [case.key for case in cases if case.whole is not None] == ["pipeline"]


def test_a_baseline_without_the_files_it_needs_is_an_error_that_names_them(tmp_path):
    with pytest.raises(UsageError, match="runs optimum's export of the model: found no --optimum; pip install optimum"):
        baseline_cases("openvino", Source(demo_directory(), None), Path("p.jpg"), 1, "python", None)
    with pytest.raises(UsageError, match="found no file"):
        baseline_cases("optimum", Source(demo_directory(), None), Path("p.jpg"), 1, "python", tmp_path / "gone.onnx")
    with pytest.raises(EngineError, match=r"transformers cannot read the model: found m.onnx, expected"):
        baseline_cases("transformers", Source(None, Path("m.onnx")), Path("p.jpg"), 1, "python", None)


def test_a_threshold_keeps_as_many_scores_as_requested():
    scores = [0.1, 0.9, 0.5, 0.7]
    for kept in range(5):
        assert sum(score > turns.threshold_for(kept, scores) for score in scores) == kept


def test_panoptic_turns_have_a_part_for_each_number_of_kept_queries(tmp_path):
    from detr_onnx.bench import ours
    from tests.parity.seeded import CONFIGS, write_checkpoint
    from tests.small_model import sample_image

    model, image = write_checkpoint(tmp_path / "model", CONFIGS["small-panoptic"], 1), tmp_path / "image.png"
    sample_image(90, 61).save(image)
    options = {"model": str(model), "image": str(image), "engine": "numpy", "threads": 1, "size": 160, "kept": [0, 3]}
    parts = ours.panoptic(options).turn()
    assert [*parts] == ["0", "3"]
    assert min(parts.values()) > 0


def test_images_for_a_baselines_graph_are_resized_as_the_model_expects(tmp_path):
    size = json.loads((demo_directory() / "preprocessor_config.json").read_text())["size"]
    graph = tmp_path / "m.onnx"
    graph.touch()
    (case,) = baseline_cases("optimum", Source(demo_directory(), None), Path("p.jpg"), 1, "python", graph)
    assert json.loads(case.parts[-1])["sizes"] == [size["shortest_edge"], size["longest_edge"]]


@pytest.mark.parametrize("kind", ["onnxruntime-detect", "openvino-detect"])
def test_a_baseline_runs_a_graph_by_itself_without_this_package(tmp_path, kind):
    pytest.importorskip(kind.partition("-")[0])
    graph, image = str(demo_directory() / "model.onnx"), str(demo_image())
    command = baseline_command(sys.executable, kind, {"graph": graph, "image": image, "threads": 1, "sizes": (96, 128)})
    done = subprocess.run([*command, "once"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert [*json.loads(done.stdout)] == ["decode", "pixels", "network", "postprocess", "detect"]


# The command


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No warning that the machine is busy, which it may be."""
    monkeypatch.setattr(setting, "QUIET_LOAD", 1e6)


@pytest.fixture
def refused(capsys):
    def refused(*words: object, status: int) -> str:
        return complaint(outcome(["bench", "-m", "demo", *words], capsys), status)

    return refused


def test_the_demo_model_is_measured_part_by_part_and_the_results_are_written(tmp_path, capsys):
    file = tmp_path / "bench.json"
    words = ["bench", "-m", "demo", "--engine", "onnxruntime", "--threads", "1", "--size", "96", "--runs", "1"]
    status, out, _ = outcome([*words, "--json", file], capsys)
    results = json.loads(file.read_text())
    (row,) = results["rows"]
    assert (status, row["key"], results["threads"], results["left_out"]) == (0, "onnxruntime", 1, {})
    assert [*row["ms"]] == ["decode", "pixels", "network", "postprocess", "detect"]
    assert [*row["images_per_s"]] == ["1", "2", "4"]
    assert {"onnxruntime", "numpy", "pillow"} <= row["versions"].keys()
    assert min(row["peak_mb"]["median"], row["cold_start_s"]["median"]) > 0
    assert {"processor", "features", "cores"} <= results["machine"].keys()
    assert out == report.format_results(results)
    assert "CPUExecutionProvider" in out


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (
            ["--against", "torch"],
            2,
            "--against has unknown names: found 'torch', expected some of transformers, optimum, ",
        ),
        (["--against", "optimum"], 2, "--against optimum runs optimum's export of the model: found no --optimum"),
        (["--runs", "0"], 2, "--runs is wrong: found 0, expected a number from 1 up"),
        (["--threads", "0"], 2, "--threads is wrong: found 0"),
        (["--size", "0"], 2, "--size is wrong: found 0, expected a number from 1 up"),
        (["--optimum", "m.onnx"], 2, "--optimum is not used; add --against optimum,openvino, or leave it out"),
        (["--against", "transformers", "--optimum", "m.onnx"], 2, "--optimum is not used"),
        (["--peers-python", "python"], 2, "--peers-python is not used; add --against transformers, or leave it out"),
        (["-m", "nowhere"], 2, "there is no model 'nowhere'"),
        (["--engine", "gpu"], 2, "no such engine: found 'gpu'"),
        (["--image", "gone.jpg"], 1, "cannot read 'gone.jpg': found no such file"),
        (["--image", __file__], 1, f"{__file__} is not an image: found "),
        (["--image", "."], 1, "cannot read '.': found a directory"),
        (["--image", "/dev/null"], 1, "cannot read /dev/null: found a pipe or a device, expected a file"),
        (["--json", "gone/x.json"], 1, "cannot write gone/x.json: found no directory gone"),
    ],
)
def test_wrong_options_end_with_one_line(refused, words, status, says):
    assert refused(*words, status=status).startswith(says)


def test_a_requested_engine_that_cannot_run_is_an_error_with_its_reason(refused):
    text = refused("--engine", "onnxruntime", "--providers", "Quantum", "--runs", "1", status=1)
    assert text.startswith("ours, onnxruntime cannot be measured: found EngineError: this ONNX Runtime has no provider")


def test_a_requested_baseline_that_is_not_installed_is_an_error_with_the_remedy(refused, tmp_path):
    nobody = tmp_path / "python"
    options = ["--engine", "onnxruntime", "--threads", "1", "--size", "96", "--runs", "1"]
    text = refused(*options, "--against", "transformers", "--peers-python", nobody, status=1)
    assert text.startswith("transformers, PyTorch eager cannot be measured: found [Errno 2] No such file")
    assert text.endswith("name an interpreter that has torch and transformers with --peers-python")


# Nothing is lost


def case(key: str, *, baseline: str | None = None, turns: int = 99, throughput: str = "steady") -> BenchmarkCase:
    """A case of stubs: a contender that is killed after so many turns, and one for throughput."""
    parts = stub_command("tiring", part="detect", turns=turns)
    return BenchmarkCase(key, key, parts, stub_command(throughput, part="1"), ("true",), baseline)


@pytest.fixture
def measure(monkeypatch):
    """Measures cases without pauses."""
    monkeypatch.setattr(interleave.time, "sleep", lambda seconds: None)

    def measure(*cases: BenchmarkCase, runs: int = 3) -> dict:
        return bench.measure(cases, runs, setting.environment(1), strict=False)

    return measure


def test_what_fails_halfway_is_left_out_with_its_measurement_and_all_else_is_in_the_results(measure):
    results = measure(case("a", throughput="failing"), case("b"), case("peer", baseline="openvino", turns=3))
    assert [row["key"] for row in results["rows"]] == ["a", "b"]
    assert [sorted(row.keys() & {"images_per_s", "peak_mb"}) for row in results["rows"]] == [
        ["peak_mb"],
        ["images_per_s", "peak_mb"],
    ]
    assert results["left_out"] == {
        "peer": "it ended without an answer (killed by SIGKILL, perhaps for lack of memory): out of breath",
        "a, several images at a time": "KeyError: 'no such key'",
    }


def test_if_nothing_runs_to_the_end_all_reasons_are_told(measure):
    with pytest.raises(EngineError, match=r"every measurement failed: found a: it ended .*; b: it ended "):
        measure(case("a", turns=1), case("b", turns=2))


ROW = {
    "key": "onnxruntime", "title": "ours, onnxruntime", "runs_on": "a stub", "versions": {"numpy": "2.0"}, "spun_ms": 0,
    "ms": {"detect": {"median": 5.0, "p10": 4.0, "p90": 6.0}},
}  # fmt: skip


@pytest.fixture
def measured(monkeypatch, capsys):
    """Runs the command, which measures one row at once."""

    def measured(*words: object, **results: object) -> tuple[int, str, str]:
        found = {"long_runs": 5, "rows": [ROW], "ratios": [], "left_out": {}} | results
        monkeypatch.setattr(bench, "measure", lambda *arguments: found)
        return outcome(["bench", "-m", "demo", "--engine", "onnxruntime", *words], capsys)

    return measured


def test_results_that_cannot_be_written_are_still_printed(monkeypatch, measured, tmp_path):
    def full(path: Path, text: str) -> None:
        raise OutputError(f"cannot write {path}", found="No space left on device")

    monkeypatch.setattr(results_files, "write_file", full)
    status, out, err = measured("--json", tmp_path / "r.json")
    assert (status, "ours, onnxruntime" in out) == (1, True)
    assert err == f"{PREFIX}cannot write {tmp_path / 'r.json'}: found No space left on device\n"


def test_results_can_be_printed_as_json_in_place_of_the_table(measured, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, _ = measured("--json", "-")
    assert (status, json.loads(out)["rows"]) == (0, [ROW])
    assert [*tmp_path.iterdir()] == []


def test_an_engine_that_failed_halfway_is_an_error_after_the_results(measured):
    peer = {**ROW, "key": "openvino", "title": "optimum's export, OpenVINO"}
    status, out, err = measured(rows=[peer], left_out={"ours, onnxruntime": "killed by SIGKILL"})
    assert (status, "left out: ours, onnxruntime: killed by SIGKILL" in out) == (1, True)
    assert err == f"{PREFIX}ours, onnxruntime cannot be measured: found killed by SIGKILL\n"


def test_the_reasons_in_the_file_name_no_directories(measured, tmp_path):
    reason = f"[Errno 2] No such file or directory: '{tmp_path}/bin/python'"
    status, out, _ = measured("--json", tmp_path / "r.json", left_out={"transformers": reason})
    written = json.loads((tmp_path / "r.json").read_text())["left_out"]
    assert (status, f"left out: transformers: {reason}" in out) == (0, True)
    assert written == {"transformers": "[Errno 2] No such file or directory: 'python'"}


def test_a_name_that_is_not_utf_8_is_escaped_in_the_results(measured, tmp_path):
    image = tmp_path / os.fsdecode(b"sc\xe8ne d'\xc3\xa9t\xc3\xa9.jpg")
    try:
        image.write_bytes(demo_image().read_bytes())
    except OSError:
        pytest.skip("this file system has no such names")
    status, out, _ = measured("--image", image, "--json", tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert (status, json.loads(text)["image"]) == (0, image.name)
    assert "sc\\udce8ne d'été.jpg" in text
    assert "sc\\udce8ne d'été.jpg" in out


def test_the_results_do_not_replace_what_is_measured(refused, tmp_path):
    image, graph = tmp_path / "image.jpg", tmp_path / "model.onnx"
    image.write_bytes(demo_image().read_bytes())
    graph.write_bytes(b"a graph")
    expected = f"--json would overwrite {image}, which is also an input; choose another file"
    assert refused("--image", image, "--json", image, status=1) == expected
    assert refused("--optimum", graph, "--json", graph, status=1).startswith("--json would overwrite")
    assert refused("-m", graph, "--json", graph, status=1).startswith("--json would overwrite")
    assert (image.stat().st_size, graph.read_bytes()) == (demo_image().stat().st_size, b"a graph")


def test_the_table_says_which_medians_are_of_fewer_runs_and_names_every_version(measured):
    other = {**ROW, "key": "b", "title": "b", "versions": {"numpy": "1.26", "torch": "2.13"}}
    _, out, _ = measured(rows=[ROW, other])
    assert "medians of 10 interleaved runs, of 5 in the second table; threads: " in out
    assert "numpy 2.0 and 1.26, torch 2.13" in out
    _, out, _ = measured("--runs", 3, long_runs=3)
    assert "medians of 3 interleaved runs; threads: " in out


def test_the_command_in_the_results_tells_no_directories_and_can_be_run_again():
    words = ["bench", "-m", "/home/me/my models/detr.onnx", "--json=/home/me/r/x.json", "--against", "a,b", "/x", "a b"]
    told = "bench -m 'my models/detr.onnx' --json=r/x.json --against a,b x 'a b'"
    assert setting.setting("detr-onnx", words)["command"] == f"detr-onnx {told}"
    assert short_path("relative/to/here") == "relative/to/here"
