"""A local stand-in for the hosted API: `detr-onnx serve`.

    socket ── run.py, uvicorn ──► app.py ─┬─ cloudflare_routes.py    the hosted API: REST, AI Gateway, Workers
                                          ├─ huggingface_routes.py   Hugging Face's inference API
                                          ├─ kserve_routes.py        the protocol of Triton and OpenVINO Model Server
                                          ├─ deepstack_routes.py     DeepStack's API, for camera software
                                          ├─ explain_routes.py       where the model looks, for the page
                                          ├─ operations.py           health, metrics, OpenAPI
                                          └─ page.py                 the page at /
    each: intake.py reads the body within limits ──► inference.py decodes and detects in threads

`protocols/` has the wire formats, without sockets; `errors.py` the refusals that each dialect writes in its own form.
The packages of the extra `serve` are imported by this package's modules only, after `check_installed`.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from types import FrameType

from detr_onnx.errors import DetrError
from detr_onnx.signals import TERMINATION

NEEDED = ("starlette", "uvicorn", "prometheus_client", "python_multipart")


def check_installed() -> None:
    """Raises DetrError with the command to install the extra `serve` if a package of it is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise DetrError(f"the server needs {', '.join(missing)}", remedy="run pip install 'detr-onnx[serve]'")


def exit_on_sigterm(*, at_once: bool = False) -> None:
    """Makes SIGTERM, on Windows also Ctrl-Break, end this process with status 0.

    By default the kernel ignores SIGTERM for process 1 of a container.

    Args:
        at_once: whether nothing is cleaned up. Otherwise SystemExit is raised wherever the process is, and a compiled
            package that is being imported turns that into an error of its own.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if at_once:
            os._exit(0)
        sys.exit(0)

    for number in TERMINATION:
        signal.signal(number, end)
