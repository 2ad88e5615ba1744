"""`detr-onnx compare-hosted IMAGES`: the hosted API, or a server of its dialect or Hugging Face's, and us."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from detr_onnx.cli.console import check_output_file, print_result, progress, write_file
from detr_onnx.cli.options import add_engine_options, add_model, add_source_options, open_detector
from detr_onnx.defaults import API_THRESHOLD
from detr_onnx.errors import UsageError

if TYPE_CHECKING:
    from detr_onnx.bench.hosted.client import RemoteApi

HELP = "compare the hosted API with this machine"
USAGE = "%(prog)s [options] IMAGES"

CREDENTIALS = {
    "cloudflare": ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID"),
    "huggingface": ("HF_TOKEN",),
}
"""The variables of the environment that say who asks, the token first; neither is sent in the other dialect."""
JOURNAL = Path("detr-onnx-hosted.ndjson")
RANGES = {
    "concurrency": (1, 256),
    "retries": (0, 100),
    "backoff": (0, 60),
    "timeout": (0.001, 86400),
    "price": (0, 1000),
    "threshold": (API_THRESHOLD, 1),  # the hosted API says nothing of lower scores
    "limit": (1, 1e9),
    "worst": (0, 1000),
}
"""Least and most of the options that are numbers."""


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("images", type=Path, metavar="IMAGES", help="directory of images")
    add("--dialect", choices=("cloudflare", "huggingface"), default="cloudflare", help="default: %(default)s")
    add("--base-url", metavar="URL", help="another server, such as http://127.0.0.1:8787/client/v4")
    add("--remote-model", metavar="NAME", help="the name of the model there")
    add("--concurrency", type=int, default=4, metavar="N", help="requests at a time (default: %(default)s)")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds to wait for an answer (default: %(default)s)")
    add(
        "--retries",
        type=int,
        default=5,
        metavar="N",
        help="of a request, after 408, 429 and 5xx (default: %(default)s)",
    )
    add("--backoff", type=float, default=1.0, metavar="S", help="the first wait; it doubles (default: %(default)s)")
    add("--price", type=float, default=0.0000075, metavar="DOLLARS", help="of a request (default: 0.0000075)")
    add("--threshold", type=float, default=API_THRESHOLD, help="from 0.1 up (default: %(default)s)")
    add("--limit", type=int, metavar="N", help="the first N images only")
    add("--journal", type=Path, default=JOURNAL, metavar="FILE", help="every reply (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the results")
    add("--html", type=Path, metavar="FILE", help="write a page with the results and the worst images")
    add("--worst", type=int, default=12, metavar="N", help="images on that page (default: %(default)s)")
    add_model(parser)
    add_engine_options(parser)
    add_source_options(parser)


def run(arguments: Namespace) -> int:
    """Asks the remote API, detects here, compares, and prints the results.

    Raises:
        DetrError: the folder, the options, the model or the remote API are not usable.
        KeyboardInterrupt: after saying how to go on.
    """
    try:
        return compare(arguments, os.environ)
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; the same command goes on, with what is in {arguments.journal}\n")
        raise


def compare(arguments: Namespace, environment: Mapping[str, str]) -> int:
    """The same, with the credentials of an environment."""
    from detr_onnx.bench.hosted.ask import ask_all, unsettled
    from detr_onnx.bench.hosted.client import RemoteApiError, RetryPolicy
    from detr_onnx.bench.hosted.images import images_in
    from detr_onnx.bench.hosted.journal import opened
    from detr_onnx.bench.hosted.report import html_of
    from detr_onnx.bench.hosted.results import look_at_all, results_of, table_of
    from detr_onnx.bench.setting import setting, short_path

    check_usage(arguments)
    far = remote_api_of(arguments, environment)
    photographs = images_in(arguments.images, arguments.limit)
    detector = open_detector(arguments)
    result = {
        **setting("detr-onnx", arguments.words),
        "remote_api": {"dialect": far.dialect, "base_url": far.base_url, "model": far.model},
        "local": {"model": short_path(arguments.model), "engine": detector.runtime},
    }
    with opened(arguments.journal) as journal:
        asked = unsettled(photographs, far, journal)
        tell_plan(len(photographs), len(asked), arguments.price, far)
        with progress(len(asked)) as show:
            ask_all(asked, far, RetryPolicy(arguments.retries, arguments.backoff), journal, arguments.concurrency, show)
        lines = [journal.reply(one.sha256, far) for one in photographs]
    if all(line["outcome"] != "answered" for line in lines):
        found, remedy = lines[0]["trouble"], f"{arguments.journal} has what was said of each"
        raise RemoteApiError("not one image was answered", found=found, remedy=remedy)
    with progress(len(photographs)) as show:
        views = look_at_all(photographs, lines, detector, arguments.threshold, show)
    result |= results_of(views, arguments.threshold, arguments.price)
    if arguments.json is not None:
        write_file(arguments.json, json.dumps(result, indent=1) + "\n")
    if arguments.html is not None:
        write_file(arguments.html, html_of(result, views, arguments.worst))
    print_result(table_of(result))
    return 0


def tell_plan(images: int, asked: int, price: float, far: RemoteApi) -> None:
    """What is about to be paid for, on stderr."""
    parts = urlsplit(far.base_url)
    if far.token and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        sys.stderr.write(f"note: the token goes to {parts.hostname} unencrypted\n")
    sys.stderr.write(f"{images} images, {asked} to ask the far side about: ${asked * price:.6f}\n")


def check_usage(arguments: Namespace) -> None:
    """Raises what is wrong with the options before anything is read or paid for."""
    for name, (least, most) in RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            raise UsageError(f"--{name} is wrong", found=str(value), expected=f"a number from {least:g} to {most:g}")
    places = [place for place in (arguments.json, arguments.html) if place is not None]
    if len({place.resolve() for place in (*places, arguments.journal)}) <= len(places):
        raise UsageError("--json, --html and --journal name one file", remedy="give each a file of its own")
    for place in places:
        check_output_file(place)


def remote_api_of(arguments: Namespace, environment: Mapping[str, str]) -> RemoteApi:
    """Where to ask. Only a server of one's own, which `--base-url` names, may do without account and token.

    Raises:
        UsageError: account or token are missing, or no header can hold them, or the base URL is none.
    """
    from detr_onnx.bench.hosted.client import BASE_URLS, MODELS, RemoteApi

    given = {name: environment.get(name, "").strip() for name in CREDENTIALS[arguments.dialect]}
    missing = [name for name, value in given.items() if not value]
    if missing and arguments.base_url is None:
        remedy = f"set {' and '.join(missing)}, or name a server of your own with --base-url"
        raise UsageError("the hosted API wants to know who asks", found=f"no {' and no '.join(missing)}", remedy=remedy)
    for name, value in given.items():
        if not _plain(value):
            raise UsageError(f"{name} holds characters that none has", remedy="copy it again")
    url = (arguments.base_url or BASE_URLS[arguments.dialect]).rstrip("/")
    check_url(url)
    model = arguments.remote_model or MODELS[arguments.dialect]
    token, account = given[CREDENTIALS[arguments.dialect][0]], given.get("CLOUDFLARE_ACCOUNT_ID") or "any"
    return RemoteApi(arguments.dialect, url, model, account, token or None, arguments.timeout)


def check_url(url: str) -> None:
    """Raises UsageError for what is no plain address of a server; passwords and queries would end up in the journal."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        right = False
    if not right or "@" in parts.netloc or parts.query or parts.fragment or not _plain(url):
        expected = "http://… or https://… without password, query or fragment"
        raise UsageError("--base-url is no address of a server", expected=expected)


def _plain(text: str) -> bool:
    """Whether a header or a request's first line can hold the text."""
    return text.isascii() and text.isprintable() and " " not in text
