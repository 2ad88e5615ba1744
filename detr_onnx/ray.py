"""Detection on Ray Data: an actor class for `Dataset.map_batches`, from a column of paths to the rows of a job.

    dataset = ray.data.read_parquet("manifest.parquet", columns=["path"])
    rows = dataset.repartition(target_num_rows_per_block=64).map_batches(
        Detect,
        fn_constructor_kwargs={"model": "facebook/detr-resnet-50", "threads": 2},
        num_cpus=2, batch_size=None, batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(size=8),
    )

Paths go through Ray's object store, pixels do not. Ray itself is not imported: without it, Detect is a class to call.
`examples/ray/detect.py` is a whole job.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from detr_onnx.arguments import check_threshold
from detr_onnx.defaults import DEFAULT_ENGINE, DEFAULT_MODEL, DEFAULT_THRESHOLD
from detr_onnx.detector import Detector
from detr_onnx.errors import EngineError, ImageError, UsageError
from detr_onnx.jobs.detect import detect_rows
from detr_onnx.jobs.inputs import Input
from detr_onnx.jobs.parts import PARQUET
from detr_onnx.jobs.rows import arrow_schema, import_pyarrow, row_path
from detr_onnx.jobs.settings import JobSettings, differences

if TYPE_CHECKING:
    import pyarrow

    from detr_onnx.engines.providers import ProviderSpec


class Detect:
    """Rows as `detr-onnx detect -o` writes them, for a batch of paths. Each actor loads the model once.

    A failed image is a row with its error. Results are Arrow tables; the metadata of their schema has the model, its
    sha256, the threshold and the class names.

    Args:
        model: as for `Detector`; every node must be able to open it, and the images.
        threshold: in 0..1; scores must be strictly greater.
        labels: the only labels to keep; None for all.
        column: the name of the column of paths: text, or bytes for names that are not UTF-8.
        directory: where relative paths start; the current directories of workers differ.
        threads: of the network; set num_cpus of the actor to the same number. None for engine numpy, which uses
            OMP_NUM_THREADS, as Ray sets it.
        engine: this and the next six arguments are as for `Detector`.
        precision: of the computation.
        providers: ONNX Runtime's execution providers.
        shortest_edge: length of the short side of resized images, in pixels.
        config: config.json for a model without one.
        offline: never contact the hub.
        cache_dir: the directory of cached models and graphs.
        settings: of the job that the rows belong to; None if there is no job.

    Raises:
        DetrError: as `Detector`.
        EngineError: this node has another model, engine or precision than the job.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        labels: Sequence[str] | None = None,
        column: str = "path",
        directory: str | os.PathLike[str] = "",
        threads: int | None = 1,
        engine: str = DEFAULT_ENGINE,
        precision: str | None = None,
        providers: ProviderSpec | None = None,
        shortest_edge: int | None = None,
        config: str | os.PathLike[str] | None = None,
        offline: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        settings: JobSettings | None = None,
    ) -> None:
        check_threshold(threshold)
        self._pa = import_pyarrow()
        self._column, self._directory, self._threshold, self._labels = column, directory, threshold, labels
        self._detector = Detector(
            model, engine=engine, precision=precision, providers=providers, threads=threads,
            shortest_edge=shortest_edge, config=config, offline=offline, cache_dir=cache_dir,
        )  # fmt: skip
        job = settings or JobSettings.of(self._detector, os.fspath(model), threshold, labels, PARQUET, 1)
        here = JobSettings.of(self._detector, job.model, threshold, labels, job.format, job.shards)
        if different := differences(here, job):
            remedy = "give all nodes the same model and version, and name --engine and --precision"
            what = "the rows of this node would differ from those of the job"
            raise EngineError(what, found=different[0], expected=different[1], remedy=remedy)
        self._schema = arrow_schema(job.metadata(), masks=job.masks)

    def __call__(self, batch: Any) -> pyarrow.Table:
        """A row for each path, in order.

        Args:
            batch: in any of Ray's formats: a pyarrow.Table, a dict of arrays or a pandas.DataFrame.

        Raises:
            UsageError: the batch has no such column, or one of another type.
        """
        rows = detect_rows(self._detector, self._inputs(batch), self._threshold, self._labels)
        return self._pa.Table.from_pylist([*rows], schema=self._schema)

    def _inputs(self, batch: Any) -> Iterator[Input]:
        names = [*getattr(batch, "column_names", batch)]
        if self._column not in names:
            found = f"the columns {', '.join(map(str, names))}"
            raise UsageError(f"there is no column {self._column!r} of paths", found=found, remedy="name it by column=")
        values = batch[self._column]
        for value in values.to_pylist() if hasattr(values, "to_pylist") else values.tolist():
            if _is_missing(value):
                yield Input("", ImageError("there is no path", found="an empty value"))
            elif isinstance(value, str | bytes):
                name = os.fsdecode(value)
                yield Input(row_path(name), os.path.join(self._directory, name))  # noqa: PTH118 - of many names
            else:
                found = f"values of type {type(value).__name__}"
                raise UsageError(f"the column {self._column!r} has no paths", found=found, expected="text or bytes")


def _is_missing(value: object) -> bool:
    """Whether a batch has no path here: None, an empty text, or NaN or NA, by which pandas marks what is missing."""
    if isinstance(value, str | bytes):
        return not value
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and math.isnan(value))
