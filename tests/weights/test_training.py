"""Training that starts from the shipped checkpoint: its parameters, what is frozen, the loss, the rate, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("scipy")

# ruff: noqa: E402
from weights.training.loss import Targets, Weights, losses
from weights.training.model import DemoConfig, DemoDetr, hugging_face_parameters, own_parameters
from weights.training.quietness import false_per_photograph
from weights.training.recipes import FIRST, QUIET
from weights.training.shards import NO_OBJECT, SLOTS, Example, batch
from weights.training.train import Trainer, export_checkpoint

DEMO = Path(__file__).parents[2] / "weights" / "demo"


def nothing(count: int = 2) -> tuple:
    """A batch of noise without objects."""
    rng = np.random.default_rng(0)
    boxes, classes = np.zeros((SLOTS, 4), np.float32), np.full(SLOTS, NO_OBJECT, np.int64)
    return batch([Example(rng.integers(0, 256, (64, 96, 3), np.uint8), boxes, classes)] * count, None)


@pytest.fixture
def trainer(tmp_path) -> Trainer:
    return Trainer(tmp_path, QUIET, DEMO)


def test_the_checkpoint_comes_back_as_it_was():
    shipped = safetensors.load_file(DEMO / "model.safetensors")
    model = DemoDetr(DemoConfig(groups=1))
    own = own_parameters(shipped, model.state_dict())
    again = hugging_face_parameters(own, DemoConfig.queries)
    assert again.keys() == shipped.keys()
    assert all(torch.equal(again[name], tensor.float()) for name, tensor in shipped.items())


def test_training_starts_from_the_checkpoint_and_exports_it_unchanged(trainer, tmp_path):
    export_checkpoint(trainer, tmp_path / "export")
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        if name.endswith(".json"):
            assert (tmp_path / "export" / name).read_text() == (DEMO / name).read_text()
    shipped, exported = (safetensors.load_file(d / "model.safetensors") for d in (DEMO, tmp_path / "export"))
    assert all(torch.equal(exported[name], tensor) for name, tensor in shipped.items())


def test_pictures_with_nothing_in_them_have_a_loss_and_teach_no_object(trainer):
    data = nothing()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.set_rates(0.9)
    history = []
    for _ in range(6):
        history.append(trainer.step(QUIET.phases[0], data))
        trainer.progress.step += 20  # past the warm-up
        trainer.set_rates(0.9)
    history = np.array(history)
    assert np.isfinite(history).all()
    assert history[-1, 1] < history[0, 1]  # the class loss
    assert not history[:, 2:].any()  # no boxes, and no loss of cells
    after = trainer.model.state_dict()
    frozen = [n for n in before if "running_" in n or n.startswith(("backbone.embedder", "backbone.stages.0"))]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["class_labels_classifier.weight"], after["class_labels_classifier.weight"])


def test_pictures_without_objects_beside_others_are_matched_alone():
    pixels, mask, targets = nothing()
    targets.classes[0, 0], targets.boxes[0, 0] = 17, torch.tensor([0.5, 0.5, 0.2, 0.2])
    model = DemoDetr(DemoConfig(groups=1)).eval()
    parts = losses(model(pixels, mask, 1), Targets(*vars(targets).values()), 1, 0.5, Weights(cells=1.0))
    assert torch.isfinite(parts.total)
    assert parts.boxes > 0
    assert parts.cells > 0


def test_the_rate_rises_at_first_and_falls_to_a_hundredth(trainer):
    trainer.set_rates(0.0)
    first = trainer.adamw.param_groups[0]["lr"]
    trainer.progress.step, trainer.progress.round = 1000, 3
    trainer.set_rates(0.0)
    assert trainer.adamw.param_groups[0]["lr"] == pytest.approx(QUIET.rate)
    assert first < 0.1 * QUIET.rate
    trainer.progress.phase, trainer.progress.round = len(QUIET.phases) - 1, QUIET.phases[-1].rounds - 1
    trainer.set_rates(1.0)
    assert trainer.adamw.param_groups[0]["lr"] == pytest.approx(0.01 * QUIET.rate)


def test_training_resumes_where_it_was(trainer, tmp_path):
    trainer.set_rates(0.5)
    trainer.step(QUIET.phases[0], nothing())
    trainer.progress.round = 2
    trainer.save()
    other = Trainer(tmp_path, QUIET, DEMO)
    other.resume()
    assert vars(other.progress) == vars(trainer.progress)
    for name, tensor in trainer.average.state_dict().items():
        assert torch.equal(tensor, other.average.state_dict()[name])


@pytest.mark.parametrize(("label", "expected"), [(17, 30.0), (NO_OBJECT, 0.0)])
def test_every_detection_in_a_photograph_is_counted(label, expected, tmp_path):
    Image.new("RGB", (80, 60), (90, 120, 40)).save(tmp_path / "one.jpg")
    model = DemoDetr(DemoConfig(groups=1)).eval()
    with torch.no_grad():
        model.class_labels_classifier.weight.zero_()
        model.class_labels_classifier.bias.copy_(20.0 * (torch.arange(92) == label))
    assert false_per_photograph(model, (tmp_path / "one.jpg",), QUIET.phases[0]) == expected


def test_photographs_reach_every_phase_and_the_first_recipe_has_none(tmp_path):
    assert {one.rules.photographs for one in QUIET.with_photographs(tmp_path).phases} == {tmp_path}
    assert all(one.rules.natural == one.rules.empty == 0 for one in FIRST.phases)
