"""The words of the command line: commands, options, defaults. What they do is in `cli.py`."""

from __future__ import annotations

import argparse
from pathlib import Path

from detr_onnx import __version__

DEFAULT_MODEL = "facebook/detr-resnet-50"  # as `models` has it, whose import would cost `--version` a tenth of a second


PRECISIONS = ("fp32", "fp16", "fp16-weights", "int8-weights", "int8")  # as `network.onnx_ops` has them, likewise
PROVIDERS_HELP = """ONNX Runtime's execution providers in order of preference, with their options:
CUDA, or TensorRT:trt_fp16_enable=True:device_id=1,CUDA; or JSON, where a value has a comma or a colon"""
EVALUATE_USAGE = """%(prog)s [options] --images DIR --annotations FILE
       %(prog)s [options] --results FILE --annotations FILE
       %(prog)s [options] --images DIR --against MODEL"""


def parser() -> argparse.ArgumentParser:
    """The whole grammar; what it parses has `command`, the command's name."""
    root = argparse.ArgumentParser(prog="detr-onnx", description="DETR object detection without torch.")
    root.add_argument("--version", action="version", version=f"detr-onnx {__version__}")
    commands = root.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser
    _detect(add("detect", help="find things in images", usage="%(prog)s [options] IMAGE [IMAGE ...]"))
    _demo(add("demo", help="the shipped model on a shipped image; works offline", usage="%(prog)s [options]"))
    _evaluate(add("evaluate", help="COCO's twelve numbers, or how far two models agree", usage=EVALUATE_USAGE))
    _export(add("export", help="write a model as an .onnx or .ort file", usage="%(prog)s [options] MODEL -o FILE.onnx"))
    _bench(add("bench", help="time and memory here, engine by engine, beside others", usage="%(prog)s [options]"))
    _serve(add("serve", help="a stand-in for the hosted API; needs the extra serve", usage="%(prog)s [options]"))
    _info(add("info", help="versions, engines, cached models, processor"))
    return root


def _detect(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", nargs="+", metavar="IMAGE", help="files, directories, patterns, or - for stdin")
    _answer(command)
    _model(command)
    _engine(command)
    _source(command)


def _demo(command: argparse.ArgumentParser) -> None:
    _answer(command)
    _engine(command)
    command.set_defaults(model="demo", config=None, offline=True, cache_dir=None)


def _answer(command: argparse.ArgumentParser) -> None:
    command.add_argument("--threshold", type=float, default=0.5, help="scores have to exceed it (default: 0.5)")
    command.add_argument(
        "--labels", action="append", metavar="CAT,DOG", help="only these classes; for a name with a comma repeat this"
    )
    command.add_argument(
        "--format",
        choices=("json", "ndjson", "coco", "table"),
        help="default: json (the API's) for one image, else ndjson",
    )
    command.add_argument("--save", metavar="PATH", help="annotated image, or directory of them")


def _model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-m", "--model", default=DEFAULT_MODEL,
        help='"demo", a name of the hub, a directory, or a .safetensors, .onnx, .ort, .xml file (default: %(default)s)',
    )  # fmt: skip


def _engine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--engine", default="auto", help="auto, numpy, onnxruntime or openvino (default: auto)")
    command.add_argument("--providers", metavar="A,B", help=PROVIDERS_HELP)
    command.add_argument(
        "--precision",
        help="fp32; bf16-backbone, bf16 with openvino; `export`'s with onnxruntime (default: the engine's best)",
    )
    command.add_argument("--threads", type=int, help="threads of one operation")
    command.add_argument("--size", type=int, help="short side that images are scaled to, in pixels")
    _verbose(command)


def _source(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="PATH", help="config.json of a model that has none beside it")
    command.add_argument("--offline", action="store_true", help="make no request to the hub")
    _cache(command)


def _cache(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cache-dir", metavar="DIR", help="where models are kept (default: $DETR_ONNX_CACHE)")


def _verbose(command: argparse.ArgumentParser) -> None:
    command.add_argument("-v", "--verbose", action="store_true", help="say what is being done")


def _evaluate(command: argparse.ArgumentParser) -> None:
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", metavar="DIR", help="the images")
    what.add_argument("--results", type=Path, metavar="FILE", help="a COCO results file, in place of running a model")
    measure = command.add_mutually_exclusive_group(required=True)
    measure.add_argument("--annotations", type=Path, metavar="FILE", help="what the images show, in COCO's form")
    measure.add_argument("--against", metavar="MODEL", help="the model whose detections are the reference")
    command.add_argument("--against-engine", metavar="ENGINE", help="the reference's engine (default: --engine)")
    command.add_argument("--against-precision", metavar="P", help="the reference's precision (default: its best)")
    command.add_argument(
        "--threshold", type=float, default=0.5, help="of scores, with --against; AP takes all (default: 0.5)"
    )
    command.add_argument("--batch", type=int, default=1, metavar="N", help="images at a time (default: 1)")
    command.add_argument("--save-results", type=Path, metavar="FILE", help="what was found, in COCO's results form")
    command.add_argument("--format", choices=("table", "json"), default="table", help="default: table")
    _model(command)
    _engine(command)
    _source(command)


def _export(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model", metavar="MODEL", help='"demo", a name of the hub, a checkpoint directory or a .safetensors file'
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx")
    command.add_argument(
        "--format", choices=("onnx", "ort"), help="ort: for ONNX Runtime's minimal builds (default: by FILE's suffix)"
    )
    command.add_argument(
        "--precision", choices=PRECISIONS, default="fp32",
        help="what is computed in and kept; with -weights only kept so, a smaller file (default: fp32)",
    )  # fmt: skip
    command.add_argument("--calibrate", metavar="DIR", help="with int8: images like those it will see, 100 or so")
    command.add_argument("--report", metavar="FILE", help="with int8: what calibrating found, as JSON (- for stdout)")
    command.add_argument("--force", action="store_true", help="with int8: write it even if it strays too far from fp32")
    command.add_argument("--shape", metavar="HxW", help="for images of this one size, such as 800x1066")
    command.add_argument("--batch", type=int, metavar="N", help="for this one number of images (1 with --shape)")
    command.add_argument("--no-mask", action="store_true", help="without pixel_mask: no padding, so one size a batch")
    fused = "attention as one node of ONNX Runtime's own: faster there, unknown to most others"
    command.add_argument("--fused-attention", action="store_true", help=fused)
    command.add_argument(
        "--end-to-end", action="store_true", help="from an image's bytes to scores, labels and boxes in pixels"
    )
    command.add_argument("--external-data", action="store_true", help="weights in FILE.onnx.data: less memory")
    _verbose(command)
    _source(command)


def _bench(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--against", metavar="A,B", help="peers of the same model: transformers, optimum, openvino")
    add("--peers-python", metavar="PYTHON", help="an interpreter with torch and transformers (default: this one)")
    add("--optimum", type=Path, metavar="FILE", help="optimum's .onnx of the model, for optimum and openvino")
    add("--image", type=Path, metavar="FILE", help="what is looked at (default: the shipped scene)")
    add("--runs", type=int, metavar="N", help="turns of each that count (default: 10)")
    add("--json", type=Path, metavar="FILE", help="all that was measured, and where")
    _model(command)
    _engine(command)
    _source(command)
    _hosted(command)


def _hosted(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "the hosted API beside this machine",
        "CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN, or HF_TOKEN, say who asks; every answer is paid for once",
    )
    add = group.add_argument
    add("--hosted", type=Path, metavar="IMAGES", help="ask about these; the options below are for this alone")
    add("--dialect", choices=("cloudflare", "huggingface"), help="default: cloudflare")
    add("--base-url", metavar="URL", help="another server, such as http://127.0.0.1:8787/client/v4")
    add("--remote-model", metavar="NAME", help="the name of the model there")
    add("--concurrency", type=int, metavar="N", help="requests at a time (default: 4)")
    add("--timeout", type=float, metavar="S", help="seconds to wait for an answer (default: 60)")
    add("--retries", type=int, metavar="N", help="of a request, after 408, 429 and 5xx (default: 5)")
    add("--backoff", type=float, metavar="S", help="the first wait; each is twice the last (default: 1)")
    add("--price", type=float, metavar="DOLLARS", help="of a request (default: 0.0000075)")
    add("--threshold", type=float, help="what scores have to exceed, from 0.1 up (default: 0.1)")
    add("--limit", type=int, metavar="N", help="the first N images only")
    add("--journal", type=Path, metavar="FILE", help="every reply (default: detr-onnx-hosted.ndjson)")
    add("--html", type=Path, metavar="FILE", help="a page with the results and the worst images")
    add("--worst", type=int, metavar="N", help="images on that page (default: 12)")


def _serve(command: argparse.ArgumentParser) -> None:
    _model(command)
    add = command.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)")
    add("--port", type=int, default=8787, help="0 for any that is free (default: %(default)s)")
    add("--unix-socket", type=Path, metavar="PATH", help="listen on a unix socket, in place of --host and --port")
    add("--cors-origin", action="append", metavar="ORIGIN", help="let its pages use the server; repeatable")
    add("--token", metavar="TEXT", help="what requests have to present (default: $DETR_ONNX_TOKEN; none: open to all)")
    add("--threshold", type=float, default=0.1, help="of the hosted API's form (default: 0.1)")
    add("--workers", type=int, default=1, metavar="N", help="processes, each with its own model (default: 1)")
    add("--queue", type=int, default=64, metavar="N", help="requests that may wait in a process (default: 64)")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds a request may take (default: 60)")
    add("--max-body", type=int, default=32, metavar="MB", help="of a request (default: 32)")
    add("--max-pixels", type=float, default=50.0, metavar="MP", help="of an image, in millions (default: 50)")
    add("--max-batch", type=int, default=1, metavar="N", help="images of one size at a time (default: 1)")
    add("--drain-delay", type=float, default=0.0, metavar="S", help="seconds to go on after SIGTERM (default: 0)")
    add("--no-access-log", action="store_true", help="no line of JSON on stderr for each request")
    _engine(command)
    _source(command)


def _info(command: argparse.ArgumentParser) -> None:
    _verbose(command)
    _cache(command)
