"""Journals of compare-hosted, used as far as no request is sent; and the responses of remote APIs."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from detr_onnx.bench.hosted.api import RemoteApi
from detr_onnx.bench.hosted.client import Reply
from detr_onnx.bench.hosted.comparison import compare
from detr_onnx.bench.hosted.exchange import ConnectTiming, Timing
from detr_onnx.bench.hosted.images import ComparedImage
from detr_onnx.bench.hosted.journal import Journal, LatencyRun, open_journal
from detr_onnx.bench.hosted.latency import split_schedule
from detr_onnx.bench.hosted.responses import Items, parse_response
from detr_onnx.bench.hosted.results import ImageResult, answers_of, latencies_of
from detr_onnx.errors import DatasetError
from tests.fuzz.inputs import directory, written
from tests.fuzz.mutate import mutate_bytes, mutate_json, mutate_json_text
from tests.fuzz.run import Kind

REMOTE = RemoteApi("cloudflare", "https://api.example/client/v4", "@cf/facebook/detr-resnet-50")
CAT = {"score": 0.75, "label": "cat", "box": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 20}}
DOG = {"score": 0.5, "label": "dog", "box": {"xmin": 1.5, "ymin": 2, "xmax": 3, "ymax": 4}}
TIMING = Timing(0.5, 20.25, 0.125, 12.5, ConnectTiming(1.0, 2.0, 3.0))
REPLIES = (
    Reply("answered", [CAT, DOG], 25.5, "", ("429/3040",), TIMING),
    Reply("answered", [], 21.0, timing=Timing(0.5, 20.25, 0.125)),
    Reply("refused", ms=20.0, error="400/3010 AiError: Invalid or incomplete input for the model"),
    Reply("failed", ms=60000.0, error="no response: timed out", retried=("500", "no response")),
)
SHA256 = [f"{number:064x}" for number in range(len(REPLIES))]
IMAGES = [ComparedImage(f"{number}.jpg", Path(f"{number}.jpg"), sha256) for number, sha256 in enumerate(SHA256)]
ODD_LINES = ("answer", "latency", "answered", "refused", "failed", [], [CAT], {**CAT, "score": "high"}, {"score": 1},
             [{"label": 5}], -1, 1e300, ["500"], [500], {"send_ms": 1}, SHA256[0])  # fmt: skip


# Journals


@functools.cache
def journal_seeds() -> Mapping[str, bytes]:
    """A journal with lines of both kinds and all outcomes."""
    file = directory("journal") / "seed.jsonl"
    run = LatencyRun("a", 2)
    with open_journal(file) as journal:
        for sha256, reply in zip(SHA256, REPLIES, strict=True):
            journal.add_answer(sha256, REMOTE, reply)
            journal.add_latency(sha256, REMOTE, reply, run, 0.5)
    return {"journal": file.read_bytes()}


def mutate_journal(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One line is changed, or the bytes of all."""
    if random.random() < 0.2:
        return mutate_bytes(random, data, others)
    lines = data.splitlines()
    number = random.randrange(len(lines))
    lines[number] = mutate_json(random, lines[number], ODD_LINES)
    return b"\n".join(lines) + b"\n" * random.randrange(2)


def read_journal(data: bytes) -> str:
    """Makes the figures of a comparison, adds an answer, and reads it back."""
    file = written("journal.jsonl", data)
    with open_journal(file) as journal:
        views = [_view(journal, image) for image in IMAGES if _has_line(journal, image)]
        scheduled, lines = IMAGES * 2, journal.latency(REMOTE, 2)
        made, _ = split_schedule(scheduled, lines)
        json.dumps([answers_of(views), latencies_of({}, {2: made})], allow_nan=False)
        journal.add_answer(SHA256[0], REMOTE, REPLIES[0])
    with open_journal(file) as journal:
        if journal.answer(SHA256[0], REMOTE)["detections"] != REPLIES[0].detections:
            raise AssertionError("an answer is lost")
    return f"a journal of {len(views)} answers"


def _has_line(journal: Journal, image: ComparedImage) -> bool:
    journal.is_refused(image.sha256, REMOTE)
    try:
        journal.answer(image.sha256, REMOTE)
    except KeyError:
        return False
    return True


def _view(journal: Journal, image: ComparedImage) -> ImageResult:
    line = journal.answer(image.sha256, REMOTE)
    hosted: Items | None = line["detections"] if line["outcome"] == "answered" else None
    local: Items = [CAT]
    comparison = compare(local, hosted) if hosted is not None else None
    return ImageResult(image, line, hosted, local, None, 1.0, comparison)


# Responses of remote APIs


@functools.cache
def response_seeds() -> Mapping[str, bytes]:
    """Responses of both dialects: the dialect, the status and the body in one JSON object."""
    bodies: dict[str, tuple[str, int, Any]] = {
        "cloudflare": ("cloudflare", 200, {"result": [CAT, DOG], "success": True, "errors": [], "messages": []}),
        "huggingface": ("huggingface", 200, [CAT, DOG]),
        "refusal": ("cloudflare", 400, {"errors": [{"message": "AiError", "code": 3010}], "success": False}),
        "busy": ("huggingface", 503, {"error": "loading", "estimated_time": 20.0}),
    }
    return {name: f"{dialect} {status} {json.dumps(body)}".encode() for name, (dialect, status, body) in bodies.items()}


def mutate_response(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    dialect, status, body = data.split(b" ", 2)
    status = random.choice((status, status, b"200", b"400", b"401", b"429", b"500"))
    return b" ".join((dialect, status, mutate_json_text(random, body, others, ODD_LINES)))


def read_response(data: bytes) -> str:
    """Parses the response, and compares what was found."""
    dialect, status, body = data.split(b" ", 2)
    response = parse_response(dialect.decode(), int(status), body)
    if response.outcome == "answered":
        compare([CAT], response.detections)
        json.dumps(response.detections, allow_nan=False)
    return f"{response.outcome} {response.name}"


JOURNALS = Kind(journal_seeds, mutate_journal, read_journal, (DatasetError,), 5)
API_RESPONSES = Kind(response_seeds, mutate_response, read_response, (), 10)
