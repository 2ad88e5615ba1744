"""The health check of examples/Containerfile passes if the server is ready, also behind a proxy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

CONTAINERFILE = Path(__file__).parents[2] / "examples" / "Containerfile"
PORT = "8787"
UNREACHABLE = "http://127.0.0.1:1"  # nothing listens there


@pytest.fixture
def health():
    """Runs the health check against a server that answers with this status; exit status and path."""
    asked, status = [], [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status[0])
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (words,) = re.findall(r"HEALTHCHECK[^[]+CMD (\[.+\])", CONTAINERFILE.read_text())
    code = json.loads(words)[2].replace(PORT, str(server.server_port))

    def run(answered: int, **environment: str) -> tuple[int, str]:
        status[0] = answered
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, timeout=60)
        return done.returncode, asked[-1]

    yield run
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("variable", ["HOME", "http_proxy", "HTTP_PROXY", "all_proxy"])
def test_the_health_check_asks_the_server_itself(health, variable):
    environment = {variable: os.environ.get(variable, "") if variable == "HOME" else UNREACHABLE, "no_proxy": ""}
    assert health(200, **environment) == (0, "/readyz")
    assert health(503, **environment)[0] == 1
