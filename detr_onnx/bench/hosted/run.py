"""The steps of a comparison, in order, and what is announced before anything is paid for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from detr_onnx.bench.hosted import accuracy
from detr_onnx.bench.hosted.api import RemoteApi, RemoteApiError
from detr_onnx.bench.hosted.client import Client, RetryPolicy
from detr_onnx.bench.hosted.comparison import compare
from detr_onnx.bench.hosted.images import ComparedImage, distinct
from detr_onnx.bench.hosted.journal import Journal, open_journal
from detr_onnx.bench.hosted.journal_lines import Line
from detr_onnx.bench.hosted.latency import TimedRun, measure_local, measure_remote, schedule, split_schedule
from detr_onnx.bench.hosted.proxy import LOCAL_HOSTS
from detr_onnx.bench.hosted.responses import FLOOR, Items
from detr_onnx.bench.hosted.results import ImageResult, Prices, answers_of, cost_of, latencies_of
from detr_onnx.bench.hosted.threads import ImageThreads
from detr_onnx.detections import Detections
from detr_onnx.detector import Detector
from detr_onnx.errors import ImageError
from detr_onnx.evaluation.coco import Annotations

Progress = Callable[[int], AbstractContextManager[Callable[[int, str], None]]]
"""Opens a line of progress for so many steps; it is called with the number and name of the next one."""


@dataclass(frozen=True)
class ComparisonOptions:
    """How to compare.

    Attributes:
        journal: the file of replies.
        retry_policy: for requests to the remote API.
        concurrency: numbers of requests at the same time, at each of which latency is measured; answers are collected
            with the largest.
        latency_requests: for each of them, on each side; 0 measures no latency.
        threshold: scores of compared detections exceed it.
        prices: of both sides.
        resamples: of the bootstrap.
    """

    journal: Path
    retry_policy: RetryPolicy
    concurrency: Sequence[int]
    latency_requests: int
    threshold: float
    prices: Prices
    resamples: int


class ComparisonRun:
    """A comparison under way.

    Args:
        note: called with each line that the user should see.
    """

    def __init__(
        self,
        images: Sequence[ComparedImage],
        remote: RemoteApi,
        detector: Detector,
        options: ComparisonOptions,
        progress: Progress,
        note: Callable[[str], None],
    ) -> None:
        self.images, self.remote, self.detector, self.options = images, remote, detector, options
        self._progress, self._note = progress, note
        self._allowed: dict[int, int] = {}  # latency requests that were announced, by concurrency

    def run(self, truth: Annotations | None) -> tuple[dict[str, Any], list[ImageResult]]:
        """All figures, and both answers to each image.

        Args:
            truth: annotations of the images, for AP; None leaves it out.

        Raises:
            DatasetError: the annotations are not of these images or not for this model, or the journal is not one.
            RemoteApiError: the remote API refuses all requests, or answered none.
            OutputError: the journal cannot be written.
            KeyboardInterrupt: after the requests that were under way are in the journal.
        """
        if truth is not None:
            accuracy.annotated(self.images, truth)
            truth.category_of(self.detector.class_names)
        with open_journal(self.options.journal) as journal:
            self._announce(journal)
            self._collect_answers(journal)
            lines = [journal.answer(image.sha256, self.remote) for image in self.images]
            if all(line["outcome"] != "answered" for line in lines):
                remedy = f"see {self.options.journal} for all errors"
                raise RemoteApiError("no image was answered", found=lines[0]["error"], remedy=remedy)
            image_results = self._image_results(lines, keep=truth is not None)
            local, hosted = self._measure_latency(
                journal, [image_result.image for image_result in image_results if image_result.comparison]
            )
            latencies = latencies_of(local, hosted)
            paid = [*{line["sha256"]: line for line in lines}.values(), *(line for c in hosted.values() for line in c)]
        result = {"threshold": self.options.threshold, **answers_of(image_results)}
        result["accuracy"] = self._accuracy(image_results, truth) if truth is not None else None
        result["latency"] = latencies
        answered = sum(line["outcome"] == "answered" for line in paid)
        result["cost"] = cost_of(answered, self.options.prices, latencies, result["answer_ms"])
        return result, image_results

    def _announce(self, journal: Journal) -> None:
        """Notes how many requests will be sent, and their price."""
        encrypted = urlsplit(self.remote.base_url).scheme == "https"
        if self.remote.token and not encrypted and self.remote.host not in LOCAL_HOSTS:
            self._note(f"note: the token goes to {self.remote.host} unencrypted")
        if self.remote.proxy is not None:
            self._note(f"note: requests go through the proxy {self.remote.proxy.host}; latency includes it")
        answers = len(self._unanswered(journal))
        candidates = [image for image in distinct(self.images) if not journal.is_refused(image.sha256, self.remote)]
        scheduled = schedule(candidates, self.options.latency_requests)
        for concurrency in self.options.concurrency:
            _, left = split_schedule(scheduled, journal.latency(self.remote, concurrency))
            self._allowed[concurrency] = len(left)
        latency = sum(self._allowed.values())
        self._note(plan(len(self.images), answers, latency, self.options.prices.request))

    def _unanswered(self, journal: Journal) -> list[ComparedImage]:
        return [image for image in distinct(self.images) if not journal.has_answer(image.sha256, self.remote)]

    def _collect_answers(self, journal: Journal) -> None:
        """Sends the images that have no answer; the first one alone, so a token that is refused is refused once."""
        images, stop = self._unanswered(journal), threading.Event()

        @contextlib.contextmanager
        def open_worker() -> Iterator[Callable[[ComparedImage], None]]:
            with contextlib.closing(Client(self.remote, self.options.retry_policy, stop)) as client:
                yield lambda image: journal.add_answer(image.sha256, self.remote, client.send(image.read()))

        with self._progress(len(images)) as show:
            threads = ImageThreads(open_worker, stop, lambda number, image: show(number, image.name))
            threads.run(images[:1], 1)
            threads.run(images[1:], max(self.options.concurrency))

    def _image_results(self, lines: Sequence[Line], *, keep: bool) -> list[ImageResult]:
        """Runs the detector on each image, one by one, and compares; detections are kept for AP only."""
        for image in self.images:
            if self._detect(image)[0] is not None:  # an engine's first run is slow
                break
        image_results = []
        with self._progress(len(self.images)) as show:
            for number, (image, line) in enumerate(zip(self.images, lines, strict=True), start=1):
                show(number, image.name)
                detections, local_ms = self._detect(image)
                local = self._above(detections.to_api()) if detections is not None else None
                hosted = self._above(line["detections"]) if line["outcome"] == "answered" else None
                comparison = compare(local, hosted) if local is not None and hosted is not None else None
                image_results.append(
                    ImageResult(image, line, hosted, local, detections if keep else None, local_ms, comparison)
                )
        return image_results

    def _detect(self, image: ComparedImage) -> tuple[Detections | None, float]:
        """Every query's detection, and milliseconds from encoded bytes; None for an image that is refused."""
        content = image.read()
        started = time.perf_counter()
        try:
            detections = self.detector(content, 0.0)
        except ImageError:
            detections = None
        return detections, (time.perf_counter() - started) * 1e3

    def _above(self, items: Items) -> Items:
        return [item for item in items if item["score"] > self.options.threshold]

    def _measure_latency(
        self, journal: Journal, images: Sequence[ComparedImage]
    ) -> tuple[dict[int, TimedRun], dict[int, list[Line]]]:
        """Both sides at each concurrency, on the images that both sides answered."""
        scheduled = schedule(distinct(images), self.options.latency_requests)
        local: dict[int, TimedRun] = {}
        hosted: dict[int, list[Line]] = {}
        for concurrency in self.options.concurrency if scheduled else ():
            _, left = split_schedule(scheduled, journal.latency(self.remote, concurrency))
            left = left[: self._allowed[concurrency]]
            with self._progress(len(left)) as show:
                named = _by_name(show, f"{concurrency} at a time")
                measure_remote(left, self.remote, self.options.retry_policy, journal, concurrency, named)
            hosted[concurrency], _ = split_schedule(scheduled, journal.latency(self.remote, concurrency))
        for concurrency in hosted:
            with self._progress(len(scheduled)) as show:
                named = _by_name(show, f"local, {concurrency} at a time")
                local[concurrency] = measure_local(scheduled, self.detector, FLOOR, concurrency, named)
        return local, hosted

    def _accuracy(self, image_results: Sequence[ImageResult], truth: Annotations) -> dict[str, Any] | None:
        """AP of both sides on the annotated images that both sides answered; None if there are none."""
        by_path = {
            image_result.image.path: image_result
            for image_result in image_results
            if image_result.comparison is not None
        }
        numbered = accuracy.annotated([image_result.image for image_result in image_results], truth)
        compared = {number: by_path[image.path] for number, image in numbered.items() if image.path in by_path}
        if not compared:
            self._note("note: no annotated image was answered by both sides, so there is no AP")
            return None
        compared_truth = accuracy.only(truth, compared)
        sides: dict[str, list[dict[str, Any]]] = {side: [] for side in accuracy.SIDES}
        for number, image_result in compared.items():
            if image_result.detections is not None:
                sides["local_all"] += accuracy.rows_of_detections(number, image_result.detections, truth)
                limited = [item for item in image_result.detections.to_api() if item["score"] > FLOOR]
                sides["local"] += accuracy.rows_of_items(number, limited, truth)
            sides["hosted"] += accuracy.rows_of_items(number, image_result.line["detections"], truth)
        return accuracy.accuracy_of(compared_truth, sides, self.options.resamples)


def plan(images: int, answers: int, latency: int, price: float) -> str:
    """What is about to be sent and paid for."""
    requests = answers + latency
    return (
        f"{images} images: {answers} answers to collect and {latency} latency requests; "
        f"{requests} requests, at most ${requests * price:.6f} without retries"
    )


def _by_name(show: Callable[[int, str], None], title: str) -> Callable[[int, ComparedImage], None]:
    return lambda number, image: show(number, f"{title}, {image.name}")
