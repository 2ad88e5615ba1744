"""How good the demo model is on every engine and in every precision that is here, and how far they agree.

    python weights/training/scenes.py --seed 2 --count 500 --out build/held-out
    python -m benchmarks.accuracy [--data build/held-out] [--calibrate build/calibration/images] [--full-size DIR]

Each row is a file that `detr-onnx export` writes, or an engine on the checkpoint. Every image goes through once, with
all queries: these are COCO's figures, and those above a score of 0.5 are compared with ONNX Runtime's in float32. What
is not here (an engine, a precision, images to calibrate with) is left out, and the results say why.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.end_to_end import end_to_end_detector
from detr_onnx import Detector
from detr_onnx.bench.baselines import versions_of
from detr_onnx.bench.setting import setting
from detr_onnx.checkpoint.load import weights_file
from detr_onnx.cli import main as cli
from detr_onnx.defaults import EXPORT_PRECISIONS
from detr_onnx.detections import Detections
from detr_onnx.errors import DetrError, EngineError
from detr_onnx.evaluation.agreement import agreement
from detr_onnx.evaluation.average_precision import evaluate
from detr_onnx.evaluation.coco import Annotations, read_annotations
from detr_onnx.models.open import locate

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
REFERENCE = "onnxruntime-fp32"
SCORE = 0.5  # from which on detections are compared, as `detr-onnx agree` does
CALIBRATED = ("int8",)  # what has to see images before it can be written

Detect = Callable[[Path], Detections]
"""An image's file -> every query's detection."""


@dataclass(frozen=True)
class Entry:
    """One row.

    Attributes:
        key, title: its names in the results and for people.
        engine: that it runs on; None for a program of its own, an end-to-end graph.
        suffix: of the file it runs; empty for the checkpoint itself.
        words: what `detr-onnx export` is told beside the model and the file.
        precision: that the engine is asked for; None is its own choice.
    """

    key: str
    title: str
    engine: str | None
    suffix: str = ".onnx"
    words: tuple[str, ...] = ()
    precision: str | None = None


def entries(calibrate: Path | None) -> list[Entry]:
    """All rows, the reference first; the precisions are those that `detr-onnx export` has."""

    def words(precision: str) -> tuple[str, ...]:
        images = ("--calibrate", str(calibrate)) if precision in CALIBRATED and calibrate else ()
        return ("--precision", precision, *images)

    return [
        *(Entry(f"onnxruntime-{p}", f"onnxruntime, `{p}`", "onnxruntime", words=words(p)) for p in EXPORT_PRECISIONS),
        Entry("onnxruntime-ort", "onnxruntime, `fp32`, .ort", "onnxruntime", suffix=".ort"),
        Entry("end-to-end", "onnxruntime, `fp32`, `--end-to-end`", None, words=("--end-to-end",)),
        Entry("numpy", "numpy", "numpy", suffix=""),
        *(
            Entry(f"openvino-{p}{name}", f"OpenVINO, `{p}`{title}", "openvino", words=words(p), precision=precision)
            for p in ("fp32", *CALIBRATED)
            for precision, name, title in in_openvino(p)
        ),
    ]


def in_openvino(kept: str) -> list[tuple[str, str, str]]:
    """What OpenVINO computes a file in that is kept so: its word, and how key and title go on."""
    if kept == "int8":
        return [("fp32", "", ""), ("bf16", "-bf16", ", the rest in bf16")]
    return [
        ("fp32", "", ""),
        ("bf16", "-bf16", ", all in bf16"),
        ("bf16-backbone", "-bf16-backbone", ", backbone in bf16"),
    ]


def missing(entry: Entry, calibrate: Path | None) -> str | None:
    """Why an entry cannot take part, as far as can be told before it is tried."""
    needs = [p for p in CALIBRATED if p in entry.words]
    return "needs images to calibrate with (--calibrate DIR)" if needs and calibrate is None else None


def exported(model: str, file: Path, words: Sequence[str]) -> Path:
    """What `detr-onnx export` writes.

    Raises:
        EngineError: when it does not, with its own sentence.
    """
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = cli.main(["export", model, "-o", str(file), *words])
    if status:
        raise EngineError(said.getvalue().strip().removeprefix("detr-onnx: error: ") or "export failed")
    return file


def opened(entry: Entry, model: str, work: Path) -> tuple[Detect, str, Path]:
    """The entry ready to run, what it runs on, and its file."""
    if not entry.suffix:
        detector = Detector(model, engine=entry.engine or "auto")
        return with_all_queries(detector), detector.engine, weights_file(locate(model).checkpoint or Path())
    file = exported(model, work / f"{entry.key}{entry.suffix}", entry.words)
    if entry.engine is None:
        detect, title = end_to_end_detector(file)
        return lambda image: detect(image, 0.0), title, file
    detector = Detector(file, engine=entry.engine, precision=entry.precision)
    return with_all_queries(detector), detector.engine, file


def with_all_queries(detector: Detector) -> Detect:
    """The detector without a threshold."""
    return lambda image: detector(image, 0.0)


def judged(found: Mapping[int, Detections], truth: Annotations) -> dict[str, Any]:
    """COCO's figures of every query."""
    labels = next(iter(found.values())).labels
    category_of = truth.category_of(labels)
    rows = (row for image_id, some in found.items() for row in some.to_coco(image_id))
    known = [{**row, "category_id": c} for row in rows if (c := category_of[row["category_id"]]) is not None]
    told = asdict(evaluate(truth, known))
    return {name: told["figures"][name] for name in ("AP", "AP50", "AP75")} | {"objects": told["objects"]}


def compared(found: Mapping[int, Detections], reference: Mapping[int, Detections]) -> dict[str, Any]:
    """How far detections above `SCORE` agree with the reference's."""
    pairs = ((above(reference[number]), above(found[number])) for number in found)
    told = asdict(agreement(pairs))
    return {name: told[name] for name in ("identical", "score_difference", "recall_95", "tested")}


def above(found: Detections) -> Detections:
    """The detections that a user would see."""
    return found.select(np.flatnonzero(found.scores > SCORE))


def measured(
    wanted: Sequence[Entry], model: str, work: Path, truth: Annotations, images: Mapping[int, Path]
) -> Iterator[dict[str, Any]]:
    """A row an entry, or why there is none; the reference comes first, for the others to be compared with."""
    reference: Mapping[int, Detections] = {}
    for entry in wanted:
        told = {"key": entry.key, "title": entry.title}
        try:
            detect, engine, file = opened(entry, model, work)
            found = {number: detect(image) for number, image in images.items()}
        except DetrError as error:
            yield told | {"left_out": str(error)}
            continue
        reference = reference or found
        size = {"engine": engine, "mb": round(file.stat().st_size / 1e6, 2)}
        yield told | size | judged(found, truth) | compared(found, reference)
        print(entry.title, file=sys.stderr)


def full_sizes(model: str, work: Path) -> dict[str, float]:
    """Precision -> MB of the file of another model, the full-size one; int8's is for `precisions.py` to say."""
    sizes = {}
    for entry in entries(None):
        if entry.engine == "onnxruntime" and entry.suffix == ".onnx" and not missing(entry, None):
            file = exported(model, work / f"full-size-{entry.key}.onnx", entry.words)
            sizes[entry.key] = round(file.stat().st_size / 1e6, 1)
            file.unlink()
    return sizes


def first(truth: Annotations, count: int | None) -> Annotations:
    """The annotations of the first `count` images."""
    files = dict(list(truth.files.items())[:count])
    objects = [row for row in truth.objects if row["image_id"] in files]
    return replace(truth, files=files, objects=objects)


def arguments_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description="Accuracy, engine by engine.")
    parser.add_argument("--data", type=Path, default=Path("build/held-out"), metavar="DIR", help="what scenes.py wrote")
    parser.add_argument("-m", "--model", default="demo", help="a name or a checkpoint (default: demo)")
    parser.add_argument("--calibrate", type=Path, metavar="DIR", help="other images, for the precisions that need it")
    parser.add_argument("--full-size", metavar="DIR", help="a checkpoint of full size: its files' sizes stand beside")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images alone")
    parser.add_argument("--work", type=Path, default=Path("build/accuracy"), help="where exported files are kept")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    return parser


def main() -> None:
    """Measures and writes the results."""
    arguments = arguments_parser().parse_args()
    head = setting("python -m benchmarks.accuracy", sys.argv[1:])
    arguments.work.mkdir(parents=True, exist_ok=True)
    truth = first(read_annotations(arguments.data / "annotations.json"), arguments.limit)
    images = truth.images(arguments.data / "images")
    every = entries(arguments.calibrate)
    wanted = [entry for entry in every if not missing(entry, arguments.calibrate)]
    rows = list(measured(wanted, arguments.model, arguments.work, truth, images))
    why = {entry.title: missing(entry, arguments.calibrate) for entry in every if entry not in wanted}
    why |= {row["title"]: row["left_out"] for row in rows if "left_out" in row}
    full = full_sizes(arguments.full_size, arguments.work) if arguments.full_size else {}
    results = {
        **head,
        "model": arguments.model,
        "versions": versions_of("onnxruntime", "openvino", "numpy", "pycocotools"),
        "images": len(images),
        "reference": REFERENCE,
        "score": SCORE,
        "full_size_mb": full,
        "rows": [row for row in rows if "left_out" not in row],
        "left_out": [{"title": title, "why": reason} for title, reason in why.items()],
    }
    arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {arguments.json.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
