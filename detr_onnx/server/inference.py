"""From a request's bytes to detections, in threads beside the event loop.

    queue ──► decoder thread: bytes ─► pixels ──► network thread: pixels ─► logits, boxes ──► Detections
    full: 429         one image ahead                one at a time, or a batch of one size

An image is decoded only when the network is about to be free for it, so a waiting request holds no more than its file.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.attention import AttentionMaps
from detr_onnx.detections import Detections
from detr_onnx.detector import Detector
from detr_onnx.engines import PanopticOutputs
from detr_onnx.image.decode import ImageSource, read_rgb
from detr_onnx.image.limits import check_pixels
from detr_onnx.server.batches import Batches, Floats, Mask, Run
from detr_onnx.server.errors import BUSY, LEAST_SIDE_PX, TOO_SMALL, UNAVAILABLE, RequestError
from detr_onnx.server.threads import DaemonThreads

Prepared = tuple[Floats, Mask, NDArray[np.int64], float]
T = TypeVar("T")
P = TypeVar("P")

NO_PIXELS: Floats = np.empty((0, 3, 0, 0), np.float32)
AHEAD = 1  # images that are decoded while the network is busy with others
MOST_STUCK = 4  # decoder threads that are replaced while an image keeps them busy
RETRY_AFTER_S = 10  # while the model is not available


@dataclass
class Timing:
    """How long the stages of a request took, in seconds."""

    queue: float = 0.0
    decode: float = 0.0
    network: float = 0.0


class Inference:
    """One detector behind a queue.

    Attributes:
        detector: missing until `use` is called.
        pending: requests that wait or are processed.
    """

    detector: Detector

    def __init__(self, *, queue: int, max_batch: int, max_pixels: int, timeout_s: float) -> None:
        self.pending = 0
        self._loaded = False
        self._most_pending = queue + 1
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(max_batch * (1 + AHEAD))
        self._decoders = DaemonThreads(1 + AHEAD, "decode", limit_s=timeout_s / 2, most_stuck=MOST_STUCK)
        self._network = Batches(self._forward, max_batch=max_batch, limit_s=timeout_s)

    def use(self, detector: Detector) -> None:
        """Serves requests with this detector from now on."""
        self.detector, self._loaded = detector, True

    def close(self) -> None:
        """Ends the threads, each after what it is doing."""
        self._decoders.close()
        self._network.close()

    @property
    def idle(self) -> bool:
        """Whether no thread is busy."""
        return self._decoders.idle and self._network.idle

    @property
    def status(self) -> str:
        """Either ready, loading, or stuck: all threads of a stage are busy for longer than a request may take."""
        if not self._loaded:
            return "loading"
        return "stuck" if self._decoders.stuck or self._network.stuck else "ready"

    def check_room(self) -> None:
        """Raises RequestError if the queue is full or the model is not available. Call it before a body is read."""
        if self.status != "ready":
            raise RequestError(UNAVAILABLE, f"the model is {self.status}; try again later", retry_after_s=RETRY_AFTER_S)
        if self.pending >= self._most_pending:
            raise RequestError(BUSY, retry_after_s=math.ceil(self.pending * self._network.mean_s))

    def time_limit(self) -> contextlib.AbstractContextManager[object]:
        """The time of one request, for what is awaited in this context; TimeoutError when it is over."""
        return anyio.fail_after(self._timeout_s)

    @property
    def largest_side_px(self) -> int:
        """The largest side of an input that the model's own preprocessing makes."""
        preprocessing = self.detector.preprocessing
        return max(preprocessing.fixed_hw or (preprocessing.longest_edge,))

    async def read(self, parse: Callable[[], T]) -> T:
        """The result of `parse`, called in a thread; TimeoutError if that is not done in time."""
        with self.time_limit():
            return await self._decoders.run(parse)

    async def detect(self, read: Callable[[], tuple[ImageSource, float]], timing: Timing) -> Detections:
        """The detections in the image that `read`, called in a thread, returns with the threshold.

        Raises:
            RequestError: the queue is full, or the image is too small.
            TimeoutError: it took too long.
            ImageError: the image is too large, or cannot be decoded.
        """

        def prepare() -> Prepared:
            image, threshold = read()
            return *self.detector.preprocess([self._image(image)]), threshold

        async def finish(inputs: Prepared, outputs: tuple[Floats, Floats]) -> Detections:
            return self.detector.postprocess(*outputs, *inputs[2:])[0]

        return await self._run(prepare, lambda inputs: Run(*inputs[:2]), finish, timing)

    async def segment(
        self,
        read: Callable[[], tuple[ImageSource, float, P]],
        finish: Callable[[PanopticOutputs, Mask, NDArray[np.int64], P], T],
        timing: Timing,
    ) -> T:
        """What `finish`, called in a thread, makes of the outputs of a panoptic model.

        Args:
            read: called in a thread: the image, the threshold of the queries that get masks, and rules for `finish`.
            finish: outputs, mask, sizes of the images and rules -> the result.

        Raises:
            RequestError, TimeoutError, ImageError: as `detect`.
        """

        def prepare() -> tuple[Floats, Mask, NDArray[np.int64], float, P]:
            image, threshold, rules = read()
            return *self.detector.preprocess([self._image(image)]), threshold, rules

        async def finished(inputs: tuple[Floats, Mask, NDArray[np.int64], float, P], outputs: PanopticOutputs) -> T:
            _, mask, sizes_hw, _, rules = inputs
            return await self._decoders.run(lambda: finish(outputs, mask, sizes_hw, rules))

        def run(inputs: tuple[Floats, Mask, NDArray[np.int64], float, P]) -> Run:
            pixels, mask, _, threshold, _ = inputs
            return Run(NO_PIXELS, None, alone=partial(self.detector.segment, pixels, mask, threshold))

        return await self._run(prepare, run, finished, timing)

    async def infer(self, tensors: Callable[[], tuple[Floats, Mask | None]], timing: Timing) -> tuple[Floats, Floats]:
        """Logits and boxes for the pixels [B,3,H,W] and mask that `tensors`, called in a thread, returns."""
        return await self._run(tensors, lambda inputs: Run(*inputs), as_it_is, timing)

    async def explain(
        self, read: Callable[[], tuple[ImageSource, float]], finish: Callable[[AttentionMaps], T], timing: Timing
    ) -> T:
        """What `finish` makes of the attention maps of an image; `read` returns it with the threshold.

        Both are called in a thread. The first request opens the network for the maps in a decoder thread, so detection
        goes on meanwhile.

        Raises:
            RequestError, TimeoutError, ImageError: as `detect`. UsageError: the model has no attention maps.
        """

        def prepare() -> tuple[Image.Image, float]:
            image, threshold = read()
            rgb = self._image(image)
            self.detector.attention_network()
            return rgb, threshold

        def run(inputs: tuple[Image.Image, float]) -> Run:
            return Run(NO_PIXELS, None, alone=partial(self.detector.attention, *inputs))

        async def finished(inputs: object, maps: AttentionMaps) -> T:
            return await self._decoders.run(partial(finish, maps))

        return await self._run(prepare, run, finished, timing)

    def _image(self, source: ImageSource) -> Image.Image:
        image = read_rgb(source, self._max_pixels)
        check_pixels(image.width, image.height, "the image", self._max_pixels)  # pixels that were sent have no header
        if min(image.size) < LEAST_SIDE_PX:
            raise RequestError(TOO_SMALL)
        return image

    async def _run(
        self,
        prepare: Callable[[], P],
        run_of: Callable[[P], Run],
        finish: Callable[[P, Any], Awaitable[T]],
        timing: Timing,
    ) -> T:
        """What `finish` makes of the result of `prepare` and of its outputs, within the time limit of a request."""

        async def work() -> T:
            started = time.perf_counter()
            async with self._slots:
                timing.queue = time.perf_counter() - started
                inputs = await self._decoders.run(prepare)
                timing.decode = time.perf_counter() - started - timing.queue
                outputs = await self._network.outputs(run_of(inputs))
                timing.network = time.perf_counter() - started - timing.queue - timing.decode
                return await finish(inputs, outputs)

        with self._queued(), self.time_limit():
            return await work()

    @contextlib.contextmanager
    def _queued(self) -> Iterator[None]:
        self.check_room()
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1

    def _forward(self, group: list[Run]) -> list[Any]:
        """Logits and boxes of each run of a group, from one batch; or the result of a run that is alone."""
        if group[0].alone is not None:
            return [group[0].alone()]
        pixels = np.concatenate([run.pixels for run in group]) if len(group) > 1 else group[0].pixels
        masks = [run.mask if run.mask is not None else np.ones(run.pixels[:, 0].shape, np.bool_) for run in group]
        mask = None if all(run.mask is None for run in group) else np.concatenate(masks)
        size = self.detector.batch_size or len(pixels)
        parts = [slice(start, start + size) for start in range(0, len(pixels), size)]
        outputs = [self._batch(pixels[part], None if mask is None else mask[part], size) for part in parts]
        logits, boxes = (np.concatenate(arrays) for arrays in zip(*outputs, strict=True))
        ends = np.cumsum([len(run.pixels) for run in group])[:-1]
        return list(zip(np.split(logits, ends), np.split(boxes, ends), strict=True))

    def _batch(self, pixels: Floats, mask: Mask | None, size: int) -> tuple[Floats, Floats]:
        """Logits and boxes of at most `size` images, which are filled up to so many."""
        count, missing = len(pixels), size - len(pixels)
        if missing:
            pixels = np.concatenate([pixels, *[pixels[-1:]] * missing])
            mask = None if mask is None else np.concatenate([mask, *[mask[-1:]] * missing])
        logits, boxes = self.detector.network(pixels, mask)
        return logits[:count], boxes[:count]


async def as_it_is(inputs: object, outputs: T) -> T:
    """The outputs of the network."""
    return outputs
