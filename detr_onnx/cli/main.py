"""The command line: `detect`, `demo`, `evaluate`, `export`, `bench`, `serve`, `info`; `grammar.py` has its words.

stdout carries results only; notes, progress and errors go to stderr. Exit status 0 is fine, 2 wrong usage, 1 anything
else, with one line `detr-onnx: error: …`. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detr_onnx.cli.console import complain, notes, progress, tell
from detr_onnx.cli.options import open_detector
from detr_onnx.cli.parser import parser
from detr_onnx.errors import DetrError, ImageError, OutputError, UsageError
from detr_onnx.image.files import ImageFile, find_images, is_single_image, save_paths

if TYPE_CHECKING:
    from detr_onnx.detections import Detections
    from detr_onnx.detector import Detector

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

logger = logging.getLogger("detr_onnx")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; its exit status."""
    if sys.stderr is None:  # closed by the caller; `print` would turn to stdout
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - stays open as stderr does
    arguments = parser().parse_args(argv)
    arguments.words = [*(sys.argv[1:] if argv is None else argv)]  # for the record of `bench`
    with notes(arguments.verbose):
        try:
            return COMMANDS[arguments.command](arguments)
        except DetrError as error:
            complain(error)
            return error.exit_status
        except BrokenPipeError:  # `| head` has seen enough
            return 0
        except KeyboardInterrupt:
            return INTERRUPTED
        except MemoryError:
            complain(DetrError("there is not enough memory", remedy="try a smaller --size, or a smaller model"))
        except Exception as error:  # the last line of defence: a bug, told without its traceback
            logger.debug("where it happened:", exc_info=True)
            bug = f"{type(error).__name__}: {error}"
            complain(DetrError("this should not have happened", found=bug, remedy="report it with what --verbose says"))
        return 1


# detect, demo


def detect(arguments: Namespace) -> int:
    """`detr-onnx detect`."""
    return look_at(*find_images(arguments.images), arguments, one=is_single_image(arguments.images))


def demo(arguments: Namespace) -> int:
    """`detr-onnx demo`."""
    from detr_onnx.models.open import demo_image

    image = demo_image()
    return look_at([ImageFile(image.name, image)], [], arguments, one=True)


def look_at(images: list[ImageFile], missing: list[ImageError], arguments: Namespace, *, one: bool) -> int:
    """Detects, prints, saves; 1 when an image was missing, or could not be read or saved, after all the others."""
    from detr_onnx.cli.formats import writer
    from detr_onnx.detector import check_threshold

    check_threshold(arguments.threshold)
    saved = save_paths(images, arguments.save, one) if arguments.save is not None else None
    for error in missing:
        complain(error)
    if not images:
        return 1
    detector = open_detector(arguments)
    labels = wanted_labels(arguments.labels, detector.labels) if arguments.labels is not None else None
    failures: list[DetrError] = [*missing]
    places: Sequence[Path | None] = saved or [None] * len(images)
    found = each(detector, list(zip(images, places, strict=True)), arguments.threshold, labels, failures)
    for text in writer(arguments.format, one)(found):
        tell(text)
    return 1 if failures else 0


def each(
    detector: Detector,
    images: Sequence[tuple[ImageFile, Path | None]],
    threshold: float,
    labels: list[str] | None,
    failures: list[DetrError],
) -> Iterator[tuple[ImageFile, Detections]]:
    """Each image with what is in it, one at a time; what fails is complained of and counted, the rest goes on."""

    def note(error: DetrError) -> None:
        complain(error)
        failures.append(error)

    with progress(len(images)) as show:
        for number, (image, place) in enumerate(images, start=1):
            show(number, image.name)
            try:
                found = look(detector, image, place, threshold, labels, note)
            except ImageError as error:
                note(error)
            except MemoryError:
                note(ImageError(f"not enough memory for {image.name}", remedy="try a smaller --size"))
            else:
                yield image, found


def look(
    detector: Detector,
    image_file: ImageFile,
    place: Path | None,
    threshold: float,
    labels: list[str] | None,
    note: Callable[[DetrError], None],
) -> Detections:
    """What is in one image_file, drawn into `place` if there is one; trouble with that is noted and costs no answer."""
    from detr_onnx.image.preprocess import read_rgb

    image = read_rgb(image_file.source())
    found = detector(image, threshold)
    found = found.only(labels) if labels is not None else found
    if place is not None:
        from detr_onnx.image.draw import annotate, save_image

        try:
            save_image(annotate(image, found), place)
        except OutputError as error:
            note(error)
    return found


def wanted_labels(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """The labels that `--labels` names: each text is one of the model's labels, or several with commas between.

    Raises:
        UsageError: for none, or one that the model does not have, naming the nearest that it has.
    """
    import difflib

    parts = [[text] if text in known else [part.strip() for part in text.split(",")] for text in texts]
    wanted = [label for some in parts for label in some if label]
    unknown = [label for label in wanted if label not in known]
    if unknown or not wanted:
        lowered = {label.lower(): label for label in known}
        near = [m for label in unknown for m in difflib.get_close_matches(label.lower(), lowered, 1, cutoff=0.5)]
        shown = [label for label in dict.fromkeys(known) if label != "N/A"]
        raise UsageError(
            f"the model has no label {', '.join(map(repr, unknown))}" if unknown else "--labels names no label",
            expected=f"some of {', '.join(shown[:100])}{' …' if len(shown) > 100 else ''}" if not near else None,
            remedy=f"did you mean {', '.join(repr(lowered[m]) for m in near)}?" if near else None,
        )
    return wanted


# evaluate, export, bench, serve, info


def evaluate(arguments: Namespace) -> int:
    """`detr-onnx evaluate`."""
    from detr_onnx.cli.evaluate import compare, measure

    return measure(arguments) if arguments.annotations is not None else compare(arguments)


def export(arguments: Namespace) -> int:
    """`detr-onnx export`."""
    from detr_onnx.cli.export import export as run

    return run(arguments)


def bench(arguments: Namespace) -> int:
    """`detr-onnx bench`."""
    from detr_onnx.cli.bench import check_side, measure

    check_side(arguments)
    if arguments.hosted is None:
        return measure(arguments)
    from detr_onnx.cli.compare_hosted import compare

    return compare(arguments)


def serve(arguments: Namespace) -> int:
    """`detr-onnx serve`."""
    from detr_onnx.server import check_installed, exit_on_sigterm

    exit_on_sigterm()
    check_installed()
    from functools import partial

    from detr_onnx.server.run import serve as run
    from detr_onnx.server.settings import MB, Settings

    return run(
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


def info(arguments: Namespace) -> int:
    """`detr-onnx info`."""
    from detr_onnx.cli.info import description

    for line in description(arguments.cache_dir):
        tell(line + "\n")
    return 0


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "detect": detect,
    "demo": demo,
    "evaluate": evaluate,
    "export": export,
    "bench": bench,
    "serve": serve,
    "info": info,
}

if __name__ == "__main__":
    sys.exit(main())
