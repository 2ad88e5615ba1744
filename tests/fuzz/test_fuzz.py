"""Some thousands of inputs of every kind give no fault, and the fuzzers notice what would be one."""

from __future__ import annotations

import time

import pytest

from detr_onnx.errors import ImageError
from tests.fuzz import run as running
from tests.fuzz.images import IMAGES, seeds, with_checksums
from tests.fuzz.kinds import KINDS
from tests.fuzz.run import Kind, make_input, run

COUNTS = {"images": 3000}
SEED = 1


@pytest.fixture(autouse=True)
def no_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not end the process of all tests."""
    monkeypatch.setattr(running, "SECONDS_UNTIL_KILLED", 600)


@pytest.mark.parametrize("name", [*KINDS])
def test_mutated_inputs_give_no_fault(name: str):
    report = run(KINDS[name], COUNTS.get(name, 1000), SEED)
    assert [(fault.index, fault.what) for fault in report.faults] == []
    assert len(report.outcomes) > 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*KINDS])
def test_valid_inputs_are_read(name: str):
    for data in KINDS[name].seeds().values():
        assert KINDS[name].read(data)


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
    peaks = iter((10.0, 100.0))
    monkeypatch.setattr(running, "_peak_mb", lambda: next(peaks))
    assert run(kind_that(work), 1, 0).faults[0].what == "took 90 MB"
