"""All checks of a model, in the order of their cost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_onnx.engines import Engine
from detr_onnx.engines.options import EngineOptions
from detr_onnx.errors import EngineError, UsageError
from detr_onnx.evaluation.average_precision import Progress, import_pycocotools
from detr_onnx.evaluation.coco import Annotations
from detr_onnx.hub.errors import WrongFileError
from detr_onnx.hub.names import is_hub_name
from detr_onnx.models.load import Source
from detr_onnx.models.open import locate, open_model
from detr_onnx.paths import exists, is_file
from detr_onnx.verify.checks import NOT_TRIED, Check, Notice
from detr_onnx.verify.engines import Subject, check_engines, only_numpy
from detr_onnx.verify.files import check_files, check_input, check_source, official_name
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
        published: the name of the published model that it should be; None to recognise it by its name or files.
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

    @property
    def options(self) -> dict[str, Any]:
        return {"config": self.config, **self.source_options}

    @property
    def paths(self) -> tuple[str, ...]:
        """The files and directories of this machine that it names."""
        named = (self.model, self.reference, self.golden_image, self.coco, self.config, self.cache_dir)
        return tuple(str(path) for path in named if path is not None and exists(path))


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
    check_published_name(request.published)
    image, dataset = golden_image(request.golden_image), read_coco(request.coco)
    notice("the files")
    source, may_open = _located(request)
    name = official(request, source)
    checks = [*check_files(source, name, notice, revision(request))]
    if may_open:
        subject = Subject(request.model, source, request.reference, request.options)
        checks += _check_graph(request, subject)
        checks += _computed(subject, PUBLISHED.get(name or "", Published()), image, dataset, notice, progress)
    else:
        checks += _not_run(request)
    return Report(request.model, request.reference, tuple(checks), request.paths)


def _located(request: Request) -> tuple[Source, bool]:
    """The files of the model, and whether it may be opened: a pinned model of which one file is wrong may not."""
    try:
        return locate(request.model, **request.source_options), True
    except WrongFileError as error:
        return Source(error.snapshot, None), False


def _not_run(request: Request) -> Iterator[Check]:
    for section in ("published values", "engines", *(["COCO"] if request.coco else [])):
        yield Check(section, "all", NOT_TRIED, "not run: a file is not the pinned one")


def _computed(
    subject: Subject,
    published: Published,
    image: Path | None,
    dataset: Dataset | None,
    notice: Notice,
    progress: Progress,
) -> list[Check]:
    """The checks for which the model is opened: published values, engines, COCO."""
    checks: list[Check] = []
    if subject.source.checkpoint is not None:
        checks += check_golden(subject, published.outputs, image, notice)
    checks += check_engines(subject, cases(), notice)
    if dataset is not None:
        checks += _coco(subject, dataset, published.coco, progress)
    if only_numpy(checks) and not any(check.section == "published values" and check.figures for check in checks):
        reasons = {f"{contender.engine}: {contender.reason}" for contender in subject.contenders if contender.reason}
        found = "; ".join(sorted(reasons)) or None
        remedy = "run pip install 'detr-onnx[all]'"
        raise EngineError("there is no second engine to compare with", found=found, remedy=remedy)
    return checks


def golden_image(given: Path | None) -> Path | None:
    """The image of the published values, from the option or the environment.

    Raises:
        UsageError: there is no such file.
    """
    path = given or (Path(os.environ[GOLDEN_IMAGE]) if os.environ.get(GOLDEN_IMAGE) else None)
    if path is not None and not is_file(path):
        origin = "--golden-image" if given is not None else f"the environment variable {GOLDEN_IMAGE}"
        raise UsageError(f"there is no image {path}", remedy=f"let {origin} name 000000039769.png, or leave it out")
    return path


def read_coco(directory: Path | None) -> Dataset | None:
    """The data set; None without a directory. It is read first, so that its errors come before the long checks."""
    if directory is None:
        return None
    from detr_onnx.verify.coco import read_dataset

    import_pycocotools()
    return read_dataset(directory)


def check_published_name(name: str | None) -> None:
    """Raises UsageError for a name that is not that of a published model."""
    if name is not None and name not in PUBLISHED:
        raise UsageError(
            "no values are published for that model", found=name, expected=f"one of {', '.join(PUBLISHED)}"
        )


def official(request: Request, source: Source) -> str | None:
    """The name of the published model that this model is, or should be; None if it is another model."""
    if request.published is not None:
        return request.published
    name = request.model.split("@")[0]
    return name if name in PUBLISHED and is_hub_name(request.model) else official_name(source)


def revision(request: Request) -> str:
    """The revision of an official name; empty for the pinned one, and for a model that should be an official one."""
    name, _, revision = request.model.partition("@")
    return revision if request.published is None and name in PUBLISHED and is_hub_name(request.model) else ""


def _check_graph(request: Request, subject: Subject) -> Iterator[Check]:
    """What a graph takes, if not everything, and whether it was written from the weights that it is compared with."""
    if subject.source.graph is None:
        return
    engine = _opened(subject)
    if engine is not None:
        yield from check_input(subject.source.graph, engine)
    reference = locate(request.reference, **request.source_options) if request.reference else Source(None, None)
    yield from check_source(subject.source, (engine and engine.metadata) or {}, reference.checkpoint)


def _opened(subject: Subject) -> Engine | None:
    """The first engine here that opens a graph file, as the file is; None without one."""
    able = [c for c in subject.contenders if c.reason is None and c.engine != "numpy"]
    if not able:
        return None
    return open_model(subject.model, EngineOptions(able[0].engine), **subject.options).engine


def _coco(subject: Subject, dataset: Dataset, published: Mapping[str, float], progress: Progress) -> Iterator[Check]:
    from detr_onnx.detector import Detector
    from detr_onnx.verify.coco import check_coco

    def opened() -> Detector:
        return Detector(subject.model, **subject.options)

    return check_coco(opened, *dataset, published, progress)
