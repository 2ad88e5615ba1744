"""Checkpoints of PyTorch that `convert` is given: pipes, and tensors that are not what they seem."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_onnx.checkpoint.convert_pth import convert
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.errors import CheckpointError
from tests.attacks.test_files import endless, pipe
from tests.fuzz.checkpoints import TINY
from tests.parity.seeded import SPELLINGS, seeded_tensors, spelled


@pytest.mark.parametrize("make", [pipe, endless])
def test_a_pipe_or_a_device_is_refused(make, tmp_path):
    with pytest.raises(CheckpointError, match="found not a file"):
        convert(make(tmp_path / "model.pth"), tmp_path / "out")


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["expanded", "sparse"])
def test_a_tensor_that_is_larger_than_the_file_is_refused(name, tmp_path):
    import torch

    tensors = {"expanded": torch.zeros(1).expand(1 << 40), "sparse": torch.zeros(9, 9).to_sparse()}
    torch.save({"x": tensors[name]}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="holds a tensor that is sparse or stored in part: found x of shape"):
        convert(tmp_path / "model.pth", tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.oracle
def test_parameters_that_require_gradients_are_converted(tmp_path: Path):
    import torch

    tensors = spelled(seeded_tensors(TINY, 1), SPELLINGS["original"])
    state = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in tensors.items()}
    torch.save(state, tmp_path / "model.pth")
    assert load_checkpoint(convert(tmp_path / "model.pth", tmp_path / "out")).config.queries == TINY.queries
