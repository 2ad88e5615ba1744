"""A server that finds things in images, elsewhere: what it is asked, what it says, and when it is asked again.

    bytes of an image ── Caller.ask ──► Reply: answered, refused or failed
                                         FarSideError: it will not answer any image

Again after 408, 429 and 5xx, with growing waits or as Retry-After says; after nothing else. A request whose answer got
lost on the way may have been paid for, so it is not sent again in the same run.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from detr_onnx.bench.hosted.responses import FLOOR, ApiResponse, is_allowance, parse_response
from detr_onnx.errors import DetrError

BASE_URLS = {
    "cloudflare": "https://api.cloudflare.com/client/v4",
    "huggingface": "https://router.huggingface.co/hf-inference",
}
MODELS = {"cloudflare": "@cf/facebook/detr-resnet-50", "huggingface": "facebook/detr-resnet-50"}
LONGEST_TROUBLE = 300  # letters of what the far side says
LARGEST_ANSWER = 16 << 20  # bytes; a hundred detections are 20 kB


class RemoteApiError(DetrError):
    """The far side will not answer any image: it is not there, or refuses the token, the account or the model."""


@dataclass(frozen=True)
class RemoteApi:
    """Where to ask, and how.

    Attributes:
        dialect: "cloudflare" or "huggingface".
        base_url: what the SDKs call so; no slash at its end.
        model: by the name that the far side gives it.
        account: of the hosted API.
        token: sent as a bearer; None for a server that wants none.
        timeout_s: of each step of an exchange.
    """

    dialect: str
    base_url: str
    model: str
    account: str = ""
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 60

    @property
    def path(self) -> str:
        place = f"accounts/{quote(self.account, safe='')}/ai/run" if self.dialect == "cloudflare" else "models"
        return f"{urlsplit(self.base_url).path}/{place}/{quote(self.model, safe='@/')}"

    def request(self, image: bytes) -> tuple[bytes, dict[str, str]]:
        """Body and headers."""
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if self.dialect == "cloudflare":
            return image, {"Content-Type": "application/octet-stream", **bearer}
        fields = {"inputs": base64.b64encode(image).decode(), "parameters": {"threshold": FLOOR}}
        return json.dumps(fields).encode(), {"Content-Type": "application/json", **bearer}

    def connection(self) -> http.client.HTTPConnection:
        """A new one, not yet open."""
        parts = urlsplit(self.base_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=self.timeout_s)


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long, a request is made again.

    Attributes:
        retries: at most so many.
        first_s: the first wait, in seconds; each is twice the one before, give or take.
        longest_s: no wait is longer; who asks for more by Retry-After is not asked again in this run.
    """

    retries: int = 5
    first_s: float = 1.0
    longest_s: float = 120.0

    def wait_s(self, retried: int, retry_after_s: float | None) -> float | None:
        """Seconds until the next attempt, after `retried` earlier ones; None for no more."""
        if retried >= self.retries or (retry_after_s or 0) > self.longest_s:
            return None
        if retry_after_s is not None:
            return retry_after_s
        return min(self.longest_s, self.first_s * 2.0**retried * random.uniform(0.75, 1.25))


@dataclass(frozen=True)
class Reply:
    """What came of an image.

    Attributes:
        outcome: "answered"; "refused", this image and for good; "failed", which another run may mend.
        detections: in the API's form, in the order in which they came.
        ms: of the last attempt, from the request's first byte to the answer's last; the connection was open before.
        trouble: status, code and message, when there was no answer.
        retried: status and code of each earlier attempt, such as "429/3040".
    """

    outcome: str
    detections: list[dict[str, Any]] = field(default_factory=list)
    ms: float | None = None
    trouble: str = ""
    retried: tuple[str, ...] = ()


class Client:
    """One connection to the far side, kept open; for one thread.

    Args:
        far: where to ask.
        patience: with it.
        stop: when set, no wait is waited out.
    """

    def __init__(self, far: RemoteApi, patience: RetryPolicy, stop: threading.Event) -> None:
        self.far, self.patience, self.stop = far, patience, stop
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, image: bytes) -> Reply:
        """What the far side finds in an encoded image.

        Raises:
            FarSideError: it will answer no other image either.
        """
        retried: list[str] = []
        while True:
            said, ms = self._attempt(image)
            wait_s = self.patience.wait_s(len(retried), said.retry_after_s) if said.outcome == "again" else None
            if wait_s is None or self.stop.wait(wait_s):
                return self._reply(said, ms, tuple(retried))
            retried.append(said.name)

    def close(self) -> None:
        """Hangs up."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _reply(self, said: ApiResponse, ms: float, retried: tuple[str, ...]) -> Reply:
        trouble = f"{said.name} {said.message}".strip()
        if self.far.token:  # some repeat it
            trouble = trouble.replace(self.far.token, "…")
        trouble = trouble[:LONGEST_TROUBLE]
        host = urlsplit(self.far.base_url).hostname
        if said.outcome == "never":
            raise RemoteApiError(f"{host} refuses", found=trouble, remedy=said.remedy)
        if said.outcome == "again" and is_allowance(said.name):
            remedy = "run the same command again when there is more: it goes on where it stopped"
            raise RemoteApiError(f"the allowance of the day is used up at {host}", found=trouble, remedy=remedy)
        outcome = "failed" if said.outcome == "again" else said.outcome
        return Reply(outcome, said.detections, round(ms, 2), "" if outcome == "answered" else trouble, retried)

    def _attempt(self, image: bytes) -> tuple[ApiResponse, float]:
        """What came back, and after how many milliseconds."""
        started = time.perf_counter()
        try:
            status, headers, body, started = self._exchange(*self.far.request(image))
        except (OSError, http.client.HTTPException) as error:
            self.close()
            said = ApiResponse("failed", "no answer", f"{type(error).__name__}: {error}")
        else:
            said = parse_response(self.far.dialect, status, body, _retry_after_s(headers))
        return said, (time.perf_counter() - started) * 1e3

    def _exchange(self, body: bytes, headers: dict[str, str]) -> tuple[int, Message, bytes, float]:
        """Status, headers and body of an answer, and when its request began.

        A connection that the far side closed while it lay idle is opened again.
        """
        while True:
            connection, idle = self._opened()
            started = time.perf_counter()
            try:
                connection.request("POST", self.far.path, body, headers)
                answer = connection.getresponse()
            except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
                self.close()
                if not idle:
                    raise
            else:
                said = answer.read(LARGEST_ANSWER)
                if not answer.isclosed():
                    self.close()
                return answer.status, answer.headers, said, started

    def _opened(self) -> tuple[http.client.HTTPConnection, bool]:
        """The connection, and whether it has lain idle since an earlier request."""
        if self._connection is not None and self._connection.sock is not None:
            return self._connection, True
        connection = self.far.connection()
        try:
            connection.connect()
        except OSError as error:
            what, found = f"cannot reach {urlsplit(self.far.base_url).netloc}", error.strerror or str(error)
            raise RemoteApiError(what, found=found, remedy="check --base-url and the network") from error
        self._connection = connection
        return connection, False


def _retry_after_s(headers: Message) -> float | None:
    """Seconds to wait, from the header's seconds or date; None without one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
