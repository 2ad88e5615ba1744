"""A few kills of every command find nothing torn, and the checks notice what would be a fault."""

from __future__ import annotations

import signal
from itertools import islice
from pathlib import Path

import pytest

from tests.kill import snapshot as snapshots
from tests.kill.interrupts import INTERRUPTIBLE, interrupt
from tests.kill.run import KILLED, Ended, Killer, Report, Right, moments, run_scenario
from tests.kill.scenarios import SCENARIOS, Scenario, write_inputs
from tests.kill.snapshot import differences, is_temporary, journal_lines, mixed, snapshot, torn
from tests.kill.steps import kill_before_each_change

pytest.importorskip("resource", reason="needs POSIX")
COUNT, SEED = 2, 3
IN_THE_SUITE = (
    "build",
    "export-external-data",
    "export-ort",
    "download",
    "detect",
    "detect-panoptic",
    "compare-hosted",
)
"""The others take longer and write in the same ways; `python -m tests.kill` has them all."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all commands read."""
    directory = tmp_path_factory.mktemp("kill") / "inputs"
    directory.mkdir()
    write_inputs(directory)
    return directory


def possible(scenario: Scenario) -> Scenario:
    """The scenario, if its packages are installed."""
    for package in scenario.needs:
        pytest.importorskip(package)
    return scenario


@pytest.mark.parametrize("name", IN_THE_SUITE)
def test_a_command_that_is_killed_leaves_nothing_torn_and_the_next_run_is_right(tmp_path, inputs, name):
    report = run_scenario(possible(SCENARIOS[name]), COUNT, SEED, inputs, tmp_path)
    assert report.faults == []
    assert report.outcomes[KILLED] >= 1


def test_panoptic_results_that_are_killed_before_any_change_of_a_file_leave_nothing_torn(tmp_path, inputs):
    report = kill_before_each_change(SCENARIOS["detect-panoptic"], inputs, tmp_path)
    assert report.faults == []
    assert report.outcomes[KILLED] > 5


@pytest.mark.slow
def test_an_export_that_is_killed_before_any_change_of_a_file_leaves_nothing_torn(tmp_path, inputs):
    report = kill_before_each_change(possible(SCENARIOS["export-external-data"]), inputs, tmp_path)
    assert report.faults == []
    assert report.outcomes[KILLED] > 5


@pytest.mark.parametrize("name", [*INTERRUPTIBLE])
def test_an_interrupted_command_ends_quietly(tmp_path, inputs, name):
    possible(INTERRUPTIBLE[name])
    report = interrupt(name, COUNT, SEED, inputs, tmp_path)
    assert report.faults == []


# The checks


def test_files_that_are_neither_old_nor_new_are_torn():
    before, after = {"work/a": b"1", "work/b": b"1"}, {"work/a": b"2", "work/b": b"2"}
    assert torn({"work/a": b"1", "work/b": b"2"}, before, after) == []
    assert torn({"work/a": b"1", "work/b": b"", "work/c": b"2"}, before, after) == ["work/b", "work/c"]
    assert torn({"work/.detr-onnx-0.part": b"x", "tmp/x": b"x", "work/directory": None}, before, after) == []


def test_a_journal_may_be_shorter_but_not_another():
    after = {"work/journal": [1, 2, 3]}
    assert torn({"work/journal": [1, 3]}, {}, after) == []
    assert torn({"work/journal": [1, 4]}, {}, after) == torn({"work/journal": "damaged"}, {}, after) == ["work/journal"]


def test_a_file_beside_others_than_its_own_is_a_fault():
    before, after = {"g": b"1", "w": b"1"}, {"g": b"2", "w": b"2"}
    assert mixed({"g": b"1", "w": b"2"}, before, after, "g", ("w",)) == ["w"]
    assert mixed({"g": b"2", "w": b"2"}, before, after, "g", ("w",)) == []
    assert mixed({"w": b"2"}, before, after, "g", ("w",)) == []


def test_leftovers_and_missing_files_are_differences():
    assert differences({"a": b"1", "b": None}, {"a": b"1", "c": b"1"}) == ["b", "c"]


@pytest.mark.parametrize("path", ["tmp/a", "work/.detr-onnx-0.part/m.onnx", "hub/blobs/0.incomplete", "a/.locks/b"])
def test_what_is_on_its_way_is_temporary(path):
    assert is_temporary(path)
    assert not is_temporary("work/m.onnx")


def test_a_snapshot_names_damaged_files_and_leaves_out_inputs(tmp_path):
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "a").touch()
    (tmp_path / "manifest.json").write_text('{"a": {"bytes"')
    (tmp_path / "link").symlink_to("nowhere")
    found = snapshot(tmp_path, snapshots.READERS)
    assert found.keys() == {"manifest.json", "link"}
    assert str(found["manifest.json"]).startswith("damaged: ")


def test_a_last_line_that_is_cut_off_is_left_out():
    line = b'{"sha256": "0", "kind": "answer", "outcome": "answered", "detections": [1]}'
    assert journal_lines(line + b"\n" + line[:20]) == journal_lines(line + b"\n" + line + b"\n") != []


def test_moments_are_spread_over_the_whole_time_and_over_that_of_writing():
    found = list(islice(moments(10, SEED), 10))
    for after_change in (False, True):
        shares = [share for share, after in found if after is after_change]
        assert [int(share * 5) for share in shares] == [0, 1, 2, 3, 4]
    assert found == list(islice(moments(10, SEED), 10)) != list(islice(moments(10, SEED + 1), 10))


class Untidy(Killer):
    """A killer whose command leaves a half-written file, which no later run removes."""

    def run(self, *arguments: object, **options: object) -> Ended:
        (self.place / "work" / "half.onnx").write_bytes(b"half")
        return Ended(-signal.SIGKILL, b"", b"", 0.0, 0.0)


@pytest.fixture
def untidy(tmp_path, inputs) -> Killer:
    return Untidy(SCENARIOS["export"], inputs, tmp_path, {})


def test_the_checks_notice_a_torn_file_and_a_failing_next_run(untidy, tmp_path):
    (tmp_path / "place" / "work").mkdir(parents=True)
    report, right = Report(), Right({}, {"work": None}, Ended(0, b"", b"", 0.0, 0.0))
    untidy.run()
    untidy.check(right, {}, report, "kill 0")
    assert [fault.split(":")[1].strip() for fault in report.faults] == [
        "torn", "the next run failed", "after the next run",
    ]  # fmt: skip
