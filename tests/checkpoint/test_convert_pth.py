"""A pickled checkpoint becomes a directory that loads, with torch reading and nothing being run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.cli.main import main
from tests.parity.seeded import CONFIGS, SPELLINGS, huggingface_config, seeded_tensors, spelled

pytestmark = pytest.mark.oracle

SMALL = CONFIGS["small"]


@pytest.fixture(scope="module")
def tensors():
    return seeded_tensors(SMALL, seed=1)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(huggingface_config(SMALL)))
    return path


def saved(path: Path, content: object) -> Path:
    import torch

    torch.save(content, path)
    return path


def state_of(tensors, dialect):
    import torch

    counts = {"backbone.0.body.bn1.num_batches_tracked": torch.tensor(5)}
    return {
        name: torch.from_numpy(value.copy()) for name, value in spelled(tensors, SPELLINGS[dialect]).items()
    } | counts


def test_an_empty_file_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "empty.pth").write_bytes(b"")
    assert main(["convert", str(tmp_path / "empty.pth"), "-o", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert "empty.pth cannot be read as a checkpoint of torch" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("dialect", "nested"), [
    ("original", True), ("original", False), ("huggingface-timm", False), ("transformers5-native", False),
])  # fmt: skip
def test_a_pickle_goes_round_to_the_bit(dialect, nested, tensors, config, tmp_path):
    state = state_of(tensors, dialect)
    source = saved(tmp_path / "detr.pth", {"model": state, "epoch": 3} if nested else state)
    assert main(["convert", str(source), "-o", str(tmp_path / "out"), "--config", str(config)]) == 0
    checkpoint = load_checkpoint(tmp_path / "out")
    assert checkpoint.config == SMALL
    assert all(np.array_equal(checkpoint.tensors[name], tensors[name]) for name in tensors)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"}


def test_what_the_safetensors_package_reads_is_the_same(tensors, config, tmp_path):
    numpy_io = pytest.importorskip("safetensors.numpy")
    source = saved(tmp_path / "detr.pth", state_of(tensors, "original"))
    main(["convert", str(source), "-o", str(tmp_path / "out"), "--config", str(config)])
    found = numpy_io.load_file(tmp_path / "out" / "model.safetensors")
    assert all(np.array_equal(found[name], value) for name, value in spelled(tensors, SPELLINGS["original"]).items())


class Malicious:
    def __reduce__(self):
        return (print, ("run!",))


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, capsys):
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Malicious(), protocol=2))
    assert main(["convert", str(tmp_path / "bad.pth"), "-o", str(tmp_path / "out")]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(("content", "complaint"), [
    ([1, 2], "found a list"),
    ({"optimizer": {}, "epoch": 3}, "found a dictionary with 'optimizer', 'epoch'"),
    ({"model": 5}, "contains no state dict"),
    ({}, "do not tell what model they are"),
])  # fmt: skip
def test_a_pickle_of_something_else_is_refused(content, complaint, tmp_path, capsys):
    assert main(["convert", str(saved(tmp_path / "other.pth", content)), "-o", str(tmp_path / "out")]) == 1
    assert complaint in capsys.readouterr().err


def test_a_config_that_does_not_fit_is_refused_and_nothing_is_left(tensors, tmp_path, capsys):
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(huggingface_config(CONFIGS["small-table-transformer"])))
    source = saved(tmp_path / "detr.pth", state_of(tensors, "original"))
    assert main(["convert", str(source), "-o", str(tmp_path / "out"), "--config", str(wrong)]) == 1
    assert "does not fit its config" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_file_and_a_missing_config_are_told(tensors, tmp_path, capsys):
    assert main(["convert", str(tmp_path / "no.pth"), "-o", str(tmp_path / "out")]) == 1
    assert "no.pth cannot be read" in capsys.readouterr().err
    source = saved(tmp_path / "detr.pth", state_of(tensors, "original"))
    assert main(["convert", str(source), "-o", str(tmp_path / "out"), "--config", str(tmp_path / "no.json")]) == 1
    assert "no.json" in capsys.readouterr().err
