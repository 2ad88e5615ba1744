"""Compares the answers of an emulated processor with those of this machine; exits with 1 if they disagree.

python -m tests.arm64.compare HOST.json ARM64.json CASE …
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_onnx.exporter.trial import SCORES_AT_MOST

Answer = Sequence[Mapping[str, Any]]
SCORES = 1e-4  # float32 sums in another order, of a trained model's scores
BF16_SCORES = 0.02  # mean; OpenVINO's of a graph all in bf16 is 0.006 (docs/files.md)
BOX_PX = 1  # boxes are rounded to whole pixels, so the smallest difference can be a pixel
ROUNDED_BOX_PX = 8  # of int8 and bf16, a fiftieth of the scene's height: an IoU of 0.9 with its smallest object
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Case:
    """How far the answers of a case may differ.

    Attributes:
        reference: the host's case that it is compared with.
        scores: mean difference if `rounded`, else any.
        rounded: whether it computes in fewer bits than float32.
        differs_from: another case of the same processor whose scores must not be equal: the precision is in use.
    """

    reference: str = "onnxruntime"
    scores: float = SCORES
    rounded: bool = False
    differs_from: str | None = None


CASES = {
    "numpy": Case("numpy"),
    "onnxruntime": Case(),
    "ort": Case("ort"),
    "end-to-end": Case("end-to-end"),
    "server": Case(),
    "int8": Case(scores=SCORES_AT_MOST, rounded=True, differs_from="onnxruntime"),
    "bf16": Case(scores=BF16_SCORES, rounded=True, differs_from="onnxruntime"),
}


def differences(expected: Answer, found: Answer) -> tuple[list[float], int]:
    """Differences of the scores, and the largest of the boxes in pixels, of answers with the same labels."""
    pairs = list(zip(expected, found, strict=True))
    scores = [abs(ours["score"] - theirs["score"]) for ours, theirs in pairs]
    boxes = [abs(ours["box"][side] - theirs["box"][side]) for ours, theirs in pairs for side in SIDES]
    return scores, max(boxes, default=0)


def judged(case: Case, host: Mapping[str, Answer], arm64: Mapping[str, Answer], name: str) -> tuple[str, bool]:
    """What was found, in words, and whether it is within the bounds."""
    expected, found = (_by_label(answers) for answers in (host[case.reference], arm64[name]))
    labels = [[detection["label"] for detection in answers] for answers in (expected, found)]
    if labels[0] != labels[1] or not labels[0]:
        return f"labels {', '.join(labels[1]) or 'none'}; expected {', '.join(labels[0]) or 'some'}", False
    scores, box = differences(expected, found)
    score = sum(scores) / len(scores) if case.rounded else max(scores)
    passes = score <= case.scores and box <= (ROUNDED_BOX_PX if case.rounded else BOX_PX)
    if case.differs_from is not None:
        passes = passes and max(differences(_by_label(arm64[case.differs_from]), found)[0]) > 0
    kind = "mean" if case.rounded else "largest"
    return f"{len(found)} detections, scores differ by {score:.1e} ({kind}), boxes by {box} px", passes


def _by_label(answers: Answer) -> Answer:
    """In an order that equal scores do not change."""
    return sorted(answers, key=lambda detection: (detection["label"], -detection["score"]))


def report(host: Mapping[str, Answer], arm64: Mapping[str, Answer], names: Sequence[str]) -> tuple[list[str], bool]:
    """A line a case, and whether all agree."""
    lines, all_pass = [], True
    for name in names:
        words, passes = judged(CASES[name], host, arm64, name) if name in arm64 else ("no answer", False)
        lines.append(f"{'agrees ' if passes else 'DIFFERS'} {name}: {words}")
        all_pass = all_pass and passes
    return lines, all_pass


def main() -> int:
    host, arm64 = (json.loads(Path(file).read_text(encoding="utf-8")) for file in sys.argv[1:3])
    lines, all_pass = report(host, arm64, sys.argv[3:])
    print("\n".join(lines))
    return 0 if all_pass else 1


if __name__ == "__main__":
    sys.exit(main())
