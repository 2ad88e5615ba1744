"""Trains the demo model's decoder and heads to find nothing in photographs; backbone and encoder are frozen.

    python weights/training/train_decoder.py --work DIR --photographs DIR     # again to resume
    python weights/training/train_decoder.py --work DIR --export DIR          # write model.safetensors

The frozen part runs once on every scene, in several processes; the decoder then sees what came out, many times. The
moving average of its parameters is what ships.
"""

import argparse
import copy
import math
import multiprocessing
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from weights.training.evaluate import coco_figures, coco_rows
from weights.training.loss import STRIDE_PX, Targets, query_losses
from weights.training.model import DemoDetr, load_weights, save_weights, sine_position
from weights.training.natural import opened, photograph_paths
from weights.training.resumable import Resumable, move_average
from weights.training.scenes import SceneRules, coco_ground_truth, scene
from weights.training.shards import NO_OBJECT, SLOTS, Example, batch, example, grouped, resized

DEMO = Path(__file__).resolve().parents[1] / "demo"
SEED = 1
SCENES_SEED, VALIDATION_SEED = 120, 3
SHARDS, SHARD_SCENES, VALIDATION_SCENES = 192, 64, 300
RULES = SceneRules(objects=(1, 8), natural=0.4, empty=0.25)
SHORT_PX, LONG_PX = 384, 608  # the checkpoint's
EPOCHS, BATCH, MIXED = 6, 16, 0.1
RATE, WEIGHT_DECAY, CLIP = 2e-4, 1e-4, 0.1
WARM_UP_STEPS, FALL_FROM = 30, 0.2  # the cosine begins after this share of the updates
AVERAGE = 0.995
# With train.py's weight 0.2 of no-object, the score is 0.5 where one query in six has an object; here one in three.
EOS, BOXES = 0.5, 2.0
TRAINED = (
    "decoder.",
    "decoder_layernorm.",
    "query_position_embeddings.",
    "class_labels_classifier.",
    "bbox_predictor.",
)


@dataclass(frozen=True)
class Seen:
    """What the frozen encoder makes of pictures, one after the other, and their objects.

    Attributes:
        memory: [h*w of all pictures,D] float16.
        cells_hw: [S,2] of each picture.
        boxes: [S,SLOTS,4] cxcywh in 0..1.
        classes: [S,SLOTS], NO_OBJECT where there is no object.
    """

    memory: NDArray[np.float16]
    cells_hw: NDArray[np.int64]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]

    def batch(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor | None, Targets]:
        """Memory, position and keys for `DemoDetr.decode`, and the objects, of the chosen pictures."""
        sizes = self.cells_hw[chosen]
        height, width = sizes.max(0)
        memory = np.zeros((len(chosen), height, width, self.memory.shape[1]), np.float32)
        valid = np.zeros((len(chosen), height, width), bool)
        ends = self.cells_hw.prod(1).cumsum()
        for k, (picture, (h, w)) in enumerate(zip(chosen, sizes, strict=True)):
            memory[k, :h, :w] = self.memory[ends[picture] - h * w : ends[picture]].reshape(h, w, -1)
            valid[k, :h, :w] = True
        valid_hw = torch.from_numpy(valid)
        keys = None if valid.all() else valid_hw.flatten(1)[:, None, None, :]
        classes, boxes = torch.from_numpy(self.classes[chosen]), torch.from_numpy(self.boxes[chosen])
        targets = Targets(classes, boxes, torch.from_numpy(STRIDE_PX * sizes).float(), NO_OBJECT)
        position = sine_position(valid_hw, memory.shape[-1])
        return torch.from_numpy(memory).flatten(1, 2), position, keys, targets


@torch.inference_mode()
def see(model: DemoDetr, examples: list[Example], augment: np.random.Generator | None) -> Seen:
    """Runs backbone and encoder on one picture at a time, without padding; given a generator, mirrored and tinted."""
    memories, cells_hw, boxes = [], [], []
    for one in examples:
        pixels, _, targets = batch([one], augment)
        cells = model.input_projection(model.backbone(pixels))
        position = sine_position(torch.ones(1, *cells.shape[2:], dtype=torch.bool), model.config.d_model)
        memory = model.encode(cells.flatten(2).transpose(1, 2), position, None)
        memories.append(memory[0].half().numpy())
        cells_hw.append(cells.shape[2:])
        boxes.append(targets.boxes[0].numpy())
    return Seen(np.concatenate(memories), np.array(cells_hw), np.stack(boxes), np.stack([e.classes for e in examples]))


def joined(parts: list[Seen]) -> Seen:
    """One after the other."""
    return Seen(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def write_shard(start: Path, rules: SceneRules, directory: Path, shard: int) -> int:
    """Renders one shard of scenes, runs the frozen part on it, returns its number; the file appears when complete."""
    torch.set_num_threads(1)
    scenes = range(shard * SHARD_SCENES, (shard + 1) * SHARD_SCENES)
    examples = [example(scene(SCENES_SEED, k, rules), SHORT_PX, LONG_PX) for k in scenes]
    seen = see(load_weights(start).eval(), examples, np.random.default_rng([SCENES_SEED, shard]))
    partial_file = shard_path(directory, shard).with_suffix(".part.npz")
    np.savez(partial_file, **vars(seen))
    partial_file.rename(shard_path(directory, shard))
    return shard


def shard_path(directory: Path, shard: int) -> Path:
    """The path of a shard."""
    return directory / f"{shard:05d}.npz"


def read_shard(path: Path) -> Seen:
    """What `write_shard` has written."""
    with np.load(path) as file:
        return Seen(**file)


@torch.inference_mode()
def decoded(model: DemoDetr, seen: Seen, picture: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [Q,C+1] and boxes [Q,4] of one picture."""
    memory, position, keys, _ = seen.batch(np.array([picture]))
    logits, boxes = model.decode(memory, position, keys, 1)
    return logits[-1, 0].numpy(), boxes[-1, 0].numpy()


def false_per_photograph(model: DemoDetr, photographs: Seen) -> float:
    """The mean number of detections above 0.5 in photographs without pictograms, where every detection is false."""
    found = 0
    for k in range(len(photographs.cells_hw)):
        logits, _ = decoded(model, photographs, k)
        found += int((torch.from_numpy(logits).softmax(-1)[:, :-1].amax(-1) > 0.5).sum())
    return round(found / len(photographs.cells_hw), 3)


@dataclass
class Progress:
    """The state of training; `epoch` is the next one."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0


class Trainer(Resumable):
    """The model, its moving average, its optimiser and its files.

    Args:
        work: the directory of checkpoint, log and shards.
        start: the directory of the checkpoint whose parameters are the first.
    """

    def __init__(self, work: Path, start: Path = DEMO) -> None:
        super().__init__(work)
        torch.manual_seed(SEED)
        self.start = start
        self.model = load_weights(start)
        self.trained = []
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(TRAINED))
            if parameter.requires_grad:
                self.trained.append(parameter)
        self.average = copy.deepcopy(self.model).eval()
        self.adamw = torch.optim.AdamW(self.trained, weight_decay=WEIGHT_DECAY, fused=True)
        self.progress = Progress()

    def run(self, photographs: Path, processes: int) -> None:
        """Trains from the last checkpoint to the end, with the directory of `photographs.py`."""
        self.resume()
        seen = self.see_scenes(replace(RULES, photographs=photographs / "train"), processes)
        validation = Validation(load_weights(self.start).eval(), photograph_paths(photographs / "quiet"))
        if self.progress.epoch == 0:
            self.log({"validation": validation.figures(self.average)})
        while self.progress.epoch < EPOCHS:
            self.epoch(seen)
            self.log({"validation": validation.figures(self.average)})
            self.save()

    def see_scenes(self, rules: SceneRules, processes: int) -> Seen:
        """The scenes as the frozen part sees them, from the files that are there and those that are written now."""
        directory = self.work / "scenes"
        directory.mkdir(parents=True, exist_ok=True)
        missing = [shard for shard in range(SHARDS) if not shard_path(directory, shard).is_file()]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for shard in pool.imap_unordered(partial(write_shard, self.start, rules, directory), missing):
                print(f"scenes {shard + 1} of {SHARDS}", flush=True)
        return joined([read_shard(shard_path(directory, shard)) for shard in range(SHARDS)])

    def epoch(self, seen: Seen) -> None:
        """One pass over the scenes."""
        rng = np.random.default_rng([SEED, self.progress.epoch])
        batches = grouped(seen.cells_hw, BATCH, MIXED, rng)
        tally = np.zeros(3)
        for k, chosen in enumerate(batches):
            self.set_rate((self.progress.epoch + k / len(batches)) / EPOCHS)
            tally += self.step(seen, chosen)
        self.progress.epoch += 1
        names, mean = ("loss", "class", "box"), tally / len(batches)
        self.log({name: round(float(value), 4) for name, value in zip(names, mean, strict=True)})

    def step(self, seen: Seen, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """One update; returns the loss and its parts, per decoder layer."""
        memory, position, keys, targets = seen.batch(chosen)
        logits, boxes = self.model.decode(memory, position, keys, 1)
        class_loss, box_loss = query_losses(logits, boxes, targets, 1, EOS)
        loss = class_loss + BOXES * box_loss
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.adamw.step()
        self.progress.step += 1
        move_average(self.average, self.model, AVERAGE, self.progress.step)
        return np.array([float(part.detach()) for part in (loss, class_loss, box_loss)]) / len(logits)

    @property
    def head(self) -> dict[str, object]:
        """The number of finished epochs, as the log names it."""
        return {"epoch": self.progress.epoch}

    def set_rate(self, share: float) -> None:
        """Sets the learning rate at `share` of the training: warm-up, constant, then a cosine to a hundredth."""
        fall = max(0.0, share - FALL_FROM) / (1 - FALL_FROM)
        factor = 0.01 + 0.99 * (1 + math.cos(math.pi * fall)) / 2
        for group in self.adamw.param_groups:
            group["lr"] = RATE * factor * min(1.0, (self.progress.step + 1) / WARM_UP_STEPS)


class Validation:
    """Held-out scenes, and photographs that are not trained on, as the frozen part sees them."""

    def __init__(self, model: DemoDetr, photographs: tuple[Path, ...]) -> None:
        self.scenes = [scene(VALIDATION_SEED, k) for k in range(VALIDATION_SCENES)]
        self.seen = see(model, [example(one, SHORT_PX, LONG_PX) for one in self.scenes], None)
        self.photographs = see(model, [nothing_in(path) for path in photographs], None)

    def figures(self, model: DemoDetr) -> dict[str, object]:
        """COCO's figures of the scenes, and the detections above 0.5 a photograph."""
        rows = []
        for k, one in enumerate(self.scenes):
            rows += coco_rows(k + 1, one.size_hw, *decoded(model, self.seen, k))
        figures: dict[str, object] = coco_figures(coco_ground_truth(self.scenes), rows)
        return figures | {"false_per_photograph": false_per_photograph(model, self.photographs)}


def nothing_in(path: Path) -> Example:
    """A photograph at the model's size, in which there is no object."""
    pixels = resized(opened(path), SHORT_PX, LONG_PX)
    return Example(pixels, np.zeros((SLOTS, 4), np.float32), np.full(SLOTS, NO_OBJECT, np.int64))


def main() -> None:
    """Trains, or exports the last checkpoint."""
    parser = argparse.ArgumentParser(description="Trains the demo's decoder, or exports its last checkpoint.")
    parser.add_argument("--work", type=Path, required=True, help="checkpoint, log and scenes")
    parser.add_argument("--from", dest="start", type=Path, default=DEMO, metavar="DIR", help="the first parameters")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="written by photographs.py")
    parser.add_argument("--processes", type=int, default=2, help="for the frozen part (default: %(default)s)")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write model.safetensors here and stop")
    arguments = parser.parse_args()
    trainer = Trainer(arguments.work, arguments.start)
    if arguments.export:
        trainer.resume()
        arguments.export.mkdir(parents=True, exist_ok=True)
        save_weights(trainer.average, arguments.export)
        return
    if not arguments.photographs:
        parser.error("--photographs is needed")
    try:
        for part in ("train", "quiet"):
            photograph_paths(arguments.photographs / part)
    except ValueError as error:
        parser.error(str(error))
    arguments.work.mkdir(parents=True, exist_ok=True)
    trainer.run(arguments.photographs, arguments.processes)


if __name__ == "__main__":
    main()
