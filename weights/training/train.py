"""Trains the demo model.

    python weights/training/train.py --work DIR                  # again to resume
    python weights/training/train.py --work DIR --export DIR     # write the checkpoint
    python weights/training/train.py --work DIR --from weights/demo --photographs DIR

With `--from`, training starts from that checkpoint and teaches it to find nothing in photographs. Without, the backbone
first learns to classify single pictograms; then the whole model is trained with small scenes, then with larger ones
while the learning rate falls. The moving average of the parameters is what ships.
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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from detr_onnx.image.preprocess import Preprocessing
from weights.training.evaluate import coco_figures, coco_rows
from weights.training.labels import ID2LABEL
from weights.training.loss import Targets, losses
from weights.training.model import DemoConfig, DemoDetr, hugging_face_config, hugging_face_parameters, own_parameters
from weights.training.natural import photograph_paths
from weights.training.quietness import false_per_photograph
from weights.training.recipes import FIRST, QUIET, Recipe
from weights.training.scenes import Scene, coco_ground_truth, scene
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
WEIGHT_DECAY, CLIP = 1e-4, 0.1
WARM_UP_STEPS, SHORT_WARM_UP_STEPS = 200, 20  # from random and from trained parameters
AVERAGE = 0.998
MIXED = 0.1  # share of batches with mixed shapes
SAVE_SECONDS = 100
STATES = ("model", "average", "naming", "adamw", "muon")  # parts of the trainer in its checkpoint


@dataclass
class Progress:
    """The state of training; `phase` and `round` are the next ones."""

    phase: int = 0
    round: int = 0
    step: int = 0
    seconds: float = 0.0


class Trainer:
    """The model, its moving average, its optimisers and its files.

    Args:
        work: the directory of checkpoint, log and shards.
        recipe: the phases.
        start: a directory with a checkpoint like the shipped one, whose parameters are the first; None: random ones.
        quiet: photographs without pictograms, in which validation counts detections.
    """

    def __init__(
        self, work: Path, recipe: Recipe = FIRST, start: Path | None = None, quiet: tuple[Path, ...] = ()
    ) -> None:
        torch.manual_seed(SEED)
        self.work, self.recipe, self.quiet = work, recipe, quiet
        self.config = DemoConfig(groups=recipe.groups)
        self.model = DemoDetr(self.config).to(memory_format=torch.channels_last)
        if start is not None:
            shipped = load_file(start / "model.safetensors")
            self.model.load_state_dict(own_parameters(shipped, self.model.state_dict()), strict=False)
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
        self.started = self.saved = time.monotonic()

    def run(self) -> None:
        """Trains from the last checkpoint to the end."""
        self.resume()
        start_renderer(self.recipe.phases, WINDOW, (self.progress.phase, self.progress.round), self.work / "shards")
        while self.progress.phase < len(self.recipe.phases):
            phase = self.phase
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
        batches = grouped(examples, phase.batch, MIXED, rng)
        for k, batch_examples in enumerate(batches):
            self.set_rates(k / len(batches))
            tally += self.step(phase, batch(batch_examples, rng))
            if (k + 1) % self.recipe.log_steps == 0:
                self.log_losses(phase, tally / self.recipe.log_steps)
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
        if self.progress.phase >= self.recipe.frozen_stem_from:
            self.model.backbone.freeze_stem()
        if self.recipe.frozen_statistics:
            self.model.backbone.freeze_statistics()
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
        self.update_average()
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
        last = self.progress.phase == len(self.recipe.phases) - 1
        weights = self.recipe.last_weights if last else self.recipe.weights
        all_ = losses(outputs, targets, self.config.groups, self.recipe.eos, weights)
        return all_.total, all_.classes, all_.boxes, all_.cells

    def set_rates(self, share: float) -> None:
        """Sets the learning rates at `share` of the current round: warm-up, constant, then a cosine to a hundredth."""
        position = self.progress
        single = self.phase.name == "single"
        first = int(self.recipe.phases[0].name == "single")  # of the detector's phases
        detector = sum(phase.rounds for phase in self.recipe.phases[first:])
        done = sum(phase.rounds for phase in self.recipe.phases[first : position.phase]) + position.round + share
        fall_from = self.recipe.fall_from
        fall = 0.0 if single else max(0.0, done / detector - fall_from) / (1 - fall_from)
        factor = 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, fall))) / 2
        steps_in = (position.round + share) * 60 if first and position.phase == 1 else position.step
        factor *= min(1.0, (steps_in + 1) / (WARM_UP_STEPS if first else SHORT_WARM_UP_STEPS))
        for group in (*self.adamw.param_groups, *self.muon.param_groups):
            group["lr"] = self.recipe.rate * factor * (4 if single else 1)

    @torch.no_grad()
    def update_average(self) -> None:
        """Moves the average towards the model, batch norm statistics included."""
        keep = min(AVERAGE, (1 + self.progress.step) / (10 + self.progress.step))
        ours = [t for t in self.average.state_dict().values() if t.is_floating_point()]
        new = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        torch._foreach_lerp_(ours, new, 1 - keep)

    @property
    def phase(self) -> Phase:
        """The current phase, after the end the last one."""
        return self.recipe.phases[min(self.progress.phase, len(self.recipe.phases) - 1)]

    # Files

    def pause_for_files(self, position: Progress) -> None:
        """Validates and saves between rounds, at intervals."""
        now = time.monotonic()
        if self.phase.name != "single" and position.round % self.recipe.validate_rounds == 0:
            self.validate()
        if now - self.saved > SAVE_SECONDS:
            self.save()

    def log(self, entry: dict[str, object]) -> None:
        """Appends one JSON line to the log."""
        position = self.progress
        head = {"phase": self.phase.name, "step": position.step}
        seconds = round(position.seconds + time.monotonic() - self.started)
        with (self.work / "log.jsonl").open("a") as file:
            file.write(json.dumps(head | {"seconds": seconds} | entry) + "\n")

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
        figures = coco_figures(coco_ground_truth(self.validation), rows)
        if self.quiet:
            figures["false_per_photograph"] = false_per_photograph(self.average, self.quiet, phase)
        self.log({"validation": figures})

    @torch.inference_mode()
    def rows(self, image_id: int, original: Scene, resized: Example) -> list[dict[str, object]]:
        """COCO rows of the average for one scene."""
        pixels, mask, _ = batch([resized], None)
        outputs = self.average(pixels, mask, 1)
        return coco_rows(image_id, original.size_hw, outputs.logits[-1, 0].numpy(), outputs.boxes[-1, 0].numpy())

    def save(self) -> None:
        """Writes the checkpoint for resuming."""
        now = time.monotonic()
        self.progress.seconds += now - self.started
        self.started = self.saved = now
        state = {name: getattr(self, name).state_dict() for name in STATES}
        torch.save(state | {"progress": vars(self.progress)}, self.work / "checkpoint.part")
        (self.work / "checkpoint.part").rename(self.work / "checkpoint.pt")

    def resume(self) -> None:
        """Reads the checkpoint, if there is one."""
        path = self.work / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        for name in STATES:
            getattr(self, name).load_state_dict(state[name])
        self.progress = Progress(**state["progress"])
        self.started = time.monotonic()


def as_matrix(kernel: Tensor) -> nn.Parameter:
    """The convolution kernel [outer,inner,k,k], channels last, as a matrix [outer,k*k*inner] on the same memory."""
    return nn.Parameter(kernel.detach().permute(0, 2, 3, 1).flatten(1))


def export_checkpoint(trainer: Trainer, directory: Path) -> None:
    """Writes the average as a checkpoint in Hugging Face's layout, with float16 parameters."""
    directory.mkdir(parents=True, exist_ok=True)
    shipped = hugging_face_parameters(trainer.average.state_dict(), trainer.config.queries)
    save_file({n: t.half().contiguous() for n, t in shipped.items()}, directory / "model.safetensors", {"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)
    config = hugging_face_config(trainer.config, ID2LABEL)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    phase = trainer.recipe.phases[-1]
    preprocessing = Preprocessing(shortest_edge=phase.short_px, longest_edge=phase.long_px)
    preprocessor = preprocessing.to_json() | {"format": "coco_detection", "do_pad": True}
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")


def main() -> None:
    """Trains, or exports the last checkpoint."""
    parser = argparse.ArgumentParser(description="Trains the demo model, or exports its last checkpoint.")
    parser.add_argument("--work", type=Path, required=True, help="checkpoint, log and shards")
    parser.add_argument("--from", dest="start", type=Path, metavar="DIR", help="train this checkpoint further")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="with --from: written by photographs.py")
    parser.add_argument("--export", type=Path, help="write the Hugging Face checkpoint here and stop")
    arguments = parser.parse_args()
    if arguments.photographs and not arguments.start:
        parser.error("--photographs goes with --from: the first training has no photographs")
    recipe, quiet = QUIET if arguments.start else FIRST, tuple[Path, ...]()
    if arguments.photographs:
        recipe = recipe.with_photographs(arguments.photographs / "train")
        try:
            _, quiet = (photograph_paths(arguments.photographs / part) for part in ("train", "quiet"))
        except ValueError as error:
            parser.error(str(error))
    arguments.work.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(arguments.work, recipe, arguments.start, quiet)
    if arguments.export is None:
        trainer.run()
    else:
        trainer.resume()
        export_checkpoint(trainer, arguments.export)


if __name__ == "__main__":
    main()
