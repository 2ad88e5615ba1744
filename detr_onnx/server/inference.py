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
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.attention import AttentionMaps
from detr_onnx.detections import Detections
from detr_onnx.detector import Detector
from detr_onnx.engines import Segments
from detr_onnx.image.preprocess import ImageSource, read_rgb
from detr_onnx.server.errors import BUSY, LEAST_SIDE_PX, TOO_SMALL, UNAVAILABLE, RequestError
from detr_onnx.server.threads import DaemonThreads

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Prepared = tuple[Floats, Mask, NDArray[np.int64], float]
T = TypeVar("T")
P = TypeVar("P")

NO_PIXELS: Floats = np.empty((0, 3, 0, 0), np.float32)
AHEAD = 1  # images that are decoded while the network is busy with others
MOST_STUCK = 4  # decoder threads that are replaced while an image keeps them busy
RETRY_AFTER_S = 10  # while the model is not available
LATEST_WEIGHT = 0.2  # of the latest run in the moving average of their times


@dataclass
class Timing:
    """How long the stages of a request took, in seconds."""

    queue: float = 0.0
    decode: float = 0.0
    network: float = 0.0


@dataclass(eq=False)
class Run:
    """What waits for the network.

    Attributes:
        pixels, mask: [B,3,H,W], and [B,H,W] or None.
        alone: what is called in place of the network; such a run shares no batch.
        done: the future of logits and boxes, or of what `alone` returns.
    """

    pixels: Floats
    mask: Mask | None
    alone: Callable[[], Any] | None = None
    done: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


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
        self._max_batch = max_batch
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self._mean_s = 0.1  # moving average of the time of a run
        self._slots = asyncio.Semaphore(max_batch * (1 + AHEAD))
        self._waiting: list[Run] = []
        self._working: asyncio.Task[None] | None = None
        self._decoders = DaemonThreads(1 + AHEAD, "decode", limit_s=timeout_s / 2, most_stuck=MOST_STUCK)
        self._network = DaemonThreads(1, "network", limit_s=timeout_s, most_stuck=0)  # one, so one run at a time

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
            raise RequestError(BUSY, retry_after_s=math.ceil(self.pending * self._mean_s))

    @property
    def largest_side_px(self) -> int:
        """The largest side of an input that the model's own preprocessing makes."""
        preprocessing = self.detector.preprocessing
        return max(preprocessing.fixed_hw or (preprocessing.longest_edge,))

    async def read(self, parse: Callable[[], T]) -> T:
        """The result of `parse`, called in a thread; TimeoutError if that is not done in time."""
        with anyio.fail_after(self._timeout_s):
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
        finish: Callable[[Segments, Mask, NDArray[np.int64], P], T],
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

        async def finished(inputs: tuple[Floats, Mask, NDArray[np.int64], float, P], outputs: Segments) -> T:
            _, mask, sizes_hw, _, rules = inputs
            return await self._decoders.run(lambda: finish(outputs, mask, sizes_hw, rules))

        def run(inputs: tuple[Floats, Mask, NDArray[np.int64], float, P]) -> Run:
            pixels, mask, _, threshold, _ = inputs
            return Run(NO_PIXELS, None, alone=partial(self.detector.segment, pixels, mask, threshold))

        return await self._run(prepare, run, finished, timing)

    async def infer(self, tensors: Callable[[], tuple[Floats, Mask | None]], timing: Timing) -> tuple[Floats, Floats]:
        """Logits and boxes for the pixels [B,3,H,W] and mask that `tensors`, called in a thread, returns."""
        return await self._run(tensors, lambda inputs: Run(*inputs), as_it_is, timing)

    async def explain(self, read: Callable[[], tuple[ImageSource, float]], timing: Timing) -> AttentionMaps:
        """The attention maps of the image that `read`, called in a thread, returns with the threshold.

        The first one opens the network for them in a decoder thread, so detection goes on meanwhile.

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

        return await self._run(prepare, run, as_it_is, timing)

    def _image(self, source: ImageSource) -> Image.Image:
        image = read_rgb(source, self._max_pixels)
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
                outputs = await self._outputs(run_of(inputs))
                timing.network = time.perf_counter() - started - timing.queue - timing.decode
                return await finish(inputs, outputs)

        with self._queued(), anyio.fail_after(self._timeout_s):
            return await work()

    @contextlib.contextmanager
    def _queued(self) -> Iterator[None]:
        self.check_room()
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1

    async def _outputs(self, run: Run) -> Any:
        self._waiting.append(run)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._run_waiting())
        return await run.done

    async def _run_waiting(self) -> None:
        """Runs the network until no input waits for it."""
        while group := self._next_group():
            started = time.perf_counter()
            try:
                outputs = await self._network.run(partial(self._forward, group))
            except Exception as error:  # noqa: BLE001 - it fails these requests, not the server
                for run in group:
                    if not run.done.done():
                        run.done.set_exception(error)
            else:
                for run, output in zip(group, outputs, strict=True):
                    if not run.done.done():
                        run.done.set_result(output)
            self._mean_s += LATEST_WEIGHT * ((time.perf_counter() - started) / len(group) - self._mean_s)

    def _next_group(self) -> list[Run]:
        """The run that waits longest, with others of the same shape, so that no image is padded for another.

        Those with `alone` run alone.
        """
        self._waiting = [run for run in self._waiting if not run.done.done()]  # done: its request was cancelled
        if not self._waiting:
            return []
        first = self._waiting[0]
        same = [run for run in self._waiting if run.pixels.shape[1:] == first.pixels.shape[1:]]
        group = [first]
        for run in same[1:] if first.alone is None else []:
            if sum(len(run.pixels) for run in group) + len(run.pixels) <= self._max_batch:
                group.append(run)
        self._waiting = [run for run in self._waiting if run not in group]
        return group

    def _forward(self, group: list[Run]) -> list[Any]:
        """Logits and boxes of each run of a group, from one batch; or the result of a run that is alone."""
        if group[0].alone is not None:
            return [group[0].alone()]
        pixels = np.concatenate([run.pixels for run in group]) if len(group) > 1 else group[0].pixels
        masks = [run.mask if run.mask is not None else np.ones(run.pixels[:, 0].shape, np.bool_) for run in group]
        mask = None if all(run.mask is None for run in group) else np.concatenate(masks)
        count = len(pixels)
        if (fixed := self.detector.batch_size) and count < fixed:
            pixels = np.concatenate([pixels, *[pixels[-1:]] * (fixed - count)])
            mask = None if mask is None else np.concatenate([mask, *[mask[-1:]] * (fixed - count)])
        logits, boxes = self.detector.network(pixels, mask)
        ends = np.cumsum([len(run.pixels) for run in group])[:-1]
        return list(zip(np.split(logits[:count], ends), np.split(boxes[:count], ends), strict=True))


async def as_it_is(inputs: object, outputs: T) -> T:
    """The outputs of the network."""
    return outputs
