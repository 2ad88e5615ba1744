"""`detr-onnx convert`: what it prints, and its error without torch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from detr_onnx.checkpoint import convert_pth
from tests.cli.command_line import complaint, outcome


def test_without_torch_the_error_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "model.pth").write_bytes(b"")
    line = complaint(outcome(["convert", tmp_path / "model.pth", "-o", tmp_path / "out"], capsys), 1)
    assert line.startswith("reading a PyTorch checkpoint needs torch: found ")
    assert line.endswith("; run pip install torch")
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_no_file_is_named_for_what_it_is(tmp_path, capsys):
    arguments = ("convert", tmp_path / "model.pth", "-o", tmp_path / "out", "--config")
    line = complaint(outcome([*arguments, tmp_path], capsys), 1)
    assert line.endswith("is not a config: found a directory, expected a config.json; name the file in it")
    line = complaint(outcome([*arguments, tmp_path / "none.json"], capsys), 1)
    assert line.endswith("is not a config: found no such file, expected a config.json; check the path")


@pytest.mark.parametrize("config", [None, Path("config.json")])
def test_the_directory_is_the_result(monkeypatch, capsys, config):
    converted = []
    monkeypatch.setattr(convert_pth, "convert", lambda *arguments: converted.append(arguments) or arguments[1])
    options = ["--config", config] if config else []
    assert outcome(["convert", "model.pth", "-o", "out", *options], capsys) == (0, "out\n", "")
    assert converted == [(Path("model.pth"), Path("out"), config)]
