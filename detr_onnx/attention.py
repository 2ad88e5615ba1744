"""Attention maps of one image: where the query of each detection looks, and what points of the image look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detr_onnx.arguments import integer_of
from detr_onnx.detections import Detections, detections_of
from detr_onnx.engines import AttentionOutputs, Floats, Mask
from detr_onnx.errors import DetrError, UsageError
from detr_onnx.image.heatmap import Panel, resized
from detr_onnx.network.numpy_ops import nearest

Ints = NDArray[np.int64]

LAST = -1
MOST_PANELS = 12  # of a figure of all objects
LONGEST_LABEL = 60  # characters


@dataclass(frozen=True, eq=False, repr=False)
class AttentionMaps:
    """Where DETR looks in one image. Each map of each head sums to 1 over the cells, which divide the image evenly.

    `len` is the number of detections. Wherever a method takes a `layer`, 0 is the first and -1 the last, and None the
    mean of all; a `head` is a number, or None for the mean of all.

    Attributes:
        detections: n detections, in query order as `Detector` returns them.
        queries: [n] the number of the query of each.
        decoder: [n, layers, heads, rows, columns] what each query looks at in the image: the decoder's cross-attention.
        points: [p, 2] x and y in pixels of the upright image.
        encoder: [p, layers, heads, rows, columns] what the cell of each point looks at: the encoder's self-attention.
        image: the upright image, in mode RGB.
    """

    detections: Detections
    queries: Ints
    decoder: Floats
    points: Floats
    encoder: Floats
    image: Image.Image

    def __len__(self) -> int:
        return len(self.detections)

    def __repr__(self) -> str:
        rows, columns = self.decoder.shape[-2:]
        return f"<AttentionMaps: {len(self)} objects, {len(self.points)} points, {rows}x{columns} cells>"

    def object_map(self, number: int, *, layer: int | None = LAST, head: int | None = None) -> Floats:
        """[rows, columns] what the query of a detection looks at.

        Raises:
            UsageError: there is no such detection, layer or head.
        """
        return _reduced(self.decoder, "object", number, layer, head)

    def point_map(self, number: int, *, layer: int | None = LAST, head: int | None = None) -> Floats:
        """[rows, columns] what the cell of a point looks at; see `object_map`."""
        return _reduced(self.encoder, "point", number, layer, head)

    def heat(self, number: int, *, layer: int | None = LAST, head: int | None = None) -> Floats:
        """[height, width] `object_map` at the size of the image, smooth between the centres of cells."""
        return resized(self.object_map(number, layer=layer, head=head), *self.image.size)

    def point_heat(self, number: int, *, layer: int | None = LAST, head: int | None = None) -> Floats:
        """[height, width] `point_map` at the size of the image."""
        return resized(self.point_map(number, layer=layer, head=head), *self.image.size)

    def draw(
        self,
        number: int | None = None,
        *,
        point: int | None = None,
        layer: int | None = LAST,
        head: int | None = None,
        title: str | None = None,
    ) -> Image.Image:
        """A figure: the attention over the image, with its box or point, label, score, and a colour bar.

        Args:
            number: of a detection. Without a number and a point, the figure shows all points or, if there are none, the
                best detections, side by side.
            point: the number of a point, in place of a detection.
            layer: see the class.
            head: see the class.
            title: of the figure.

        Raises:
            UsageError: there is no such detection, point, layer or head.
            DetrError: there is nothing to draw.
        """
        if number is not None and point is not None:
            raise UsageError("draw takes a detection or a point", found="both", remedy="leave one out")
        from detr_onnx.image.figure import figure  # loads fonts

        if point is not None or (number is None and len(self.points)):
            numbers = [*range(len(self.points))] if point is None else [point]
            panels = [self._point_panel(i, layer, head) for i in numbers]
            name = "What this point looks at" if len(panels) == 1 else "What these points look at"
            note = f"encoder's self-attention, {_words(self.encoder.shape[1:3], layer, head)}"
        else:
            numbers = self.best_first() if number is None else [number]
            panels = [self._object_panel(i, layer, head) for i in numbers[:MOST_PANELS]]
            name = "Where DETR looks for each object" if number is None else "Where DETR looks for this object"
            note = f"decoder's cross-attention, {_words(self.decoder.shape[1:3], layer, head)}"
            note += f"; the best {MOST_PANELS} of {len(numbers)}" if len(numbers) > MOST_PANELS else ""
        if not panels:
            remedy = "lower the threshold, or give a point"
            raise DetrError("there is nothing to draw", found="no object above the threshold", remedy=remedy)
        note += "; colours show the share of attention that each cell gets"
        path = self.detections.path
        return figure(self.image, panels, title or name, f"{Path(path).name}: {note}" if path else note)

    def best_first(self) -> list[int]:
        """The numbers of the detections by falling score, as `Detections.by_score` orders them."""
        order: list[int] = np.argsort(-self.detections.scores, kind="stable").tolist()
        return order

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays by name, as `detr-onnx explain -o FILE.npz` writes them."""
        found = self.detections
        return {
            "scores": found.scores,
            "labels": np.array(found.labels, dtype=str),
            "xyxy": found.xyxy,
            "queries": self.queries,
            "decoder": self.decoder,
            "points": self.points,
            "encoder": self.encoder,
        }

    def _object_panel(self, number: int, layer: int | None, head: int | None) -> Panel:
        cells = self.object_map(number, layer=layer, head=head)
        found, rank = self.detections[number], self.best_first().index(range(len(self))[number]) + 1
        box = found.box.xmin, found.box.ymin, found.box.xmax, found.box.ymax
        return Panel(f"{rank}  {found.label[:LONGEST_LABEL]} {found.score:.2f}", cells, box=box)

    def _point_panel(self, number: int, layer: int | None, head: int | None) -> Panel:
        cells = self.point_map(number, layer=layer, head=head)
        x, y = self.points[number].tolist()
        return Panel(f"point {x:g}, {y:g}", cells, point=(x, y))


def maps_of(
    outputs: AttentionOutputs,
    mask: Mask,
    points: Floats,
    class_names: Sequence[str],
    threshold: float,
    image: Image.Image,
) -> AttentionMaps:
    """The maps of the first image of a batch, padding cut away.

    Args:
        outputs: of the network.
        mask: [B,H,W], True for image.
        points: [p,2] in pixels of the image; their cells were asked for.
        class_names: of all classes.
        threshold: that the network was given.
        image: upright, in mode RGB.
    """
    of_image = outputs.kept[:, 0] == 0
    queries = outputs.kept[of_image, 1]
    kept = np.zeros((1, outputs.logits.shape[1]), np.bool_)
    kept[0, queries] = True
    sizes_hw = np.array([image.size[::-1]])
    detections = detections_of(outputs.logits[:1], outputs.boxes[:1], sizes_hw, class_names, threshold, kept)[0]
    rows, columns = valid_cells(mask, outputs.objects.shape[-2:])
    decoder, encoder = (
        np.ascontiguousarray(maps[..., :rows, :columns]) for maps in (outputs.objects[of_image], outputs.cells[0])
    )
    return AttentionMaps(detections, queries, decoder, points, encoder, image)


def valid_cells(mask: Mask, cells_hw: tuple[int, ...]) -> tuple[int, int]:
    """The rows and columns of cells that are not padding in the first image of a batch."""
    lines = (mask[0].any(axis=1), mask[0].any(axis=0))
    rows, columns = (int(line[nearest(len(line), n)].sum()) for line, n in zip(lines, cells_hw, strict=True))
    return rows, columns


def cells_of(points: Floats, image_size: tuple[int, int], mask: Mask, stride: int) -> Ints:
    """[p] the number of the cell of each point, on the padded canvas, row by row.

    Args:
        points: [p,2] x and y in pixels of the image.
        image_size: its width and height.
        mask: [B,H,W], True for image.
        stride: pixels of a cell.
    """
    h, w = (-(-pixels // stride) for pixels in mask.shape[1:])
    rows, columns = valid_cells(mask, (h, w))
    column, row = (
        (points[:, axis] * count / image_size[axis]).astype(np.int64).clip(0, count - 1)
        for axis, count in enumerate((columns, rows))
    )
    return np.asarray(row * w + column, np.int64)


def checked_points(points: Iterable[Iterable[float]], image_size: tuple[int, int]) -> Floats:
    """[p,2] the points, each in the image.

    Raises:
        UsageError: they are not pairs of numbers, or one is outside.
    """
    width, height = image_size
    try:
        array = np.array([(float(x), float(y)) for x, y in points], np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError("points must be pairs of numbers", found=str(points)[:60], expected="[(x, y), …]") from error
    inside = (array >= 0).all(axis=1) & (array < (width, height)).all(axis=1)
    if not inside.all():
        x, y = array[~inside][0].tolist()
        expected = f"x from 0 to {width - 1} and y from 0 to {height - 1}"
        raise UsageError("the point is outside the image", found=f"{x:g},{y:g}", expected=expected)
    return array.astype(np.float32)


def _reduced(maps: Floats, kind: str, number: int, layer: int | None, head: int | None) -> Floats:
    """[rows, columns] of [n, layers, heads, rows, columns]; None is the mean."""
    _check_number(kind, number, len(maps))
    own = maps[number]
    for name, axis, index in (("layer", 0, layer), ("head", 1, head)):
        if index is not None:
            _check_number(name, index, own.shape[axis])
    own = own.mean(axis=0) if layer is None else own[layer]
    return np.asarray(own.mean(axis=0) if head is None else own[head], np.float32)


def _check_number(kind: str, number: int, count: int) -> None:
    index = integer_of(number)
    if index is None or not -count <= index < count:
        expected = f"0 to {count - 1}" if count else f"none, as there is no {kind}"
        raise UsageError(f"there is no such {kind}", found=str(number)[:60], expected=expected)


def _words(layers_and_heads: tuple[int, ...], layer: int | None, head: int | None) -> str:
    """Which layer and head, such as "layer 5 of 0 to 5, mean of 8 heads"."""
    layers, heads = layers_and_heads
    of_layers = f"mean of {layers} layers" if layer is None else f"layer {range(layers)[layer]} of 0 to {layers - 1}"
    return f"{of_layers}, {f'mean of {heads} heads' if head is None else f'head {range(heads)[head]}'}"
