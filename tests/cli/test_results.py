"""Destinations of results are checked before the work begins, and what can be written is."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_onnx.cli.console import check_output_file, write_file
from detr_onnx.cli.results import check_destination, files_of_model, write_results
from detr_onnx.errors import OutputError, UsageError
from detr_onnx.models.open import demo_directory
from tests.cli.command_line import PREFIX, outcome


def test_no_file_is_no_problem():
    check_destination(None, "--json", ["demo"])


def test_a_directory_that_must_not_be_written_to_is_found_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("detr_onnx.cli.console.os.access", lambda path, mode: Path(path) != tmp_path.resolve())
    with pytest.raises(OutputError, match="found no permission to write in "):
        check_output_file(tmp_path / "r.json")


def test_a_link_to_where_nothing_can_be_written_is_found_at_once(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "gone" / "r.json")
    with pytest.raises(OutputError, match=r"cannot write .*link.json: found no directory .*gone"):
        check_output_file(tmp_path / "link.json")


def test_a_device_may_be_written_to_wherever_it_is(monkeypatch):
    monkeypatch.setattr("detr_onnx.cli.console.os.access", lambda path, mode: False)
    check_output_file(Path("/dev/stdout"))
    check_output_file(Path("/dev/null"))


def test_the_files_of_a_model_are_those_that_an_engine_reads(tmp_path):
    names = ["model.safetensors", "model.safetensors.index.json", "config.json", "preprocessor_config.json", "r.json"]
    for name in names:
        (tmp_path / name).touch()
    assert {file.name for file in files_of_model(str(tmp_path))} == {*names[:4]}
    assert not any(map(Path.exists, files_of_model("facebook/detr-resnet-50@main")))


def test_the_files_of_a_graph_are_those_that_it_names(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(demo_directory() / "model.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights of m", size_threshold=0)
    for name in ("m.onnx.data", "m.xml", "m.bin", "damaged.onnx"):
        (tmp_path / name).write_bytes(b"\x3a\xff")
    expected = {"m.onnx": {"m.onnx", "weights of m"}, "m.xml": {"m.xml", "m.bin"}, "damaged.onnx": {"damaged.onnx"}}
    for name, files in expected.items():
        assert {file.name for file in files_of_model(str(tmp_path / name))} == files


def test_one_file_that_cannot_be_made_does_not_cost_the_others(tmp_path, capsys):
    def fail() -> str:
        raise OutputError("no")

    with pytest.raises(OutputError, match="no"):
        write_results("a table\n", {tmp_path / "a": lambda: "one", tmp_path / "b": fail, tmp_path / "c": lambda: "two"})
    assert capsys.readouterr().out == "a table\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "one", "c": "two"}


def test_a_dash_is_stdout_in_place_of_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check_destination(Path("-"), "--json", ["demo"], or_stdout=True)
    write_results("a table\n", {Path("-"): lambda: "{}\n", Path("b"): lambda: "two"})
    assert capsys.readouterr().out == "{}\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "two"}


def test_a_dash_is_refused_where_stdout_has_other_results():
    message = "--save-results does not write to stdout: found '-'; name a file or a directory"
    with pytest.raises(UsageError, match=message):
        check_destination(Path("-"), "--save-results", ["demo"])


@pytest.mark.parametrize(
    "words",
    [
        ["compare-hosted", "images", "--journal"],
        ["evaluate", "--results", "r.json", "--annotations", "a.json", "--save-results"],
        ["evaluate", "--panoptic", "--images", ".", "--annotations", "a.json", "--save-results"],
        ["export", "demo", "-o"],
        ["convert", "x.pth", "-o"],
        ["collect", ".", "--as", "ndjson", "-o"],
        ["detect", "a.png", "-m", "demo", "-o"],
        ["detect", "a.png", "-m", "demo", "--save"],
        ["detect", "a.png", "-m", "demo-panoptic", "--format", "panoptic", "-o"],
        ["explain", "a.png", "-m", "demo", "-o"],
        ["demo", "--save"],
    ],
    ids=" ".join,
)
def test_an_option_that_needs_a_file_refuses_a_dash(words, album, capsys):
    status, out, err = outcome([*words, "-"], capsys)
    assert (status in (1, 2), out, err.count("\n")) == (True, "", 1)
    assert err.startswith(PREFIX)
    assert not Path("-").exists()
    assert "-" in err.split(": found ")[0]  # the option or its value is named


def test_half_a_letter_is_escaped_as_json_does(tmp_path):
    write_file(tmp_path / "a", '"\udce8 é"')
    assert (tmp_path / "a").read_text(encoding="utf-8") == '"\\udce8 é"'
