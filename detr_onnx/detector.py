"""`Detector`: opens a model by its name and detects objects in images.

`models.open_model` finds the model's files and chooses the engine. The steps from an image to its detections are in
`pipeline.py`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from detr_onnx.arguments import check_threshold, checked_number, whole_number
from detr_onnx.attention import AttentionMaps, cells_of, checked_points, maps_of
from detr_onnx.cache import sha256_of_all
from detr_onnx.defaults import DEFAULT_ENGINE, DEFAULT_MODEL, DEFAULT_THRESHOLD
from detr_onnx.detections import Detections
from detr_onnx.engines.options import EngineOptions
from detr_onnx.engines.providers import ProviderSpec, keeps_cores_busy
from detr_onnx.errors import UsageError
from detr_onnx.image.batching import check_is_list, grouped, remember_paths
from detr_onnx.image.decode import ImageSource, read_rgb
from detr_onnx.image.processor_config import LARGEST_SIDE_PX
from detr_onnx.models.metadata import class_names
from detr_onnx.models.open import open_model
from detr_onnx.panoptic import PanopticRules, PanopticSegmentation, panoptic_of
from detr_onnx.pipeline import Pipeline, with_path
from detr_onnx.read_ahead import read_ahead, usable_cores

if TYPE_CHECKING:
    from detr_onnx.video.detect import VideoFrame
    from detr_onnx.video.open import Video, VideoSource


class Detector(Pipeline):
    """Detects objects in images.

    Args:
        model: "demo", "demo-panoptic", a Hugging Face model id ("facebook/detr-resnet-50", "owner/name@revision"), a
            directory in Hugging Face's layout, or a .safetensors, .onnx, .ort or OpenVINO .xml file.
        engine: "auto", "openvino", "onnxruntime" or "numpy". "auto" is the fastest installed engine that can run the
            model, in this order; the first two run graphs, so they need the package `onnx` to convert a checkpoint.
        providers: ONNX Runtime's execution providers in order of preference, by name or as a pair of name and options,
            such as ["CUDA"] or [("TensorRT", {"trt_fp16_enable": True}), "CUDA"]; None is the CPU.
        precision: "fp32"; with OpenVINO on processors with bfloat16 also "bf16-mixed", its default there, and
            "bf16-backbone", slower and nearer to float32, and "bf16", faster and farther from it; with ONNX Runtime one
            that `export` writes, such as "fp16" for a GPU, and "bf16" on ARM64 processors that have it. None is the
            engine's default.
        threads: of ONNX Runtime or OpenVINO; None leaves their number to the engine.
        shortest_edge: length in pixels that the short side of images is resized to, in place of the model's own. The
            limit of the long side changes in proportion.
        config: a config.json or its directory, for a model without one: a bare .safetensors file, or an .onnx file of
            another exporter. A preprocessor_config.json beside it is read, too.
        labels: the class names by id, in place of the model's own.
        offline: never contact the hub.
        cache_dir: the directory for built graphs and, in its subdirectory hub, downloaded models, in place of
            DETR_ONNX_CACHE and Hugging Face's cache.

    Raises:
        DetrError: the model cannot be found or read, or the engine cannot run it; `errors.py` lists the subclasses.

    Attributes:
        class_names: the names of the classes, by id.
        preprocessing: how images are resized and normalised.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        engine: str = DEFAULT_ENGINE,
        providers: ProviderSpec | None = None,
        precision: str | None = None,
        threads: int | None = None,
        shortest_edge: int | None = None,
        config: str | os.PathLike[str] | None = None,
        labels: Sequence[str] | None = None,
        offline: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if shortest_edge is not None:
            expected = f"1 to {LARGEST_SIDE_PX} pixels"
            shortest_edge = checked_number("shortest_edge", shortest_edge, expected, LARGEST_SIDE_PX)
        engine_options = EngineOptions(engine, providers, precision, threads)
        labels = class_names(labels)
        opened = open_model(
            model,
            engine_options,
            config=Path(config) if config is not None else None,
            labels=labels,
            offline=offline,
            cache_dir=cache_dir,
        )
        preprocessing = opened.preprocessing_at(shortest_edge) if shortest_edge is not None else None
        super().__init__(os.fspath(model), opened, preprocessing)
        self._providers, self._threads, self._files = providers, engine_options.threads, opened.files
        model_options = {"config": config, "labels": labels, "offline": offline, "cache_dir": cache_dir}
        arguments: dict[str, Any] = {**vars(engine_options), "shortest_edge": shortest_edge, **model_options}
        self._reopen: Callable[[], Detector] = functools.partial(Detector, model, **arguments)

    @functools.cached_property
    def sha256(self) -> str:
        """The sha256 of the weights file, in hexadecimal; for several files, that of their sha256s."""
        return sha256_of_all(self._files)

    @property
    def leaves_cores(self) -> bool:
        """Whether images can be prepared while the network runs: it leaves cores free, or runs on a GPU."""
        return not keeps_cores_busy(self._providers) or (self._threads or usable_cores()) < usable_cores()

    def __repr__(self) -> str:
        return f"<Detector {self._name}: {self.runtime}>"

    def __reduce__(self) -> tuple[Callable[[], Detector], tuple[()]]:
        """Pickles as its own arguments: another process opens the model again."""
        return self._reopen, ()

    def __call__(self, image: ImageSource, threshold: float = DEFAULT_THRESHOLD) -> Detections:
        """The detections in one image, in query order.

        Args:
            image: a path, bytes, a binary file object, a PIL image, or a uint8 array [height, width, 3] in RGB.
            threshold: in 0..1; scores must be strictly greater.

        Raises:
            ImageError: the image cannot be read.
            UsageError: the threshold is out of range, or `image` is not an image.
        """
        check_threshold(threshold)
        if isinstance(image, list | tuple | Generator):
            found = f"a {type(image).__name__}" + ("" if isinstance(image, Generator) else f" of {len(image)}")
            raise UsageError("detector(image) takes one image", found=found, remedy="use detector.batch(images)")
        return with_path(image, self._detect([read_rgb(image)], threshold)[0])

    def batch(
        self,
        images: Iterable[ImageSource],
        threshold: float = DEFAULT_THRESHOLD,
        *,
        batch_size: int = 1,
        masks: bool = True,
    ) -> list[Detections]:
        """The detections of several images, one `Detections` each.

        Args:
            images: images of any size, as `__call__` takes them; or one uint8 array [n, height, width, 3].
            threshold: in 0..1; scores must be strictly greater.
            batch_size: images that go through the network together, padded to a common size and masked, which can
                be faster on a GPU. With 1, the result of an image does not depend on the others. The mask hides padding
                from attention, but convolutions still see it at the edge, which costs DETR 0.2 AP [mmdetection #5168].
            masks: whether a panoptic model computes masks, which takes time for each object.
        """
        check_threshold(threshold)
        check_is_list(images)
        batch_size = checked_number("the batch size", batch_size, "a number from 1 up")
        paths: list[ImageSource] = []
        decoded = (read_rgb(image) for image in remember_paths(images, paths))
        groups = grouped(decoded, self._engine.batch or batch_size, self._may_share)
        detections = [found for group in groups for found in self._detect(group, threshold, masks)]
        return [with_path(path, found) for path, found in zip(paths, detections, strict=True)]

    def stream(self, images: Iterable[ImageSource], threshold: float = DEFAULT_THRESHOLD) -> Iterator[Detections]:
        """The detections of one image after another, in order, as soon as they are known.

        The next images are decoded and preprocessed in other threads: while the network runs, if it leaves cores
        free, otherwise several at once, between its runs. `images` may be endless: only a few are held at a time. If it
        raises an error, the detections of the images before come first.

        Args:
            images: images of any size, as `__call__` takes them.
            threshold: in 0..1; scores must be strictly greater.

        Raises:
            ImageError: an image cannot be read; the detections of those before it have been yielded.
        """
        check_threshold(threshold)
        check_is_list(images)
        return self._stream(images, threshold)

    def _stream(self, images: Iterable[ImageSource], threshold: float) -> Iterator[Detections]:
        prepared = read_ahead(lambda i: self.preprocess([i]), images, meanwhile=self.leaves_cores)
        for image, (pixels, mask, sizes_hw) in prepared:
            yield with_path(image, self.detect_prepared(pixels, mask, sizes_hw, threshold)[0])

    def panoptic(
        self,
        image: ImageSource,
        threshold: float = DEFAULT_THRESHOLD,
        *,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        label_ids_to_fuse: Collection[int] = (),
    ) -> PanopticSegmentation:
        """The segments of one image, by a panoptic model; every pixel belongs to one of them or to none.

        Args:
            image: as `__call__` takes it.
            threshold: in 0..1; scores must be strictly greater.
            mask_threshold: in 0..1; a pixel counts as part of a mask if its probability times the score reaches this.
            overlap_mask_area_threshold: in 0..1; a mask is left out unless it keeps more than this share of its pixels
                when each pixel is given to the best mask.
            label_ids_to_fuse: classes whose segments become one, such as sky.

        Raises:
            UsageError: the model has no mask head, or a threshold is out of range.
        Source: `post_process_panoptic_segmentation` of transformers; with nothing to fuse also
            `post_process_instance_segmentation`. Where segments are fused, ours has one entry for them.
        """
        check_threshold(threshold, mask_threshold, overlap_mask_area_threshold)
        self.check_masks()
        pixels, mask, sizes_hw = self.preprocess([image])
        segments = self.segment(pixels, mask, threshold)
        rules = PanopticRules(threshold, mask_threshold, overlap_mask_area_threshold, label_ids_to_fuse)
        return panoptic_of(segments, mask, sizes_hw, self.class_names, rules)

    def attention(
        self,
        image: ImageSource,
        threshold: float = DEFAULT_THRESHOLD,
        *,
        points: Iterable[Iterable[float]] = (),
    ) -> AttentionMaps:
        """Where the query of each detection looks, and what points of the image look at.

        The first call opens a second network. An engine that runs graphs then builds another graph, and loads the
        weights a second time.

        Args:
            image: as `__call__` takes it.
            threshold: in 0..1; scores must be strictly greater.
            points: x and y in pixels of the upright image. A point takes 160 KB in a DETR-R50, and 640 KB with DC5.

        Raises:
            UsageError: the model is a graph file without attention maps, or a point is outside the image.
        """
        check_threshold(threshold)
        network, rgb = self.attention_network(), read_rgb(image)
        wanted = checked_points(points, rgb.size)
        pixels, mask, _ = self._prepare([rgb] * (self._engine.batch or 1))
        cells = np.tile(cells_of(wanted, rgb.size, mask, network.stride), (len(pixels), 1))
        outputs = network.attend(pixels, mask, threshold, cells)
        self._check_outputs(*outputs[:2])
        maps = maps_of(outputs, mask, wanted, self.class_names, threshold, rgb)
        return replace(maps, detections=with_path(image, maps.detections))

    def video(
        self,
        source: VideoSource | Video,
        threshold: float = DEFAULT_THRESHOLD,
        *,
        every: int = 1,
        fps: float | None = None,
        start_s: float = 0.0,
        duration_s: float | None = None,
        track: bool = False,
    ) -> Generator[VideoFrame, None, None]:
        """The frames of a video with their detections: `(frame_index, seconds, image, detections)`.

        A file yields every frame in order, and decodes ahead. A live stream yields the newest frame; frames that
        arrive while the network runs are dropped. Needs the extra `video`.

        Args:
            source: a path, a URL (rtsp, http, …), a camera ("/dev/video0", or 0), or what `open_video` returns.
            threshold: in 0..1; scores must be strictly greater.
            every: take every n-th frame.
            fps: at most this many frames per second, in place of `every`.
            start_s: start at this time of a file.
            duration_s: stop after this many seconds.
            track: give an object the same id in all frames (`track_ids`); needs the package trackers.

        Raises:
            VideoError, MissingPackageError: the video cannot be read; the frames before have been yielded.
        """
        from detr_onnx.video.detect import detect_frames, opened

        check_threshold(threshold)
        video = opened(source, every=every, fps=fps, start_s=start_s, duration_s=duration_s)
        return detect_frames(self, video, threshold, track)

    def warm_up(self, width: int = 640, height: int = 480) -> None:
        """Runs a grey image of this size in pixels, so that the first real one takes no longer than the next.

        Engines lay out weights and compile kernels for an image size when they first meet it.

        Raises:
            UsageError: a size is below 1.
        """
        columns, rows = whole_number(width), whole_number(height)
        if columns is None or rows is None:
            raise UsageError("the size is wrong", found=f"{width}x{height}", expected="whole numbers of pixels, from 1")
        self(Image.new("RGB", (columns, rows), "grey"))
