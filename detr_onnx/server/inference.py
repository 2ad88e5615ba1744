"""From a request's bytes to detections, off the event loop: decoding ahead, one network at a time.

    place in the queue ──► decoder thread: bytes ─► pixels ──► network thread: pixels ─► logits, boxes ──► Detections
         full: 429              one image ahead                 one at a time, or a batch of one size

An image is decoded only when the network is about to be free for it, so what waits is as small as its file.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.detections import Detections
from detr_onnx.detector import Detector
from detr_onnx.image.preprocess import ImageSource, read_rgb
from detr_onnx.server.protocols.workers_ai import BUSY, LEAST_SIDE_PX, TOO_SMALL, ApiError

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
T = TypeVar("T")

AHEAD = 1  # images that are decoded while the network is busy with others
MEMORY_OF_LAST = 0.2  # weight of the newest run in the mean time of one


@dataclass
class Timing:
    """Where the time of a request went, in seconds."""

    queue: float = 0.0
    decode: float = 0.0
    network: float = 0.0


@dataclass(eq=False)
class Run:
    """What waits for the network: pixels [B,3,H,W], a mask or None, and where its logits and boxes go."""

    pixels: Floats
    mask: Mask | None
    done: asyncio.Future[tuple[Floats, Floats]]


class Inference:
    """One detector behind a queue.

    Attributes:
        pending: requests that wait or are worked on.
    """

    def __init__(self, detector: Detector, *, queue: int, max_batch: int, max_pixels: int, timeout_s: float) -> None:
        self.detector = detector
        self.pending = 0
        self._most_pending = queue + 1
        self._max_batch = max_batch
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self._mean_s = 0.1  # of a run of the network
        self._near = asyncio.Semaphore(max_batch * (1 + AHEAD))
        self._waiting: list[Run] = []
        self._working: asyncio.Task[None] | None = None
        self._decoders = ThreadPoolExecutor(1 + AHEAD, "decode")
        self._network = ThreadPoolExecutor(1, "network")  # its one thread is what makes it one network at a time

    def close(self) -> None:
        """Ends the threads, which have nothing left to do."""
        self._decoders.shutdown(wait=False)
        self._network.shutdown(wait=False)

    def check_room(self) -> None:
        """Raises ApiError 3040 when the queue is full; worth asking before a body is read."""
        if self.pending >= self._most_pending:
            raise ApiError(BUSY, retry_after_s=math.ceil(self.pending * self._mean_s))

    @property
    def largest_side_px(self) -> int:
        """Of what the network is given by its own preprocessing."""
        preprocessing = self.detector.preprocessing
        return max(preprocessing.fixed_hw or (preprocessing.longest_edge,))

    async def read(self, parse: Callable[[], T]) -> T:
        """What `parse` gives, called in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, parse)

    async def detect(self, image: Callable[[], ImageSource], threshold: float, timing: Timing) -> Detections:
        """What is in the image that `image` gives, which is called in a thread.

        Raises:
            ApiError: the queue is full, or the image too small.
            TimeoutError: time is up.
            ImageError: the image is too large, or cannot be decoded.
        """

        def prepared() -> tuple[Floats, Mask | None, NDArray[np.int64]]:
            return self.detector.preprocess([self._image(image())])

        pixels_mask_sizes, (logits, boxes) = await self._through(prepared, lambda ready: ready[:2], timing)
        return self.detector.postprocess(logits, boxes, pixels_mask_sizes[2], threshold)[0]

    async def infer(self, tensors: Callable[[], tuple[Floats, Mask | None]], timing: Timing) -> tuple[Floats, Floats]:
        """The network's raw answer to the pixels [B,3,H,W] and mask that `tensors` gives in a thread."""
        _, answer = await self._through(tensors, lambda ready: ready, timing)
        return answer

    def _image(self, source: ImageSource) -> Image.Image:
        image = read_rgb(source, self._max_pixels)
        if min(image.size) < LEAST_SIDE_PX:
            raise ApiError(TOO_SMALL)
        return image

    async def _through(
        self, prepare: Callable[[], T], tensors: Callable[[T], tuple[Floats, Mask | None]], timing: Timing
    ) -> tuple[T, tuple[Floats, Floats]]:
        """What `prepare` gives, and the network's answer to its tensors, within the time that a request has."""

        async def work() -> tuple[T, tuple[Floats, Floats]]:
            started = time.perf_counter()
            async with self._near:
                timing.queue = time.perf_counter() - started
                loop = asyncio.get_running_loop()
                ready = await loop.run_in_executor(self._decoders, prepare)
                timing.decode = time.perf_counter() - started - timing.queue
                answer = await self._answer(Run(*tensors(ready), loop.create_future()))
                timing.network = time.perf_counter() - started - timing.queue - timing.decode
                return ready, answer

        with self._place():
            with anyio.fail_after(self._timeout_s):
                return await work()

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        self.check_room()
        self.pending += 1
        try:
            yield
        finally:
            self.pending -= 1

    async def _answer(self, run: Run) -> tuple[Floats, Floats]:
        self._waiting.append(run)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work_off())
        return await run.done

    async def _work_off(self) -> None:
        """Runs the network until nothing waits for it."""
        while group := self._next_group():
            started = time.perf_counter()
            loop = asyncio.get_running_loop()
            try:
                answers = await loop.run_in_executor(self._network, self._forward, group)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is those requests' and not the server's
                for run in group:
                    if not run.done.done():
                        run.done.set_exception(error)
            else:
                for run, answer in zip(group, answers, strict=True):
                    if not run.done.done():
                        run.done.set_result(answer)
            self._mean_s += MEMORY_OF_LAST * ((time.perf_counter() - started) / len(group) - self._mean_s)

    def _next_group(self) -> list[Run]:
        """The run that waits longest, with those of the same shape: nobody's image is padded for another's."""
        self._waiting = [run for run in self._waiting if not run.done.done()]  # a request may have given up
        if not self._waiting:
            return []
        first = self._waiting[0]
        same = [run for run in self._waiting if run.pixels.shape[1:] == first.pixels.shape[1:]]
        group = [first]
        for run in same[1:]:
            if sum(len(run.pixels) for run in group) + len(run.pixels) <= self._max_batch:
                group.append(run)
        self._waiting = [run for run in self._waiting if run not in group]
        return group

    def _forward(self, group: list[Run]) -> list[tuple[Floats, Floats]]:
        """Logits and boxes of each run, from one run of the network."""
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
