"""`detr-onnx bench`: cases, interleaved rounds, whole processes and the report. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from detr_onnx.bench import baselines, report, setting
from detr_onnx.bench.cases import baseline_cases, our_cases
from detr_onnx.bench.interleave import Contender, Entry, baseline_command, run_interleaved, start, start_all
from detr_onnx.bench.processes import Program, run_in_turns
from detr_onnx.bench.setting import environment
from detr_onnx.bench.timings import figures, quantile, ratio
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.models.open import demo_directory, demo_image
from detr_onnx.models.parts import Source
from tests.cli.command_line import complaint, outcome

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "model": "demo", "engine": "auto", "providers": None, "precision": None, "threads": 1, "size": None,
    "config": None, "offline": False, "cache_dir": None,
}  # fmt: skip
STUB = """
import sys
sys.path.insert(0, sys.argv[1])
from detr_onnx.bench.baselines import Ready, take_turns

def steady(given):
    return Ready(lambda: {"part": given["seconds"]}, "a stub")

def failing(given):
    return Ready(lambda: {}["no such key"], "a stub")

def absent(given):
    raise ImportError("No module named 'peer'")

take_turns({"steady": steady, "failing": failing, "absent": absent}, (), sys.argv[2:])
"""


def stub(kind: str, *more: str, seconds: float = 1.0) -> Entry:
    """A contender that always reports the same seconds."""
    command = (sys.executable, "-c", STUB, str(ROOT), kind, json.dumps({"seconds": seconds}), *more)
    return Entry(f"{kind} {seconds:g}", f"a {kind} one", command)


def silent(number: int, title: str) -> None:
    """Progress that is not shown."""


@pytest.fixture
def shown() -> list[str]:
    return []


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


def test_contenders_run_in_interleaved_rounds_and_warm_up_is_not_recorded(shown):
    with start_all([stub("steady", seconds=1), stub("steady", seconds=2)], environment(1)) as (contenders, left_out):
        run_interleaved(contenders, 2, 1, lambda number, title: shown.append(f"{number} {title}"), pause_s=0)
        assert [contender.seconds for contender in contenders] == [{"part": [1, 1]}, {"part": [2, 2]}]
        assert {contender.runs_on for contender in contenders} == {"a stub"}
    assert left_out == {}
    assert shown == ["1 a steady one"] * 2 + ["2 a steady one"] * 2 + ["3 a steady one"] * 2
    assert [contender.process.returncode for contender in contenders] == [0, 0]


def test_a_contender_that_cannot_start_is_left_out_with_the_reason():
    entries = [stub("absent"), stub("steady"), Entry("none", "no program", ("/no/such/program",))]
    with start_all(entries, environment(1)) as (contenders, left_out):
        assert [contender.entry.key for contender in contenders] == ["steady 1"]
    assert left_out["a absent one"] == "ImportError: No module named 'peer'"
    assert "No such file" in left_out["no program"]


def test_a_contender_that_exits_before_it_is_ready_is_left_out():
    reason = start(Entry("dead", "a dead one", (sys.executable, "-c", "raise SystemExit(3)")), environment(1))
    assert reason == "a dead one ended without an answer (exit status 3)"


def test_a_turn_that_fails_raises_the_reason():
    with (
        start_all([stub("failing")], environment(1)) as (contenders, _),
        pytest.raises(RuntimeError, match="no such key"),
    ):
        run_interleaved(contenders, 1, 0, silent, pause_s=0)


def test_what_a_library_prints_does_not_mix_with_the_answers(tmp_path):
    noisy = STUB.replace("def steady(given):", "def steady(given):\n    print('a banner')")
    command = (sys.executable, "-c", noisy, str(ROOT), "steady", '{"seconds": 1}')
    contender = start(Entry("noisy", "a noisy one", command), environment(1))
    assert isinstance(contender, Contender)
    assert contender.turn() == {"part": 1}
    contender.stop()


def test_throughput_uses_the_same_number_of_images_at_each_concurrency():
    calls = []
    turn = baselines.concurrent(lambda: calls.append(1))
    assert [*turn()] == [str(count) for count in baselines.CONCURRENCIES]
    assert len(calls) == baselines.IMAGES_A_TURN * len(baselines.CONCURRENCIES)


def test_each_step_takes_the_result_of_the_step_before_and_the_times_add_up():
    seen = []
    steps = [("one", lambda value: 7), ("two", lambda value: seen.append(value))]
    parts = baselines.in_parts("all", steps)()
    assert seen == [7]
    assert parts["all"] == pytest.approx(parts["one"] + parts["two"])


def test_graphs_of_other_exporters_get_their_masks():
    import numpy as np

    feeds = baselines._feeds(np.zeros((1, 3, 8, 9)), {"pixel_mask": ["b", 64, None]})
    assert {name: value.shape for name, value in feeds.items()} == {
        "pixel_values": (1, 3, 8, 9),
        "pixel_mask": (1, 64, 9),
    }


# Whole processes


def test_whole_processes_report_peak_memory_and_wall_time_and_failures_are_left_out():
    fine = Program("fine", "a fine one", (sys.executable, "-c", "b = bytes(50_000_000)"))
    bad = Program("bad", "a bad one", (sys.executable, "-c", "raise SystemExit('no luck')"))
    (ran,), left_out = run_in_turns([fine, bad], 2, environment(1), silent)
    assert (len(ran.wall_s), len(ran.peak_mb)) == (2, 2)
    assert min(ran.peak_mb) > 50
    assert left_out == {"a bad one": "no luck"}


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
        "-m detr_onnx detect p.jpg --model demo --engine onnxruntime --cache-dir c --threads 1 --offline"
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
        assert sum(score > baselines.threshold_for(kept, scores) for score in scores) == kept


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
        (["--against", "torch"], 2, "--against names no peer: found 'torch', expected some of transformers, optimum, "),
        (["--against", "optimum"], 2, "--against optimum runs optimum's export of the model: found no --optimum"),
        (["--runs", "0"], 2, "--runs is wrong: found 0, expected a number from 1 up"),
        (["--threads", "0"], 2, "--threads is wrong: found 0"),
        (["--engine", "gpu"], 2, "no such engine: found 'gpu'"),
        (["--image", "gone.jpg"], 1, "cannot read gone.jpg: found no such file"),
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
