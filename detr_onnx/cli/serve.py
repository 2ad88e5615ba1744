"""`detr-onnx serve`: the HTTP server, a local stand-in for the hosted API."""

from __future__ import annotations

import math
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from detr_onnx import defaults
from detr_onnx.cli.options import add_engine_options, add_model, add_source_options, add_threshold, open_detector
from detr_onnx.errors import UsageError

HELP = "run a local server with the hosted API's routes (needs the extra serve)"
USAGE = "%(prog)s [options]"


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    add = parser.add_argument
    add("--host", default=defaults.SERVER_HOST, help="address to listen on (default: %(default)s, this machine only)")
    add("--port", type=int, default=defaults.SERVER_PORT, help="0 for any free port (default: %(default)s)")
    add("--unix-socket", type=Path, metavar="PATH", help="listen on a unix socket, in place of --host and --port")
    add("--token", metavar="TEXT", help="require this bearer token (default: $DETR_ONNX_TOKEN, else none)")
    add("--cors-origin", action="append", metavar="ORIGIN",
        help="let pages of this origin use the server; repeatable, * for all")  # fmt: skip
    add("--drain-delay", type=float, default=0.0, metavar="S",
        help="seconds to accept connections after SIGTERM; /readyz then says 503 (default: %(default)g)")  # fmt: skip
    add_threshold(parser, defaults.API_THRESHOLD)
    _add_limits(parser)
    add("--no-access-log", action="store_true", help="do not log requests to stderr")
    add_engine_options(parser)
    add_source_options(parser)


def _add_limits(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--workers", type=int, default=defaults.SERVER_WORKERS, metavar="N",
        help="processes, each with its own model (default: %(default)s)",
    )  # fmt: skip
    add(
        "--queue", type=int, default=defaults.SERVER_QUEUE, metavar="N",
        help="waiting requests per process; more are answered with 429 (default: %(default)s)",
    )  # fmt: skip
    add(
        "--timeout", type=float, default=defaults.SERVER_TIMEOUT_S, metavar="S",
        help="seconds that a request may take (default: %(default)g)",
    )  # fmt: skip
    add(
        "--max-body", type=int, default=defaults.SERVER_MAX_BODY_MB, metavar="MB",
        help="largest request body (default: %(default)s)",
    )  # fmt: skip
    add(
        "--max-pixels", type=float, default=defaults.SERVER_MAX_MEGAPIXELS, metavar="MP",
        help="largest image, in megapixels (default: %(default)g)",
    )  # fmt: skip
    add(
        "--max-batch", type=int, default=defaults.SERVER_MAX_BATCH, metavar="N",
        help="images of one size that may go through the network together (default: %(default)s)",
    )  # fmt: skip


def run(arguments: Namespace) -> int:
    from detr_onnx.server import check_installed, exit_on_sigterm

    exit_on_sigterm()
    check_installed()
    if not 0 < arguments.max_pixels < math.inf:
        expected = "a finite number above 0, in megapixels"
        raise UsageError("--max-pixels is out of range", found=f"{arguments.max_pixels:g}", expected=expected)
    from functools import partial

    from detr_onnx.server.run import serve
    from detr_onnx.server.settings import MB, Settings

    return serve(
        Settings(
            open_detector=partial(open_detector, arguments),
            model=arguments.model,
            host=arguments.host,
            port=arguments.port,
            token=arguments.token if arguments.token is not None else os.environ.get("DETR_ONNX_TOKEN"),
            threshold=arguments.threshold,
            workers=arguments.workers,
            max_body=arguments.max_body * MB,
            max_pixels=round(arguments.max_pixels * 1e6),
            queue=arguments.queue,
            timeout_s=arguments.timeout,
            max_batch=arguments.max_batch,
            unix_socket=arguments.unix_socket,
            cors_origins=tuple(arguments.cors_origin or ()),
            drain_delay_s=arguments.drain_delay,
            access_log=not arguments.no_access_log,
        )
    )
