"""The hosted API beside `Detector` here, over a folder of pictures: `python -m benchmarks.hosted_api FOLDER`.

    folder ── photographs_in ──► photographs ──┬─ ask_all ── journal ──► replies ──┬─ views ──► results, table, HTML
                                               └─ look_at_all, Detector ────────────┘

The far side goes first and alone, so that neither disturbs the other's times. What it said is in the journal at once;
the same command goes on where an earlier one stopped, and pays for no picture twice.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.asking import ask_all, unsettled
from benchmarks.far_side import BASE_URLS, MODELS, FarSide, FarSideError, Patience
from benchmarks.far_words import FLOOR
from benchmarks.folder import photographs_in
from benchmarks.hosted_report import html_of
from benchmarks.hosted_results import look_at_all, results_of, table_of
from benchmarks.journal import opened
from benchmarks.setting import setting, without_place
from detr_onnx import Detector
from detr_onnx.console import complain, progress, tell
from detr_onnx.errors import DetrError, OutputError, UsageError
from detr_onnx.models import DEFAULT_MODEL, ENGINES

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PRICE = 0.0000075  # dollars a request; the model's page
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
JOURNAL = Path("build/benchmarks/hosted_api.ndjson")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    words = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(words)
    try:
        return bench(arguments, words, os.environ)
    except DetrError as error:
        complain(error)
        return error.exit_status
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; the same command goes on, with what is in {arguments.journal}\n")
        return INTERRUPTED
    except BrokenPipeError:
        return 0


def bench(arguments: argparse.Namespace, words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Asks, looks, compares and writes.

    Raises:
        DetrError: the folder, the options, the model or the far side are not usable.
    """
    check_usage(arguments)
    far = far_side_of(arguments, environment)
    photographs = photographs_in(arguments.folder, arguments.limit)
    detector = Detector(
        arguments.model, engine=arguments.engine, precision=arguments.precision, threads=arguments.threads
    )
    result = {
        **setting("benchmarks.hosted_api", words),
        "far_side": {"dialect": far.dialect, "base_url": far.base_url, "model": far.model},
        "local": {"model": without_place(arguments.model), "engine": detector.engine},
    }
    with opened(arguments.journal) as journal:
        asked = unsettled(photographs, far, journal)
        tell_plan(len(photographs), len(asked), arguments.price, far)
        with progress(len(asked)) as show:
            ask_all(asked, far, Patience(arguments.retries, arguments.backoff), journal, arguments.concurrency, show)
        lines = [journal.reply(one.sha256, far) for one in photographs]
    if all(line["outcome"] != "answered" for line in lines):
        found, remedy = lines[0]["trouble"], f"{arguments.journal} has what was said of each"
        raise FarSideError("not one picture was answered", found=found, remedy=remedy)
    with progress(len(photographs)) as show:
        views = look_at_all(photographs, lines, detector, arguments.threshold, show)
    result |= results_of(views, arguments.threshold, arguments.price)
    if arguments.json is not None:
        write(arguments.json, json.dumps(result, indent=1) + "\n")
    if arguments.html is not None:
        write(arguments.html, html_of(result, views, arguments.worst))
    tell(table_of(result))
    return 0


def tell_plan(pictures: int, asked: int, price: float, far: FarSide) -> None:
    """What is about to be paid for, on stderr."""
    parts = urlsplit(far.base_url)
    if far.token and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        sys.stderr.write(f"note: the token goes to {parts.hostname} unencrypted\n")
    sys.stderr.write(f"{pictures} pictures, {asked} to ask the far side about: ${asked * price:.6f}\n")


def write(path: Path, text: str) -> None:
    """Raises OutputError when it cannot."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}", found=error.strerror, remedy="choose another file") from error


def parser() -> argparse.ArgumentParser:
    """The words of the command line."""
    words = argparse.ArgumentParser(
        prog="python -m benchmarks.hosted_api",
        description="The hosted API, or another server of its dialect or Hugging Face's, beside Detector here.",
        epilog="CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, or HF_TOKEN, say who asks.",
    )
    words.add_argument("folder", type=Path, help="pictures, searched to the bottom")
    local = words.add_argument_group("here")
    local.add_argument("-m", "--model", default=DEFAULT_MODEL)
    local.add_argument("--engine", choices=("auto", *ENGINES), default="auto")
    local.add_argument("--precision")
    local.add_argument("--threads", type=int)
    far = words.add_argument_group("there")
    far.add_argument("--dialect", choices=tuple(BASE_URLS), default="cloudflare")
    far.add_argument("--base-url", metavar="URL", help="such as http://127.0.0.1:8787/client/v4")
    far.add_argument("--far-model", metavar="NAME", help="the name of the model there")
    far.add_argument("--concurrency", type=int, default=4, help="requests at a time (4)")
    far.add_argument("--timeout", type=float, default=60, metavar="S", help="seconds to wait for an answer (60)")
    far.add_argument("--retries", type=int, default=5, help="of a request, after 408, 429 and 5xx (5)")
    far.add_argument("--backoff", type=float, default=1, metavar="S", help="the first wait; each is twice the last (1)")
    far.add_argument("--price", type=float, default=PRICE, help=f"dollars a request ({PRICE:.7f})")
    words.add_argument("--threshold", type=float, default=FLOOR, help=f"what scores have to exceed, from {FLOOR} up")
    words.add_argument("--limit", type=int, metavar="N", help="the first N pictures only")
    words.add_argument("--journal", type=Path, default=JOURNAL, metavar="FILE", help=f"every reply ({JOURNAL})")
    words.add_argument("--json", type=Path, metavar="FILE", help="the results")
    words.add_argument("--html", type=Path, metavar="FILE", help="a page with the results and the worst pictures")
    words.add_argument("--worst", type=int, default=12, metavar="N", help="pictures on that page (12)")
    return words


def check_usage(arguments: argparse.Namespace) -> None:
    """Raises what is wrong with the options before anything is read or paid for."""
    for name, (least, most) in RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            raise UsageError(f"--{name} is wrong", found=str(value), expected=f"a number from {least:g} to {most:g}")
    places = [place for place in (arguments.json, arguments.html) if place is not None]
    if len({place.resolve() for place in (*places, arguments.journal)}) <= len(places):
        raise UsageError("--json, --html and --journal name one file", remedy="give each a file of its own")
    for place in places:
        if place.is_dir() or not place.parent.is_dir():
            found = "a directory" if place.is_dir() else f"no directory {place.parent}"
            raise OutputError(f"cannot write {place}", found=found, remedy="choose another file")


def far_side_of(arguments: argparse.Namespace, environment: Mapping[str, str]) -> FarSide:
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
    model = arguments.far_model or MODELS[arguments.dialect]
    token, account = given[CREDENTIALS[arguments.dialect][0]], given.get("CLOUDFLARE_ACCOUNT_ID") or "any"
    return FarSide(arguments.dialect, url, model, account, token or None, arguments.timeout)


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


if __name__ == "__main__":
    sys.exit(main())
