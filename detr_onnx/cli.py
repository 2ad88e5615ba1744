"""The command line: `detr-onnx detect`, `demo`, `export`, `info`.

stdout carries results only; notes, progress and errors go to stderr. Exit status 0 is fine, 2 wrong usage, 1 anything
else, with one line `detr-onnx: error: …`. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx import __version__
from detr_onnx.errors import DetrError, ImageError, OutputError, UsageError

if TYPE_CHECKING:
    from detr_onnx.detections import Detections
    from detr_onnx.detector import Detector
    from detr_onnx.pictures import Picture

PROGRESS_AFTER_S = 2.0  # a run that is over by then needs no progress
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; its exit status."""
    arguments = parser().parse_args(argv)
    notes(arguments.verbose)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except DetrError as error:
        complain(error)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def complain(error: DetrError) -> None:
    """One line on stderr."""
    print("detr-onnx: error:", " ".join(str(error).split()), file=sys.stderr)


def notes(verbose: bool) -> None:
    """What the package has to tell goes to stderr, where a person watches or asked for it."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("detr-onnx: %(message)s"))
    log = logging.getLogger("detr_onnx")
    log.handlers = [handler]
    log.setLevel(logging.INFO if verbose or sys.stderr.isatty() else logging.WARNING)


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    root = argparse.ArgumentParser(prog="detr-onnx", description="DETR object detection without torch.")
    root.add_argument("--version", action="version", version=f"detr-onnx {__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _detect_grammar(commands.add_parser("detect", help="find things in pictures"))
    _demo_grammar(commands.add_parser("demo", help="the shipped model on a shipped picture; works offline"))
    _export_grammar(commands.add_parser("export", help="write a model as one .onnx file"))
    _info_grammar(commands.add_parser("info", help="versions, engines, cached models, processor"))
    return root


def _detect_grammar(command: argparse.ArgumentParser) -> None:
    command.add_argument("images", nargs="+", metavar="IMAGE", help="files, directories, patterns, or - for stdin")
    _answer_grammar(command)
    _model_grammar(command)
    command.set_defaults(run=detect)


def _demo_grammar(command: argparse.ArgumentParser) -> None:
    _answer_grammar(command)
    _engine_grammar(command)
    command.set_defaults(run=demo, model="demo", config=None, offline=True, cache_dir=None)


def _answer_grammar(command: argparse.ArgumentParser) -> None:
    command.add_argument("--threshold", type=float, default=0.5, help="scores have to exceed it (default 0.5)")
    command.add_argument("--labels", metavar="CAT,DOG", help="only these classes")
    command.add_argument(
        "--format", choices=("json", "ndjson", "coco", "table"), help="default: json for one, else ndjson"
    )
    command.add_argument("--save", type=Path, metavar="PATH", help="annotated picture, or directory of them")


def _model_grammar(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-m", "--model", default="facebook/detr-resnet-50",
        help='"demo", a name of the hub, a checkpoint directory, a .safetensors or .onnx file (default: %(default)s)',
    )  # fmt: skip
    command.add_argument("--config", metavar="DIR", help="config.json for an .onnx file that does not describe itself")
    _engine_grammar(command)
    _source_grammar(command)


def _engine_grammar(command: argparse.ArgumentParser) -> None:
    command.add_argument("--engine", default="auto", help="auto, numpy or onnxruntime (default: auto)")
    command.add_argument("--providers", metavar="A,B", help="ONNX Runtime's execution providers, such as CUDA")
    command.add_argument("--precision", help="fp32")
    command.add_argument("--threads", type=int, help="threads of one operation")
    command.add_argument("--size", type=int, help="short side that pictures are scaled to, in pixels")
    command.add_argument("-v", "--verbose", action="store_true", help="say what is being done")


def _source_grammar(command: argparse.ArgumentParser) -> None:
    command.add_argument("--offline", action="store_true", help="make no request to the hub")
    command.add_argument("--cache-dir", metavar="DIR", help="where models are kept (default: $DETR_ONNX_CACHE)")


def _export_grammar(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help='"demo", a name of the hub, a checkpoint directory or a .safetensors file')
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx")
    command.add_argument("--precision", choices=("fp32",), default="fp32")
    command.add_argument("--shape", metavar="HxW", help="for pictures of this one size, such as 800x1066")
    command.add_argument("--batch", type=int, metavar="N", help="for this one number of pictures (1 with --shape)")
    command.add_argument("--no-mask", action="store_true", help="without pixel_mask: no padding, so one size a batch")
    command.add_argument("--external-data", action="store_true", help="weights in FILE.onnx.data: less memory")
    command.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    _source_grammar(command)
    command.set_defaults(run=export)


def _info_grammar(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cache-dir", metavar="DIR", help="where models are kept (default: $DETR_ONNX_CACHE)")
    command.set_defaults(run=info, verbose=False)


# commands


def detect(arguments: argparse.Namespace) -> int:
    """`detr-onnx detect`: 1 when a picture could not be read, after all the others."""
    from detr_onnx.pictures import find_pictures, is_one

    return look_at(find_pictures(arguments.images), is_one(arguments.images), arguments)


def demo(arguments: argparse.Namespace) -> int:
    """`detr-onnx demo`."""
    from detr_onnx.models import demo_picture
    from detr_onnx.pictures import Picture

    picture = demo_picture()
    return look_at([Picture(picture.name, picture)], True, arguments)


def look_at(pictures: list[Picture], one: bool, arguments: argparse.Namespace) -> int:
    """Detects, prints, saves; 1 when a picture could not be read or written."""
    from detr_onnx import answers
    from detr_onnx.detector import check_threshold
    from detr_onnx.pictures import saving_places

    check_threshold(arguments.threshold)
    places = saving_places(pictures, arguments.save, one) if arguments.save else [None] * len(pictures)
    detector = open_detector(arguments)
    labels = wanted_labels(arguments.labels, detector.labels) if arguments.labels else None
    failures: list[DetrError] = []
    found = each(detector, list(zip(pictures, places, strict=True)), arguments.threshold, labels, failures)
    write = answers.FORMATS[arguments.format or "ndjson"]
    if one and arguments.format in (None, "json"):
        write = answers.array
    for text in write(found):
        sys.stdout.write(text)
        sys.stdout.flush()
    return 1 if failures else 0


def open_detector(arguments: argparse.Namespace) -> Detector:
    """The detector that the options describe."""
    from detr_onnx.detector import Detector

    return Detector(
        arguments.model,
        engine=arguments.engine,
        providers=arguments.providers.split(",") if arguments.providers else None,
        precision=arguments.precision,
        threads=arguments.threads,
        size=arguments.size,
        config=arguments.config,
        offline=arguments.offline,
        cache_dir=arguments.cache_dir,
    )


def each(
    detector: Detector,
    pictures: Sequence[tuple[Picture, Path | None]],
    threshold: float,
    labels: list[str] | None,
    failures: list[DetrError],
) -> Iterator[tuple[str, Detections]]:
    """Name and detections of each picture; the ones that fail are complained of and counted, the rest goes on."""
    started = time.monotonic()
    for number, (picture, place) in enumerate(pictures, start=1):
        try:
            found = look(detector, picture, place, threshold, labels)
        except (ImageError, OutputError) as error:
            complain(error)
            failures.append(error)
            continue
        show_progress(number, len(pictures), picture.name, time.monotonic() - started)
        yield picture.name, found


def look(
    detector: Detector, picture: Picture, place: Path | None, threshold: float, labels: list[str] | None
) -> Detections:
    """What is in one picture, drawn into `place` if there is one."""
    from detr_onnx.image import read_rgb

    image = read_rgb(picture.source())
    found = detector(image, threshold)
    found = found.only(labels) if labels else found
    if place is not None:
        from detr_onnx.draw import annotate, save_image

        save_image(annotate(image, found), place)
    return found


def show_progress(number: int, count: int, name: str, elapsed_s: float) -> None:
    """One line that is written over, on a terminal, when the run takes long."""
    if count > 1 and elapsed_s > PROGRESS_AFTER_S and sys.stderr.isatty():
        left_s = elapsed_s / number * (count - number)
        end = "\n" if number == count else "\r"
        print(f"\x1b[K{number}/{count}  {left_s:.0f} s left  {name}", end=end, file=sys.stderr, flush=True)


def wanted_labels(text: str, known: Sequence[str]) -> list[str]:
    """The labels of a comma-separated list.

    Raises:
        UsageError: for one that the model does not have, naming the nearest that it has.
    """
    import difflib

    wanted = [label.strip() for label in text.split(",") if label.strip()]
    unknown = [label for label in wanted if label not in known]
    if unknown:
        near = [match for label in unknown for match in difflib.get_close_matches(label.lower(), known, 1, cutoff=0.5)]
        raise UsageError(
            f"the model has no label {', '.join(map(repr, unknown))}",
            remedy=f"did you mean {', '.join(map(repr, near))}?" if near else "see id2label in the model's config.json",
        )
    return wanted


def export(arguments: argparse.Namespace) -> int:
    """`detr-onnx export`."""
    from detr_onnx.export import Form, write_onnx
    from detr_onnx.models import locate, read_model

    shape_hw = parse_shape(arguments.shape) if arguments.shape else None
    source = locate(arguments.model, offline=arguments.offline, cache_dir=arguments.cache_dir)
    if source.checkpoint is None:
        raise UsageError(f"{arguments.model} is a graph already", expected="a checkpoint", remedy="export from that")
    form = Form(shape_hw, mask=not arguments.no_mask, batch=arguments.batch or (1 if shape_hw else None))
    write_onnx(arguments.output, *read_model(source.checkpoint), form, external_data=arguments.external_data)
    logging.getLogger("detr_onnx").info("wrote %s", arguments.output)
    return 0


def parse_shape(text: str) -> tuple[int, int]:
    """`800x1066` as height and width."""
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise UsageError("the shape is wrong", found=repr(text), expected="height x width in pixels, such as 800x1066")
    return int(found[1]), int(found[2])


def info(arguments: argparse.Namespace) -> int:
    """`detr-onnx info`."""
    from detr_onnx.machine import description

    for line in description(arguments.cache_dir):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
