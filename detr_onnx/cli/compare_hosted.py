"""`detr-onnx bench --hosted IMAGES`: the hosted API, or a server of its dialect or Hugging Face's, and us."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from detr_onnx.bench.hosted.ask import ask_all, unsettled
from detr_onnx.bench.hosted.client import BASE_URLS, MODELS, RemoteApi, RemoteApiError, RetryPolicy
from detr_onnx.bench.hosted.images import images_in
from detr_onnx.bench.hosted.journal import opened
from detr_onnx.bench.hosted.report import html_of
from detr_onnx.bench.hosted.responses import FLOOR
from detr_onnx.bench.hosted.results import look_at_all, results_of, table_of
from detr_onnx.bench.setting import setting, short_path
from detr_onnx.cli.console import check_place, progress, tell, write
from detr_onnx.cli.options import open_detector
from detr_onnx.errors import UsageError

DEFAULTS = {
    "dialect": "cloudflare",
    "concurrency": 4,
    "timeout": 60.0,
    "retries": 5,
    "backoff": 1.0,
    "price": 0.0000075,  # dollars a request; the model's page
    "threshold": FLOOR,
    "journal": Path("detr-onnx-hosted.ndjson"),
    "worst": 12,
}
"""Of the options, as the grammar tells them."""
CREDENTIALS = {
    "cloudflare": ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID"),
    "huggingface": ("HF_TOKEN",),
}
"""The variables of the environment that say who asks, the token first; neither is sent in the other dialect."""
RANGES = {
    "concurrency": (1, 256),
    "retries": (0, 100),
    "backoff": (0, 60),
    "timeout": (0.001, 86400),
    "price": (0, 1000),
    "threshold": (FLOOR, 1),  # the hosted API says nothing of lower scores
    "limit": (1, 1e9),
    "worst": (0, 1000),
}
"""Least and most of the options that are numbers."""


def compare(arguments: Namespace) -> int:
    """Asks, looks, compares, writes and tells.

    Raises:
        DetrError: the folder, the options, the model or the far side are not usable.
        KeyboardInterrupt: after saying how to go on.
    """
    given = Namespace(**vars(arguments) | {n: v for n, v in DEFAULTS.items() if getattr(arguments, n) is None})
    try:
        return bench(given, os.environ)
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; the same command goes on, with what is in {given.journal}\n")
        raise


def bench(arguments: Namespace, environment: Mapping[str, str]) -> int:
    """The same with every option set."""
    check_usage(arguments)
    far = remote_api_of(arguments, environment)
    photographs = images_in(arguments.hosted, arguments.limit)
    detector = open_detector(arguments)
    result = {
        **setting("detr-onnx", arguments.words),
        "remote_api": {"dialect": far.dialect, "base_url": far.base_url, "model": far.model},
        "local": {"model": short_path(arguments.model), "engine": detector.engine},
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
        write(arguments.json, json.dumps(result, indent=1) + "\n")
    if arguments.html is not None:
        write(arguments.html, html_of(result, views, arguments.worst))
    tell(table_of(result))
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
        check_place(place)


def remote_api_of(arguments: Namespace, environment: Mapping[str, str]) -> RemoteApi:
    """Where to ask. Only a server of one's own, which `--base-url` names, may do without account and token.

    Raises:
        UsageError: account or token are missing, or no header can hold them, or the base URL is none.
    """
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
