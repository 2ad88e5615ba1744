"""What waits for the network: one run at a time, those of one size together in a batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detr_onnx.server.threads import DaemonThreads

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

LATEST_WEIGHT = 0.2  # of the latest run in the moving average of their times


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


class Batches:
    """The runs that wait, and the thread that runs the network on them.

    Args:
        forward: called in the thread: some runs -> the outputs of each.
        max_batch: images that may share a batch.
        limit_s: time after which a run counts as stuck.

    Attributes:
        mean_s: moving average of the time of a run.
    """

    def __init__(self, forward: Callable[[list[Run]], list[Any]], *, max_batch: int, limit_s: float) -> None:
        self.mean_s = 0.1
        self._forward, self._max_batch = forward, max_batch
        self._waiting: list[Run] = []
        self._working: asyncio.Task[None] | None = None
        self._thread = DaemonThreads(1, "network", limit_s=limit_s, most_stuck=0)  # one, so one run at a time

    @property
    def stuck(self) -> bool:
        """Whether the network is busy for longer than a run may take."""
        return self._thread.stuck

    @property
    def idle(self) -> bool:
        """Whether the network is not running."""
        return self._thread.idle

    def close(self) -> None:
        """Ends the thread after what it is doing."""
        self._thread.close()

    async def outputs(self, run: Run) -> Any:
        """What the network makes of a run, once it is its turn."""
        self._waiting.append(run)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._run_waiting())
        return await run.done

    async def _run_waiting(self) -> None:
        """Runs the network until no input waits for it."""
        while group := self._next_group():
            started = time.perf_counter()
            try:
                outputs = await self._thread.run(partial(self._forward, group))
            except Exception as error:  # noqa: BLE001 - it fails these requests, not the server
                for run in group:
                    if not run.done.done():
                        run.done.set_exception(error)
            else:
                for run, output in zip(group, outputs, strict=True):
                    if not run.done.done():
                        run.done.set_result(output)
            self.mean_s += LATEST_WEIGHT * ((time.perf_counter() - started) / len(group) - self.mean_s)

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
