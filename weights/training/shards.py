"""Scenes for training: resized, and packed into files by a process that runs ahead of the trainer."""

import io
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.image.sizes import resized_hw
from weights.training.loss import Targets
from weights.training.scenes import Scene, SceneRules, scene

NO_OBJECT = 91
SLOTS = 8  # the most objects in a scene
FILES_AHEAD = 9


@dataclass(frozen=True)
class Phase:
    """A part of the schedule: which scenes, their size, the number of rounds, scenes per batch."""

    name: str
    seed: int
    rules: SceneRules
    short_px: int
    long_px: int
    rounds: int
    batch: int
    shard_scenes: int


@dataclass(frozen=True)
class Example:
    """A resized scene: `pixels` [H,W,3] uint8, `boxes` [T,4] cxcywh in 0..1, `classes` [T] (91: none)."""

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]


def example(scene: Scene, short_px: int, long_px: int) -> Example:
    """The resized scene, with boxes relative to its size."""
    pixels = resized(Image.open(io.BytesIO(scene.jpeg)).convert("RGB"), short_px, long_px)
    scale = np.array(scene.size_hw[::-1] * 2, np.float32)
    corners = scene.boxes_xyxy / scale
    boxes, classes = np.zeros((SLOTS, 4), np.float32), np.full(SLOTS, NO_OBJECT, np.int64)
    count = len(corners)
    boxes[:count] = np.concatenate(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), 1)
    classes[:count] = scene.coco_ids
    return Example(pixels, boxes, classes)


def resized(image: Image.Image, short_px: int, long_px: int) -> NDArray[np.uint8]:
    """The pixels [H,W,3] at the size that the model's preprocessing gives an image."""
    height, width = resized_hw(image.height, image.width, short_px, long_px)
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR))


def batch(examples: list[Example], augment: np.random.Generator | None) -> tuple[torch.Tensor, torch.Tensor, Targets]:
    """Pixels [B,3,H,W] normalised and padded, mask [B,H,W], targets; given a generator, mirrored and tinted."""
    sizes = np.array([one.pixels.shape[:2] for one in examples])
    height, width = sizes.max(0)
    pixels = np.zeros((len(examples), height, width, 3), np.float32)
    mask = np.zeros((len(examples), height, width), bool)
    boxes = np.stack([one.boxes for one in examples])
    mean, std = np.array(Preprocessing.mean, np.float32), np.array(Preprocessing.std, np.float32)
    for k, one in enumerate(examples):
        image, gain = one.pixels, np.ones(3, np.float32)
        if augment is not None:
            gain = augment.uniform(0.9, 1.1, 3).astype(np.float32)
            if augment.random() < 0.5:
                image = image[:, ::-1]
                boxes[k, :, 0] = 1 - boxes[k, :, 0]
        h, w = sizes[k]
        scale, shift = np.tile(gain / (255 * std), w), np.tile(mean / std, w)
        pixels[k, :h, :w] = (image.reshape(h, 3 * w) * scale - shift).reshape(h, w, 3)
        mask[k, :h, :w] = True
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels last in memory
    classes = torch.from_numpy(np.stack([one.classes for one in examples]))
    targets = Targets(classes, torch.from_numpy(boxes), torch.from_numpy(sizes).float(), NO_OBJECT)
    return tensor, torch.from_numpy(mask), targets


def grouped(sizes_hw: NDArray[np.int64], size: int, mixed: float, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Batches, as indices of `sizes_hw` [S,2], of similar shapes, and a share `mixed` of batches of any; shuffled."""
    order = rng.permutation(len(sizes_hw))
    any_shape, rest = order[: int(mixed * len(order))], order[int(mixed * len(order)) :]
    aspects = np.log(sizes_hw[rest, 0] / sizes_hw[rest, 1])
    similar = rest[np.argsort(aspects + rng.normal(0, 0.05, len(rest)))]
    chunks = [part[i : i + size] for part in (any_shape, similar) for i in range(0, len(part) - size + 1, size)]
    return [chunks[k] for k in rng.permutation(len(chunks))]


# Files


def shard_path(directory: Path, phase: int, shard: int) -> Path:
    """The path of a shard."""
    return directory / f"{phase}-{shard:05d}.npz"


def write_shard(path: Path, phase: Phase, shard: int) -> None:
    """Renders one shard; the file appears when it is complete."""
    first = shard * phase.shard_scenes
    examples = [
        example(scene(phase.seed, index, phase.rules), phase.short_px, phase.long_px)
        for index in range(first, first + phase.shard_scenes)
    ]
    partial = path.with_suffix(".part.npz")
    np.savez(
        partial,
        flat=np.concatenate([one.pixels.ravel() for one in examples]),
        sizes=np.array([one.pixels.shape[:2] for one in examples]),
        boxes=np.stack([one.boxes for one in examples]),
        classes=np.stack([one.classes for one in examples]),
    )
    partial.rename(path)


def read_shard(path: Path) -> list[Example]:
    """The examples of a shard; waits until the renderer has written it."""
    while not path.is_file():
        time.sleep(0.2)
    with np.load(path) as file:
        flat, sizes, boxes, classes = (file[name] for name in ("flat", "sizes", "boxes", "classes"))
    ends = np.cumsum(sizes.prod(1) * 3)
    images = np.split(flat, ends[:-1])
    return [
        Example(image.reshape(*size, 3), box, ids)
        for image, size, box, ids in zip(images, sizes, boxes, classes, strict=True)
    ]


def render(phases: tuple[Phase, ...], window: int, first: tuple[int, int], directory: Path) -> None:
    """Writes the shards of all phases from (phase, shard) `first` on, at most FILES_AHEAD in advance."""
    trainer = os.getppid()
    for k in range(first[0], len(phases)):
        for shard in range(first[1] if k == first[0] else 0, phases[k].rounds + window - 1):
            while os.getppid() == trainer and len(list(directory.glob("?-?????.npz"))) >= FILES_AHEAD:
                time.sleep(0.3)
            if os.getppid() != trainer:  # it was killed, and another may use this directory
                return
            path = shard_path(directory, k, shard)
            if not path.is_file():
                write_shard(path, phases[k], shard)


def start_renderer(phases: tuple[Phase, ...], window: int, first: tuple[int, int], directory: Path) -> None:
    """Empties the directory and starts the rendering process, which ends with the trainer."""
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.iterdir():
        stale.unlink()
    process = multiprocessing.get_context("spawn").Process(
        target=render, args=(phases, window, first, directory), daemon=True
    )
    process.start()
