"""What a far side is asked, and what is made of its answers: every row of the hosted API's table of errors."""

from __future__ import annotations

import email.utils
import threading

import pytest

from detr_onnx.bench.hosted.client import Client, RemoteApi, RemoteApiError, Reply, RetryPolicy
from tests.bench.standin_remote import CAT, HANG_UP, Scripted, StandInFarSide, found, refusal

TOKEN = "s3cret"
AT_ONCE = RetryPolicy(retries=5, first_s=0)


def caller(far: StandInFarSide, patience: RetryPolicy = AT_ONCE, dialect: str = "cloudflare") -> Client:
    return Client(RemoteApi(dialect, far.url, "@cf/model", "0123", TOKEN), patience, threading.Event())


def asked(far: StandInFarSide, patience: RetryPolicy = AT_ONCE) -> Reply:
    """The reply to one image."""
    client = caller(far, patience)
    try:
        return client.ask(b"image")
    finally:
        client.close()


def test_an_image_goes_out_as_the_documented_command_sends_it():
    with StandInFarSide() as far:
        reply = asked(far)
    (request,) = far.requests
    assert request.path == "/client/v4/accounts/0123/ai/run/@cf/model"
    assert request.body == b"image"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert (reply.outcome, reply.detections, reply.retried) == ("answered", [CAT], ())


@pytest.mark.parametrize(
    ("status", "code"), [(408, 3007), (429, 3036), (429, 4006), (429, 3040), (500, 3001), (503, 1)]
)
def test_what_may_pass_is_asked_again(status, code):
    with StandInFarSide(refusal(status, code), refusal(status, code)) as far:
        reply = asked(far)
    assert (reply.outcome, reply.retried) == ("answered", (f"{status}/{code}",) * 2)
    assert len(far.requests) == 3


@pytest.mark.parametrize(
    ("status", "code"), [(400, 3003), (400, 3010), (400, 3011), (400, 5004), (400, 5006), (413, 3006)]
)
def test_what_concerns_the_image_is_refused_for_good(status, code):
    with StandInFarSide(refusal(status, code, "AiError: no")) as far:
        reply = asked(far)
    assert (reply.outcome, reply.trouble) == ("refused", f"{status}/{code} AiError: no")
    assert len(far.requests) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 10000), (403, 10000), (400, 9106), (400, 6003), (400, 5007), (400, 7000), (404, 7003), (405, 7001)],
)
def test_what_concerns_every_image_stops(status, code):
    with StandInFarSide(refusal(status, code)) as far, pytest.raises(RemoteApiError, match=f"{status}/{code}"):
        asked(far)
    assert len(far.requests) == 1


def test_a_redirection_is_not_followed():
    with (
        StandInFarSide(Scripted(302, b"", {"Location": "/elsewhere"})) as far,
        pytest.raises(RemoteApiError, match="302"),
    ):
        asked(far)


def test_an_allowance_that_stays_used_up_stops_all():
    with StandInFarSide(then=refusal(429, 3036)) as far, pytest.raises(RemoteApiError, match="allowance of the day"):
        asked(far, RetryPolicy(retries=2, first_s=0))
    assert len(far.requests) == 3


def test_retries_come_to_an_end():
    with StandInFarSide(then=refusal(500, 3001)) as far:
        reply = asked(far, RetryPolicy(retries=2, first_s=0))
    assert (reply.outcome, len(reply.retried), len(far.requests)) == ("failed", 2, 3)


@pytest.mark.parametrize(
    "said",
    [
        HANG_UP,
        Scripted(200, b""),
        Scripted(200, b"<html>"),
        Scripted(200, b"[" * 100_000),
        Scripted(200, b'{"success": false, "errors": [{"code": 1}]}'),
        Scripted(200, b'{"success": true, "result": null}'),
        found({**CAT, "score": "high"}),
        found({**CAT, "score": float("nan")}),
        found({**CAT, "box": {**CAT["box"], "xmin": 10**400}}),
        Scripted(200, b"{}", {"Content-Length": "100", "Connection": "close"}),
    ],
)
def test_an_answer_that_got_lost_or_makes_no_sense_is_not_paid_for_again(said):
    with StandInFarSide(said) as far:
        reply = asked(far)
    assert (reply.outcome, len(far.requests)) == ("failed", 1)


def test_a_connection_that_was_closed_while_idle_is_opened_again():
    with StandInFarSide(found(CAT), HANG_UP) as far:
        client = caller(far)
        replies = [client.ask(b"one"), client.ask(b"two")]
        client.close()
    assert [reply.outcome for reply in replies] == ["answered", "answered"]


def test_waits_grow_until_retry_after_says_otherwise():
    patience = RetryPolicy(retries=8, first_s=1, longest_s=20)
    waits = [patience.wait_s(n, None) for n in range(8)]
    assert all(0.75 * 2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits[:4]))
    assert max(waits) <= 20
    assert patience.wait_s(8, None) is None
    assert (patience.wait_s(0, 7), patience.wait_s(0, 0)) == (7, 0)
    assert patience.wait_s(0, 3600) is None


@pytest.mark.parametrize("after", ["0", email.utils.formatdate(0, usegmt=True)])
def test_retry_after_may_be_seconds_or_a_date(after):
    with StandInFarSide(refusal(429, 3040, Retry_After=after)) as far:
        assert asked(far, RetryPolicy(first_s=1e6, longest_s=1e6)).outcome == "answered"
