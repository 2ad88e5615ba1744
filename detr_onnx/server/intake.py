"""Bodies of requests, within limits: on one body, on all that a process holds, and on the time they take to arrive."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import AsyncIterator, Iterator

import anyio
from starlette.requests import Request

from detr_onnx.server.errors import BAD_ENCODING, BAD_INPUT, BUSY, TIMEOUT, TOO_LARGE, RequestError

RETRY_AFTER_S = 1
ENCODINGS = ("gzip", "x-gzip", "deflate")
PIECE_BYTES = 1 << 20  # decompressed at a time, so that other requests are served in between


class Intake:
    """Reads bodies and counts the bytes of all that are held.

    Attributes:
        held: in bytes.
    """

    def __init__(self, *, max_body: int, max_held: int, timeout_s: float) -> None:
        self.held = 0
        self._max_body, self._max_held, self._timeout_s = max_body, max_held, timeout_s

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, decompressed, counted for as long as the context lasts.

        Raises:
            RequestError: TOO_LARGE; TIMEOUT if it arrives too slowly; BUSY if there is no memory left for it;
                BAD_ENCODING, or BAD_INPUT if it is not what its Content-Encoding says.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_body:
            raise self._too_large()
        body = await self._received(request)
        try:
            yield body
        finally:
            self.held -= len(body)
            del body  # the frames of an error would keep it

    async def _received(self, request: Request) -> bytes:
        """The whole body, which counts as held unless this raises."""
        body = bytearray()
        try:
            with anyio.fail_after(self._timeout_s):
                async for piece in decoded(request):
                    self._append(body, piece)
            return bytes(body)
        except BaseException as error:
            self.held -= len(body)
            if isinstance(error, TimeoutError):
                raise RequestError(TIMEOUT, "the body took too long to arrive") from error
            raise
        finally:
            body.clear()  # otherwise each request would hold its body twice

    def _append(self, body: bytearray, piece: bytes) -> None:
        body += piece
        self.held += len(piece)
        if len(body) > self._max_body:
            raise self._too_large()
        if self.held > self._max_held:
            raise RequestError(BUSY, retry_after_s=RETRY_AFTER_S)

    def _too_large(self) -> RequestError:
        return RequestError(TOO_LARGE, f"the body has more than {self._max_body} bytes")


async def decoded(request: Request) -> AsyncIterator[bytes]:
    """The pieces of a body, decompressed as its Content-Encoding says."""
    encoding = encoding_of(request)
    if not encoding:
        async for chunk in request.stream():
            yield chunk
        return
    if encoding not in ENCODINGS:
        raise RequestError(BAD_ENCODING, subject=encoding)
    decompressor = Decompressor()
    async for chunk in request.stream():
        for piece in decompressor.pieces(chunk):
            yield piece
            await anyio.sleep(0)
    if not decompressor.complete:
        raise RequestError(BAD_INPUT, f"the body is not {encoding}, or is cut short")


def encoding_of(request: Request) -> str:
    """The codings of a body, from all of its headers Content-Encoding; "" for none."""
    names = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    return ", ".join(name for name in map(str.strip, names) if name not in ("", "identity"))


class Decompressor:
    """Reads gzip, of one member or several, or zlib's format.

    Attributes:
        complete: whether the data may end here, as at its start.
    """

    def __init__(self) -> None:
        self.complete = True
        self._inner = _decompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes give, at most `PIECE_BYTES` at a time."""
        while data:
            if self.complete:  # the first member of gzip, or the next
                self._inner = _decompressor()
            try:
                piece = self._inner.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise RequestError(BAD_INPUT, f"the body cannot be decompressed: {error}") from error
            self.complete = self._inner.eof
            data = self._inner.unused_data if self.complete else self._inner.unconsumed_tail
            yield piece


def _decompressor() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by the header
