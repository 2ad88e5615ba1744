"""What is compared of the files that a command leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from detr_onnx.cache import MANIFEST, is_sound, list_entries

Reader = Callable[[bytes], object]
"""What of a file is the same in every run. It raises an exception for a damaged file."""
Snapshot = Mapping[str, object]
"""Files, links and directories by path; a file's content, where a link leads, None for a directory."""

INPUTS = "inputs"
DRAFTS = (".detr-onnx-", ".locks")  # how names of temporary files and of locks begin
UNFINISHED = (".incomplete", ".lock", ".part", ".metadata")  # and how they end


def _without_times(content: bytes) -> object:
    records = json.loads(content)
    return {name: {key: value for key, value in row.items() if key != "modified_ns"} for name, row in records.items()}


READERS: Mapping[str, Reader] = {"manifest.json": _without_times, "verified/*.json": _without_times}


def sizes_in_manifest(content: bytes) -> object:
    """Of a manifest of files whose bytes differ from run to run."""
    return {name: row["bytes"] for name, row in json.loads(content).items()}


def nodes_of_onnx(content: bytes) -> object:
    """The operators and constants of a graph whose weights are in another file. ONNX Runtime's order varies."""
    import onnx

    graph = onnx.load_from_string(content).graph
    return sorted(node.op_type for node in graph.node), sorted(tensor.name for tensor in graph.initializer)


def outputs_of_ort(content: bytes) -> object:
    """What an .ort file computes. The order of what is in it varies."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    pixels = np.sin(np.arange(3 * 64 * 64, dtype=np.float32)).reshape(1, 3, 64, 64)
    outputs = session.run(None, {"pixel_values": pixels, "pixel_mask": np.ones((1, 64, 64), np.int64)})
    return [np.round(output, 3).tolist() for output in outputs]


def journal_lines(content: bytes) -> object:
    """What was asked, each once, and what was answered; the last line may be cut off."""
    *lines, _ = content.split(b"\n")
    rows = [json.loads(line) for line in lines if line.endswith(b"}")]
    return sorted({(row["kind"], row["sha256"], row["outcome"], json.dumps(row.get("detections"))) for row in rows})


def only_differences(content: bytes) -> object:
    """Of the figures, those that are no times."""
    figures = json.loads(content)
    return [figures[name] for name in ("differences", "errors", "threshold")]


def whole_page(content: bytes) -> object:
    """Whether the page has an end."""
    if not content.rstrip().endswith(b"</html>"):
        raise ValueError("no end")
    return "whole"


def snapshot(place: Path, readers: Mapping[str, Reader]) -> Snapshot:
    """Everything below a place but its inputs."""
    paths = (path for path in sorted(place.rglob("*")) if path.relative_to(place).parts[0] != INPUTS)
    return {path.relative_to(place).as_posix(): _content(path, place, readers) for path in paths}


def _content(path: Path, place: Path, readers: Mapping[str, Reader]) -> object:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if path.is_dir():
        return None
    content = path.read_bytes()
    reader = next((read for pattern, read in readers.items() if PurePosixPath(path).match(pattern)), None)
    if reader is None:
        return content
    try:
        return reader(content)
    except Exception as error:  # noqa: BLE001 - of any package that cannot read it
        return f"damaged: {error}"


def is_temporary(path: str) -> bool:
    """Whether a path is, or is in, something that is on its way and has no final name yet."""
    parts = PurePosixPath(path).parts
    return parts[0] == "tmp" or any(part.startswith(DRAFTS) or part.endswith(UNFINISHED) for part in parts)


def torn(found: Snapshot, before: Snapshot, after: Snapshot) -> list[str]:
    """The files under a final name that are neither as before nor as a command leaves them that is not killed."""
    return [
        path
        for path, content in found.items()
        if content is not None
        and not is_temporary(path)
        and content not in (before.get(path), after.get(path))
        and not _is_beginning(content, after.get(path))
    ]


def _is_beginning(content: object, whole: object) -> bool:
    """Whether a file that grows line by line, such as a journal, has only lines of the whole one."""
    return isinstance(content, list) and isinstance(whole, list) and all(line in whole for line in content)


def mixed(found: Snapshot, before: Snapshot, after: Snapshot, first: str, others: tuple[str, ...]) -> list[str]:
    """The files beside `first` that are not of its run; if `first` is not there, nobody can use them."""
    if first not in found:
        return []
    own = before if found[first] == before.get(first) else after
    return [name for name in others if found.get(name) != own.get(name)]


def unsound(cache: Path) -> list[str]:
    """The entries of a cache that are not what their manifest says."""
    return [entry.name for entry in list_entries(cache) if not is_sound(entry.path, entry.path / MANIFEST)]


def differences(found: Snapshot, expected: Snapshot) -> list[str]:
    """Paths with another content, and those that only one of the two has."""
    return sorted(path for path in {*found, *expected} if found.get(path, ...) != expected.get(path, ...))
