"""A stand-in for the hosted API on your own machine: `detr-onnx serve`.

    socket ── run.py, uvicorn ──► app.py ─┬─ cloudflare.py   the REST path, AI Gateway, the binding of Workers
                                          ├─ huggingface.py  object detection as Hugging Face's clients speak it
                                          ├─ kserve.py       the protocol of Triton and OpenVINO Model Server
                                          ├─ operations.py   health, metrics, OpenAPI
                                          └─ page.py         a page to look at
    each: intake.py reads the body within limits ──► inference.py decodes and detects off the event loop

What it is made of (the extra `serve`) is imported by the modules of this package and nowhere else, and only
`check_installed` may be imported before it is known to be there.
"""

from __future__ import annotations

import importlib.util

from detr_onnx.errors import DetrError

NEEDED = ("starlette", "uvicorn", "prometheus_client")


def check_installed() -> None:
    """Raises DetrError with what to install when the extra `serve` is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise DetrError(f"the server needs {', '.join(missing)}", remedy="run pip install 'detr-onnx[serve]'")
