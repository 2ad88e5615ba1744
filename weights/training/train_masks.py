"""Trains the mask head of the panoptic demo model; the demo model itself is frozen.

    python weights/training/train_masks.py --work DIR                  # again to resume
    python weights/training/train_masks.py --work DIR --export DIR     # write it beside the demo's checkpoint

First the attention map alone learns to look at its object, which is cheap. A round then renders new scenes and runs the
frozen detector on them once; the mask head sees the scenes of the last few rounds. The moving average of its parameters
is what ships.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from detr_onnx.checkpoint.files import WEIGHTS
from detr_onnx.models.open import PANOPTIC_INDEX
from weights.training.masks import (
    Frozen,
    Masks,
    attention_losses,
    mask_ious,
    mask_losses,
    see,
    shipped_parameters,
)
from weights.training.model import load_weights
from weights.training.resumable import Resumable, move_average
from weights.training.scenes import Scene, SceneRules, scene
from weights.training.shards import batch, example

DETECTOR = Path(__file__).resolve().parents[1] / "demo"
MASK_HEAD = "mask-head.safetensors"
SEED = 1
VALIDATION_SEED, VALIDATION_SCENES = 3, 24
ATTENTION_SEED = 109
SCENES, WINDOW = 24, 8  # new scenes of a round, and the rounds that a scene is used in
SCENES_PER_STEP = 4
ATTENTION_SCENES, ATTENTION_PASSES = 256, 24  # of the first part
RATE, WEIGHT_DECAY, CLIP = 2e-3, 1e-4, 1.0
WARM_UP_STEPS = 50
AVERAGE = 0.99
RULES = SceneRules(objects=(2, 8))
SAVE_SECONDS, VALIDATE_ROUNDS = 40, 8


@dataclass(frozen=True)
class Phase:
    """A part of the schedule: the seed and the size of its scenes, and the number of rounds."""

    name: str
    seed: int
    short_px: int
    long_px: int
    rounds: int


PHASES = (Phase("small", 110, 224, 352, 26), Phase("full", 111, 384, 608, 10))


@dataclass
class Progress:
    """The state of training; `phase` and `round` are the next ones."""

    phase: int = 0
    round: int = 0
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Example:
    """What the detector makes of a scene, and the visible pixels of its matched objects, [T,H/2,W/2] of 0 and 1."""

    seen: Frozen
    masks: Tensor


class Trainer(Resumable):
    """The mask head, its moving average, its optimiser and its files."""

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        torch.manual_seed(SEED)
        self.detector = load_weights(DETECTOR).eval().requires_grad_(False)
        self.model = Masks(self.detector.config)
        self.average = copy.deepcopy(self.model).eval()
        self.adamw = torch.optim.AdamW(self.model.parameters(), weight_decay=WEIGHT_DECAY)
        self.progress = Progress()
        self.window: deque[list[Example]] = deque(maxlen=WINDOW)

    def run(self) -> None:
        """Trains from the last checkpoint to the end."""
        self.resume()
        if self.progress.step == 0:
            self.train_attention()
        while self.progress.phase < len(PHASES):
            phase = PHASES[self.progress.phase]
            self.window.clear()
            first = max(0, self.progress.round - WINDOW + 1) if self.progress.round < phase.rounds else phase.rounds
            self.window.extend(self.examples(phase, earlier) for earlier in range(first, self.progress.round))
            while self.progress.round < phase.rounds:
                self.round(phase)
            self.progress.phase, self.progress.round = self.progress.phase + 1, 0
            self.save()
        self.validate()

    def train_attention(self) -> None:
        """Trains the attention map to lie within the mask, summed over heads; AdamW starts anew after that."""
        phase = PHASES[0]
        scenes = (scene(ATTENTION_SEED, k, RULES) for k in range(ATTENTION_SCENES))
        examples = [self.example(one, phase) for one in scenes if len(one.coco_ids)]
        adamw = torch.optim.AdamW(self.model.bbox_attention.parameters(), RATE, weight_decay=WEIGHT_DECAY)
        rng = np.random.default_rng(SEED)
        for number in range(1, ATTENTION_PASSES + 1):
            losses = []
            for chosen in np.array_split(rng.permutation(len(examples)), len(examples) // SCENES_PER_STEP):
                adamw.zero_grad(set_to_none=True)
                few = [examples[i] for i in chosen]
                maps = (self.model.bbox_attention(one.seen.objects, one.seen.memory) for one in few)
                loss = torch.cat([attention_losses(a, one.masks) for a, one in zip(maps, few, strict=True)]).mean()
                loss.backward()
                adamw.step()
                losses.append(float(loss.detach()))
            if number % 8 == 0:
                self.log({"attention": round(float(np.mean(losses)), 4)})
        self.average.load_state_dict(self.model.state_dict())

    def round(self, phase: Phase) -> None:
        """New scenes, and one pass over those of the window."""
        position = self.progress
        self.window.append(self.examples(phase, position.round))
        examples = [one for part in self.window for one in part]
        order = np.random.default_rng([SEED, position.phase, position.round]).permutation(len(examples))
        steps = [order[i : i + SCENES_PER_STEP] for i in range(0, len(order) - SCENES_PER_STEP + 1, SCENES_PER_STEP)]
        tally = np.zeros(2)
        for k, chosen in enumerate(steps):
            self.set_rate(k / len(steps))
            tally += self.step([examples[i] for i in chosen])
        position.round += 1
        focal, dice = (round(float(v), 5) for v in tally / len(steps))
        rate = float(f"{self.adamw.param_groups[0]['lr']:.3g}")
        self.log({"rate": rate, "focal": focal, "dice": dice})
        if position.round % VALIDATE_ROUNDS == 0:
            self.validate()
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()

    def examples(self, phase: Phase, round_: int) -> list[Example]:
        """The new scenes of a round."""
        scenes = (scene(phase.seed, k, RULES) for k in range(round_ * SCENES, (round_ + 1) * SCENES))
        return [self.example(one, phase) for one in scenes if len(one.coco_ids)]

    def example(self, one: Scene, phase: Phase) -> Example:
        """The frozen detector's work on a scene, once for all the rounds that use it."""
        pixels, _, targets = batch([example(one, phase.short_px, phase.long_px)], None)
        seen, objects = see(self.detector, pixels, targets)
        height, width = seen.stages[-1].shape[2:]
        owners = Image.fromarray(one.owners).resize((2 * width, 2 * height), Image.Resampling.NEAREST)
        masks = torch.from_numpy(np.array(owners))[None] == objects[:, None, None] + 1
        return Example(seen, masks)

    def step(self, examples: list[Example]) -> NDArray[np.float64]:
        """One update; returns both losses, per object. Scenes go one by one, so nothing is padded."""
        self.adamw.zero_grad(set_to_none=True)
        objects = sum(len(one.masks) for one in examples)
        tally = np.zeros(2)
        for one in examples:
            focal, dice = mask_losses(self.model(one.seen), one.masks.float())
            ((focal + dice) / objects).backward()
            tally += float(focal.detach()), float(dice.detach())
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.adamw.step()
        self.progress.step += 1
        move_average(self.average, self.model, AVERAGE, self.progress.step)
        return tally / objects

    def set_rate(self, share: float) -> None:
        """Sets the learning rate at `share` of the current round: warm-up, then a cosine to a hundredth."""
        position = self.progress
        done = sum(phase.rounds for phase in PHASES[: position.phase]) + position.round + share
        cosine = (1 + math.cos(math.pi * done / sum(phase.rounds for phase in PHASES))) / 2
        factor = (0.01 + 0.99 * cosine) * min(1.0, (position.step + 1) / WARM_UP_STEPS)
        for group in self.adamw.param_groups:
            group["lr"] = RATE * factor

    @property
    def phase(self) -> Phase:
        """The current phase, after the end the last one."""
        return PHASES[min(self.progress.phase, len(PHASES) - 1)]

    @property
    def head(self) -> dict[str, object]:
        """The phase, as the log names it."""
        return {"phase": self.phase.name}

    @torch.inference_mode()
    def validate(self) -> None:
        """Logs the average's mean mask IoU over the objects of the validation scenes, and the share above 0.5."""
        scenes = (scene(VALIDATION_SEED, k) for k in range(VALIDATION_SCENES))
        examples = [self.example(one, self.phase) for one in scenes if len(one.coco_ids)]
        ious = torch.cat([mask_ious(self.average(one.seen), one.masks) for one in examples])
        figures = {"mask_iou": float(ious.mean()), "above_half": float((ious > 0.5).float().mean())}
        self.log({"validation": {n: round(v, 4) for n, v in figures.items()} | {"objects": len(ious)}})


def export_checkpoint(trainer: Trainer, directory: Path) -> None:
    """Writes the average's mask head beside the demo's checkpoint, with float16 parameters, and an index of both."""
    tensors = {name: tensor.half().contiguous() for name, tensor in shipped_parameters(trainer.average).items()}
    save_file(tensors, directory / MASK_HEAD, {"format": "pt"})
    (directory / MASK_HEAD).chmod(0o644)
    demo = load_file(directory / WEIGHTS)
    weight_map = dict.fromkeys(demo, WEIGHTS) | dict.fromkeys(tensors, MASK_HEAD)
    total_size = sum(tensor.nbytes for part in (demo, tensors) for tensor in part.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    (directory / PANOPTIC_INDEX).write_text(json.dumps(index, indent=0) + "\n")


def main() -> None:
    """Trains, or exports the last checkpoint."""
    parser = argparse.ArgumentParser(description="Trains the demo's mask head, or exports its last checkpoint.")
    parser.add_argument("--work", type=Path, required=True, help="checkpoint and log")
    parser.add_argument("--export", type=Path, help="the directory of the demo: write the mask head there and stop")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(arguments.work)
    if arguments.export is None:
        trainer.run()
    else:
        trainer.resume()
        export_checkpoint(trainer, arguments.export)


if __name__ == "__main__":
    main()
