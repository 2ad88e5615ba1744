"""The files of examples/kubernetes fit the API's schemas, and the commands in them exist."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from benchmarks.command import RESULTS
from detr_onnx.cli.main import argument_parser
from detr_onnx.jobs.shard import Shard

yaml = pytest.importorskip("yaml")

FOLDER = Path(__file__).parent.parent / "examples" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
SERVE = ["serve", "--host", "0.0.0.0"]  # the entry point of examples/Containerfile


def resources() -> list[Any]:
    return [resource for file in FILES for resource in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def test_there_are_a_deployment_a_service_and_a_job():
    assert [resource["kind"] for resource in resources()] == ["Deployment", "Service", "Job"]


@pytest.mark.parametrize("resource", resources(), ids=lambda resource: resource["kind"])
def test_every_resource_fits_its_schema(resource):
    validator = pytest.importorskip("kubernetes_validate")
    validator.validate(resource, validator.latest_version(), strict=True)


def test_the_server_s_options_exist():
    deployment = resources()[0]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    arguments = argument_parser().parse_args([*SERVE, *container["args"]])
    assert arguments.port == container["ports"][0]["containerPort"]
    needed_s = arguments.drain_delay + 1.5 * arguments.timeout
    assert needed_s < deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_the_job_s_shards_are_its_completions():
    job = resources()[-1]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sh", "-c"]
    program, *words = shlex.split(container["args"][0].replace("$JOB_COMPLETION_INDEX", "63"))[1:]
    arguments = argument_parser().parse_args(words)
    assert program == "detr-onnx"
    assert Shard.parse(arguments.shard).count == job["spec"]["completions"]


def test_the_limits_were_measured_with_the_server_s_options():
    from benchmarks.limits import SERVE_OPTIONS

    deployment = resources()[0]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"][4:] == [*SERVE_OPTIONS]


def test_the_memory_limits_are_above_the_measured_ones():
    rows = json.loads((RESULTS / "limits.json").read_text(encoding="utf-8"))["rows"]
    programs = {"serve": resources()[0], "detect -o": resources()[-1]}
    for row in rows:
        (container,) = programs[row["program"]]["spec"]["template"]["spec"]["containers"]
        limit = container["resources"]["limits"]["memory"]
        assert limit.endswith("Gi")
        assert row["limit_mb"] <= int(limit[:-2]) * 1024
