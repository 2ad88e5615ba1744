"""Writes `tests/parity/golden/*.json`: outputs of the torch model of transformers, for tests that run without torch.

    python -m tests.parity.golden_values

One file a model. For each batch and stage it has the shape, the Euclidean norm, the mean, and the values at positions
drawn from a seed. Weights and pixels are not stored: `tests/parity/seeded.py` makes them from their seeds.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.parity.seeded import CONFIGS, padded_batch, seeded_pixels, seeded_tensors

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

DIRECTORY = Path(__file__).parent / "golden"
VALUES = 64  # a stage
DIGITS = 7  # significant ones, as many as float32 has


@dataclass(frozen=True)
class Batch:
    """Images from a seed, padded to the largest height and width."""

    seed: int
    sizes_hw: tuple[tuple[int, int], ...]

    def arrays(self) -> tuple[Array, Mask]:
        """Pixels [B,3,H,W] and the mask [B,H,W]."""
        H, W = (max(size[axis] for size in self.sizes_hw) for axis in (0, 1))
        return padded_batch(seeded_pixels(self.seed, len(self.sizes_hw), 3, H, W), self.sizes_hw)


WEIGHTS_SEED = 1
SMALL_BATCHES = (Batch(3, ((33, 47),)), Batch(5, ((97, 60), (50, 131), (97, 131))))
CASES: dict[str, tuple[Batch, ...]] = {
    "small": (*SMALL_BATCHES, Batch(6, ((240, 667),))),
    "small-dc5": SMALL_BATCHES,
    "small-basic-dc5": SMALL_BATCHES,
    "basic-three-stages": SMALL_BATCHES,
    "small-table-transformer": SMALL_BATCHES,
    "small-auxiliary-loss": SMALL_BATCHES,
    "small-panoptic": SMALL_BATCHES,
    "three-stages-panoptic": SMALL_BATCHES,
    "detr-resnet-50": (Batch(7, ((320, 427),)),),
}


def probe(stage: str, values: Array) -> dict[str, Any]:
    """What is stored of a stage."""
    flat = values.reshape(-1).astype(np.float64)
    return {
        "shape": list(values.shape),
        "norm": _rounded(np.linalg.norm(flat)),
        "mean": _rounded(flat.mean()),
        "values": [_rounded(value) for value in flat[positions(stage, flat.size)]],
    }


def positions(stage: str, size: int) -> NDArray[np.int64]:
    """[VALUES] positions in a flattened stage, drawn by its name."""
    return np.random.RandomState(zlib.crc32(stage.encode())).randint(size, size=VALUES).astype(np.int64)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def golden(name: str, batches: Sequence[Batch]) -> dict[str, Any]:
    """The file of one model, as JSON values."""
    from tests.parity.oracle import torch_model, torch_stages

    model = torch_model(CONFIGS[name], seeded_tensors(CONFIGS[name], WEIGHTS_SEED))
    entries = []
    for batch in batches:
        stages = torch_stages(model, *batch.arrays())
        probes = {stage: probe(stage, values) for stage, values in stages.items()}
        entries.append({"seed": batch.seed, "sizes_hw": [list(size) for size in batch.sizes_hw], "stages": probes})
    fields = json.loads(json.dumps(CONFIGS[name].to_fields()))
    return {"config": fields, "weights_seed": WEIGHTS_SEED, "batches": entries}


def text(fields: Mapping[str, Any]) -> str:
    """JSON with one stage a line."""
    head = json.dumps({name: value for name, value in fields.items() if name != "batches"}, indent=1)[:-2]
    batches = []
    for batch in fields["batches"]:
        stages = ",\n".join(
            f"   {json.dumps(stage)}: {json.dumps(stored)}" for stage, stored in batch["stages"].items()
        )
        batches.append(
            f'  {{"seed": {batch["seed"]}, "sizes_hw": {json.dumps(batch["sizes_hw"])}, "stages": {{\n{stages}\n  }}}}'
        )
    return f'{head},\n "batches": [\n' + ",\n".join(batches) + "\n ]\n}\n"


def main() -> None:
    """Writes every file."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, batches in CASES.items():
        file = DIRECTORY / f"{name}.json"
        file.write_text(text(golden(name, batches)), encoding="utf-8")
        print(f"{file.name}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
