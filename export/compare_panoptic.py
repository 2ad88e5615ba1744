"""Compares optimum's graph of a panoptic checkpoint with ours: inputs, outputs, correctness, speed.

    python -m export.compare_panoptic --optimum DIR [--runs 3]

DIR is that of `export.optimum_export` for `build/benchmarks/seeded-panoptic`, which `benchmarks.panoptic` creates. The
reference is our numpy model with the masks of all queries, which agrees with transformers at every stage
(`tests/parity/test_parity.py`). Differences are the largest, in standard deviations: of one image at two sizes, and of
a padded batch of two images, with its mask for a graph that takes one.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import benchmark_parser, run_main, write_results
from benchmarks.subject import panoptic_subject
from detr_onnx.bench.baselines.protocol import versions_of
from detr_onnx.bench.baselines.turns import threshold_for
from detr_onnx.bench.setting import setting
from detr_onnx.checkpoint.load import load_checkpoint
from detr_onnx.detections import softmax
from detr_onnx.engines.numpy import numpy_engine
from detr_onnx.exporter.onnx_file import ExportOptions, write_onnx
from detr_onnx.models.metadata import read_model
from detr_onnx.text import first_line
from export.compare import RIGHT, Arrays, Sizes, cases, check_source

ALL, RUNS, KEPT = -1.0, 3, 10
CASES = ("single", "other", "mixed")


def reference(model: Path, inputs: Arrays) -> Arrays:
    """Our numpy model's logits and masks [B·Q,h,w] of all cases."""
    segment, outputs = numpy_engine(load_checkpoint(model)).segment, Arrays()
    for name in CASES if segment else ():
        segments = segment(inputs[f"{name}.pixels"], inputs[f"{name}.mask"], ALL)
        outputs |= {f"{name}.logits": segments.logits, f"{name}.masks": segments.masks}
    return outputs


def session_of(file: Path, threads: int) -> Any:
    """A plain session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run(session: Any, pixels: NDArray[Any], mask: NDArray[Any], threshold: float) -> Mapping[str, NDArray[Any]]:
    """The outputs by name; the graph gets those of the inputs that it has."""
    values = {
        "pixel_values": pixels,
        "pixel_mask": mask.astype(np.int64),
        "threshold": np.full(1, threshold, np.float32),
    }
    names = [value.name for value in session.get_outputs()]
    feeds = {value.name: values[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))


def correctness(session: Any, inputs: Arrays, expected: Arrays) -> dict[str, Any]:
    """The differences of logits and masks by case, or an error."""
    differences: dict[str, Any] = {}
    for name in CASES:
        truth = {"logits": expected[f"{name}.logits"], "masks": expected[f"{name}.masks"]}
        try:
            outputs = run(session, inputs[f"{name}.pixels"], inputs[f"{name}.mask"], ALL)
            found = {"logits": outputs["logits"], "masks": outputs["pred_masks"].reshape(truth["masks"].shape)}
        except Exception as error:  # noqa: BLE001 - whatever another exporter's graph raises is its row
            differences[name] = {"error": first_line(error)[:200]}
            continue
        if not all(np.isfinite(array).all() for array in found.values()):
            differences[name] = {"error": "not finite"}
            continue
        differences[name] = {
            f"{part}_of_std": float(f"{np.abs(found[part] - truth[part]).max() / truth[part].std():.2g}")
            for part in truth
        }
    return differences


def anatomy(file: Path) -> dict[str, Any]:
    """Number of nodes, those of the loop included, size, and inputs and outputs with their axes."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    ports = {"inputs": graph.input, "outputs": graph.output}
    return {
        "nodes": len(graph.node) + sum(len(body.node) for body in inner),
        "mb": round(file.stat().st_size / 1e6, 1),
        **{
            kind: {value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
                   for value in values}
            for kind, values in ports.items()
        },
    }  # fmt: skip


def milliseconds(session: Any, inputs: Arrays, threshold: float, runs: int) -> float:
    """The median of some runs on the single image, after one that does not count."""
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        run(session, inputs["single.pixels"], inputs["single.mask"], threshold)
        seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds[1:]), 1)


def main() -> None:
    """Compares, measures and writes the results."""
    parser = benchmark_parser("export.compare_panoptic", "Compares panoptic graphs.", "--work", "--threads",
                              results="compare-panoptic", runs=RUNS)  # fmt: skip
    parser.add_argument("--optimum", type=Path, required=True, metavar="DIR", help="of export.optimum_export")
    arguments = parser.parse_args()
    head = setting("python -m export.compare_panoptic", sys.argv[1:])
    _, model, _, title = panoptic_subject(arguments.work)
    check_source(arguments.optimum, model)
    inputs, ours = cases(Sizes()), arguments.work / "panoptic.onnx"
    write_onnx(ours, *read_model(model), ExportOptions())
    expected = reference(model, inputs)
    scores = softmax(expected["single.logits"][0])[:, :-1].max(axis=-1)
    kept = {str(KEPT): threshold_for(KEPT, scores.tolist()), "all": ALL}
    rows = []
    for key, name, file in (
        ("ours", "ours", ours),
        ("optimum", "optimum", arguments.optimum / "dynamic" / "model.onnx"),
    ):
        session = session_of(file, arguments.threads)
        row = {"key": key, "title": name, **anatomy(file), "differences": correctness(session, inputs, expected)}
        chosen = kept if key == "ours" else {"all": ALL}
        row["ms"] = {n: milliseconds(session, inputs, threshold, arguments.runs) for n, threshold in chosen.items()}
        rows.append(row)
    versions = versions_of("onnx", "onnxruntime", "numpy")
    results = {**head, "model": title, "threads": arguments.threads, "runs": arguments.runs, "right_below": RIGHT,
               "versions": versions, "rows": rows}  # fmt: skip
    write_results(arguments.json, results)


if __name__ == "__main__":
    run_main(main)
