"""`detr-onnx compare-hosted`: the hosted API, or another server of its dialect or Hugging Face's, and this machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from detr_onnx.bench.hosted.responses import FLOOR
from detr_onnx.cli.console import check_keeps_inputs, progress
from detr_onnx.cli.options import add_engine_options, add_model, add_source_options, given_options, open_detector
from detr_onnx.cli.results import check_destination, check_is_not_stdout, write_results
from detr_onnx.errors import UsageError
from detr_onnx.text import is_text

if TYPE_CHECKING:
    from detr_onnx.bench.hosted.api import RemoteApi
    from detr_onnx.bench.hosted.results import ImageResult

HELP = "compare the hosted API with this machine: answers, accuracy, latency, cost"
USAGE = "%(prog)s [options] IMAGES [IMAGES ...]"

CREDENTIALS = {
    "cloudflare": ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID"),
    "huggingface": ("HF_TOKEN",),
}
"""Environment variables with the credentials of each dialect, the token first."""
LEAST_RESAMPLES = 100
RANGES = {
    "latency_requests": (0, 100_000),
    "retries": (0, 100),
    "backoff": (0, 60),
    "timeout": (0.001, 86400),
    "price": (0, 1000),
    "machine_price": (0, 10_000),
    "threshold": (FLOOR, 1),  # the hosted API returns only higher scores
    "resamples": (LEAST_RESAMPLES, 100_000),
    "limit": (1, 1e9),
    "worst": (0, 1000),
}
"""Least and most of the options that are numbers."""
MOST_CONCURRENCY = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command, then those of the local model."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGES", help="directories, files or patterns")
    _add_remote(parser)
    _add_measurements(parser)
    _add_files(parser)
    add_model(parser)
    add_engine_options(parser)
    add_source_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compares, writes the files and prints the table; the exit status.

    Raises:
        DetrError: the images, the options, the model or the remote API cannot be used.
        KeyboardInterrupt: after a note on how to resume.
    """
    try:
        return _compare(arguments, os.environ)
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; the same command resumes from {arguments.journal}\n")
        raise


def _add_remote(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "remote API",
        "The credentials are CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, or HF_TOKEN. No answer is paid for twice.",
    )
    add = group.add_argument
    add("--dialect", choices=tuple(CREDENTIALS), default="cloudflare", help="default: %(default)s")
    add("--base-url", metavar="URL", help="another server, such as http://127.0.0.1:8787/client/v4")
    add("--remote-model", metavar="NAME", help="the API's name of the model (default: DETR-ResNet-50)")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds per step of a request (default: %(default)g)")
    add("--retries", type=int, default=5, metavar="N", help="retries after 408, 429 and 5xx (default: %(default)s)")
    add("--backoff", type=float, default=1.0, metavar="S",
        help="seconds before the first retry, then doubled (default: %(default)g)")  # fmt: skip
    add("--journal", type=Path, default=Path("detr-onnx-hosted.ndjson"), metavar="FILE",
        help="keeps every reply; a rerun resumes from it (default: %(default)s)")  # fmt: skip


def _add_measurements(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("measurements")
    add = group.add_argument
    add("--annotations", type=Path, metavar="FILE", help="COCO annotations of the images, for AP of both sides")
    add("--resamples", type=int, default=1000, metavar="N",
        help="draws for the bootstrap interval of AP (default: %(default)s)")  # fmt: skip
    add("--concurrency", type=_concurrencies, default=(1, 4, 16), metavar="N,…",
        help="requests at the same time; latency is measured at each (default: 1,4,16)")  # fmt: skip
    add("--latency-requests", type=int, default=100, metavar="N",
        help="requests per side at each concurrency; 0 for none (default: %(default)s)")  # fmt: skip
    add("--threshold", type=float, default=FLOOR, metavar="SCORE",
        help="compare detections whose score is above this, from 0.1 up (default: %(default)s)")  # fmt: skip
    add("--price", type=float, default=0.0000075, metavar="DOLLARS", help="price of a request (default: 0.0000075)")
    add("--machine-price", type=float, metavar="DOLLARS", help="price of this machine per hour")
    add("--limit", type=int, metavar="N", help="only the first N images")


def _add_files(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    add = group.add_argument
    add("--json", type=Path, metavar="FILE", help="all figures (- for stdout)")
    add("--html", type=Path, metavar="FILE", help="a page with figures, plots and the images that differ most")
    add("--worst", type=int, default=12, metavar="N", help="images on that page (default: %(default)s)")


def _concurrencies(text: str) -> tuple[int, ...]:
    """The numbers of `1,4,16`, each once, in order; argparse reports the error."""
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or not all(1 <= number <= MOST_CONCURRENCY for number in numbers):
        raise argparse.ArgumentTypeError(f"expected numbers from 1 to {MOST_CONCURRENCY}, such as 1,4,16")
    return numbers


def _compare(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    from detr_onnx.bench.hosted.images import images_in
    from detr_onnx.bench.hosted.page import html_of
    from detr_onnx.bench.hosted.table import table_of
    from detr_onnx.bench.setting import setting, short_path

    check_usage(arguments)
    remote = remote_api_of(arguments, environment)
    images = images_in(arguments.images, arguments.limit)
    for option, path in results_files(arguments).items():
        check_keeps_inputs(path, option, *(image.path for image in images))
    heading = setting("detr-onnx", arguments.words)
    figures, image_results, engine = _run(arguments, remote, images)
    result = {
        **heading,
        "remote_api": {"dialect": remote.dialect, "base_url": remote.base_url, "model": remote.model},
        "local": {"model": short_path(arguments.model), "engine": engine},
        **figures,
    }
    content = {
        "--json": lambda: json.dumps(result, indent=1) + "\n",
        "--html": lambda: html_of(result, image_results, arguments.worst),
    }
    files = {path: content[option] for option, path in results_files(arguments).items()}
    write_results(table_of(result), files)
    return 0


def results_files(arguments: argparse.Namespace) -> dict[str, Path]:
    """The files that are written in the end, by option."""
    files = {"--json": arguments.json, "--html": arguments.html}
    return {option: path for option, path in files.items() if path is not None}


def _run(
    arguments: argparse.Namespace, remote: RemoteApi, images: Sequence[Any]
) -> tuple[dict[str, Any], list[ImageResult], str]:
    """All figures, both answers to each image, and the engine."""
    from detr_onnx.bench.hosted.client import RetryPolicy
    from detr_onnx.bench.hosted.results import Prices
    from detr_onnx.bench.hosted.run import ComparisonOptions, ComparisonRun
    from detr_onnx.evaluation.average_precision import import_pycocotools
    from detr_onnx.evaluation.coco import read_annotations

    truth = None
    if arguments.annotations is not None:
        import_pycocotools()
        truth = read_annotations(arguments.annotations)
    options = ComparisonOptions(
        journal=arguments.journal,
        retry_policy=RetryPolicy(arguments.retries, arguments.backoff),
        concurrency=arguments.concurrency,
        latency_requests=arguments.latency_requests,
        threshold=arguments.threshold,
        prices=Prices(arguments.price, arguments.machine_price),
        resamples=arguments.resamples,
    )
    detector = open_detector(arguments)
    comparison = ComparisonRun(images, remote, detector, options, progress, _note)
    figures, image_results = comparison.run(truth)
    return figures, image_results, detector.runtime


def _note(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def check_usage(arguments: argparse.Namespace) -> None:
    """Raises UsageError or OutputError for wrong options, before anything is read or paid for."""
    for name, (least, most) in RANGES.items():
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            option = f"--{name.replace('_', '-')}"
            expected = f"a number from {least:g} to {most:g}"
            raise UsageError(f"{option} is out of range", found=str(value), expected=expected)
    given = given_options(arguments, _add_measurements, _add_files)
    for option, user in (("--resamples", "--annotations"), ("--worst", "--html")):
        if option in given and user not in given:
            raise UsageError(f"{option} is not used", remedy=f"add {user} FILE, or leave it out")
    files = results_files(arguments)
    check_is_not_stdout(arguments.journal, "--journal")
    if len({os.path.realpath(path) for path in (*files.values(), arguments.journal)}) <= len(files):
        raise UsageError("--json, --html and --journal name the same file", remedy="name a file for each")
    for option, path in files.items():
        check_destination(path, option, [arguments.model], arguments.annotations, arguments.config, or_stdout=True)


def remote_api_of(arguments: argparse.Namespace, environment: Mapping[str, str]) -> RemoteApi:
    """The remote API that the options and the environment describe.

    Only another server, named by `--base-url`, needs neither account nor token.

    Raises:
        UsageError: credentials are missing or malformed, or the base URL or a proxy's is.
    """
    from detr_onnx.bench.hosted.api import BASE_URLS, MODELS, RemoteApi
    from detr_onnx.bench.hosted.proxy import proxy_of

    credentials = {name: environment.get(name, "").strip() for name in CREDENTIALS[arguments.dialect]}
    missing = [name for name, value in credentials.items() if not value]
    if missing and arguments.base_url is None:
        remedy = f"set {' and '.join(missing)}, or name another server with --base-url"
        raise UsageError("the hosted API needs credentials", found=f"no {' and no '.join(missing)}", remedy=remedy)
    for name, value in credentials.items():
        if not _is_plain(value):
            raise UsageError(f"{name} contains a space or a character that is not ASCII", remedy="copy it again")
    url = (arguments.base_url or BASE_URLS[arguments.dialect]).rstrip("/")
    check_url(url)
    model = arguments.remote_model or MODELS[arguments.dialect]
    if not is_text(model):
        raise UsageError("--remote-model is not text", found=model, expected="the API's name of the model")
    token = credentials[CREDENTIALS[arguments.dialect][0]] or None
    account = credentials.get("CLOUDFLARE_ACCOUNT_ID") or "any"
    return RemoteApi(arguments.dialect, url, model, account, token, arguments.timeout, proxy_of(url))


def check_url(url: str) -> None:
    """Raises UsageError for a URL that is not plain: passwords and queries would end up in the journal."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc or parts.query or parts.fragment or not _is_plain(url):
        expected = "http://… or https://… without password, query or fragment"
        raise UsageError("--base-url is not the address of a server", expected=expected)


def _is_plain(text: str) -> bool:
    """Whether a header or the first line of a request can hold the text."""
    return text.isascii() and text.isprintable() and " " not in text
