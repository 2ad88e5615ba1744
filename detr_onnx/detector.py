"""Images in, detections out: preprocessing, one engine, postprocessing, in that order.

Which engine it is, and where its model comes from, is settled by `models.open_model` before the first image.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.defaults import DEFAULT_MODEL
from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines.providers import ProviderSpec
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.image.preprocess import ImageSource, Preprocessing, batch, read_rgb
from detr_onnx.models.metadata import check_labels
from detr_onnx.models.open import OpenModel, open_model

Floats = NDArray[np.float32]


class Detector:
    """Finds things in images.

    Args:
        model: "demo", a name of the hub ("facebook/detr-resnet-50", "owner/name@revision"), a directory in Hugging
            Face's layout, a .safetensors, an .onnx or an .ort file, or an .xml of OpenVINO's.
        engine: "auto", "numpy", "onnxruntime" or "openvino". "auto" takes the fastest that can run the model here:
            OpenVINO, else ONNX Runtime, else numpy; the first two need a graph, so `onnx` to write a checkpoint's.
        providers: ONNX Runtime's execution providers in order of preference, by name or as a pair of name and options,
            such as ["CUDA"] or [("TensorRT", {"trt_fp16_enable": True}), "CUDA"]; None is the CPU.
        precision: "fp32"; with OpenVINO on processors that have bfloat16 "bf16-backbone", which it takes by itself, and
            "bf16", which is faster and strays further; with ONNX Runtime one of those that `export` writes, such as
            "fp16" for a GPU; None is the engine's best.
        threads: of one operation; None leaves it to the engine.
        size: length of the short side that images are scaled to, in place of the model's own; the limit of the long
            side grows or shrinks with it.
        config: a config.json or its directory, for a model that has none beside it: a bare .safetensors file, an .onnx
            file of another exporter. A preprocessor_config.json beside it counts too.
        labels: names of the classes by id, in place of the model's own.
        offline: make no request to the hub.
        cache_dir: where models are kept, in place of DETR_ONNX_CACHE.

    Raises:
        DetrError: the model cannot be had or read, or the engine cannot run it; see `errors.py` for the tree.

    Attributes:
        engine: what it runs on, for people.
        labels: names of the classes, by id.
        preprocessing: how images are made ready.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        engine: str = "auto",
        providers: ProviderSpec | None = None,
        precision: str | None = None,
        threads: int | None = None,
        size: int | None = None,
        config: str | os.PathLike[str] | None = None,
        labels: Sequence[str] | None = None,
        offline: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if size is not None and size < 1:
            raise UsageError("the size is wrong", found=str(size), expected="a number of pixels from 1 up")
        if isinstance(labels, str):
            raise UsageError("labels are names by class id", found=f"the text {labels!r}", expected="a list of names")
        opened = open_model(
            model,
            engine=engine,
            providers=providers,
            precision=precision,
            threads=threads,
            config=Path(config) if config is not None else None,
            labels=tuple(labels) if labels is not None else None,
            offline=offline,
            cache_dir=cache_dir,
        )
        self._engine = opened.engine
        self.labels: tuple[str, ...] = opened.labels
        self.preprocessing: Preprocessing = opened.preprocessing if size is None else _of_size(opened, size)

    @property
    def engine(self) -> str:
        return self._engine.title

    @property
    def batch_size(self) -> int | None:
        """The one number of images that the network takes at a time; None when it takes any."""
        return self._engine.batch

    def __call__(self, image: ImageSource, threshold: float = 0.5) -> Detections:
        """What is in one image: detections with a score above the threshold, in the order of the queries.

        Args:
            image: a path, bytes, a binary file object, a PIL image, or a uint8 array [height, width, 3] in RGB.
            threshold: in 0..1; a score has to exceed it.

        Raises:
            ImageError: the image cannot be read.
            UsageError: the threshold is out of range, or `image` is nothing that holds an image.
        """
        return self.batch([image], threshold)[0]

    def warm_up(self, width: int = 640, height: int = 480) -> None:
        """Runs a grey image of that size through, so that the first real one waits no longer than the next.

        Engines lay out weights, and make what a size of images needs, when it comes for the first time.

        Args:
            width, height: in pixels, of the images to come.

        Raises:
            UsageError: a size below 1.
            EngineError: the engine fails, or its numbers are not finite.
        """
        if min(width, height) < 1:
            raise UsageError("the size is wrong", found=f"{width}x{height}", expected="numbers of pixels from 1 up")
        self(Image.new("RGB", (width, height), "grey"))

    def batch(self, images: Iterable[ImageSource], threshold: float = 0.5, *, batch_size: int = 1) -> list[Detections]:
        """One Detections an image.

        Args:
            images: images as `__call__` takes them, of any sizes.
            threshold: in 0..1; a score has to exceed it.
            batch_size: images that go through the network together, padded to a common size and masked, which can
                pay on a GPU. With 1 each comes out exactly as alone; padding that a mask hides from attention is still
                seen by convolutions at its edge, and costs DETR 0.2 AP [mmdetection #5168].
        """
        check_threshold(threshold)
        if isinstance(images, str | bytes | os.PathLike | Image.Image):
            raise UsageError("a batch is a list of images", found="one image", remedy="put it into a list")
        if batch_size < 1:
            raise UsageError("the batch size is wrong", found=str(batch_size), expected="a number from 1 up")
        decoded = (read_rgb(image) for image in images)
        groups = self._groups(decoded, self._engine.batch or batch_size)
        return [found for group in groups for found in self._detect(group, threshold)]

    def preprocess(self, images: Iterable[ImageSource]) -> tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]:
        """Pixels [B,3,H,W] normalised, mask [B,H,W] with True for image, original sizes [B,2] as height, width."""
        return batch([read_rgb(image) for image in images], self.preprocessing, canvas_hw=self._engine.canvas_hw)

    def network(self, pixels: Floats, mask: NDArray[np.bool_] | None = None) -> tuple[Floats, Floats]:
        """The seam: logits [B,Q,C+1], the last class "no object", and boxes [B,Q,4], cxcywh in 0..1 of the image.

        Args:
            pixels: [B,3,H,W] float32, as `preprocess` gives them.
            mask: [B,H,W], True for image; None for no padding.
        """
        return self._engine.network(pixels, mask)

    def _groups(self, images: Iterable[Image.Image], size: int) -> Iterator[list[Image.Image]]:
        """Up to `size` images at a time; only equal sizes together where the engine cannot mask."""
        group: list[Image.Image] = []
        for image in images:
            if len(group) == size or (group and not self._may_share(group[0], image)):
                yield group
                group = []
            group.append(image)
        if group:
            yield group

    def _may_share(self, one: Image.Image, other: Image.Image) -> bool:
        resized = self.preprocessing.resized_hw
        return self._engine.batches_mixed_sizes or resized(*one.size[::-1]) == resized(*other.size[::-1])

    def postprocess(
        self, logits: Floats, boxes_cxcywh: Floats, sizes_hw: NDArray[np.int64], threshold: float = 0.5
    ) -> list[Detections]:
        """One Detections an image, from what `network` gave and the original sizes of `preprocess`.

        Raises:
            EngineError: the network's numbers are not finite, or its classes not those of the labels.
        """
        check_labels(self.labels, logits.shape[-1] - 1)
        if not np.isfinite(logits.max()) or not np.isfinite(boxes_cxcywh).all():
            raise EngineError(
                f"{self.engine} answered with numbers that are not finite",
                remedy="try another engine or precision, or check the weights",
            )
        return detections_of(logits, boxes_cxcywh, sizes_hw, self.labels, threshold)

    def _detect(self, group: list[Image.Image], threshold: float) -> list[Detections]:
        """One Detections an image of the group, which is filled up where the engine takes a fixed number."""
        filled = group + group[-1:] * ((self._engine.batch or len(group)) - len(group))
        pixels, mask, sizes_hw = batch(filled, self.preprocessing, canvas_hw=self._engine.canvas_hw)
        return self.postprocess(*self.network(pixels, mask), sizes_hw, threshold)[: len(group)]


def _of_size(opened: OpenModel, size: int) -> Preprocessing:
    """The model's preprocessing at another length of the short side.

    Raises:
        UsageError: for a network that takes one size only and no mask.
    """
    canvas_hw = opened.engine.canvas_hw
    if canvas_hw and not opened.engine.batches_mixed_sizes:
        height, width = canvas_hw
        raise UsageError(f"the model takes images of {height}x{width} only", found=f"size {size}", expected="no size")
    return replace(opened.preprocessing.of_size(size), resize=True)


def check_threshold(threshold: float) -> None:
    """Raises UsageError unless the threshold is a number in 0..1."""
    if not 0 <= threshold <= 1:
        raise UsageError("the threshold is out of range", found=str(threshold), expected="a number from 0 to 1")
