"""A pickled checkpoint becomes a directory that loads; torch reads it and runs no code in it."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from detr_onnx.atomic import DRAFT_PREFIX, DRAFT_SUFFIX
from detr_onnx.checkpoint.convert_pth import convert
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.errors import CheckpointError
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


def state_of(tensors, naming):
    import torch

    counts = {"backbone.0.body.bn1.num_batches_tracked": torch.tensor(5)}
    return {
        name: torch.from_numpy(value.copy()) for name, value in spelled(tensors, SPELLINGS[naming]).items()
    } | counts


def refusal(source: Path, directory: Path, config: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as error:
        convert(source, directory, config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_empty_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty.pth").write_bytes(b"")
    assert "empty.pth cannot be read as a checkpoint of torch" in refusal(tmp_path / "empty.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("naming", "nested"), [
    ("original", True), ("original", False), ("huggingface-timm", False), ("transformers5-native", False),
])  # fmt: skip
def test_a_converted_pickle_holds_the_same_bits(naming, nested, tensors, config, tmp_path):
    state = state_of(tensors, naming)
    source = saved(tmp_path / "detr.pth", {"model": state, "epoch": 3} if nested else state)
    checkpoint = load_checkpoint(convert(source, tmp_path / "out", config))
    assert checkpoint.config == SMALL
    assert all(np.array_equal(checkpoint.tensors[name], tensors[name]) for name in tensors)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"}


def training_checkpoint(tensors, **options: object) -> dict[str, object]:
    """What the original training script saves after an epoch."""
    import torch

    state = state_of(tensors, "original")
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 200)
    return {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=1e-4, coco_path="/data/coco", masks=False, **options),
    }


def test_a_checkpoint_of_the_original_training_script_is_converted(tensors, config, tmp_path):
    source = saved(tmp_path / "checkpoint.pth", training_checkpoint(tensors, nheads=8, dilation=False))
    checkpoint = load_checkpoint(convert(source, tmp_path / "out", config))
    assert all(np.array_equal(checkpoint.tensors[name], tensors[name]) for name in tensors)
    assert not any("optimizer" in name for name in checkpoint.tensors)


@pytest.mark.parametrize(("options", "complaint"), [
    ({"nheads": 4}, "nheads=4, dilation=False"),
    ({"dilation": True}, "nheads=8, dilation=True"),
])  # fmt: skip
def test_training_options_that_no_shape_tells_ask_for_a_config(options, complaint, tensors, config, tmp_path):
    source = saved(tmp_path / "checkpoint.pth", training_checkpoint(tensors, **options))
    message = refusal(source, tmp_path / "out")
    assert complaint in message
    assert "--config" in message
    convert(source, tmp_path / "out", config)


@pytest.mark.parametrize("prefix", ["model.", "module.", "detr.", "model.detr."])
def test_a_state_dict_of_a_wrapped_model_is_converted(prefix, tensors, config, tmp_path):
    state = {prefix + name: value for name, value in state_of(tensors, "original").items()}
    source = saved(tmp_path / "last.ckpt", {"state_dict": state, "epoch": 3})
    checkpoint = load_checkpoint(convert(source, tmp_path / "out", config))
    assert all(np.array_equal(checkpoint.tensors[name], tensors[name]) for name in tensors)


def test_what_the_safetensors_package_reads_is_the_same(tensors, config, tmp_path):
    numpy_io = pytest.importorskip("safetensors.numpy")
    source = saved(tmp_path / "detr.pth", state_of(tensors, "original"))
    found = numpy_io.load_file(convert(source, tmp_path / "out", config) / "model.safetensors")
    assert all(np.array_equal(found[name], value) for name, value in spelled(tensors, SPELLINGS["original"]).items())


class Malicious:
    def __reduce__(self):
        return (print, ("run!",))


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, capsys):
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Malicious(), protocol=2))
    message = refusal(tmp_path / "bad.pth", tmp_path / "out")
    assert "print, which is never loaded" in message
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's
@pytest.mark.parametrize(("content", "found"), [
    (b'{"model_type": "detr"}', "a JSON text"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG image"),
    (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
    (b"plain text", "a file that begins with b'plain text'"),
    (pickle.dumps({"a": 1}, protocol=4), "a pickle; load it with the code that wrote it, and save the model's "),
])  # fmt: skip
def test_a_file_of_another_kind_is_named_for_what_it_is(tmp_path, content, found):
    (tmp_path / "x.pth").write_bytes(content)
    assert f"x.pth cannot be read as a checkpoint of torch: found {found}" in refusal(tmp_path / "x.pth", tmp_path)


def test_an_object_that_is_not_let_in_is_named_without_the_page_of_torch(tensors, tmp_path):
    state = state_of(tensors, "original")
    source = saved(tmp_path / "x.pth", {"model": state, "args": argparse.Namespace(output_dir=Path("out"))})
    message = refusal(source, tmp_path / "out")
    assert "found an object of pathlib." in message
    assert message.endswith("; load it with the code that wrote it, and save the model's state_dict() alone")
    assert "weights_only" not in message


@pytest.mark.parametrize(("content", "complaint"), [
    ([1, 2], "found a list"),
    ({"optimizer": {}, "epoch": 3}, "found a dictionary with 'optimizer', 'epoch'"),
    ({"model": 5}, "does not hold a state dict"),
    ({}, "do not tell what model they are"),
])  # fmt: skip
def test_a_pickle_of_something_else_is_refused(content, complaint, tmp_path):
    assert complaint in refusal(saved(tmp_path / "other.pth", content), tmp_path / "out")


def test_a_config_that_does_not_fit_is_refused_and_nothing_is_left(tensors, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(huggingface_config(CONFIGS["small-table-transformer"])))
    source = saved(tmp_path / "detr.pth", state_of(tensors, "original"))
    assert "does not fit its config" in refusal(source, tmp_path / "out", wrong)
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_that_do_not_fit_the_config_in_the_directory_are_refused(tensors, config, tmp_path):
    source = saved(tmp_path / "detr.pth", state_of(tensors, "original"))
    (tmp_path / "out").mkdir()
    stale = tmp_path / "out" / "config.json"
    stale.write_text(json.dumps(huggingface_config(CONFIGS["small-table-transformer"])))
    assert "does not fit its config" in refusal(source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [stale]
    stale.write_text(config.read_text())
    assert load_checkpoint(convert(source, tmp_path / "out")).config.labels == SMALL.labels


def test_what_a_killed_run_left_is_not_used(tensors, tmp_path):
    source = saved(tmp_path / "detr.pth", state_of(tensors, "original"))
    abandoned = f"{DRAFT_PREFIX}abandoned{DRAFT_SUFFIX}"
    (tmp_path / "out" / abandoned).mkdir(parents=True)
    (tmp_path / "out" / abandoned / "config.json").write_text("{}")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(huggingface_config(SMALL)))
    convert(source, tmp_path / "out", config)
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == huggingface_config(SMALL)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"}


def test_a_missing_file_and_a_missing_config_are_named(tensors, tmp_path):
    assert "no.pth cannot be read" in refusal(tmp_path / "no.pth", tmp_path / "out")
    source = saved(tmp_path / "detr.pth", state_of(tensors, "original"))
    assert "no.json" in refusal(source, tmp_path / "out", tmp_path / "no.json")
