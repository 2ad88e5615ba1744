"""The decision table of docs/choose.md: what each choice costs and keeps, from the results of four benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.markdown import Results
from detr_onnx.text import markdown_table

SOURCES = ("latency", "precisions", "memory", "accuracy", "formats")
REFERENCES = {"latency": "ours-onnxruntime-mask", "precisions": "onnxruntime-fp32"}
"""The row whose time is 1 in each results file: ONNX Runtime in float32, any size."""
HEAD = ("what matters", "install", "options", "file", "size", "network's time", "peak memory", "same detections")


@dataclass(frozen=True)
class Choice:
    """A row; the last four fields are keys of results, as `file/key`, empty where nothing was measured."""

    matters: str
    install: str
    options: str
    file: str
    size: str = ""
    time: str = ""
    memory: str = ""
    agreement: str = ""


CHECKPOINT = "any checkpoint"
CHOICES = (
    Choice("nothing in particular", "`[openvino,export]`", "none", CHECKPOINT, "precisions/openvino-fp32",
           "latency/ours-openvino", "memory/ours-openvino", "openvino-fp32-bf16-mixed"),
    Choice("every detection as PyTorch finds it", "`[openvino,export]`", "`--precision fp32`", CHECKPOINT,
           "precisions/openvino-fp32", "latency/ours-openvino-fp32", "", "openvino-fp32"),
    Choice("speed, with an int8 file", "`[openvino]`", "none", "`.onnx`, int8",
           "precisions/openvino-int8", "precisions/openvino-int8", "", "openvino-int8"),
    Choice("speed, with an int8 file, on a processor with bfloat16", "`[openvino]`", "`--precision bf16-mixed`",
           "`.onnx`, int8", "precisions/openvino-int8", "precisions/openvino-int8-mixed", "",
           "openvino-int8-bf16-mixed"),
    Choice("speed, without writing a file", "`[openvino,export]`", "`--precision bf16`", CHECKPOINT,
           "precisions/openvino-fp32", "latency/ours-openvino-bf16", "memory/ours-openvino-bf16", "openvino-fp32-bf16"),
    Choice("few packages", "no extra", "none", "`.onnx`", "precisions/onnxruntime-fp32",
           "precisions/onnxruntime-fp32", "precisions/onnxruntime-fp32", "onnxruntime-fp32"),
    Choice("few packages, speed, little memory", "no extra", "none", "`.onnx`, int8", "precisions/onnxruntime-int8",
           "precisions/onnxruntime-int8", "precisions/onnxruntime-int8", "onnxruntime-int8"),
    Choice("a small download, without images to calibrate with", "no extra", "none", "`.onnx`, int8-weights",
           "precisions/onnxruntime-int8-weights", "precisions/onnxruntime-int8-weights",
           "precisions/onnxruntime-int8-weights", "onnxruntime-int8-weights"),
    Choice("several processes that share their weights", "no extra", "none", "`.ort`", "formats/mapped.ort", "",
           "formats/mapped.ort", "onnxruntime-ort"),
    Choice("numpy and Pillow only", "no extra", "`--engine numpy`", "`.safetensors`", "", "latency/ours-numpy",
           "memory/ours-numpy", "numpy"),
    Choice("[no Python](files.md#end-to-end): C++, JavaScript", "ONNX Runtime", "", "`.onnx`, `--end-to-end`",
           "", "", "", "end-to-end"),
    Choice("[an NVIDIA GPU](gpu.md)", "`onnxruntime-gpu`", "`--providers CUDA`", "`.onnx`, fp16"),
    Choice("[a Raspberry Pi](edge.md)", "no extra", "`--size 480`", "`.onnx`, int8 or int8-weights"),
)  # fmt: skip


def choose_table(results: Results) -> str:
    """A row for each choice."""
    rows = {source: {row["key"]: row for row in results[source]["rows"]} for source in SOURCES}
    lines = [(c.matters, c.install, c.options, c.file, *_figures(c, rows)) for c in CHOICES]
    notes = (
        f"Size: of the file of a DETR-R50. Time: relative to ONNX Runtime in float32; {results['latency']['model']}, "
        f"{results['latency']['machine']['processor']}, {results['latency']['threads']} threads. Memory: of a whole "
        f"process with one image. Same detections: of the demo model, on {results['accuracy']['images']} drawings. "
        "Empty: not measured."
    )
    return f"{markdown_table(HEAD, lines)}\n\n{notes}"


def _figures(choice: Choice, rows: Results) -> tuple[str, str, str, str]:
    """Size, time, memory and agreement."""
    size, memory = _row(choice.size, rows), _row(choice.memory, rows)
    agreement = rows["accuracy"].get(choice.agreement)
    return (
        f"{size['mb']:.0f} MB" if size else "",
        f"{_time(choice.time, rows):.2f}×" if choice.time else "",
        f"{memory['peak_mb']['median']:.0f} MB" if memory else "",
        f"{agreement['identical']:.1%}".replace("%", " %") if agreement else "",
    )


def _row(key: str, rows: Results) -> Results | None:
    source, _, name = key.partition("/")
    found: Results | None = rows[source][name] if key else None
    return found


def _time(key: str, rows: Results) -> float:
    """A network's time relative to ONNX Runtime's in float32, measured in the same runs."""
    source, _, name = key.partition("/")
    times = {row: rows[source][row]["ms"]["network"]["median"] for row in (name, REFERENCES[source])}
    return float(times[name] / times[REFERENCES[source]])
