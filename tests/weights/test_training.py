"""Training of the demo model that starts from the shipped checkpoint: its parameters, what is frozen, resuming."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("scipy")

# ruff: noqa: E402
from weights.training.loss import Targets, Weights, losses
from weights.training.model import DemoConfig, DemoDetr, hugging_face_parameters, load_weights, own_parameters
from weights.training.pictograms import FONT_PATH
from weights.training.shards import NO_OBJECT, SLOTS, Example, batch
from weights.training.train_decoder import (
    RATE,
    TRAINED,
    Trainer,
    false_per_photograph,
    joined,
    main,
    nothing_in,
    see,
)

DEMO = Path(__file__).parents[2] / "weights" / "demo"


def noise(height: int, width: int, seed: int = 0) -> Example:
    """A picture of noise without objects."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    return Example(pixels, np.zeros((SLOTS, 4), np.float32), np.full(SLOTS, NO_OBJECT, np.int64))


def with_an_object(picture: Example) -> Example:
    picture.classes[0], picture.boxes[0] = 17, (0.5, 0.4, 0.2, 0.3)
    return picture


# A pool that works in this process, where constants are changed.
IN_THIS_PROCESS = SimpleNamespace(Pool=lambda _: contextlib.nullcontext(SimpleNamespace(imap_unordered=map)))


@pytest.fixture
def trainer(tmp_path) -> Trainer:
    return Trainer(tmp_path, DEMO)


@pytest.fixture(scope="module")
def shipped() -> DemoDetr:
    return load_weights(DEMO).eval()


def test_the_checkpoint_comes_back_as_it_was():
    shipped = safetensors.load_file(DEMO / "model.safetensors")
    model = DemoDetr(DemoConfig(groups=1))
    own = own_parameters(shipped, model.state_dict())
    again = hugging_face_parameters(own, DemoConfig.queries)
    assert again.keys() == shipped.keys()
    assert all(torch.equal(again[name], tensor.float()) for name, tensor in shipped.items())


def test_training_starts_from_the_checkpoint_and_exports_it_unchanged(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train_decoder.py", "--work", str(tmp_path), "--export", str(tmp_path / "export")])
    main()
    shipped, exported = (safetensors.load_file(d / "model.safetensors") for d in (DEMO, tmp_path / "export"))
    assert exported.keys() == shipped.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in shipped.items())


def test_the_frozen_part_and_the_decoder_give_what_the_whole_model_gives(shipped):
    pictures = [noise(96, 160, 1), noise(128, 96, 2)]
    seen = joined([see(shipped, [one], None) for one in pictures])
    memory, position, keys, _ = seen.batch(np.array([0, 1]))  # padded
    with torch.inference_mode():
        logits, boxes = shipped.decode(memory, position, keys, 1)
        for k, one in enumerate(pictures):
            pixels, mask, _ = batch([one], None)
            expected = shipped(pixels, mask, 1)
            assert torch.allclose(logits[:, k].softmax(-1), expected.logits[:, 0].softmax(-1), atol=2e-3)  # of float16
            assert torch.allclose(boxes[:, k], expected.boxes[:, 0], atol=2e-3)


def test_a_mirrored_picture_has_mirrored_objects(shipped):
    class Mirror:
        def uniform(self, *_):
            return np.ones(3)

        def random(self):
            return 0.0

    assert see(shipped, [with_an_object(noise(64, 96))], Mirror()).boxes[0, 0] == pytest.approx([0.5, 0.4, 0.2, 0.3])
    picture = with_an_object(noise(64, 96))
    picture.boxes[0, 0] = 0.2
    assert see(shipped, [picture], Mirror()).boxes[0, 0] == pytest.approx([0.8, 0.4, 0.2, 0.3])


def test_pictures_with_nothing_in_them_teach_no_object_to_the_decoder_alone(trainer, shipped):
    seen = see(shipped, [noise(64, 96, 1), noise(64, 96, 2)], None)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.progress.step = 100  # past the warm-up
    trainer.set_rate(0.0)
    history = np.array([trainer.step(seen, np.array([0, 1])) for _ in range(6)])
    assert np.isfinite(history).all()
    assert history[-1, 1] < history[0, 1]  # the class loss
    assert not history[:, 2].any()  # no boxes
    after = trainer.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(TRAINED) for name in changed)
    assert any(not name.startswith(TRAINED) for name in before)


def test_pictures_without_objects_beside_others_are_matched_alone():
    pixels, mask, targets = batch([with_an_object(noise(64, 96)), noise(64, 96)], None)
    model = DemoDetr(DemoConfig(groups=1)).eval()
    parts = losses(model(pixels, mask, 1), Targets(*vars(targets).values()), 1, 0.5, Weights())
    assert torch.isfinite(parts.total)
    assert parts.boxes > 0
    assert parts.cells > 0


def test_the_rate_rises_at_first_and_falls_to_a_hundredth(trainer):
    def rate(share: float) -> float:
        trainer.set_rate(share)
        return trainer.adamw.param_groups[0]["lr"]

    assert rate(0.0) < 0.1 * RATE
    trainer.progress.step = 1000
    assert rate(0.1) == pytest.approx(RATE)
    assert rate(1.0) == pytest.approx(0.01 * RATE)


def test_training_resumes_where_it_was(trainer, shipped, tmp_path):
    trainer.set_rate(0.5)
    trainer.step(see(shipped, [with_an_object(noise(64, 96))], None), np.array([0]))
    trainer.progress.epoch = 2
    trainer.save()
    other = Trainer(tmp_path, DEMO)
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
    assert false_per_photograph(model, see(model, [nothing_in(tmp_path / "one.jpg")], None)) == expected


def short(monkeypatch) -> None:
    for name, value in {"SHARDS": 2, "SHARD_SCENES": 16, "VALIDATION_SCENES": 2, "EPOCHS": 2}.items():
        monkeypatch.setattr(f"weights.training.train_decoder.{name}", value)


@pytest.mark.skipif(not FONT_PATH.is_file(), reason="the font of the pictograms is not installed")
def test_a_run_from_scenes_and_photographs_to_the_checkpoint(tmp_path, monkeypatch):
    short(monkeypatch)
    monkeypatch.setattr("weights.training.train_decoder.multiprocessing.get_context", lambda _: IN_THIS_PROCESS)
    for part in ("train", "quiet"):
        (tmp_path / part).mkdir()
        Image.effect_noise((320, 240), 80).convert("RGB").save(tmp_path / part / "one.jpg")
    work = tmp_path / "work"
    monkeypatch.setattr("sys.argv", ["train_decoder.py", "--work", str(work), "--photographs", str(tmp_path)])
    main()
    log = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [0, 1, 1, 2, 2]
    assert "false_per_photograph" in log[-1]["validation"]
    main()  # nothing is left to do
    assert len((work / "log.jsonl").read_text().splitlines()) == 5


def test_without_photographs_the_command_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train_decoder.py", "--work", str(tmp_path), "--photographs", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert "photographs.py collects photographs" in capsys.readouterr().err
