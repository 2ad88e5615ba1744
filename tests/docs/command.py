"""`detr-onnx` and `pip` as the documentation's blocks find them on their PATH; see `stage.Stage`.

`detr-onnx serve` starts the server in the background, on the port of the page, and returns when it is ready. pip
installs nothing; it looks whether the extras exist.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from detr_onnx import hub
from tests.docs.parsing import check_extras

PORT, SERVER = "DOCS_PORT", "DOCS_SERVER"
"""Variables: the port to listen on, and the file with the process id and the port of the server."""
POLL_S, PATIENCE_S = 0.05, 120.0


def use_stand_ins() -> None:
    """Makes the official model's name mean what is in the cache, whose files are not the pinned ones."""
    assert hub.fetch.__kwdefaults__ is not None
    hub.fetch.__kwdefaults__["pinned"] = ()


def start_server(words: list[str]) -> int:
    """Starts a server in place of the one before; returns when it is ready, or its status when it ends."""
    stop_server(Path(os.environ[SERVER]))
    url = f"http://127.0.0.1:{os.environ[PORT]}/readyz"
    command = [sys.executable, "-m", "tests.docs.command", *words, "--port", os.environ[PORT]]
    log = Path(os.environ[SERVER]).with_suffix(".log")
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    Path(os.environ[SERVER]).write_text(f"{server.pid} {os.environ[PORT]}")
    until = time.monotonic() + PATIENCE_S
    while server.poll() is None and time.monotonic() < until:
        try:
            return urllib.request.urlopen(url, timeout=POLL_S * 20).status != 200
        except OSError:
            time.sleep(POLL_S)
    sys.stderr.write(log.read_text(encoding="utf-8"))
    return server.returncode or 1


def stop_server(file: Path) -> None:
    """Ends the server that runs, if one does, and waits until it listens no more."""
    if not file.is_file():
        return
    pid, port = map(int, file.read_text().split())
    file.unlink()
    with contextlib.suppress(OSError):  # it has ended already
        os.kill(pid, signal.SIGTERM)
        while True:  # until the connection is refused
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
            time.sleep(POLL_S)


def main(program: str, words: list[str]) -> int:
    """Runs pip's stand-in, or the command line with the stand-ins of the models."""
    if program == "pip":
        check_extras(words)
        return 0
    use_stand_ins()
    if words[:1] == ["serve"] and "--port" not in words:
        return start_server(words)
    from detr_onnx.__main__ import main as run

    sys.argv = ["detr-onnx", *words]
    return run()


if __name__ == "__main__":
    sys.exit(main(os.environ.get("DOCS_PROGRAM", "detr-onnx"), sys.argv[1:]))
