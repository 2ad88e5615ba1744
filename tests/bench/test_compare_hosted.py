"""The benchmark against the hosted API: our own server as the far side, and a stand-in that says what it is told to."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import hosted_api
from detr_onnx.bench import setting
from detr_onnx.bench.hosted.api import RemoteApi
from detr_onnx.bench.hosted.journal import open_journal
from detr_onnx.cli import compare_hosted
from detr_onnx.cli import main as cli
from detr_onnx.detections import Detections
from detr_onnx.errors import DatasetError, OutputError
from tests.bench.standin_remote import CAT, HANG_UP, Scripted, StandInRemote, refusal, success

ROOT = Path(__file__).parents[2]
SCENE = ROOT / "examples" / "demo-scene.jpg"
TOKEN = "s3cret-T0ken-that-nobody-may-see"
HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


class Cat:
    """A detector that finds the stand-in's cat in every image."""

    def __init__(self) -> None:
        self.labels, self.engine = ("cat",), "a stand-in"

    def __call__(self, content: bytes, threshold: float) -> Detections:
        box = np.array([list(CAT["box"].values())], np.float32)
        return Detections(np.array([CAT["score"]], np.float32), np.zeros(1, np.int64), box, self.labels)


@pytest.fixture(autouse=True)
def account(monkeypatch):
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "0123")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(setting, "QUIET_LOAD", 1e6)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", TOKEN)


@pytest.fixture
def quick(monkeypatch):
    """No network of ours is run."""
    monkeypatch.setattr(compare_hosted, "open_detector", lambda arguments: Cat())


@pytest.fixture
def images(tmp_path):
    """A folder of five small images, two of them equal."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (60 * number, 90, 30)).save(folder / f"{number}.png")
    (folder / "again.png").write_bytes((folder / "0.png").read_bytes())
    return folder


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command with a journal and both files of results; its exit status, stdout and stderr."""

    def run(folder, *options):
        files = ["--journal", tmp_path / "journal", "--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
        status = hosted_api.main([str(word) for word in [folder, *files, "--backoff", 0, *options]])
        return status, *capsys.readouterr()

    return run


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# The whole command, against the stand-in


def test_equal_answers_are_identical_and_equal_images_are_asked_once(quick, images, run, tmp_path):
    with StandInRemote(refusal(429, 3040)) as remote:
        status, table, _ = run(images, "--base-url", remote.url)
    result = json.loads((tmp_path / "r.json").read_text())
    assert (status, len(remote.requests)) == (0, 5)
    assert result["differences"]["identical"] == result["images"] == 5
    assert result["troubles"]["retries"] == {"429/3040": 1}
    assert result["cost"]["paid_dollars"] == pytest.approx(4 * 0.0000075)
    assert "$7.50" in table
    assert "5 of 5" in table


def test_differences_are_counted_and_the_worst_image_comes_first(quick, images, run, tmp_path):
    dog = {**CAT, "label": "dog", "score": 0.5}
    moved = {**CAT, "score": 0.5, "box": {**CAT["box"], "xmax": 32}}
    answers = {"1.png": [dog], "2.png": [dog, moved]}
    said = {(images / name).read_bytes(): success(*items) for name, items in answers.items()}
    with StandInRemote(then=lambda request: said.get(request.body, success(CAT))) as remote:
        run(images, "--base-url", remote.url)
    result = json.loads((tmp_path / "r.json").read_text())
    differences = result["differences"]
    assert (differences["missing"], differences["extra"], differences["identical"]) == (1, 2, 3)
    assert (differences["missing_best_score"], differences["extra_best_score"]) == (0.75, 0.5)
    assert (differences["score_difference_most"], differences["box_difference_px_most"]) == (0.25, 2)
    page = ET.fromstring((tmp_path / "r.html").read_text())
    headings = [heading.text for heading in page.iter(f"{HTML}h3")]
    assert [heading.split(":")[0] for heading in headings] == ["1.png", "2.png"]


def test_the_page_is_well_formed_and_needs_nothing_else(quick, images, run, tmp_path):
    (images / "0.png").rename(images / "<b>&.png")
    with StandInRemote(then=success({**CAT, "label": "<script>alert(1)</script>\x07"})) as remote:
        run(images, "--base-url", remote.url)
    text = (tmp_path / "r.html").read_text()
    page = ET.fromstring(text)
    assert [one.tag for one in page.iter(f"{HTML}script")] == []
    links = [value for one in page.iter() for name, value in one.attrib.items() if name in ("href", "src")]
    assert len(links) == 2 * 5
    assert all(link.startswith(("data:image/jpeg;base64,", "#p")) for link in links)
    assert len([*page.iter(f"{SVG}image")]) == 5
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_the_token_is_nowhere_even_if_the_far_side_repeats_it(quick, images, run, tmp_path):
    script = [success(CAT), refusal(400, 3010, f"bad {TOKEN}"), refusal(401, 10000, f"{TOKEN} is wrong")]
    with StandInRemote(*script) as remote:
        stopped = run(images, "--base-url", remote.url, "--concurrency", 1)
        went_on = run(images, "--base-url", remote.url)
    assert (stopped[0], went_on[0]) == (1, 0)
    assert all(TOKEN in request.headers["authorization"] for request in remote.requests)
    said = [*stopped[1:], *went_on[1:], *((tmp_path / name).read_text() for name in ("journal", "r.json", "r.html"))]
    assert not any(TOKEN in text for text in said)
    assert lines(tmp_path / "journal")[1]["trouble"] == "400/3010 bad …"


# The journal


def test_a_run_goes_on_where_it_stopped_and_pays_for_nothing_twice(quick, images, run, tmp_path):
    with StandInRemote(success(CAT), refusal(400, 3010), refusal(401, 10000)) as remote:
        status, table, complaint = run(images, "--base-url", remote.url, "--concurrency", 1)
        assert (status, table, len(remote.requests)) == (1, "", 3)
        assert "401/10000" in complaint.splitlines()[-1]
        assert [line["outcome"] for line in lines(tmp_path / "journal")] == ["answered", "refused"]
        assert run(images, "--base-url", remote.url)[0] == 0
        assert len(remote.requests) == 3 + 2
        assert run(images, "--base-url", remote.url)[0] == 0
        assert len(remote.requests) == 3 + 2


def test_another_server_model_or_dialect_is_asked_anew(monkeypatch, quick, images, run):
    bare = Scripted(200, json.dumps([CAT]).encode())
    monkeypatch.setenv("HF_TOKEN", "of-the-other-dialect")
    with StandInRemote() as remote, StandInRemote(then=bare) as other:
        run(images, "--base-url", remote.url)
        run(images, "--base-url", remote.url, "--remote-model", "@cf/meta/detr-resnet-50")
        assert len(remote.requests) == 8
        run(images, "--base-url", other.url, "--dialect", "huggingface")
        run(images, "--base-url", other.url)
    assert len(other.requests) == 8
    assert json.loads(other.requests[0].body)["parameters"] == {"threshold": 0.1}
    assert other.requests[0].headers["authorization"] == "Bearer of-the-other-dialect"


def test_what_failed_is_asked_again_by_the_next_run(quick, images, run):
    with StandInRemote(success(CAT), HANG_UP) as remote:
        _, table, _ = run(images, "--base-url", remote.url, "--concurrency", 4)
        assert re.search(r"failed there after all retries +1\n", table)
        _, table, _ = run(images, "--base-url", remote.url)
    assert len(remote.requests) == 5
    assert re.search(r"failed there after all retries +0\n", table)


def test_a_last_line_that_was_cut_off_is_passed_over(quick, images, run, tmp_path):
    journal = tmp_path / "journal"
    with StandInRemote() as remote:
        run(images, "--base-url", remote.url)
        journal.write_bytes(journal.read_bytes()[:-40])
        assert run(images, "--base-url", remote.url)[0] == 0
        assert run(images, "--base-url", remote.url)[0] == 0
    assert len(remote.requests) == 5


@pytest.mark.parametrize("content", [b"dear diary", b'{"sha256": "0"}\n', b"[1]\n", b"\xff\xd8\xff"])
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="no journal"), open_journal(path):
        pass
    assert path.read_bytes() == content


def test_a_full_disk_stops_the_run_and_costs_one_line(monkeypatch, quick, images, run, tmp_path):
    whole, room = os.write, [1, 0.5, 0, 1, 1, 1]

    def write(descriptor: int, data: bytes) -> int:
        share = room.pop(0)
        if not share:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, data[: round(len(data) * share)])

    with StandInRemote() as remote:
        with monkeypatch.context() as patch:
            patch.setattr("detr_onnx.bench.hosted.journal.os.write", write)
            status, line = complaint_of(run, images, "--base-url", remote.url, "--concurrency", 1)
        assert (status, "No space left" in line, len(remote.requests)) == (1, True, 2)
        assert run(images, "--base-url", remote.url)[0] == 0
    assert len(remote.requests) == 2 + 3
    assert [text.endswith("}") for text in (tmp_path / "journal").read_text().splitlines()] == [
        True,
        False,
        True,
        True,
        True,
    ]


def test_a_journal_that_is_no_file_is_refused():
    with pytest.raises(OutputError, match="is no file"), open_journal(Path(os.devnull)):
        pass


def test_two_runs_do_not_share_a_journal(tmp_path):
    with open_journal(tmp_path / "journal"), pytest.raises(OutputError, match="another run"), open_journal(tmp_path / "journal"):
        pass


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT as a terminal's programs have it: what runs in the background of a script has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_run_leaves_a_journal_to_go_on_with(images, tmp_path, ctrl_c):
    journal = tmp_path / "journal"
    with StandInRemote(delay_s=0.5) as remote:
        options = ["-m", "demo", "--base-url", remote.url, "--journal", journal, "--concurrency", "1"]
        command = [sys.executable, "-m", "benchmarks.hosted_api", *map(str, [images, *options])]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None and not (journal.exists() and journal.stat().st_size):
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            table, complaint = process.communicate()
        assert (process.returncode, table) == (cli.INTERRUPTED, "")
        assert "Traceback" not in complaint
        assert "the same command goes on" in complaint
        assert len(lines(journal)) == len(remote.requests) < 4


# What is wrong is said in one line


def complaint_of(run, *words) -> tuple[int, str]:
    """Exit status, and the error, which is one line and the last."""
    status, table, text = run(*words)
    (line,) = [line for line in text.splitlines() if line.startswith("detr-onnx: error: ")]
    assert (table, "Traceback" in text, text.endswith(line + "\n")) == ("", False, True)
    return status, line


@pytest.mark.parametrize("name", ["CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN"])
def test_without_account_or_token_it_says_which(monkeypatch, quick, images, run, name):
    monkeypatch.delenv(name)
    status, line = complaint_of(run, images)
    assert (status, f"set {name}, or" in line) == (2, True)


def test_a_token_that_no_header_can_hold_is_not_shown(monkeypatch, quick, images, run):
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", f"{TOKEN}\nX: y")
    status, line = complaint_of(run, images)
    assert (status, TOKEN in line) == (2, False)


def test_a_folder_that_is_none_or_has_no_images(quick, tmp_path, run):
    assert complaint_of(run, tmp_path / "nowhere")[0] == 2
    status, line = complaint_of(run, tmp_path)
    assert (status, "no images" in line) == (1, True)


def test_a_host_that_is_not_there(quick, images, run):
    with StandInRemote() as remote:
        url = remote.url
    status, line = complaint_of(run, images, "--base-url", url)
    assert (status, "cannot reach 127.0.0.1" in line) == (1, True)


def test_a_token_that_is_refused_is_refused_once(quick, images, run):
    with StandInRemote(then=refusal(401, 10000, "Authentication error")) as remote:
        status, line = complaint_of(run, images, "--base-url", remote.url, "--concurrency", 4)
    assert (status, len(remote.requests)) == (1, 1)
    assert "401/10000 Authentication error; check CLOUDFLARE_API_TOKEN" in line


def test_not_one_answer_is_an_error(quick, images, run):
    with StandInRemote(then=refusal(500, 3001)) as remote:
        status, line = complaint_of(run, images, "--base-url", remote.url, "--retries", 1)
    assert (status, "not one image was answered" in line) == (1, True)


@pytest.mark.parametrize(
    "options",
    [
        ("--concurrency", "0"),
        ("--threshold", "0.05"),
        ("--timeout", "0"),
        ("--price", "nan"),
        ("--worst", "-1"),
        ("--json", "same", "--journal", "./same"),
        ("--base-url", "ftp://host"),
        ("--base-url", "http://me:secret@host"),
        ("--base-url", "http://host:99999"),
        ("--base-url", "http://host/?key=secret"),
    ],
)
def test_wrong_options_are_wrong_usage(quick, images, run, options):
    status, line = complaint_of(run, images, *options)
    assert (status, "secret" in line) == (2, False)


def test_a_token_that_goes_out_in_the_clear_is_noted(capsys):
    for url, noted in [("http://far.example", True), ("https://far.example", False), ("http://localhost:1", False)]:
        compare_hosted.tell_plan(2, 1, 0.5, RemoteApi("cloudflare", url, "@cf/model", "0123", TOKEN))
        text = capsys.readouterr().err
        assert (text.startswith("note: the token goes to far.example unencrypted\n"), TOKEN in text) == (noted, False)
        assert text.endswith("2 images, 1 to ask the far side about: $0.500000\n")


# Against our own server


@pytest.mark.parametrize(("dialect", "base"), [("cloudflare", "/client/v4"), ("huggingface", "")])
def test_our_server_answers_as_the_detector_does_and_refuses_what_it_refuses(tmp_path, run, dialect, base):
    pytest.importorskip("starlette")
    pytest.importorskip("onnxruntime")
    from detr_onnx import Detector
    from tests.server.live_server import LiveServer

    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "scene.jpg").write_bytes(SCENE.read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    with LiveServer(Detector("demo"), token=TOKEN) as server:
        options = ("-m", "demo", "--dialect", dialect, "--base-url", f"{server.url}{base}")
        status, table, _ = run(folder, *options)
    assert status == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["differences"]["identical"], result["differences"]["images"]) == (1, 1)
    assert result["differences"]["boxes_matched"] > 3
    assert result["troubles"]["refused_by_both"] == 1
    assert "scene.jpg" not in (tmp_path / "r.html").read_text()
    assert "1 of 1" in table
