"""Every stage of the network agrees with what the torch model answered (`tests/parity/golden_values.py`)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detr_onnx.network.config import DetrConfig
from detr_onnx.network.detr import stage_names
from tests.parity.golden_values import CASES, DIRECTORY, SMALL_BATCHES, Batch, places
from tests.parity.seeded import CONFIGS, seeded_tensors
from tests.readings import READINGS

# Sums of float32 in another order, through a hundred layers, in units of a stage's root mean square: test_parity.py.
STAGE_TOLERANCE = 1e-4
LOGITS_TOLERANCE = 5e-5
BOXES_TOLERANCE = 1e-5  # of the image's width
KILOBYTES = 150  # what all golden files may take together

FULL_SIZE = "detr-resnet-50"
SMALL = [(name, i) for name, batches in CASES.items() if name != FULL_SIZE for i in range(len(batches))]


@cache
def golden(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    return fields


def error_of(stage: str, values: NDArray[np.float32], kept: dict[str, Any]) -> float:
    """The largest difference between a stage and its probe; boxes in their own unit, others in root mean squares."""
    assert list(values.shape) == kept["shape"], stage
    flat = values.reshape(-1).astype(np.float64)
    rms = 1.0 if stage == "boxes" else kept["norm"] / np.sqrt(flat.size)
    differences = [
        np.abs(flat[places(stage, flat.size)] - kept["values"]).max(),
        abs(np.linalg.norm(flat) - kept["norm"]) / np.sqrt(flat.size),
        abs(flat.mean() - kept["mean"]),
    ]
    return float(max(differences)) / rms


def assert_agrees(name: str, index: int, reading: str) -> None:
    kept = golden(name)["batches"][index]["stages"]
    found = READINGS[reading](CONFIGS[name], weights(name), *CASES[name][index].arrays())
    tolerances = {"logits": LOGITS_TOLERANCE, "boxes": BOXES_TOLERANCE}
    errors = {stage: error_of(stage, found[stage], kept[stage]) for stage in kept}
    assert set(kept) == set(stage_names(CONFIGS[name]))
    assert {stage: e for stage, e in errors.items() if not e < tolerances.get(stage, STAGE_TOLERANCE)} == {}


@cache
def weights(name: str) -> dict[str, NDArray[np.float32]]:
    return seeded_tensors(CONFIGS[name], golden(name)["weights_seed"])


def test_every_case_has_its_file_and_no_file_is_left_over():
    assert {path.stem for path in DIRECTORY.glob("*")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_golden_file_is_of_the_config_and_the_images_that_the_script_names(name):
    assert DetrConfig.from_fields(golden(name)["config"]) == CONFIGS[name]
    kept = [Batch(b["seed"], tuple(tuple(size) for size in b["sizes_hw"])) for b in golden(name)["batches"]]
    assert tuple(kept) == CASES[name]


def test_the_golden_files_take_kilobytes():
    assert sum(path.stat().st_size for path in DIRECTORY.glob("*")) < KILOBYTES * 1000


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(("name", "index"), SMALL)
def test_a_small_model_agrees_with_torch_at_every_stage(name, index, reading):
    assert_agrees(name, index, reading)


@pytest.mark.slow
@pytest.mark.parametrize("reading", READINGS)
def test_the_full_size_model_agrees_with_torch_at_every_stage(reading):
    assert_agrees(FULL_SIZE, 0, reading)


def test_the_probes_see_a_wrong_weight():
    """A tenth more of one encoder layer's queries: what a test that lets everything pass would let pass."""
    tensors = dict(weights("small"))
    tensors["encoder.layers.1.self_attn.q_proj.weight"] = tensors[
        "encoder.layers.1.self_attn.q_proj.weight"
    ] * np.float32(1.1)
    found = READINGS["numpy"](CONFIGS["small"], tensors, *SMALL_BATCHES[0].arrays())
    kept = golden("small")["batches"][0]["stages"]
    assert error_of("encoder.0", found["encoder.0"], kept["encoder.0"]) < STAGE_TOLERANCE
    assert error_of("encoder.1", found["encoder.1"], kept["encoder.1"]) > 10 * STAGE_TOLERANCE
