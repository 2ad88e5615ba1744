"""Some thousands of inputs of every kind give no fault, and the fuzzers notice what would be one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import detr_onnx
from detr_onnx.errors import ImageError
from tests.fuzz import campaign
from tests.fuzz import run as running
from tests.fuzz.campaign import Chunk, run_all, shares
from tests.fuzz.http_requests import HttpRequest, HttpResponse, read_kserve, read_workers_ai
from tests.fuzz.images import IMAGES, seeds, with_checksums
from tests.fuzz.kinds import KINDS
from tests.fuzz.run import Kind, Report, make_input, run

ROOT = Path(__file__).parents[2]
COUNTS = {"images": 3000, "onnx-graphs": 100, "cache-manifests": 300}
SEED = 1
PLANTED = {
    "images": "tests.fuzz.images.read_rgb",
    "processor-configs": "tests.fuzz.json_files.parse_object",
    "annotations": "detr_onnx.evaluation.coco.read_json",
    "results": "tests.fuzz.json_files.read_results",
    "panoptic-annotations": "tests.fuzz.json_files.read_truth",
    "panoptic-results": "tests.fuzz.json_files.read_panoptic_results",
    "safetensors": "detr_onnx.checkpoint.safetensors._check_header",
    "sharded-indexes": "detr_onnx.checkpoint.files.read_object",
    "model-configs": "detr_onnx.checkpoint.huggingface_config._backbone",
    "graph-files": "tests.fuzz.graphs.check_graph_file",
    "graph-metadata": "detr_onnx.models.metadata.parse_object",
    "onnx-graphs": "detr_onnx.engines.onnxruntime.graph_engine",
    "cache-manifests": "detr_onnx.cache.read_object",
    "journals": "detr_onnx.bench.hosted.journal.parse_json",
    "api-responses": "detr_onnx.bench.hosted.responses.parse_json",
    "workers-ai": "detr_onnx.server.protocols.workers_ai.loads",
    "hugging-face": "detr_onnx.server.protocols.fields.loads",
    "kserve": "detr_onnx.server.protocols.kserve.loads",
    "deepstack": "detr_onnx.server.protocols.deepstack.parse_options_header",
    "explain": "detr_onnx.server.explain_routes.raw_image",
}
"""A function of each reader, which is made to fail."""


@pytest.fixture(autouse=True)
def no_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not end the process of all tests."""
    monkeypatch.setattr(running, "SECONDS_UNTIL_KILLED", 600)


def kind_of(name: str) -> Kind:
    """The kind of that name; skips the test if its packages are not installed."""
    if not KINDS[name].seeds():
        pytest.skip(f"{name} needs a package that is not installed")
    return KINDS[name]


@pytest.mark.parametrize("name", [*KINDS])
def test_mutated_inputs_give_no_fault(name: str):
    report = run(kind_of(name), COUNTS.get(name, 1000), SEED)
    assert [(fault.index, fault.what) for fault in report.faults] == []
    assert len(report.outcomes) > 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*KINDS])
def test_valid_inputs_are_read(name: str):
    kind = kind_of(name)
    outcomes = {seed: kind.read(data) for seed, data in kind.seeds().items()}
    assert outcomes
    assert not [seed for seed, outcome in outcomes.items() if not outcome or outcome.startswith(("4", "no ", "0 "))]


def test_the_seeds_of_images_have_the_usual_formats():
    formats = {name.split()[-2] for name in seeds()}
    assert {"BLP", "BMP", "DDS", "GIF", "ICNS", "ICO", "JPEG", "PNG", "PPM", "TGA", "TIFF", "WEBP"} <= formats


def test_an_input_depends_on_its_seed_and_number_alone():
    files = seeds()
    inputs = [make_input(IMAGES, files, seed, index) for seed, index in ((1, 5), (1, 6), (2, 5), (1, 5))]
    assert inputs[0] == inputs[3]
    assert len(set(inputs)) == 3


def test_checksums_of_png_files_are_corrected():
    data = next(data for name, data in seeds().items() if "PNG RGB" in name)
    damaged = data.replace(b"IDAT", b"IDAX")
    assert with_checksums(data) == data
    assert with_checksums(damaged) != damaged


def kind_that(action) -> Kind:
    return Kind(lambda: {"a": b"abc"}, lambda random, data, others: data, action, (ImageError,))


def test_another_exception_is_a_fault():
    def fail(data: bytes) -> str:
        raise KeyError("a surprise")

    (fault,) = run(kind_that(fail), 1, 0).faults
    assert (fault.what, fault.data, fault.seed_name) == ("KeyError: 'a surprise'", b"abc", "a")


def test_an_error_of_the_reader_is_an_outcome():
    def refuse(data: bytes) -> str:
        raise ImageError("no")

    report = run(kind_that(refuse), 2, 0)
    assert (report.faults, report.outcomes) == ([], {"ImageError: no": 2})


def test_too_much_time_or_memory_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    def work(data: bytes) -> str:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        return "done"

    monkeypatch.setattr(running, "SECONDS_PER_INPUT", 0.01)
    assert run(kind_that(work), 1, 0).faults[0].what.startswith("took 0.0")
    monkeypatch.setattr(running, "SECONDS_PER_INPUT", 60)
    monkeypatch.setattr(running, "MEGABYTES_PER_INPUT", 50)
    peaks = iter((10.0, 100.0, 100.0))
    monkeypatch.setattr(running, "_peak_mb", lambda: next(peaks))
    assert run(kind_that(work), 1, 0).faults[0].what == "took 90 MB"


@pytest.mark.parametrize("name", [*KINDS])
def test_a_fault_that_is_planted_in_a_reader_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: Any, **options: Any) -> Any:
        raise KeyError("planted")

    kind = kind_of(name)
    kind.seeds()
    monkeypatch.setattr(PLANTED[name], fail)
    faults = run(kind, 60, SEED).faults
    assert faults
    assert all("KeyError: 'planted'" in fault.what for fault in faults)


def test_a_message_that_is_too_long_is_a_fault():
    def refuse(data: bytes) -> str:
        raise ImageError(*["x" * 999], found="x" * 999, expected="x" * 999, remedy="x" * 5000)

    monster = ImageError("x")
    monster.args = ("x" * 100_000,)

    def refuse_at_length(data: bytes) -> str:
        raise monster

    assert run(kind_that(refuse), 1, 0).faults == []
    assert run(kind_that(refuse_at_length), 1, 0).faults[0].what == "a message of 100000 characters"


# Requests


def test_requests_are_texts_that_are_read_back():
    request = HttpRequest("/a?b=c", {"content-type": "x/y"}, b"\r\n\r\nbody")
    assert HttpRequest.of(bytes(request)) == request
    assert HttpRequest.of(b"").target == "/"
    assert HttpRequest.of(b"\xff\xfe x\r\n:\r\n\r\n").headers == {"": ""}


@pytest.mark.parametrize(
    ("read", "status", "body"),
    [
        (read_workers_ai, 200, b'{"result": [], "success": true, "errors": []}'),
        (read_workers_ai, 200, b'{"result": NaN, "success": true, "errors": [], "messages": []}'),
        (read_workers_ai, 302, b'{"result": 1, "success": 0, "errors": [{"code": 1, "message": "a"}], "messages": []}'),
        (read_kserve, 400, b'{"error": "two\\nlines"}'),
        (read_kserve, 200, b'{"outputs": [{"data": [NaN]}]}'),
        (read_kserve, 400, b'{"error": ""}'),
    ],
)  # fmt: skip
def test_a_response_of_another_form_is_a_fault(read, status: int, body: bytes):
    with pytest.raises(AssertionError):
        read(HttpResponse(status, {}, body))


# Campaigns


def test_the_shares_of_all_kinds_add_up():
    for count in (1, 17, 1000, 99_999):
        assert sum(shares(KINDS, count).values()) == count
    kinds = {"fast": kind_that(len), "slow": kind_that(len), "absent": Kind(dict, KINDS["images"].mutate, len, ())}
    kinds["fast"] = Kind(kinds["fast"].seeds, kinds["fast"].mutate, len, (), 3)
    assert shares(kinds, 100) == {"fast": 75, "slow": 25, "absent": 0}


def test_processes_give_what_one_process_gives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaign, "CHUNK", 40)
    counts = {"processor-configs": 100, "graph-files": 50}
    reports = run_all(counts, SEED, processes=2)
    alone = {name: run(KINDS[name], count, SEED) for name, count in counts.items()}
    assert {name: report.outcomes for name, report in reports.items()} == {n: r.outcomes for n, r in alone.items()}


def test_no_inputs_are_begun_when_the_time_of_a_campaign_is_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaign, "run_chunk", chunk_that_dies)
    reports = run_all({"harmless": 500_000}, SEED, seconds=0)
    assert reports["harmless"].outcomes.total() <= 10 * campaign.CHUNK  # a few were in the queue already


def chunk_that_dies(chunk: Chunk) -> Report:
    """Ends the process of one kind, as a crash in a library would."""
    if chunk.kind == "deadly":
        os._exit(3)
    return Report(Counter({"read": chunk.count}))


def test_the_death_of_a_process_is_a_fault_of_its_chunk_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaign, "run_chunk", chunk_that_dies)
    reports = run_all({"deadly": 10, "harmless": 2500}, SEED, first=5)
    assert [fault.what for fault in reports["deadly"].faults] == ["the process ended in one of the inputs 5 to 14"]
    assert (reports["harmless"].faults, reports["harmless"].outcomes) == ([], {"read": 2500})


def test_the_command_prints_a_table_and_writes_its_results(tmp_path: Path):
    file = tmp_path / "fuzz.json"
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "graph-files",
        "--count",
        "60",
        "--seed",
        "3",
        "--results",
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "kind                   inputs  outcomes  faults" in done.stdout
    results = json.loads(file.read_text())
    assert (results["seed"], results["version"]) == (3, detr_onnx.__version__)
    assert results["kinds"]["graph-files"]["inputs"] == 60
    assert sum(results["kinds"]["graph-files"]["outcomes"].values()) == 60
    assert results["machine"]["processor"]
