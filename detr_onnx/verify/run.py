"""All checks of a model, in the order of their cost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.evaluation.average_precision import Progress, import_pycocotools
from detr_onnx.evaluation.coco import Annotations
from detr_onnx.hub import WrongFileError, is_hub_name
from detr_onnx.models.open import locate, open_model
from detr_onnx.models.parts import Source
from detr_onnx.paths import is_file
from detr_onnx.verify.checks import NOT_TRIED, Check, Notice
from detr_onnx.verify.engines import Subject, check_engines, contenders, only_numpy
from detr_onnx.verify.files import check_files, check_source, official_name
from detr_onnx.verify.golden import check_golden
from detr_onnx.verify.images import cases
from detr_onnx.verify.published import PUBLISHED, Published
from detr_onnx.verify.report import Report

GOLDEN_IMAGE = "DETR_ONNX_GOLDEN_IMAGE"


@dataclass(frozen=True)
class Request:
    """What to verify.

    Attributes:
        model: as `Detector` takes it.
        published: the name of the published model that it should be; None to find out.
        reference: the checkpoint that a graph file is compared with.
        golden_image: COCO's image 39769, of the published values.
        coco: the directory of COCO's val2017.
        config, offline, cache_dir: as `Detector` takes them.
    """

    model: str
    published: str | None = None
    reference: str | None = None
    golden_image: Path | None = None
    coco: Path | None = None
    config: Path | None = None
    offline: bool = False
    cache_dir: str | None = None

    @property
    def source_options(self) -> dict[str, Any]:
        return {"offline": self.offline, "cache_dir": self.cache_dir}


Dataset = tuple[Annotations, Mapping[int, Path]]


def verify(request: Request, notice: Notice, progress: Progress = iter) -> Report:
    """Runs every check.

    Args:
        request: what to verify.
        notice: called with what comes next.
        progress: wraps the images of COCO.

    Raises:
        DetrError: the request cannot be carried out, or there is nothing to compare.
    """
    image, dataset = golden_image(request.golden_image), read_coco(request.coco)
    notice("the files")
    try:
        source = locate(request.model, **request.source_options)
    except WrongFileError as error:
        return Report(request.model, request.reference, tuple(_damaged(request, error.snapshot, notice)))
    subject = Subject(request.model, source, request.reference, {"config": request.config, **request.source_options})
    reference = locate(request.reference, **request.source_options) if request.reference else None
    checks = (*_checks(request, subject, reference, image, notice), *_coco(request, subject, dataset, progress))
    if only_numpy([*checks]) and not any(check.section == "published values" and check.figures for check in checks):
        reasons = {f"{c.engine}: {c.reason}" for c in contenders(source) if c.reason}
        raise EngineError(
            "there is no second engine to compare with", found="; ".join(sorted(reasons)) or None,
            remedy="run pip install 'detr-onnx[all]'",
        )  # fmt: skip
    return Report(request.model, request.reference, checks)


def _damaged(request: Request, snapshot: Path, notice: Notice) -> Iterator[Check]:
    """The files of a pinned model that is not opened because one of them is wrong; the rest is not tried."""
    source = Source(snapshot, None)
    yield from check_files(source, official(request, source), notice)
    for section in ("published values", "engines", *(["COCO"] if request.coco else [])):
        yield Check(section, "all", NOT_TRIED, "not run: a file is not the pinned one")


def golden_image(given: Path | None) -> Path | None:
    """The image of the published values, from the option or the environment.

    Raises:
        UsageError: there is no such file.
    """
    path = given or (Path(os.environ[GOLDEN_IMAGE]) if os.environ.get(GOLDEN_IMAGE) else None)
    if path is not None and not is_file(path):
        raise UsageError(f"there is no image {path}", remedy="leave --golden-image out, or name 000000039769.png")
    return path


def read_coco(directory: Path | None) -> Dataset | None:
    """The data set, read before anything else takes time."""
    if directory is None:
        return None
    from detr_onnx.verify.coco import read_dataset

    import_pycocotools()
    return read_dataset(directory)


def official(request: Request, source: Source) -> str | None:
    """The published model that this one is, or should be.

    Raises:
        UsageError: the name that was given is not of a published one.
    """
    if request.published is not None:
        if request.published not in PUBLISHED:
            known = ", ".join(PUBLISHED)
            raise UsageError("no values are published for that model", found=request.published, expected=known)
        return request.published
    name = request.model.split("@")[0]
    return name if name in PUBLISHED and is_hub_name(request.model) else official_name(source)


def _checks(
    request: Request, subject: Subject, reference: Source | None, image: Path | None, notice: Notice
) -> Iterator[Check]:
    name = official(request, subject.source)
    yield from check_files(subject.source, name, notice)
    if subject.source.graph is not None:
        metadata = _metadata(subject)
        yield from check_source(subject.source, metadata, reference.checkpoint if reference else None)
    values = PUBLISHED.get(name or "", Published()).outputs
    if subject.source.checkpoint is not None:
        yield from check_golden(subject, values, image, notice)
    yield from check_engines(subject, cases(), notice)


def _metadata(subject: Subject) -> Mapping[str, str]:
    """What a graph file says about itself; empty where no engine here opens it."""
    able = [c for c in contenders(subject.source) if c.reason is None and c.engine != "numpy"]
    if not able:
        return {}
    return open_model(subject.model, EngineOptions(able[0].engine), **subject.options).engine.metadata or {}


def _coco(request: Request, subject: Subject, dataset: Dataset | None, progress: Progress) -> Iterator[Check]:
    if dataset is None:
        return
    from detr_onnx.detector import Detector
    from detr_onnx.verify.coco import check_coco

    detector = Detector(request.model, **subject.options)
    figures = PUBLISHED.get(official(request, subject.source) or "", Published()).coco
    yield from check_coco(detector, *dataset, figures, progress)
