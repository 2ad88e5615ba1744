"""`Pipeline`: the steps from images to detections, which are preprocessing, the network and postprocessing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.defaults import DEFAULT_THRESHOLD
from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines import AttentionNetwork, Floats, Mask, PanopticNetwork, PanopticOutputs
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.image.batching import check_is_list
from detr_onnx.image.decode import ImageSource, read_rgb
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.models.metadata import check_labels
from detr_onnx.models.open import OpenModel
from detr_onnx.panoptic import kept_queries, with_masks

Sizes = NDArray[np.int64]
Prepared = tuple[Floats, Mask, Sizes]


class Pipeline:
    """A model on an engine, with its preprocessing and class names; `Detector` is one that opens a model by its name.

    The server, jobs and videos prepare images in other threads than the one that runs the network, so each step is a
    method.

    Args:
        name: of the model, for error messages.
        opened: the model.
        preprocessing: in place of the model's own.

    Attributes:
        class_names: the names of the classes, by id.
        preprocessing: how images are resized and normalised.
    """

    def __init__(self, name: str, opened: OpenModel, preprocessing: Preprocessing | None = None) -> None:
        self._name, self._engine, self._engine_name = name, opened.engine, opened.engine_name
        self.class_names: tuple[str, ...] = opened.labels
        self.preprocessing: Preprocessing = preprocessing or opened.preprocessing

    @property
    def engine(self) -> str:
        """The engine's name: "numpy", "onnxruntime" or "openvino"."""
        return self._engine_name

    @property
    def runtime(self) -> str:
        """Engine, version, device and precision: "onnxruntime 1.32.0, CPUExecutionProvider, fp32"."""
        return self._engine.title

    @property
    def precision(self) -> str:
        """What the network computes in, such as "fp32"; "as exported" for a graph that does not say."""
        return self._engine.title.rsplit(", ", 1)[-1]

    @property
    def batch_size(self) -> int | None:
        """The only batch size that the network takes; None if it takes any."""
        return self._engine.batch

    @property
    def has_masks(self) -> bool:
        """Whether the model is panoptic."""
        return self._engine.segment is not None

    def check_masks(self) -> None:
        """Raises UsageError if the model is not panoptic."""
        _ = self._segment

    @property
    def _segment(self) -> PanopticNetwork:
        if self._engine.segment is None:
            remedy = "use a panoptic model, such as facebook/detr-resnet-50-panoptic"
            raise UsageError("the model has no mask head", found=self._name, remedy=remedy)
        return self._engine.segment

    def attention_network(self) -> AttentionNetwork:
        """The network of `attention`, opened if it is not open yet.

        Raises:
            UsageError: the model has none.
        """
        if self._engine.attention is None:
            remedy = "use the checkpoint, or export it with --attention"
            raise UsageError("the model has no attention maps", found=self._name, remedy=remedy)
        return self._engine.attention()

    def preprocess(self, images: Iterable[ImageSource]) -> Prepared:
        """What the network takes for a batch of images.

        Returns:
            pixels: [B,3,H,W] float32, normalised.
            mask: [B,H,W], True for image, False for padding.
            sizes_hw: [B,2], heights and widths of the original images.
        """
        check_is_list(images)
        return self._prepare([read_rgb(image) for image in images])

    def network(self, pixels: Floats, mask: Mask | None = None) -> tuple[Floats, Floats]:
        """The raw outputs of the network.

        Args:
            pixels: [B,3,H,W] float32, as `preprocess` returns them.
            mask: [B,H,W], True for image; None for no padding.

        Returns:
            logits: [B,Q,C+1]; the last class is "no object".
            boxes_cxcywh: [B,Q,4] in 0..1 of the image.
        """
        count = len(pixels)
        logits, boxes_cxcywh = self._engine.network(*self._filled(pixels, mask))
        return logits[:count], boxes_cxcywh[:count]

    def segment(self, pixels: Floats, mask: Mask, threshold: float = DEFAULT_THRESHOLD) -> PanopticOutputs:
        """The raw outputs of the network of a panoptic model, with a mask for each query above the threshold.

        Args:
            pixels: [B,3,H,W] float32, as `preprocess` returns them.
            mask: [B,H,W], True for image.
            threshold: scores must be strictly greater; below 0 for all queries.

        Raises:
            UsageError: the model has no mask head.
            EngineError: the outputs are not finite.
        """
        count = len(pixels)
        segments = self._segment(*self._filled(pixels, mask), threshold)
        self._check_outputs(*segments[:2])
        if len(segments.logits) == count:
            return segments
        own = segments.kept[:, 0] < count
        return PanopticOutputs(segments.logits[:count], segments.boxes[:count], segments.kept[own], segments.masks[own])

    def postprocess(
        self,
        logits: Floats,
        boxes_cxcywh: Floats,
        sizes_hw: Sizes | Sequence[Sequence[int]],
        threshold: float = DEFAULT_THRESHOLD,
    ) -> list[Detections]:
        """The detections of each image, from the outputs of `network` and the original sizes of `preprocess`.

        Raises:
            EngineError: the outputs are not finite.
            ModelFileError: the number of classes is not that of the class names.
        """
        self._check_outputs(logits, boxes_cxcywh)
        return detections_of(logits, boxes_cxcywh, sizes_hw, self.class_names, threshold)

    def detect_prepared(
        self,
        pixels: Floats,
        mask: Mask,
        sizes_hw: Sizes,
        threshold: float = DEFAULT_THRESHOLD,
        *,
        masks: bool = True,
    ) -> list[Detections]:
        """The detections of each image of a batch, from what `preprocess` returns.

        Args:
            pixels: [B,3,H,W] float32.
            mask: [B,H,W], True for image.
            sizes_hw: [B,2], heights and widths of the original images.
            threshold: in 0..1; scores must be strictly greater.
            masks: whether a panoptic model computes masks.

        Raises:
            EngineError: the outputs are not finite.
        """
        if not masks or not self.has_masks:
            return self.postprocess(*self.network(pixels, mask), sizes_hw, threshold)
        segments = self.segment(pixels, mask, threshold)
        detections = detections_of(*segments[:2], sizes_hw, self.class_names, threshold, kept_queries(segments))
        return with_masks(detections, segments, mask, sizes_hw)

    def _check_outputs(self, logits: Floats, boxes_cxcywh: Floats) -> None:
        """Raises EngineError unless outputs are finite, and ModelFileError unless there is a name for each class."""
        check_labels(self.class_names, logits.shape[-1] - 1)
        if not np.isfinite(logits.max()) or not np.isfinite(boxes_cxcywh).all():
            raise EngineError(
                f"{self.runtime} computed numbers that are not finite",
                remedy="try another engine or precision, or check the weights",
            )

    def _may_share(self, image: Image.Image, other: Image.Image) -> bool:
        resized = self.preprocessing.resized_hw
        return self._engine.batches_mixed_sizes or resized(*image.size[::-1]) == resized(*other.size[::-1])

    def _prepare(self, images: list[Image.Image]) -> Prepared:
        return batch(images, self.preprocessing, canvas_hw=self._engine.canvas_hw)

    def _detect(self, group: list[Image.Image], threshold: float, masks: bool = True) -> list[Detections]:
        return self.detect_prepared(*self._prepare(group), threshold, masks=masks)

    def _filled(self, pixels: Floats, mask: Mask | None) -> tuple[Floats, Mask | None]:
        """The batch, filled up with its last image if the engine takes only one batch size."""
        size = self._engine.batch or 0
        if size <= len(pixels):
            return pixels, mask
        rows = np.arange(size).clip(max=len(pixels) - 1)
        return pixels[rows], None if mask is None else mask[rows]


def with_path(image: ImageSource, detections: Detections) -> Detections:
    """The detections with the path of their image, if it was given as a path."""
    return replace(detections, path=os.fsdecode(image)) if isinstance(image, str | os.PathLike) else detections
