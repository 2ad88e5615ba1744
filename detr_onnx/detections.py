"""Detections of one image as parallel arrays, and their conversion to the formats of other programs.

The name of a variable says which box convention it holds: `cxcywh` (centre and size, in 0..1 of the image) is what DETR
predicts, `xyxy` (left, top, right, bottom, in pixels of the upright image) is what `Detections` holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from detr_onnx.arguments import integer_of
from detr_onnx.boxes import Floats, pixels_xyxy, xyxy_to_xywh
from detr_onnx.errors import MissingPackageError, UsageError
from detr_onnx.labels import known_labels
from detr_onnx.masks import MaskLogits
from detr_onnx.text import printable

if TYPE_CHECKING:
    import pandas
    import supervision
    from PIL import Image

    from detr_onnx.image.decode import ImageSource

Ints = NDArray[np.int64]
Selection = slice | Sequence[int] | Sequence[bool] | NDArray[np.bool_] | NDArray[np.integer[Any]]

SHOWN = 5  # detections in a repr


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright image; x to the right, y down. It may reach a little beyond the image."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass(frozen=True, slots=True)
class Detection:
    """One detected object.

    Attributes:
        score: in 0..1.
        label: the name of its class.
        box: where it is, in pixels.
        class_id: the index of its class; for COCO models the COCO category id.
        track_id: in a tracked video the object's number, or -1 if it is not tracked; otherwise None.
    """

    score: float
    label: str
    box: Box
    class_id: int
    track_id: int | None = None


@dataclass(frozen=True, eq=False, repr=False)  # comparing arrays does not give one answer
class Detections:
    """The detections of one image, as parallel arrays. Iterating yields `Detection` values.

    `detections[2]` is one `Detection`; `detections[:2]`, `detections[detections.scores > 0.9]` and
    `detections[[2, 0]]` are `Detections` again. A `Detector` keeps the order of the model's queries; `by_score` sorts.

    Attributes:
        scores: [n] float32 in 0..1.
        class_ids: [n] int64, indices into `class_names`.
        xyxy: [n, 4] float32: left, top, right, bottom, in pixels of the upright image.
        class_names: the name of every class of the model.
        path: the image file, if the image was given as a path.
        mask_logits: the masks of a panoptic model, from which `masks` is computed; None for other models.
        track_ids: [n] int64, in a tracked video the number of each object, or -1 if it is not tracked; otherwise None.

    Raises:
        UsageError: they are not arrays, they differ in length, or a class id has no name.
    """

    scores: Floats
    class_ids: Ints
    xyxy: Floats
    class_names: Sequence[str]
    path: str | None = None
    mask_logits: MaskLogits | None = None
    track_ids: Ints | None = None

    def __post_init__(self) -> None:
        arrays = {"scores": self.scores, "class_ids": self.class_ids, "xyxy": self.xyxy, "track_ids": self.track_ids}
        shapes = {name: getattr(a, "shape", type(a).__name__) for name, a in arrays.items() if a is not None}
        n = np.size(self.scores)
        if any(shape != ((n, 4) if name == "xyxy" else (n,)) for name, shape in shapes.items()):
            raise UsageError(
                "the arrays of a Detections differ in length",
                found=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
                expected="[n], [n] and [n, 4], in numpy",
            )
        is_whole = np.issubdtype(self.class_ids.dtype, np.integer)
        if n and not (is_whole and 0 <= self.class_ids.min() <= self.class_ids.max() < len(self.class_names)):
            raise UsageError(
                "a class id of a Detections has no name",
                found=f"{self.class_ids.dtype} from {self.class_ids.min()} to {self.class_ids.max()}",
                expected=f"whole numbers from 0 to {len(self.class_names) - 1}",
            )

    @property
    def labels(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[class_id] for class_id in self.class_ids.tolist()]

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """[n,H,W] the pixels of each detection in the upright image, computed at each access; None without masks."""
        return self.mask_logits.boolean() if self.mask_logits is not None else None

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: Selection) -> Detections: ...
    def __getitem__(self, index: int | Selection) -> Detection | Detections:
        if (number := integer_of(index)) is not None:
            class_id = int(self.class_ids[number])
            box = Box(*self.xyxy[number].tolist())
            track_id = None if self.track_ids is None else int(self.track_ids[number])
            return Detection(float(self.scores[number]), self.class_names[class_id], box, class_id, track_id)
        rows: Any = index if isinstance(index, slice) else _rows(index, len(self))
        arrays = self.scores[rows], self.class_ids[rows], self.xyxy[rows]
        masks = None if self.mask_logits is None else self.mask_logits[rows]
        track_ids = None if self.track_ids is None else self.track_ids[rows]
        return Detections(*arrays, self.class_names, self.path, masks, track_ids)

    def only(self, labels: str | Iterable[str]) -> Detections:
        """The detections whose label is one of `labels`; UsageError if the model has no such label."""
        names = known_labels(labels, self.class_names)
        ids = [class_id for class_id, name in enumerate(self.class_names) if name in names]
        return self[np.isin(self.class_ids, ids)]

    def by_score(self) -> Detections:
        """The same detections, best first. Equal scores keep their order."""
        return self[np.argsort(-self.scores, kind="stable")]

    def draw(self, image: ImageSource | None = None) -> Image.Image:
        """The image with a box and a label for each detection.

        Args:
            image: the image they belong to; None reads `path`.

        Returns:
            A new PIL image, upright, mode RGB.

        Raises:
            ImageError: the image cannot be read.
            UsageError: no image was given and there is no path.
        """
        from detr_onnx.image.decode import read_rgb
        from detr_onnx.image.draw import annotate

        source = self.path if image is None else image
        if source is None:
            what = "these detections have no path to read the image from"
            raise UsageError(what, remedy="pass it: detections.draw(image)")
        return annotate(read_rgb(source), self)

    def to_dicts(self) -> list[dict[str, Any]]:
        """The hosted API's form, best first: `{"score", "label", "box": {"xmin", "ymin", "xmax", "ymax"}}`.

        Boxes are truncated to whole pixels. Scores keep every digit of their float32. In a tracked video there is a
        `"track_id"`, too: None where the object is not tracked.
        """
        return [
            {"score": d.score, "label": d.label, "box": {side: int(getattr(d.box, side)) for side in Box.__slots__}}
            | ({} if d.track_id is None else {"track_id": d.track_id if d.track_id >= 0 else None})
            for d in self.by_score()
        ]

    to_api = to_dicts  # the name that the servers and their clients know

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Rows of a COCO results file. `bbox` is left, top, width, height, not rounded.

        Those of a panoptic model have a `segmentation`: the mask as compressed run lengths, `{"size", "counts"}`.
        """
        if (number := integer_of(image_id)) is None:
            raise UsageError("image_id is not an integer", found=repr(image_id)[:60], expected="COCO's id of the image")
        rows: list[dict[str, Any]] = [
            {"image_id": number, "category_id": int(class_id), "bbox": box, "score": float(score)}
            for score, class_id, box in zip(self.scores, self.class_ids, xyxy_to_xywh(self.xyxy).tolist(), strict=True)
        ]
        if self.mask_logits is not None:
            for row, mask in zip(rows, self.mask_logits.rles(), strict=True):
                row["segmentation"] = mask
        return rows

    def to_supervision(self) -> supervision.Detections:
        """The same as `supervision.Detections`, with `class_name` in its data, and the masks of a panoptic model.

        Raises:
            MissingPackageError: the package supervision is not installed.
        """
        return _imported("supervision").Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.class_ids.astype(int),
            mask=self.masks,
            data={"class_name": np.array(self.labels, dtype=str)},
            tracker_id=None if self.track_ids is None else self.track_ids.astype(int),
        )

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each detection: score, label, class_id, xmin, ymin, xmax, ymax.

        Raises:
            MissingPackageError: the package pandas is not installed.
        """
        columns = {"score": self.scores, "label": self.labels, "class_id": self.class_ids}
        return _imported("pandas").DataFrame({**columns, **dict(zip(Box.__slots__, self.xyxy.T, strict=True))})

    def __repr__(self) -> str:
        shown = [f"{printable(d.label)} {d.score:.2f}" for d in self[:SHOWN]]
        more = ["…"] if len(self) > SHOWN else []
        return f"<Detections: {len(self)}{' - ' if shown else ''}{', '.join(shown + more)}>"

    def _repr_html_(self) -> str:
        """For notebooks: a table, below the annotated image if its path can still be read."""
        from detr_onnx.notebook import html_of

        return html_of(self)


def _rows(index: Any, count: int) -> NDArray[Any]:
    """An index of booleans or integers as an array; UsageError for anything else."""
    rows = np.asarray(index)
    rows = rows.astype(np.int64) if rows.size == 0 and rows.dtype != np.bool_ else rows
    is_mask = rows.dtype == np.bool_ and rows.shape == (count,)
    if rows.ndim != 1 or not (is_mask or np.issubdtype(rows.dtype, np.integer)):
        raise UsageError(
            "the index does not fit Detections",
            found=f"{type(index).__name__} of {rows.dtype}, shape {list(rows.shape)}",
            expected=f"an integer, a slice, integers, or {count} booleans",
        )
    return rows


def _imported(package: str) -> Any:
    """The package that the method `to_…` of its name needs."""
    try:
        return import_module(package)
    except ImportError as error:
        what = f"to_{package} needs the package {package}"
        raise MissingPackageError(what, remedy=f"run pip install {package}") from error


def softmax(logits: Floats) -> Floats:
    """[..., C] -> [..., C], positive, summing to 1 over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def detections_of(
    logits: Floats,
    boxes_cxcywh: Floats,
    sizes_hw: Ints | Sequence[Sequence[int]],
    class_names: Sequence[str],
    threshold: float,
    kept: NDArray[np.bool_] | None = None,
) -> list[Detections]:
    """The detections of each image, in query order: the best class of every query whose score exceeds the threshold.

    Args:
        logits: [B, Q, C+1]; the last class is "no object".
        boxes_cxcywh: [B, Q, 4] in 0..1 of the image.
        sizes_hw: [B, 2] heights and widths of the original images, in pixels.
        class_names: C names.
        threshold: scores must be strictly greater.
        kept: [B, Q] the queries to keep, in place of those above the threshold.

    Source: `DetrImageProcessor.post_process_object_detection` of transformers.
    """
    probabilities = softmax(logits)[..., :-1]  # [B,Q,C]
    class_ids = probabilities.argmax(axis=-1)  # [B,Q]
    scores = probabilities.max(axis=-1)  # [B,Q]
    xyxy = pixels_xyxy(boxes_cxcywh, sizes_hw)  # [B,Q,4]
    kept = scores > threshold if kept is None else kept
    return [
        Detections(s[k], c[k].astype(np.int64), b[k], class_names)
        for s, c, b, k in zip(scores, class_ids, xyxy, kept, strict=True)
    ]
