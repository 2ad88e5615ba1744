"""Trains the demo model.

    python weights/training/train.py --work DIR                  # again to resume
    python weights/training/train.py --work DIR --export DIR     # write the checkpoint

First the backbone learns to classify single pictograms; then the whole model is trained with small scenes, then with
larger ones while the learning rate falls. The moving average of the parameters is what ships.
"""

import argparse
import copy
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from detr_onnx.image.processor_config import Preprocessing
from weights.training.evaluate import coco_figures, coco_rows
from weights.training.labels import ID2LABEL
from weights.training.loss import Targets, Weights, losses
from weights.training.model import DemoConfig, DemoDetr, hugging_face_config, save_weights
from weights.training.resumable import Resumable, move_average
from weights.training.scenes import Scene, SceneRules, coco_ground_truth, scene
from weights.training.shards import (
    Example,
    Phase,
    batch,
    example,
    grouped,
    read_shard,
    shard_path,
    start_renderer,
)

SEED = 1
VALIDATION_SEED, VALIDATION_SCENES = 3, 80
WINDOW = 4  # shards per round, and so the number of times a scene is used
RATE, WEIGHT_DECAY, CLIP = 3e-4, 1e-4, 0.1
WARM_UP_STEPS = 200
AVERAGE = 0.998
MIXED = 0.1  # share of batches with mixed shapes
EOS = 0.2  # DETR uses 0.1, with more than three times as many queries
WEIGHTS, LAST_WEIGHTS = Weights(), Weights(boxes=2.0, cells=0.2)  # in the last phase boxes have the largest error
SAVE_SECONDS, VALIDATE_ROUNDS, LOG_STEPS = 100, 8, 60

PHASES = (
    Phase("single", 100, SceneRules((64, 64), 1.0, (1, 1), (0.28, 0.95)), 64, 64, 6, 96, 4032),
    Phase("small", 101, SceneRules((112, 160), 1.6, (1, 5), (0.15, 2 / 3)), 112, 176, 27, 16, 360),
    Phase("full", 102, SceneRules((128, 384)), 128, 208, 22, 16, 360),
    Phase("sharp", 103, SceneRules((128, 384), objects=(2, 8)), 160, 256, 61, 16, 360),
    Phase("fine", 104, SceneRules(objects=(2, 8)), 208, 336, 20, 16, 360),
    Phase("large", 105, SceneRules(objects=(2, 8)), 256, 416, 26, 16, 360),
    Phase("whole", 106, SceneRules(objects=(2, 8)), 320, 512, 32, 16, 360),
    Phase("close", 107, SceneRules(objects=(2, 8)), 384, 608, 16, 16, 360),
)
FROZEN_STEM_FROM = 2  # phase; DETR freezes stem and first stage too
FALL_FROM = 0.818  # share of the detector's rounds after which the cosine begins


@dataclass
class Progress:
    """The state of training; `phase` and `round` are the next ones."""

    phase: int = 0
    round: int = 0
    step: int = 0
    seconds: float = 0.0


class Trainer(Resumable):
    """The model, its moving average, its optimisers and its files."""

    states = ("model", "average", "naming", "adamw", "muon")

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        torch.manual_seed(SEED)
        self.config = DemoConfig()
        self.model = DemoDetr(self.config).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval()
        self.naming = nn.Linear(
            self.config.widths[-1], self.config.classes
        )  # classifies pooled features in the first phase
        self.progress = Progress()
        matrices = [
            parameter
            for name, parameter in self.model.named_parameters()
            if parameter.dim() == 2 and name.startswith(("encoder.", "decoder."))
        ]
        self.kernels = [
            (parameter, as_matrix(parameter))
            for name, parameter in self.model.named_parameters()
            if parameter.dim() == 4 and name.startswith(("backbone.stages.1.", "backbone.stages.2."))
        ]
        of_muon = set(map(id, (*matrices, *(kernel for kernel, _ in self.kernels))))
        rest = [p for p in (*self.model.parameters(), *self.naming.parameters()) if id(p) not in of_muon]
        self.adamw = torch.optim.AdamW(rest, weight_decay=WEIGHT_DECAY, fused=True)
        matrices += [matrix for _, matrix in self.kernels]
        self.muon = torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self.validation: list[Scene] = []

    def run(self) -> None:
        """Trains from the last checkpoint to the end."""
        self.resume()
        start_renderer(PHASES, WINDOW, (self.progress.phase, self.progress.round), self.work / "shards")
        while self.progress.phase < len(PHASES):
            phase = PHASES[self.progress.phase]
            while self.progress.round < phase.rounds:
                self.round(phase)
            self.progress.phase, self.progress.round = self.progress.phase + 1, 0
            self.save()
        self.validate()

    def round(self, phase: Phase) -> None:
        """One pass over a window of shards."""
        position = self.progress
        rng = np.random.default_rng([SEED, position.phase, position.round])
        paths = [shard_path(self.work / "shards", position.phase, position.round + k) for k in range(WINDOW)]
        examples = [example for path in paths for example in read_shard(path)]
        tally = np.zeros(4)
        batches = grouped(np.array([one.pixels.shape[:2] for one in examples]), phase.batch, MIXED, rng)
        for k, chosen in enumerate(batches):
            self.set_rates(k / len(batches))
            tally += self.step(phase, batch([examples[i] for i in chosen], rng))
            if (k + 1) % LOG_STEPS == 0:
                self.log_losses(phase, tally / LOG_STEPS)
                tally[:] = 0
        paths[0].unlink()
        if position.round + 1 == phase.rounds:
            for path in paths[1:]:
                path.unlink()
        position.round += 1
        self.pause_for_files(position)

    def step(self, phase: Phase, data: tuple[Tensor, Tensor, Targets]) -> NDArray[np.float64]:
        """One update; returns the loss and three of its parts."""
        self.model.train()
        if self.progress.phase >= FROZEN_STEM_FROM:
            self.model.backbone.freeze_stem()
        self.model.zero_grad(set_to_none=True)
        self.naming.zero_grad(set_to_none=True)
        parts = self.name_one(*data) if phase.name == "single" else self.detect(*data)
        parts[0].backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP if phase.name != "single" else 1.0)
        for kernel, matrix in self.kernels:
            matrix.grad = None if kernel.grad is None else as_matrix(kernel.grad)
        self.adamw.step()
        self.muon.step()
        self.progress.step += 1
        move_average(self.average, self.model, AVERAGE, self.progress.step)
        return np.array([float(parts[0].detach()), *parts[1:]])

    def name_one(self, pixels: Tensor, _: Tensor, targets: Targets) -> tuple[Tensor, float, float, float]:
        """The classification loss on single pictograms, and the accuracy."""
        expected = targets.classes[:, 0]
        logits = self.naming(self.model.backbone(pixels).mean((2, 3)))
        accuracy = float((logits.argmax(1) == expected).float().mean())
        return functional.cross_entropy(logits, expected.clamp(max=self.config.classes - 1)), accuracy, 0.0, 0.0

    def detect(self, pixels: Tensor, mask: Tensor, targets: Targets) -> tuple[Tensor, float, float, float]:
        """The detection loss and its parts."""
        outputs = self.model(pixels, mask, self.config.groups)
        last = self.progress.phase == len(PHASES) - 1
        all_ = losses(outputs, targets, self.config.groups, EOS, LAST_WEIGHTS if last else WEIGHTS)
        return all_.total, all_.classes, all_.boxes, all_.cells

    def set_rates(self, share: float) -> None:
        """Sets the learning rates at `share` of the current round: warm-up, constant, then a cosine to a hundredth."""
        position = self.progress
        detector = sum(phase.rounds for phase in PHASES[1:])
        done = sum(phase.rounds for phase in PHASES[1 : position.phase]) + position.round + share
        fall = 0.0 if position.phase == 0 else max(0.0, done / detector - FALL_FROM) / (1 - FALL_FROM)
        factor = 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, fall))) / 2
        steps_in = (position.round + share) * 60 if position.phase == 1 else position.step
        factor *= min(1.0, (steps_in + 1) / WARM_UP_STEPS)
        for group in (*self.adamw.param_groups, *self.muon.param_groups):
            group["lr"] = RATE * factor * (4 if position.phase == 0 else 1)

    # Files

    @property
    def phase(self) -> Phase:
        """The current phase, after the end the last one."""
        return PHASES[min(self.progress.phase, len(PHASES) - 1)]

    @property
    def head(self) -> dict[str, object]:
        """The phase, as the log names it."""
        return {"phase": self.phase.name}

    def pause_for_files(self, position: Progress) -> None:
        """Validates and saves between rounds, at intervals."""
        now = time.monotonic()
        if position.phase > 0 and position.round % VALIDATE_ROUNDS == 0:
            self.validate()
        if now - self.saved > SAVE_SECONDS:
            self.save()

    def log_losses(self, phase: Phase, mean: NDArray[np.float64]) -> None:
        """Logs mean losses."""
        names = ("loss", "accuracy") if phase.name == "single" else ("loss", "class", "box", "cell")
        rate = self.adamw.param_groups[0]["lr"]
        self.log({"rate": float(f"{rate:.3g}")} | {n: round(float(v), 4) for n, v in zip(names, mean, strict=False)})

    def validate(self) -> None:
        """Logs COCO's figures of the average on the validation scenes, at the size of the current phase."""
        self.validation = self.validation or [scene(VALIDATION_SEED, k) for k in range(VALIDATION_SCENES)]
        phase = self.phase
        rows: list[dict[str, object]] = []
        for image_id, scene_ in enumerate(self.validation, start=1):
            rows += self.rows(image_id, scene_, example(scene_, phase.short_px, phase.long_px))
        self.log({"validation": coco_figures(coco_ground_truth(self.validation), rows)})

    @torch.inference_mode()
    def rows(self, image_id: int, original: Scene, resized: Example) -> list[dict[str, object]]:
        """COCO rows of the average for one scene."""
        pixels, mask, _ = batch([resized], None)
        outputs = self.average(pixels, mask, 1)
        return coco_rows(image_id, original.size_hw, outputs.logits[-1, 0].numpy(), outputs.boxes[-1, 0].numpy())


def as_matrix(kernel: Tensor) -> nn.Parameter:
    """The convolution kernel [outer,inner,k,k], channels last, as a matrix [outer,k*k*inner] on the same memory."""
    return nn.Parameter(kernel.detach().permute(0, 2, 3, 1).flatten(1))


def export_checkpoint(trainer: Trainer, directory: Path) -> None:
    """Writes the average as a checkpoint in Hugging Face's layout, with float16 parameters."""
    directory.mkdir(parents=True, exist_ok=True)
    save_weights(trainer.average, directory)
    config = hugging_face_config(trainer.config, ID2LABEL)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    phase = trainer.phase
    preprocessing = Preprocessing(shortest_edge=phase.short_px, longest_edge=phase.long_px)
    preprocessor = preprocessing.to_json() | {"format": "coco_detection", "do_pad": True}
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")


def main() -> None:
    """Trains, or exports the last checkpoint."""
    parser = argparse.ArgumentParser(description="Trains the demo model, or exports its last checkpoint.")
    parser.add_argument("--work", type=Path, required=True, help="checkpoint, log and shards")
    parser.add_argument("--export", type=Path, help="write the Hugging Face checkpoint here and stop")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(arguments.work)
    if arguments.export is None:
        trainer.run()
    else:
        trainer.resume()
        export_checkpoint(trainer, arguments.export)


if __name__ == "__main__":
    main()
