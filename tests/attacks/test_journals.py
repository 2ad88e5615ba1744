"""Journals of compare-hosted whose lines hold other values than compare-hosted writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detr_onnx.bench.hosted.journal import open_journal
from detr_onnx.errors import DatasetError
from tests.fuzz.journals import CAT, REMOTE, REPLIES, SHA256, journal_seeds

LINES = [json.loads(line) for line in journal_seeds()["journal"].splitlines()]
ANSWER, LATENCY = LINES[0], LINES[1]
TIMING = LATENCY["timing"]


def journal(directory: Path, *lines: Any) -> Path:
    """A journal with these lines: JSON values, or bytes as they are."""
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path = directory / "journal.jsonl"
    path.write_bytes(b"".join(text + b"\n" for text in texts))
    return path


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        (ANSWER, {"kind": ["answer"]}),
        (ANSWER, {"kind": {}}),
        (ANSWER, {"sha256": []}),
        (ANSWER, {"model": {"a": 1}}),
        (ANSWER, {"base_url": None}),
        (ANSWER, {"outcome": ["answered"]}),
        (ANSWER, {"outcome": "perhaps"}),
        (ANSWER, {"error": ["a"]}),
        (ANSWER, {"error": 5.5}),
        (ANSWER, {"retried": 0.5}),
        (ANSWER, {"retried": [{}]}),
        (ANSWER, {"ms": "slow"}),
        (ANSWER, {"ms": float("nan")}),
        (ANSWER, {"ms": 1e300}),
        (ANSWER, {"ms": True}),
        (ANSWER, {"detections": None}),
        (ANSWER, {"detections": [{**CAT, "score": "high"}]}),
        (ANSWER, {"detections": [{**CAT, "box": [1, 2, 3, 4]}]}),
        (ANSWER, {"detections": [{**CAT, "score": 1e300}]}),
        (LATENCY, {"run": ["a"]}),
        (LATENCY, {"concurrency": "2"}),
        (LATENCY, {"started_s": None}),
        (LATENCY, {"same_answer": "yes"}),
        (LATENCY, {"timing": {}}),
        (LATENCY, {"timing": [1]}),
        (LATENCY, {"timing": {**TIMING, "wait_ms": "long"}}),
        (LATENCY, {"timing": {name: value for name, value in TIMING.items() if name != "server_ms"}}),
        (LATENCY, {"timing": {**TIMING, "connect": {"dns_ms": 1}}}),
        (LATENCY, {"timing": {**TIMING, "connect": {"dns_ms": 1, "tcp_ms": 1, "tls_ms": "x"}}}),
    ],
)
def test_a_line_of_other_values_is_not_a_journals(line, changes, tmp_path):
    path = journal(tmp_path, ANSWER, {**line, **changes})
    before = path.read_bytes()
    with (
        pytest.raises(DatasetError, match="is not a journal of compare-hosted: found something else in line 2"),
        open_journal(path),
    ):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [bytes(1000), bytes(5 << 20), b"x" * (5 << 20), b'{"sha256": ' + b"x" * (5 << 20)],
    ids=["zeros", "megabytes of zeros", "a long word", "a long string"],
)
def test_a_line_that_never_ends_is_not_a_journals(content, tmp_path):
    with pytest.raises(DatasetError, match="is not a journal"), open_journal(journal(tmp_path, content)):
        pass


def test_a_sparse_file_is_not_a_journal(tmp_path):
    with (tmp_path / "journal.jsonl").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DatasetError, match="is not a journal"), open_journal(tmp_path / "journal.jsonl"):
        pass


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 60, 200])
def test_a_line_that_was_cut_off_is_skipped_and_nothing_is_lost(cut, tmp_path):
    whole = json.dumps(ANSWER).encode()
    path = journal(tmp_path, ANSWER)
    path.write_bytes(path.read_bytes() + whole[:cut])
    with open_journal(path) as opened:
        assert opened.has_answer(SHA256[0], REMOTE)
        opened.add_answer(SHA256[1], REMOTE, REPLIES[1])
    with open_journal(path) as opened:
        assert opened.has_answer(SHA256[0], REMOTE)
        assert opened.has_answer(SHA256[1], REMOTE)


def test_lines_without_the_newer_fields_are_read(tmp_path):
    older = {name: value for name, value in LATENCY.items() if name not in ("timing", "same_answer")}
    with open_journal(journal(tmp_path, ANSWER, older)) as opened:
        (line,) = opened.latency(REMOTE, LATENCY["concurrency"])
    assert line["timing"] is None
