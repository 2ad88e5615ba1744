"""Latency of both sides: how many requests there are, what their times mean, and what is resumed."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from detr_onnx.bench.hosted.images import ComparedImage
from detr_onnx.bench.hosted.latency import (
    TimedRun,
    latency_of,
    measure_local,
    percentiles,
    remote_latency_of,
    schedule,
    split_schedule,
    timed_runs_of,
)
from detr_onnx.bench.hosted.results import Prices, best_throughput, cost_of
from tests.bench.hosted_command import json_lines
from tests.bench.standin_remote import CAT, HANG_UP, StandInRemote, refusal, slow_transfer, success

PAUSE_S = 0.05
FILES = [ComparedImage(name, Path(name), name) for name in "abc"]


def line(ms: float, started_s: float = 0, *, outcome: str = "answered", run: str = "r", **more: object) -> dict:
    return {"sha256": "a", "outcome": outcome, "ms": ms, "started_s": started_s, "run": run, "retried": [],
            "timing": None, **more}  # fmt: skip


def timing(send: float, wait: float, transfer: float, server: float | None, connect: dict | None = None) -> dict:
    return {"send_ms": send, "wait_ms": wait, "transfer_ms": transfer, "server_ms": server, "connect": connect}


# Figures


def test_percentiles_of_nothing_are_only_a_count():
    assert percentiles([]) == {"count": 0}
    assert percentiles(range(101)) == {"count": 101, "p50": 50, "p90": 90, "p99": 99}


def test_short_times_keep_the_digits_that_the_table_shows():
    figures = percentiles([0.0124, 5.37])
    assert (figures["p50"], figures["p99"]) == (2.691, 5.316)
    assert best_throughput({}, percentiles([0.04])) == (25_000, 1)


def test_throughput_is_requests_over_the_time_of_all_segments():
    assert latency_of([TimedRun([100, 300], 0.5), TimedRun([200], 0.25)]) == {
        "count": 3, "p50": 200, "p90": 280, "p99": 298, "per_second": 4,
    }  # fmt: skip


def test_requests_of_one_run_overlap_and_pauses_between_runs_do_not_count():
    lines = [line(500, 0), line(500, 0.25), line(1000, 7, run="later"), line(9, outcome="failed")]
    first, second = timed_runs_of(lines)
    assert (first.times_ms, first.wall_s) == ([500, 500], 0.75)
    assert (second.times_ms, second.wall_s) == ([1000], 1)


def test_the_network_share_is_what_the_server_does_not_report():
    connect = {"dns_ms": 1, "tcp_ms": 20, "tls_ms": 30}
    lines = [
        line(130, timing=timing(10, 100, 20, 90, connect)),
        line(230, timing=timing(10, 200, 20, 190)),
        line(999, timing=timing(10, 300, 20, None)),
        line(5, outcome="failed", retried=["429/3040"]),
        line(1, outcome="refused"),
    ]
    figures = remote_latency_of(lines)
    assert (figures["server_times"], figures["server_ms"], figures["network_ms"]) == (2, 140, 40)
    assert (figures["send_ms"], figures["wait_ms"], figures["transfer_ms"]) == (10, 200, 20)
    assert (figures["connections"], figures["tcp_ms"], figures["tls_ms"]) == (1, 20, 30)
    assert figures["server_most_ms"] == 200 - 20
    assert (figures["count"], figures["failed"], figures["retries"]) == (3, 2, 1)


def test_images_take_turns_and_requests_that_were_made_are_not_repeated():
    scheduled = schedule(FILES, 5)
    assert "".join(image.name for image in scheduled) == "abcab"
    lines = [{"sha256": name, "number": number} for number, name in enumerate("aaxab")]
    made, left = split_schedule(scheduled, lines)
    assert [line["number"] for line in made] == [0, 1, 4]
    assert "".join(image.name for image in left) == "cb"
    assert schedule([], 5) == []


def test_the_local_side_runs_in_as_many_threads(tmp_path):
    """Nobody passes the barrier before four are there; eight in fours take at least twice the pause."""
    path, barrier = tmp_path / "image", threading.Barrier(4, timeout=60)
    path.touch()

    def detect(content: bytes, threshold: float) -> None:
        barrier.wait()
        time.sleep(PAUSE_S)

    timed_run = measure_local([ComparedImage("image", path, "0")] * 8, detect, 0.1, 4, lambda number, image: None)
    assert len(timed_run.times_ms) == 8
    assert min(timed_run.times_ms) >= 1e3 * PAUSE_S
    assert timed_run.wall_s >= 2 * PAUSE_S


# Cost


def test_cost_of_a_million_images_by_hand():
    """10 images per second are 100,000 s or 27.78 hours, at $0.36 per hour $10; 48,000 images cost $0.36 remotely."""
    latency = {"local": {"1": {"per_second": 4.0}, "4": {"per_second": 10.0}, "16": {"per_second": 9.0}}}
    cost = cost_of(200, Prices(0.0000075, 0.36), latency, {"local": {"count": 1, "p50": 250.0}})
    assert (cost["paid_dollars"], cost["million_dollars"]) == (0.0015, 7.5)
    assert (cost["local_images_per_second"], cost["local_concurrency"]) == (10, 4)
    assert (cost["million_local_hours"], cost["million_local_dollars"]) == (27.78, 10)
    assert cost["break_even_images_per_hour"] == 48_000


def test_without_a_latency_measurement_the_answers_give_the_local_speed():
    cost = cost_of(0, Prices(0), {"local": {}}, {"local": {"count": 1, "p50": 250.0}})
    assert (cost["local_images_per_second"], cost["local_concurrency"]) == (4, 1)
    assert (cost["million_local_dollars"], cost["break_even_images_per_hour"]) == (None, None)
    assert cost_of(0, Prices(0), {"local": {}}, {"local": {"count": 0}})["million_local_hours"] is None


# The command


def results_of(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "r.json").read_text())


def test_both_sides_are_measured_at_each_concurrency(quick, images, run, tmp_path):
    """The stand-in takes 0.1 s and reports 60 ms of them; the body comes 50 ms after the headers."""
    response = slow_transfer(success(CAT, Server_Timing="app;dur=60"), 0.05)
    with StandInRemote(then=response, delay_s=0.1) as remote:
        options = ("--concurrency", "1,4", "--latency-requests", 8, "--machine-price", 1)
        status, table, _ = run(images, "--base-url", remote.url, *options)
        assert (status, len(remote.requests), remote.most_at_once) == (0, 4 + 2 * 8, 4)
    hosted, local = results_of(tmp_path)["latency"]["hosted"], results_of(tmp_path)["latency"]["local"]
    assert [*hosted] == [*local] == ["1", "4"]
    for figures in hosted.values():
        assert figures["count"] == 8
        assert figures["p50"] >= 150
        assert figures["server_ms"] == 60
        assert figures["network_ms"] >= 90
        assert figures["wait_ms"] >= 50  # half of it: a thread may be preempted between the phases
        assert figures["transfer_ms"] >= 25
    assert (hosted["1"]["connections"], hosted["4"]["connections"]) == (1, 4)
    assert hosted["1"]["per_second"] <= 1 / 0.15
    assert hosted["4"]["per_second"] <= 4 / 0.15
    assert all(figures["count"] == 8 for figures in local.values())
    assert "hosted, 4 at a time" in table
    assert "% network" in table
    assert "at $1 per hour" in table
    cost = results_of(tmp_path)["cost"]
    assert cost["requests_answered"] == 20
    assert cost["local_images_per_second"] == max(figures["per_second"] for figures in local.values())


def test_a_missing_server_time_is_stated(quick, images, run, tmp_path):
    with StandInRemote() as remote:
        _, table, _ = run(images, "--base-url", remote.url, "--latency-requests", 2, "--concurrency", 1)
    assert "unknown: no response header gives the server's time" in table
    figures = results_of(tmp_path)["latency"]["hosted"]["1"]
    assert (figures["server_ms"], figures["network_ms"]) == (None, None)
    assert 0 <= figures["server_most_ms"] <= figures["wait_ms"]
    assert "the wait without one round trip" in table


def test_failures_while_measuring_are_counted_and_not_repeated(quick, images, run, tmp_path):
    script = [success(CAT)] * 4 + [HANG_UP, refusal(400, 3010), refusal(429, 3040)]
    with StandInRemote(*script) as remote:
        options = ("--base-url", remote.url, "--latency-requests", 6, "--concurrency", 1)
        run(images, *options)
        figures = results_of(tmp_path)["latency"]["hosted"]["1"]
        assert (figures["count"], figures["failed"], figures["retries"]) == (4, 2, 1)
        assert results_of(tmp_path)["cost"]["requests_answered"] == 4 + 4
        sent = len(remote.requests)
        assert sent == 4 + 6 + 1
        run(images, *options)
        assert len(remote.requests) == sent


def test_answers_that_change_are_counted(quick, images, run, tmp_path):
    other = success({**CAT, "score": 0.5})
    with StandInRemote(*[success(CAT)] * 5, other) as remote:
        _, table, _ = run(images, "--base-url", remote.url, "--latency-requests", 4, "--concurrency", 1)
    assert results_of(tmp_path)["latency"]["hosted"]["1"]["answers_changed"] == 1
    assert "1 of 4" in table


def test_a_measurement_that_was_stopped_goes_on_with_the_rest(quick, images, run, tmp_path):
    script = [success(CAT)] * (4 + 3) + [refusal(401, 10000)]
    with StandInRemote(*script) as remote:
        options = ("--base-url", remote.url, "--latency-requests", 7, "--concurrency", 1)
        assert run(images, *options)[0] == 1
        assert run(images, *options)[0] == 0
        assert len(remote.requests) == 4 + 7 + 1
    lines = [line for line in json_lines(tmp_path / "journal") if line["kind"] == "latency"]
    assert len({line["run"] for line in lines}) == 2
    assert results_of(tmp_path)["latency"]["hosted"]["1"]["count"] == 7


def test_other_images_are_measured_although_the_journal_has_as_many_requests(quick, images, run, tmp_path):
    """Both sides shall process the same images: four, not two of them twice."""
    options = ("--latency-requests", 4, "--concurrency", 1)
    with StandInRemote() as remote:
        run(images, "--base-url", remote.url, *options, "--limit", 2)
        assert len(remote.requests) == 2 + 4
        run(images, "--base-url", remote.url, *options)
    assert len(remote.requests) == 6 + 2 + 2
    assert results_of(tmp_path)["latency"]["hosted"]["1"]["count"] == 4


def test_only_images_that_both_sides_answered_are_measured(quick, images, run, tmp_path):
    refused = (images / "1.png").read_bytes()
    respond = lambda request: refusal(400, 3010) if request.body == refused else success(CAT)  # noqa: E731
    with StandInRemote(then=respond) as remote:
        run(images, "--base-url", remote.url, "--latency-requests", 6, "--concurrency", 2)
    assert sum(request.body == refused for request in remote.requests) == 1
    assert results_of(tmp_path)["latency"]["hosted"]["2"]["failed"] == 0
