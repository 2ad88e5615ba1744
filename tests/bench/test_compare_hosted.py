"""The command compare-hosted, against a scripted stand-in and against our own server."""

from __future__ import annotations

import argparse
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

import pytest

from detr_onnx.bench.hosted import page
from detr_onnx.bench.hosted.api import RemoteApi
from detr_onnx.bench.hosted.client import RetryPolicy
from detr_onnx.bench.hosted.journal import open_journal
from detr_onnx.bench.hosted.results import Prices
from detr_onnx.bench.hosted.run import ComparisonOptions, ComparisonRun
from detr_onnx.cli import compare_hosted, results
from detr_onnx.cli import main as cli
from detr_onnx.errors import DatasetError, OutputError
from tests.bench.hosted_command import TOKEN, CatDetector, json_lines
from tests.bench.standin_remote import CAT, HANG_UP, Scripted, StandInRemote, refusal, success

ROOT = Path(__file__).parents[2]
SCENE = ROOT / "examples" / "demo-scene.jpg"
HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


# The whole command, against the stand-in


def test_equal_answers_are_identical_and_equal_images_are_sent_once(quick, images, run, tmp_path):
    with StandInRemote(refusal(429, 3040)) as remote:
        status, table, _ = run(images, "--base-url", remote.url)
    result = json.loads((tmp_path / "r.json").read_text())
    assert (status, len(remote.requests)) == (0, 5)
    assert result["differences"]["identical"] == result["images"] == 5
    assert result["errors"]["retries"] == {"429/3040": 1}
    assert result["cost"]["paid_dollars"] == pytest.approx(4 * 0.0000075)
    assert "$7.50" in table
    assert "5 of 5" in table


def test_the_figures_can_be_printed_in_place_of_the_table(quick, images, run, tmp_path):
    with StandInRemote() as remote:
        status, out, _ = run(images, "--base-url", remote.url, "--json", "-")
    assert (status, json.loads(out)["images"]) == (0, 5)
    assert not (tmp_path / "r.json").exists()


def test_differences_are_counted_and_the_worst_image_comes_first(quick, images, run, tmp_path):
    dog = {**CAT, "label": "dog", "score": 0.5}
    moved = {**CAT, "score": 0.5, "box": {**CAT["box"], "xmax": 32}}
    answers = {"1.png": [dog], "2.png": [dog, moved]}
    responses = {(images / name).read_bytes(): success(*items) for name, items in answers.items()}
    with StandInRemote(then=lambda request: responses.get(request.body, success(CAT))) as remote:
        run(images, "--base-url", remote.url)
    result = json.loads((tmp_path / "r.json").read_text())
    differences = result["differences"]
    assert (differences["missing"], differences["extra"], differences["identical"]) == (1, 2, 3)
    assert (differences["missing_best_score"], differences["extra_best_score"]) == (0.75, 0.5)
    assert (differences["score_difference_most"], differences["box_difference_px_most"]) == (0.25, 2)
    scores = {row["file"]: row["scores"] for row in result["rows"]}
    assert scores["0.png"] == [[0.75, 0.75]]
    assert scores["1.png"] == [[0.75, None], [None, 0.5]]
    assert scores["2.png"] == [[0.75, 0.5], [None, 0.5]]
    page = ET.fromstring((tmp_path / "r.html").read_text())
    headings = [heading.text for heading in page.iter(f"{HTML}h3")]
    assert [heading.split(":")[0] for heading in headings] == ["1.png", "2.png"]


def test_several_directories_and_files_are_compared_together(quick, images, run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (images / "3.png").rename(other / "3.png")
    with StandInRemote() as remote:
        assert run([images, other / "3.png"], "--base-url", remote.url)[0] == 0
    names = [row["file"] for row in json.loads((tmp_path / "r.json").read_text())["rows"]]
    assert names == ["0.png", "1.png", "2.png", "again.png", "3.png"]


def test_the_page_is_well_formed_and_needs_nothing_else(quick, images, run, tmp_path):
    (images / "0.png").rename(images / "<b>&.png")
    with StandInRemote(then=success({**CAT, "label": "<script>alert(1)</script>\x07"})) as remote:
        run(images, "--base-url", remote.url)
    text = (tmp_path / "r.html").read_text()
    page = ET.fromstring(text)
    assert [element.tag for element in page.iter(f"{HTML}script")] == []
    links = [value for element in page.iter() for name, value in element.attrib.items() if name in ("href", "src")]
    assert len(links) == 2 * 5
    assert all(link.startswith(("data:image/jpeg;base64,", "#p")) for link in links)
    assert len([*page.iter(f"{SVG}image")]) == 5
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_token_is_nowhere_even_if_the_api_repeats_it(quick, images, run, tmp_path):
    script = [success(CAT), refusal(400, 3010, f"bad {TOKEN}"), refusal(401, 10000, f"{TOKEN} is wrong")]
    with StandInRemote(*script) as remote:
        stopped = run(images, "--base-url", remote.url, "--concurrency", 1)
        resumed = run(images, "--base-url", remote.url)
    assert (stopped[0], resumed[0]) == (1, 0)
    assert all(TOKEN in request.headers["authorization"] for request in remote.requests)
    texts = [*stopped[1:], *resumed[1:], *((tmp_path / name).read_text() for name in ("journal", "r.json", "r.html"))]
    assert not any(TOKEN in text for text in texts)
    assert json_lines(tmp_path / "journal")[1]["error"] == "400/3010 bad …"


def test_the_plan_and_its_price_are_announced_before_the_first_request(quick, images, run):
    with StandInRemote() as remote:
        options = ("--base-url", remote.url, "--concurrency", "1,3", "--latency-requests", 5)
        plan = "5 images: {} answers to collect and {} latency requests; {} requests, at most ${} without retries\n"
        assert run(images, *options)[2] == plan.format(4, 10, 14, "0.000105")
        assert len(remote.requests) == 14
        assert run(images, *options)[2] == plan.format(0, 0, 0, "0.000000")
        assert len(remote.requests) == 14


# Results


def test_a_page_that_cannot_be_written_does_not_cost_the_other_results(monkeypatch, quick, images, run, tmp_path):
    write_file = results.write_file

    def no_pages(path: Path, text: str) -> None:
        if path.suffix == ".html":
            raise OutputError(f"cannot write {path}", found="No space left on device")
        write_file(path, text)

    monkeypatch.setattr(results, "write_file", no_pages)
    with StandInRemote() as remote:
        status, table, error = run(images, "--base-url", remote.url)
    assert (status, "5 of 5" in table) == (1, True)
    assert json.loads((tmp_path / "r.json").read_text())["images"] == 5
    assert error.splitlines()[-1].startswith("detr-onnx: error: cannot write ")


def test_the_page_is_written_although_the_table_cannot_be_printed(monkeypatch, quick, images, run, tmp_path):
    def closed(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(results, "print_result", closed)
    with StandInRemote() as remote:
        assert run(images, "--base-url", remote.url)[:2] == (0, "")
    assert (tmp_path / "r.html").exists()
    assert (tmp_path / "r.json").exists()


def test_an_image_that_is_gone_when_the_page_is_made_costs_only_the_page(monkeypatch, quick, images, run, tmp_path):
    drawn = page.drawn_image

    def drawn_too_late(index, view, comparison):
        view.image.path.unlink()
        return drawn(index, view, comparison)

    monkeypatch.setattr(page, "drawn_image", drawn_too_late)
    with StandInRemote(then=success({**CAT, "label": "dog"})) as remote:
        status, table, error = run(images, "--base-url", remote.url)
    assert (status, "Differences" in table, (tmp_path / "r.json").exists()) == (1, True, True)
    assert "found no such file" in error.splitlines()[-1]


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_results_never_replace_an_input(quick, images, run, tmp_path, option):
    annotations = annotations_file(tmp_path / "a.json", ["0.png"])
    for target in (images / "0.png", annotations):
        before = target.read_bytes()
        status, line = error_of(run, images, option, target, "--annotations", annotations)
        assert (status, f"{option} would overwrite {target}" in line) == (1, True)
        assert target.read_bytes() == before


def test_links_that_lead_to_each_other_are_no_directory_and_may_be_replaced_by_a_file(quick, images, run, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    status, line = error_of(run, images, "--json", tmp_path / "a" / "r.json")
    assert (status, "cannot write" in line) == (1, True)
    with StandInRemote() as remote:
        assert run(images, "--base-url", remote.url, "--json", tmp_path / "a")[0] == 0
    assert any(json.loads(path.read_text())["images"] == 5 for path in tmp_path.glob("[ab]") if path.exists())


@pytest.mark.parametrize(
    ("label", "options", "words"),
    [
        ("dog", ("--worst", 0), "With --worst 0, none is shown."),
        ("cat", (), "Both sides found the same in every image."),
    ],
)
def test_a_page_without_images_says_why(quick, images, run, tmp_path, label, options, words):
    with StandInRemote(then=success({**CAT, "label": label})) as remote:
        run(images, "--base-url", remote.url, *options)
    assert words in (tmp_path / "r.html").read_text()


def test_a_price_of_almost_nothing_has_no_break_even(quick, images, run):
    with StandInRemote() as remote:
        status, table, _ = run(images, "--base-url", remote.url, "--price", "1e-320", "--machine-price", 10_000)
    assert (status, "local is cheaper" in table) == (0, False)


# Accuracy


def annotations_file(path: Path, names: list[str], category: str = "Cat") -> Path:
    """The stand-in's cat in each image, where the API's form has it."""
    objects = [{"id": n, "image_id": n, "category_id": 9, "bbox": [1, 2, 29, 18]} for n, _ in enumerate(names, start=1)]
    fields = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names, start=1)],
        "categories": [{"id": 9, "name": category}],
        "annotations": objects,
    }
    path.write_text(json.dumps(fields))
    return path


def test_ap_of_both_sides_is_measured_on_the_annotated_images(quick, images, run, tmp_path):
    """Half of the hosted answers are empty: they find every object up to a recall of 0.5, 51 of COCO's 101 recalls."""
    pytest.importorskip("pycocotools")
    annotations = annotations_file(tmp_path / "a.json", ["0.png", "1.png", "2.png", "3.png", "not-here.png"])
    empty = {(images / name).read_bytes() for name in ("2.png", "3.png")}
    with StandInRemote(then=lambda request: success(*([] if request.body in empty else [CAT]))) as remote:
        status, table, _ = run(images, "--base-url", remote.url, "--annotations", annotations)
    accuracy = json.loads((tmp_path / "r.json").read_text())["accuracy"]
    assert (status, accuracy["images"], accuracy["objects"]) == (0, 4, 4)
    assert accuracy["local_all"] == accuracy["local"] == {"AP": 1, "AP50": 1}
    assert accuracy["hosted"]["AP"] == pytest.approx(51 / 101, abs=1e-6)
    assert accuracy["difference"]["AP"]["value"] == pytest.approx(50 / 101, abs=1e-6)
    assert "local - hosted, same limits" in table
    assert "limits its AP" in (tmp_path / "r.html").read_text()


def test_images_that_one_side_refused_do_not_count_for_ap(quick, images, run, tmp_path):
    pytest.importorskip("pycocotools")
    annotations = annotations_file(tmp_path / "a.json", ["0.png", "1.png", "2.png", "3.png"])
    with StandInRemote(success(CAT), refusal(400, 3010)) as remote:
        run(images, "--base-url", remote.url, "--annotations", annotations, "--concurrency", 1)
    accuracy = json.loads((tmp_path / "r.json").read_text())["accuracy"]
    assert (accuracy["images"], accuracy["hosted"]["AP"]) == (3, 1)


def test_without_an_annotated_answer_there_is_no_ap(quick, images, run, tmp_path):
    pytest.importorskip("pycocotools")
    annotations = annotations_file(tmp_path / "a.json", ["1.png"])
    refused = (images / "1.png").read_bytes()
    respond = lambda request: refusal(400, 3010) if request.body == refused else success(CAT)  # noqa: E731
    with StandInRemote(then=respond) as remote:
        status, table, notes = run(images, "--base-url", remote.url, "--annotations", annotations)
    assert (status, "COCO AP" in table) == (0, False)
    assert "no annotated image was answered by both sides" in notes


@pytest.mark.parametrize(
    ("names", "category", "message"),
    [
        (["x.png"], "cat", "does not annotate any of the images"),
        (["0.png"], "walrus", "has categories that the model does not know"),
    ],
)
def test_annotations_of_other_images_or_models_are_refused_before_anything_is_paid(
    quick, images, run, tmp_path, names, category, message
):
    pytest.importorskip("pycocotools")
    annotations = annotations_file(tmp_path / "a.json", names, category)
    with StandInRemote() as remote:
        status, line = error_of(run, images, "--base-url", remote.url, "--annotations", annotations)
    assert (status, message in line, remote.requests) == (1, True, [])


# The journal


def test_a_run_resumes_and_pays_for_nothing_twice(quick, images, run, tmp_path):
    with StandInRemote(success(CAT), refusal(400, 3010), refusal(401, 10000)) as remote:
        status, table, error = run(images, "--base-url", remote.url, "--concurrency", 1)
        assert (status, table, len(remote.requests)) == (1, "", 3)
        assert "401/10000" in error.splitlines()[-1]
        assert [line["outcome"] for line in json_lines(tmp_path / "journal")] == ["answered", "refused"]
        assert run(images, "--base-url", remote.url)[0] == 0
        assert len(remote.requests) == 3 + 2
        assert run(images, "--base-url", remote.url)[0] == 0
        assert len(remote.requests) == 3 + 2


def test_another_server_model_or_dialect_is_sent_all_images(monkeypatch, quick, images, run):
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


def test_failed_images_are_sent_again_by_the_next_run(quick, images, run):
    with StandInRemote(success(CAT), HANG_UP) as remote:
        _, table, _ = run(images, "--base-url", remote.url, "--concurrency", 4)
        assert re.search(r"failed after all retries +1\n", table)
        _, table, _ = run(images, "--base-url", remote.url)
    assert len(remote.requests) == 5
    assert re.search(r"failed after all retries +0\n", table)


def test_a_last_line_that_was_cut_off_is_skipped(quick, images, run, tmp_path):
    journal = tmp_path / "journal"
    with StandInRemote() as remote:
        run(images, "--base-url", remote.url)
        journal.write_bytes(journal.read_bytes()[:-40])
        assert run(images, "--base-url", remote.url)[0] == 0
        assert run(images, "--base-url", remote.url)[0] == 0
    assert len(remote.requests) == 5


@pytest.mark.parametrize("content", [b"dear diary", b'{"sha256": "0"}\n', b"[1]\n", b"\xff\xd8\xff"])
def test_a_file_that_is_not_a_journal_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="is not a journal"), open_journal(path):
        pass
    assert path.read_bytes() == content


def test_a_full_disk_stops_the_run_and_loses_one_line(monkeypatch, quick, images, run, tmp_path):
    write, shares = os.write, [1, 0.5, 0, 1, 1, 1]

    def partial_write(descriptor: int, data: bytes) -> int:
        share = shares.pop(0)
        if not share:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: round(len(data) * share)])

    with StandInRemote() as remote:
        with monkeypatch.context() as patch:
            patch.setattr("detr_onnx.bench.hosted.journal.os.write", partial_write)
            status, line = error_of(run, images, "--base-url", remote.url, "--concurrency", 1)
        assert (status, "No space left" in line, len(remote.requests)) == (1, True, 2)
        assert run(images, "--base-url", remote.url)[0] == 0
    assert len(remote.requests) == 2 + 3
    complete = [text.endswith("}") for text in (tmp_path / "journal").read_text().splitlines()]
    assert complete == [True, False, True, True, True]


def test_a_journal_that_is_not_a_file_is_refused():
    with pytest.raises(OutputError, match="is not a file"), open_journal(Path(os.devnull)):
        pass


def test_two_runs_do_not_share_a_journal(tmp_path):
    path = tmp_path / "journal"
    with open_journal(path), pytest.raises(OutputError, match="another run"), open_journal(path):
        pass


# Interruptions


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT as a program in a terminal has it; in the background of a script it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(images: Path, *options: object) -> subprocess.Popen[str]:
    """The command in a process of its own, with the demo model."""
    words = [sys.executable, "-m", "benchmarks.hosted_api", images, "-m", "demo", *options]
    return subprocess.Popen([*map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_lines(process: subprocess.Popen[str], journal: Path, count: int) -> None:
    """Returns when the journal has so many lines, or the process has ended."""
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= count):
        time.sleep(0.02)


def test_an_interrupted_run_leaves_a_journal_to_resume_from(images, tmp_path, ctrl_c):
    journal = tmp_path / "journal"
    with StandInRemote(delay_s=0.5) as remote:
        with start(images, "--base-url", remote.url, "--journal", journal, "--concurrency", 1) as process:
            wait_for_lines(process, journal, 1)
            process.send_signal(signal.SIGINT)
            table, error = process.communicate()
        assert (process.returncode, table) == (cli.INTERRUPTED, "")
        assert "Traceback" not in error
        assert "the same command resumes" in error
        assert len(json_lines(journal)) == len(remote.requests) < 4


@pytest.mark.parametrize("lines", [2, 9])
def test_a_killed_run_is_resumed_without_paying_again(images, tmp_path, lines):
    """SIGKILL while answers are collected, and while latency is measured: only requests under way are lost."""
    journal, threads = tmp_path / "journal", 2
    options = ("--journal", journal, "--concurrency", threads, "--latency-requests", 8)
    with StandInRemote(delay_s=0.2) as remote:
        with start(images, "--base-url", remote.url, *options) as process:
            wait_for_lines(process, journal, lines)
            process.kill()
            process.communicate()
        time.sleep(0.5)  # the stand-in may still read what was sent last
        saved = json_lines(journal)
        sent = len(remote.requests)
        assert lines <= len(saved) <= sent <= len(saved) + threads
        with start(images, "--base-url", remote.url, *options) as process:
            table, error = process.communicate()
        assert (process.returncode, "8 requests" in table) == (0, True), error
        assert len(remote.requests) == sent + (4 + 8 - len(saved))
    assert json_lines(journal)[: len(saved)] == saved
    kinds = [line["kind"] for line in json_lines(journal)]
    assert (kinds.count("answer"), kinds.count("latency")) == (4, 8)


# Every error is one line


def error_of(run, *words) -> tuple[int, str]:
    """Exit status and error, which is one line and the last."""
    status, table, text = run(*words)
    (line,) = [line for line in text.splitlines() if line.startswith("detr-onnx: error: ")]
    assert (table, "Traceback" in text, text.endswith(line + "\n")) == ("", False, True)
    return status, line


@pytest.mark.parametrize("name", ["CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN"])
def test_a_missing_account_or_token_is_named(monkeypatch, quick, images, run, name):
    monkeypatch.delenv(name)
    status, line = error_of(run, images)
    assert (status, f"set {name}, or" in line) == (2, True)


def test_a_malformed_token_is_not_shown(monkeypatch, quick, images, run):
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", f"{TOKEN}\nX: y")
    status, line = error_of(run, images)
    assert (status, TOKEN in line) == (2, False)


def test_a_directory_that_is_missing_or_has_no_images(quick, tmp_path, run):
    assert error_of(run, tmp_path / "nowhere")[0] == 1
    status, line = error_of(run, tmp_path)
    assert (status, "no images" in line) == (1, True)


def test_images_from_stdin_are_refused(quick, run):
    status, line = error_of(run, "-")
    assert (status, "stdin" in line) == (2, True)


def test_a_host_that_cannot_be_reached(quick, images, run):
    with StandInRemote() as remote:
        url = remote.url
    status, line = error_of(run, images, "--base-url", url)
    assert (status, "cannot reach 127.0.0.1" in line) == (1, True)


def test_a_wrong_token_is_sent_once(quick, images, run):
    with StandInRemote(then=refusal(401, 10000, "Authentication error")) as remote:
        status, line = error_of(run, images, "--base-url", remote.url, "--concurrency", 4)
    assert (status, len(remote.requests)) == (1, 1)
    assert "401/10000 Authentication error; check CLOUDFLARE_API_TOKEN" in line


def test_no_answer_at_all_is_an_error(quick, images, run):
    with StandInRemote(then=refusal(500, 3001)) as remote:
        status, line = error_of(run, images, "--base-url", remote.url, "--retries", 1)
    assert (status, "no image was answered" in line) == (1, True)


@pytest.mark.parametrize(
    "options",
    [
        ("--threshold", "0.05"),
        ("--timeout", "0"),
        ("--price", "nan"),
        ("--machine-price", "-1"),
        ("--latency-requests", "-1"),
        ("--resamples", "1"),
        ("--worst", "-1"),
        ("--json", "same", "--journal", "./same"),
        ("--remote-model", "@cf/\udcff"),
        ("--base-url", "ftp://host"),
        ("--base-url", "http://me:secret@host"),
        ("--base-url", "http://host:99999"),
        ("--base-url", "http://host/?key=secret"),
    ],
)
def test_wrong_options_are_wrong_usage(quick, images, run, options):
    status, line = error_of(run, images, *options)
    assert (status, "secret" in line) == (2, False)


@pytest.mark.parametrize(("option", "user"), [("--resamples", "--annotations"), ("--worst", "--html")])
def test_options_of_results_that_are_not_asked_for_are_refused(option, user, capsys):
    assert cli.main(["compare-hosted", "images", option, "200"]) == 2
    assert f"{option} is not used; add {user} FILE, or leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "1,257", "", "1,,2", "four", "1;2"])
def test_a_wrong_concurrency_is_wrong_usage(text, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare-hosted", "images", "--concurrency", text])
    assert "expected numbers from 1 to 256, such as 1,4,16" in capsys.readouterr().err


def test_the_help_states_the_defaults():
    command = argparse.ArgumentParser()
    compare_hosted.add_arguments(command)
    text = "".join(command.format_help().split())  # lines may break within names
    defaults = vars(command.parse_args(["images"]))
    assert defaults["concurrency"] == (1, 4, 16)
    for value in ("1,4,16", defaults["latency_requests"], defaults["price"] * 1e7, defaults["journal"]):
        shown = f"0.{round(value):07d}" if isinstance(value, float) else str(value)
        assert f"default:{shown})" in text


def test_a_token_that_is_sent_unencrypted_is_noted(tmp_path):
    for url, noted in [("http://far.example", True), ("https://far.example", False), ("http://localhost:1", False)]:
        notes: list[str] = []
        options = ComparisonOptions(tmp_path / "journal", RetryPolicy(), (1,), 0, 0.1, Prices(0.5), 100)
        remote = RemoteApi("cloudflare", url, "@cf/model", "0123", TOKEN)
        comparison = ComparisonRun([], remote, CatDetector(), options, None, notes.append)
        with open_journal(options.journal) as journal:
            comparison._announce(journal)
        assert notes[:-1] == (["note: the token goes to far.example unencrypted"] if noted else [])
        assert notes[-1].endswith("0 requests, at most $0.000000 without retries")


# Against our own server


@pytest.mark.parametrize(("dialect", "base"), [("cloudflare", "/client/v4"), ("huggingface", "")])
def test_our_server_answers_as_the_detector_does_and_refuses_what_it_refuses(tmp_path, run, dialect, base):
    pytest.importorskip("starlette")
    pytest.importorskip("onnxruntime")
    from detr_onnx import Detector
    from tests.server.live_server import LiveServer

    directory = tmp_path / "images"
    directory.mkdir()
    (directory / "scene.jpg").write_bytes(SCENE.read_bytes())
    (directory / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    with LiveServer(Detector("demo"), token=TOKEN) as server:
        options = ("-m", "demo", "--dialect", dialect, "--base-url", f"{server.url}{base}")
        status, table, _ = run(directory, *options, "--latency-requests", 3, "--concurrency", "1,2")
    assert status == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["differences"]["identical"], result["differences"]["images"]) == (1, 1)
    assert result["differences"]["boxes_matched"] > 3
    assert result["errors"]["refused_by_both"] == 1
    assert [figures["count"] for side in result["latency"].values() for figures in side.values()] == [3, 3, 3, 3]
    assert [figures["answers_changed"] for figures in result["latency"]["hosted"].values()] == [0, 0]
    assert "scene.jpg" not in (tmp_path / "r.html").read_text()
    assert "1 of 1" in table
