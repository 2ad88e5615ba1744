"""A stand-in for the hub on the loopback interface: real HTTP, redirects, ranges and refusals, no network.

    with StandInHub() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.safetensors": Path("any/size")})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

As on the hub, a .safetensors file is answered with a redirect to another host (here: `localhost` in place of
127.0.0.1), its size and sha256 in X-Linked-Size and X-Linked-Etag. The ETag of any other file is git's sha1 of it.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

from tests.quiet_http import Quiet, QuietServer

CHUNK_BYTES = 1 << 20
PAUSED_BYTES = 1 << 15


@dataclass(frozen=True)
class Request:
    """A request and the status of its answer."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int


@dataclass
class Repository:
    """The files of a repository at a commit, and the revisions that lead to it."""

    commit: str
    revisions: set[str]
    files: dict[str, bytes | Path]


class StandInHub:
    """The hub; set the attributes to make it misbehave.

    Attributes:
        status: answer everything with this status.
        get_status: answer every GET with this status.
        cut_after: end the next GET of a .safetensors file after so many bytes, once; then None again.
        cut_status: what GET answers from that cut on.
        token: only serve requests with this token.
        gated: refuse every file as a gated repository does.
        wrong_bytes: serve bytes of the right number, the last one altered.
        pause_s: wait so long after each 32 KiB of a file.
        is_hub: False answers as the login page of a network does.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.status: int | None = None
        self.get_status: int | None = None
        self.cut_after: int | None = None
        self.cut_status: int | None = None
        self.token: str | None = None
        self.gated = False
        self.wrong_bytes = False
        self.is_hub = True
        self.pause_s = 0.0
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(
        self, name: str, files: Mapping[str, bytes | Path], *, commit: str = "a" * 40, revision: str = "main"
    ) -> Repository:
        """Adds a repository, or replaces it: a new commit on the branch."""
        self.repositories[name] = Repository(commit, {revision, commit}, dict(files))
        return self.repositories[name]

    def bodies(self) -> list[Request]:
        """The GET requests that were answered with a file's bytes."""
        files = [request for request in self.requests if not request.path.startswith("/api/")]
        return [request for request in files if request.method == "GET" and request.status in (200, 206)]

    def __enter__(self) -> StandInHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(QuietServer):
    daemon_threads = False  # server_close waits for every answer, so that no socket outlives a test

    def __init__(self, hub: StandInHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.server.hub, urlsplit(self.path).path
        if refusal := self._refusal():
            self._refuse(*refusal)
        elif about := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path):
            self._describe(about[1], unquote(about[3] or "main"), about[2] == "tree")
        elif cdn := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._serve(hub.repositories[cdn[1]], cdn[2])
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*map(unquote, file.groups()))
        else:
            self._refuse(404, None)

    def _refusal(self) -> tuple[int, str | None] | None:
        hub = self.server.hub
        if hub.status:
            return hub.status, None
        if hub.get_status and self.command == "GET":
            return hub.get_status, None
        if hub.gated and not self.path.startswith("/api/"):
            return 403, "GatedRepo"
        # signed addresses on the other host need no token
        wants_token = hub.token and not self.path.startswith("/cdn/")
        return (401, None) if wants_token and self.headers["Authorization"] != f"Bearer {hub.token}" else None

    def _find(self, name: str, revision: str) -> Repository | None:
        repository = self.server.hub.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound")
        elif revision not in repository.revisions:
            self._refuse(404, "RevisionNotFound")
        else:
            return repository
        return None

    def _describe(self, name: str, revision: str, tree: bool) -> None:
        """A repository's commit and the names of its files, or the tree of its files with sizes and digests."""
        repository = self._find(name, revision)
        if repository is None:
            return
        described: object = {
            "id": name,
            "sha": repository.commit,
            "siblings": [{"rfilename": file} for file in repository.files],
        }
        if tree:
            described = [_tree_entry(file, content) for file, content in repository.files.items()]
        body = json.dumps(described).encode() if self.server.hub.is_hub else b"<html>Sign in to this network</html>"
        self._start(200, {"Content-Length": str(len(body)), "Content-Type": "application/json"})
        self.wfile.write(body if self.command == "GET" else b"")

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._find(name, revision)
        if repository is None:
            return
        if file not in repository.files:
            self._refuse(404, "EntryNotFound")
        elif file.endswith(".safetensors"):
            host = f"http://localhost:{self.server.server_port}"
            linked = {
                "X-Linked-Size": str(_size(repository.files[file])),
                "X-Linked-Etag": f'"{_sha256(repository.files[file])}"',
            }
            self._start(
                302,
                {"Location": f"{host}/cdn/{name}/{file}", "Content-Length": "0"} | linked | self._commit(repository),
            )
        else:
            self._serve(repository, file)

    def _commit(self, repository: Repository) -> dict[str, str]:
        return {"X-Repo-Commit": repository.commit} if self.server.hub.is_hub else {}

    def _serve(self, repository: Repository, file: str) -> None:
        """The bytes of a file, from the start of a range on."""
        content = repository.files[file]
        size = _size(content)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(asked[1]) if asked else 0
        headers = {"Content-Length": str(size - start), "ETag": f'"{_git_sha1(content)}"', "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._start(206 if asked else 200, headers | self._commit(repository))
        if self.command == "GET":
            self._send(content, start, self._length(file, size - start))

    def _length(self, file: str, length: int) -> int:
        """How many bytes to send before hanging up."""
        hub = self.server.hub
        if hub.cut_after is None or not file.endswith(".safetensors"):
            return length
        length, hub.cut_after, hub.get_status = min(length, hub.cut_after), None, hub.cut_status
        return length

    def _send(self, content: bytes | Path, start: int, length: int) -> None:
        end = start + length
        pause_s = self.server.hub.pause_s
        while start < end:
            chunk = _read(content, start, min(PAUSED_BYTES if pause_s else CHUNK_BYTES, end - start))
            start += len(chunk)
            if self.server.hub.wrong_bytes and start == end:
                chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
            self.wfile.write(chunk)
            time.sleep(pause_s)

    def _refuse(self, status: int, code: str | None) -> None:
        self._start(status, {"Content-Length": "0"} | ({"X-Error-Code": code} if code else {}))

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        request = Request(
            self.command, unquote(self.path), self.headers["Range"], self.headers["Authorization"], status
        )
        self.server.hub.requests.append(request)
        self.close_connection = True
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Connection", "close")
        self.end_headers()


def _tree_entry(file: str, content: bytes | Path) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": file, "size": _size(content), "oid": "0" * 40}
    if file.endswith(".safetensors"):
        entry["lfs"] = {"oid": _sha256(content), "size": _size(content), "pointerSize": 134}
    return entry


def _size(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _read(content: bytes | Path, start: int, length: int) -> bytes:
    if isinstance(content, bytes):
        return content[start : start + length]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _git_sha1(content: bytes | Path) -> str:
    """The name that git gives to a file's content."""
    body = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
