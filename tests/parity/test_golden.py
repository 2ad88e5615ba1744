"""Every stage of the network agrees with the torch model's golden values (`tests/parity/golden_values.py`)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import stage_names
from tests.network_stages import STAGES
from tests.parity.golden_values import CASES, DIRECTORY, SMALL_BATCHES, Batch, positions
from tests.parity.seeded import CONFIGS, seeded_tensors

# Sums of float32 in another order, through a hundred layers, in units of a stage's root mean square: test_parity.py.
STAGE_TOLERANCE = 1e-4
LOGITS_TOLERANCE = 5e-5
BOXES_TOLERANCE = 1e-5  # of the image's width
KILOBYTES = 220  # of all golden files together

FULL_SIZE = "detr-resnet-50"
SMALL = [(name, i) for name, batches in CASES.items() if name != FULL_SIZE for i in range(len(batches))]


@cache
def golden(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    return fields


def error_of(stage: str, values: NDArray[np.float32], expected: dict[str, Any]) -> float:
    """The largest difference of a stage from its probe; of boxes absolute, of others over their root mean square."""
    assert list(values.shape) == expected["shape"], stage
    flat = values.reshape(-1).astype(np.float64)
    rms = 1.0 if stage == "boxes" else expected["norm"] / np.sqrt(flat.size)
    differences = [
        np.abs(flat[positions(stage, flat.size)] - expected["values"]).max(),
        abs(np.linalg.norm(flat) - expected["norm"]) / np.sqrt(flat.size),
        abs(flat.mean() - expected["mean"]),
    ]
    return float(max(differences)) / rms


def assert_agrees(name: str, index: int, engine: str) -> None:
    expected = golden(name)["batches"][index]["stages"]
    found = STAGES[engine](CONFIGS[name], weights(name), *CASES[name][index].arrays())
    tolerances = {"logits": LOGITS_TOLERANCE, "boxes": BOXES_TOLERANCE}
    errors = {stage: error_of(stage, found[stage], expected[stage]) for stage in expected}
    assert set(expected) == set(stage_names(CONFIGS[name]))
    assert {stage: e for stage, e in errors.items() if not e < tolerances.get(stage, STAGE_TOLERANCE)} == {}


@cache
def weights(name: str) -> dict[str, NDArray[np.float32]]:
    return seeded_tensors(CONFIGS[name], golden(name)["weights_seed"])


def test_every_case_has_a_file_and_every_file_a_case():
    assert {path.stem for path in DIRECTORY.glob("*")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_golden_file_has_the_config_and_the_images_of_its_case(name):
    assert DetrConfig.from_fields(golden(name)["config"]) == CONFIGS[name]
    batches = [Batch(b["seed"], tuple(tuple(size) for size in b["sizes_hw"])) for b in golden(name)["batches"]]
    assert tuple(batches) == CASES[name]


def test_the_golden_files_are_small():
    assert sum(path.stat().st_size for path in DIRECTORY.glob("*")) < KILOBYTES * 1000


@pytest.mark.parametrize("engine", STAGES)
@pytest.mark.parametrize(("name", "index"), SMALL)
def test_a_small_model_agrees_with_torch_at_every_stage(name, index, engine):
    assert_agrees(name, index, engine)


@pytest.mark.slow
@pytest.mark.parametrize("engine", STAGES)
def test_the_full_size_model_agrees_with_torch_at_every_stage(engine):
    assert_agrees(FULL_SIZE, 0, engine)


def test_the_probes_detect_a_wrong_weight():
    """One encoder layer's queries are a tenth too large; a test that cannot fail would not notice."""
    tensors = dict(weights("small"))
    tensors["encoder.layers.1.self_attn.q_proj.weight"] = tensors[
        "encoder.layers.1.self_attn.q_proj.weight"
    ] * np.float32(1.1)
    found = STAGES["numpy"](CONFIGS["small"], tensors, *SMALL_BATCHES[0].arrays())
    expected = golden("small")["batches"][0]["stages"]
    assert error_of("encoder.0", found["encoder.0"], expected["encoder.0"]) < STAGE_TOLERANCE
    assert error_of("encoder.1", found["encoder.1"], expected["encoder.1"]) > 10 * STAGE_TOLERANCE
