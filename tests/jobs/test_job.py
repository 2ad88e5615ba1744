"""A job: every input has one row, also after it was cut off; whatever goes wrong is a row or one line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detr_onnx import Detector, __version__
from detr_onnx.errors import DatasetError, EngineError, ImageError, OutputError
from detr_onnx.jobs import job as job_module
from detr_onnx.jobs import settings as settings_module
from detr_onnx.jobs.collect import collect
from detr_onnx.jobs.file_formats import ImageNames
from detr_onnx.jobs.inputs import Inputs
from detr_onnx.jobs.job import Job
from detr_onnx.jobs.parts import FORMATS, Tally, find_parts, read_done, read_part
from detr_onnx.jobs.settings import JobSettings, read_settings
from detr_onnx.jobs.shard import Shard
from tests.jobs.stand_in import network, stand_in_detector
from tests.small_model import sample_image

GOOD, BAD = 20, 3


@pytest.fixture
def detector(monkeypatch) -> Detector:
    return stand_in_detector(monkeypatch)


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """The working directory, with good and bad images in photos/."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(GOOD):
        sample_image(40 + number, 30, number).save(f"photos/{number:02d}.jpg")
    for number in range(BAD):
        Path(f"photos/bad-{number}.jpg").write_bytes(b"not an image")
    return tmp_path


@pytest.fixture(params=FORMATS)
def form(request) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


def a_job(detector: Detector, form: str = "ndjson", shard: Shard | None = None) -> Job:
    """A job over photos/ in parts of six rows."""
    shard = shard or Shard()
    settings = JobSettings.of(detector, "stand-in", 0.5, None, form, shard.count)
    return Job(Path("out"), Inputs(["photos"], shard), settings, part_rows=6)


def all_rows(directory: str = "out") -> list[dict[str, object]]:
    return [row for part in find_parts(Path(directory)) for row in read_part(part.path)]


def by_path(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(rows, key=lambda row: row["path"])


def stop_after(count: int):
    """Says yes from the given call on."""
    calls = []
    return lambda: calls.append(1) or len(calls) > count


def test_every_image_has_a_row(photos, detector, form):
    tallies = []
    tally = a_job(detector, form).run(detector, show=tallies.append)
    assert tally == tallies[-1] == Tally(GOOD + BAD, BAD)
    assert tallies == sorted(tallies, key=lambda tally: tally.rows)
    rows = by_path(all_rows())
    assert [row["path"] for row in rows] == sorted(str(path) for path in Path("photos").iterdir())
    assert {(row["model_sha256"], row["engine"], row["precision"], row["version"]) for row in rows} == {
        (detector.sha256, "stand-in", "fp32", __version__)
    }
    first, *_, last = rows
    (found,) = detector("photos/00.jpg")
    (there,) = first["detections"]
    assert (first["width"], first["height"], first["error"]) == (40, 30, None)
    assert (there["label"], there["class_id"]) == ("cat", 0)
    assert there["score"] == pytest.approx(found.score)
    assert there["box"] == pytest.approx({"xmin": 15, "ymin": 7.5, "xmax": 25, "ymax": 22.5})
    assert (last["width"], last["height"], last["detections"]) == (None, None, [])
    assert last["error"].startswith("photos/bad-2.jpg is not an image: found ")


def test_parts_have_the_rows_that_were_asked_for_and_the_shard_in_their_name(photos, detector, form):
    a_job(detector, form).run(detector)
    assert [len([*read_part(part.path)]) for part in find_parts(Path("out"))] == [6, 6, 6, 5]
    assert [part.path.name for part in find_parts(Path("out"))] == [f"part-{n:06d}.{form}" for n in range(4)]


def test_shards_share_a_directory(photos, detector, form):
    tallies = [a_job(detector, form, Shard(index, 3)).run(detector) for index in range(3)]
    assert sum(tally.rows for tally in tallies) == GOOD + BAD
    assert len({row["path"] for row in all_rows()}) == len(all_rows()) == GOOD + BAD
    assert Path(f"out/part-002-of-003-000000.{form}").is_file()
    assert [read_done(Path("out"), Shard(index, 3)) for index in range(3)] == tallies


def test_a_job_that_stopped_goes_on_with_the_images_that_have_no_row(photos, detector, form, monkeypatch):
    stopped = a_job(detector, form).run(detector, must_stop=stop_after(8))
    assert 8 <= stopped.rows <= 10
    assert read_done(Path("out"), Shard()) is None
    before = {part.path: part.path.read_bytes() for part in find_parts(Path("out"))}
    seen = []
    again = stand_in_detector(monkeypatch, lambda pixels, mask: seen.append(1) or network(pixels, mask))
    assert a_job(again, form).run(again) == Tally(GOOD + BAD, BAD)
    assert len(seen) == GOOD - (stopped.rows - stopped.failed)
    assert all(path.read_bytes() == content for path, content in before.items())
    rows = all_rows()
    assert len({row["path"] for row in rows}) == len(rows) == GOOD + BAD


def test_a_finished_job_does_nothing_until_there_are_new_images(photos, detector, monkeypatch):
    a_job(detector).run(detector)
    before = sorted((path.name, path.read_bytes()) for path in Path("out").iterdir())
    a_job(detector).run(detector)
    assert sorted((path.name, path.read_bytes()) for path in Path("out").iterdir()) == before
    sample_image(50, 50).save("photos/10-new.jpg")
    assert a_job(detector).run(detector).rows == GOOD + BAD + 1
    assert [row["path"] for row in read_part(Path("out/part-000004.ndjson"))] == ["photos/10-new.jpg"]


def test_a_job_that_has_to_stop_while_it_reads_its_parts_changes_nothing(photos, detector):
    a_job(detector).run(detector, must_stop=stop_after(15))
    before = {path.name: path.read_bytes() for path in Path("out").glob("part-*")}
    a_job(detector).run(detector, must_stop=stop_after(1))
    assert {path.name: path.read_bytes() for path in Path("out").glob("part-*")} == before


def test_a_list_that_is_damaged_further_on_keeps_the_rows_before(photos, detector):
    good = [f"photos/{number:02d}.jpg\n" for number in range(10)]
    Path("list.txt").write_text("".join(good) + '"unfinished\n')
    job = replace(a_job(detector), inputs=Inputs(["@list.txt"]))
    with pytest.raises(DatasetError, match=r"line 11 of list\.txt cannot be read as JSON"):
        job.run(detector)
    assert 8 <= len(all_rows()) <= 10
    Path("list.txt").write_text("".join(good))
    job.run(detector)
    assert [row["path"] for row in all_rows()] == [line.strip() for line in good]


def test_an_interrupt_writes_the_rows_that_are_there(photos, monkeypatch):
    calls = []

    def interrupted(pixels, mask):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return network(pixels, mask)

    detector = stand_in_detector(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        a_job(detector).run(detector)
    assert len(all_rows()) == 8
    a_job(detector).run(detector)
    assert len({row["path"] for row in all_rows()}) == len(all_rows()) == GOOD + BAD


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "not enough memory for photos/00.jpg; try a smaller --size"),
        (EngineError("the device is lost", remedy="get another"), "photos/00.jpg: the device is lost; get another"),
        (RuntimeError("odd"), "photos/00.jpg: this is a bug in detr-onnx: found RuntimeError: odd; report it with"),
    ],
)
def test_whatever_the_network_raises_is_in_the_row(photos, monkeypatch, error, sentence):
    def fails(pixels, mask):
        raise error

    detector = stand_in_detector(monkeypatch, fails)
    assert a_job(detector).run(detector) == Tally(GOOD + BAD, GOOD + BAD)
    row = by_path(all_rows())[0]
    assert row["error"].startswith(sentence)
    assert (row["width"], row["height"]) == (40, 30)


def test_numbers_that_are_not_finite_are_an_error_in_the_row(photos, monkeypatch):
    detector = stand_in_detector(monkeypatch, lambda p, m: tuple(np.full_like(a, np.nan) for a in network(p, m)))
    a_job(detector).run(detector)
    assert "numbers that are not finite" in all_rows()[0]["error"]


def test_only_some_labels_are_kept(photos, detector):
    job = a_job(detector)
    settings = replace(job.settings, labels=["dog"])
    replace(job, settings=settings).run(detector)
    assert {len(row["detections"]) for row in all_rows()} == {0}


def test_failed_images_are_detected_again_on_request(photos, detector, form):
    a_job(detector, form).run(detector)
    good = [row for row in by_path(all_rows()) if not row["error"]]
    sample_image(40, 30).save("photos/bad-1.jpg")
    assert a_job(detector, form).run(detector) == Tally(GOOD + BAD, BAD)
    assert replace(a_job(detector, form), retry=True).run(detector) == Tally(GOOD + BAD, BAD - 1)
    rows = by_path(all_rows())
    assert [row["path"] for row in rows if row["error"]] == ["photos/bad-0.jpg", "photos/bad-2.jpg"]
    assert [row for row in rows if not row["error"] and row["path"] != "photos/bad-1.jpg"] == good
    assert len({row["path"] for row in rows}) == len(rows) == GOOD + BAD


# Another job in the same directory


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threshold": 0.25}, "found threshold 0.5, expected threshold 0.25"),
        (
            {"model": "other", "model_sha256": "ab" * 32},
            r"found model stand-in \(sha256 e3b0c44298fc…\), expected model other \(sha256 abababababab…\)",
        ),
        ({"labels": ["cat"]}, "found labels all, expected labels cat"),
        (
            {"precision": "bf16", "engine": "x"},
            "found engine stand-in, precision fp32, expected engine x, precision bf16",
        ),
        ({"version": "0.0.9"}, f"found detr-onnx {__version__}, expected detr-onnx 0.0.9"),
        ({"shards": 4}, "found shards 1, expected shards 4"),
        ({"format": "parquet"}, "found format ndjson, expected format parquet"),
    ],
)
def test_another_job_in_the_directory_is_refused_with_both_named(photos, detector, change, words):
    job = a_job(detector)
    job.run(detector)
    before = sorted((path.name, path.read_bytes()) for path in Path("out").iterdir())
    with pytest.raises(OutputError, match=f"^out has the rows of another job: {words}; choose another directory"):
        replace(job, settings=replace(job.settings, **change)).run(detector)
    assert sorted((path.name, path.read_bytes()) for path in Path("out").iterdir()) == before


def test_two_jobs_that_start_at_once_cannot_both_go_on(photos, detector, monkeypatch):
    first, second = (a_job(detector, shard=Shard(index, 2)) for index in range(2))
    second = replace(second, settings=replace(second.settings, threshold=0.9))

    def meanwhile(path: Path) -> bool:
        monkeypatch.setattr(settings_module, "exists", os.path.exists)
        first.run(detector)
        return False  # as it was before

    monkeypatch.setattr(settings_module, "exists", meanwhile)
    with pytest.raises(OutputError, match=r"another job: found threshold 0\.5, expected threshold 0\.9"):
        second.run(detector)


def test_a_job_with_an_argument_that_names_no_image_is_not_complete(photos, detector):
    Path("empty").mkdir()
    job = a_job(detector)
    job = replace(job, inputs=Inputs(["photos", "empty"], job.inputs.shard))
    job.run(detector)
    assert [type(problem) for problem in job.inputs.problems] == [ImageError]
    with pytest.raises(OutputError, match="out is not complete: found an unfinished job"):
        collect(Path("out"), Path("all.ndjson"), None, ImageNames())


def test_another_name_of_the_same_model_is_the_same_job(photos, detector):
    job = a_job(detector)
    job.run(detector)
    replace(job, settings=replace(job.settings, model="the same")).run(detector)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 1}', b"[]"])
def test_settings_that_are_damaged_are_an_error(photos, detector, content):
    Path("out").mkdir()
    Path("out/_job.json").write_bytes(content)
    with pytest.raises(OutputError, match=r"out/_job\.json"):
        a_job(detector).run(detector)


@pytest.mark.parametrize(
    "change",
    [
        {"shards": 0},
        {"shards": True},
        {"shards": 10**9},
        {"class_names": [1]},
        {"labels": [1]},
        {"threshold": "0.5"},
        {"masks": None},
        {"preprocessing": []},
        {"model": 1},
    ],
)
def test_settings_with_a_wrong_value_are_damaged(photos, detector, change):
    a_job(detector).run(detector)
    settings = json.loads(Path("out/_job.json").read_text())
    Path("out/_job.json").write_text(json.dumps(settings | change))
    with pytest.raises(OutputError, match=rf"out/_job\.json is damaged: found {next(iter(change))} .*; choose another"):
        a_job(detector).run(detector)


def test_a_name_that_is_too_long_has_no_job():
    with pytest.raises(OutputError, match=r"there is no job in x+: found no such directory"):
        read_settings(Path("x" * 300))


# Parts that are damaged, of another version, or there twice


def test_a_damaged_part_is_moved_aside_and_its_images_are_detected_again(photos, detector, form, caplog):
    a_job(detector, form).run(detector)
    undisturbed = by_path(all_rows())
    part = Path(f"out/part-000001.{form}")
    for content in (part.read_bytes()[:-20], b"", b"\0" * 500):
        part.write_bytes(content)
        caplog.clear()
        a_job(detector, form).run(detector)
        lost = b"" if form == "ndjson" and not content else content  # an empty part is a part without rows
        if lost:
            assert Path(f"out/_damaged-{part.name}").read_bytes() == content
            (message,) = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
            assert f"out/{part.name}" in message
        assert by_path(all_rows()) == undisturbed
        part = find_parts(Path("out"))[-1].path


DETECTION = {"score": 0.5, "label": "cat", "class_id": 0, "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}


@pytest.mark.parametrize(
    "change",
    [
        {"detections": [{}]},
        {"detections": [1]},
        {"detections": [DETECTION | {"score": "high"}]},
        {"detections": [DETECTION | {"score": float("nan")}]},
        {"detections": [DETECTION | {"label": None}]},
        {"detections": [DETECTION | {"score": True}]},
        {"detections": [DETECTION | {"score": 1e39}]},
        {"detections": [DETECTION | {"label": "\ud800"}]},
        {"detections": [DETECTION | {"class_id": 0.5}]},
        {"detections": [DETECTION | {"class_id": -1}]},
        {"detections": [DETECTION | {"class_id": 2**31}]},
        {"detections": [DETECTION | {"box": {"xmin": 1}}]},
        {"detections": [DETECTION | {"box": DETECTION["box"] | {"xmax": 2**24 + 1}}]},
        {"width": None},
        {"width": 0},
        {"width": 2**31},
        {"height": "30"},
        {"path": 1},
        {"path": "\ud800.jpg"},
        {"engine": "\ud800"},
    ],
)
def test_a_row_with_a_wrong_value_is_damage(photos, detector, change):
    a_job(detector).run(detector)
    part = Path("out/part-000000.ndjson")
    rows = [json.loads(line) for line in part.read_text().splitlines()]
    index = next(index for index, row in enumerate(rows) if row["error"] is None)
    rows[index] |= change
    part.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        OutputError, match=rf"part-000000\.ndjson has a row with a wrong value: found {next(iter(change))}"
    ):
        list(read_part(part))


def test_a_row_with_megabytes_of_masks_can_be_read_again(photos, detector):
    a_job(detector).run(detector)
    part = Path("out/part-000000.ndjson")
    row = json.loads(part.read_text().splitlines()[0])
    row |= {"width": 40, "height": 30, "error": None}
    row["detections"] = [DETECTION | {"mask": {"size": [30, 40], "counts": "0" * (6 << 20)}}]
    part.write_text(json.dumps(row) + "\n")
    assert list(read_part(part)) == [row]


def test_a_part_that_the_system_does_not_let_be_read_stays_where_it_is(photos, detector):
    a_job(detector).run(detector)
    part = Path("out/part-000001.ndjson")
    part.unlink()
    part.mkdir()  # also root cannot read it
    with pytest.raises(
        OutputError, match=r"out/part-000001\.ndjson cannot be read: found .*; allow this user to read it"
    ):
        a_job(detector).run(detector)
    assert part.is_dir()


def test_a_part_of_another_version_is_refused_and_stays(photos, detector):
    a_job(detector).run(detector)
    part = Path("out/part-000002.ndjson")
    content = part.read_text().replace(f'"version": "{__version__}"', '"version": "0.0.7"', 1)
    part.write_text(content)
    words = f"out/part-000002.ndjson has rows of another job: found version 0.0.7, expected version {__version__}"
    with pytest.raises(OutputError, match=words):
        a_job(detector).run(detector)
    assert part.read_text() == content


def test_a_second_row_of_an_image_is_refused(photos, detector):
    a_job(detector).run(detector)
    Path("out/part-000009.ndjson").write_bytes(Path("out/part-000000.ndjson").read_bytes())
    with pytest.raises(OutputError, match=r"part-000009.ndjson has a second row of photos/.*; move the part elsewhere"):
        a_job(detector).run(detector)


def test_a_part_that_is_gone_is_detected_again(photos, detector):
    a_job(detector).run(detector)
    undisturbed = by_path(all_rows())
    Path("out/part-000001.ndjson").unlink()
    a_job(detector).run(detector)
    assert by_path(all_rows()) == undisturbed


def test_other_files_in_the_directory_are_left_alone(photos, detector):
    Path("out").mkdir()
    Path("out/part-1.ndjson").write_text("mine")
    Path("out/notes.txt").write_text("mine")
    a_job(detector).run(detector)
    assert Path("out/part-1.ndjson").read_text() == Path("out/notes.txt").read_text() == "mine"


# Nothing can be written


@pytest.mark.skipif(sys.platform == "win32", reason="no directory with an open file can be removed there")
def test_a_directory_that_vanishes_is_one_line_that_says_so(photos, detector):
    with pytest.raises(
        OutputError, match=r"cannot write out/part-000000\.ndjson: found No such .*; check out, and run"
    ):
        a_job(detector).run(detector, show=lambda tally: shutil.rmtree("out", ignore_errors=True))


def test_a_file_in_place_of_the_directory_is_an_error(photos, detector):
    Path("out").write_text("mine")
    with pytest.raises(OutputError, match="cannot create the directory out: found a file of that name; choose another"):
        a_job(detector).run(detector)


def test_a_directory_without_permission_is_an_error(photos, detector, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OutputError, match="cannot write into out: found no permission"):
        a_job(detector).run(detector)


def test_a_full_disk_ends_the_job_and_the_next_run_goes_on(photos, detector, form, monkeypatch):
    write = job_module.write_part

    def full(path, rows, settings):
        if path.name.startswith("part-000002"):
            raise OutputError(f"cannot write {path}", found="No space left on device")
        write(path, rows, settings)

    monkeypatch.setattr(job_module, "write_part", full)
    with pytest.raises(OutputError, match="No space left on device"):
        a_job(detector, form).run(detector)
    assert len(all_rows()) == 12
    monkeypatch.undo()
    monkeypatch.chdir(photos)
    a_job(detector, form).run(detector)
    assert len({row["path"] for row in all_rows()}) == len(all_rows()) == GOOD + BAD


@pytest.mark.skipif(sys.platform == "win32", reason="no flock there")
def test_a_second_process_of_the_same_shard_is_refused(photos, detector):
    def second(tally):
        if tally.rows == 0:
            with pytest.raises(OutputError, match="another process is writing out; wait for it, or choose another"):
                a_job(detector).run(detector)

    assert a_job(detector).run(detector, show=second).rows == GOOD + BAD


# What is written


def test_parquet_is_read_by_pandas_and_duckdb_and_says_what_made_it(photos, detector):
    pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    a_job(detector, "parquet").run(detector)
    metadata = pq.read_schema("out/part-000000.parquet").metadata
    assert metadata[b"detr_onnx.model_sha256"].decode() == detector.sha256
    assert json.loads(metadata[b"detr_onnx.threshold"]) == 0.5
    assert json.loads(metadata[b"detr_onnx.class_names"]) == [*detector.class_names]
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet("out")
    assert len(table) == GOOD + BAD
    assert table.set_index("path").loc["photos/00.jpg"].detections[0]["box"]["xmin"] == pytest.approx(15)


def test_duckdb_reads_both_formats(photos, detector, form):
    duckdb = pytest.importorskip("duckdb")
    a_job(detector, form).run(detector)
    query = f"""
        SELECT path, d.label, d.box.xmin FROM (
            SELECT path, unnest(detections) AS d FROM 'out/part-*.{form}' WHERE error IS NULL
        ) ORDER BY path"""
    first, *others = duckdb.sql(query).fetchall()
    assert first == ("photos/00.jpg", "cat", 15.0)
    assert len(others) == GOOD - 1


def test_a_path_with_a_newline_is_one_line_and_comes_back(photos, detector, form):
    sample_image(40, 30).save("photos/new\nline.jpg")
    a_job(detector, form).run(detector)
    assert "photos/new\nline.jpg" in {row["path"] for row in all_rows()}
    assert a_job(detector, form).run(detector).rows == GOOD + BAD + 1
