"""One pass of fp32 over the images to calibrate with: the values at each convolution, and the outputs to compare with.

Of an image only counts, detections, packed masks and, of a few, a sample of cells are kept: 20 kB and 10 kB a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from detr_onnx.checkpoint.load import Checkpoint
from detr_onnx.engines.onnxruntime import named_outputs
from detr_onnx.errors import DatasetError
from detr_onnx.exporter.onnx_file import ExportOptions, record, write_graph
from detr_onnx.exporter.ranges import METHODS, Histogram
from detr_onnx.exporter.taps import add_taps
from detr_onnx.exporter.trial import CELLS, Floats, ImageOutputs, run_network
from detr_onnx.image.decode import read_rgb
from detr_onnx.image.preprocess import batch
from detr_onnx.image.processor_config import Preprocessing
from detr_onnx.network.quantization import ConvQuantParams, QuantParams

Model = tuple[Checkpoint, Preprocessing]
T = TypeVar("T")
Progress = Callable[[str, Sequence[T]], Iterable[T]]
"""Passes the items of a step on, and shows the step's name and how many items are done."""

QUANTIZED = (
    "backbone."  # path of the convolutions computed in 8 bits; the others are a tenth of the work, and sensitive
)
SUBSET = 8  # images, evenly spread, on which methods are compared


@dataclass(frozen=True)
class Observation:
    """What fp32 makes of the images.

    Attributes:
        images: those that were used.
        outputs: for each of them.
        histograms: of the values that enter and leave each convolution, by its path.
    """

    images: Sequence[Path]
    outputs: Sequence[ImageOutputs]
    histograms: Mapping[str, tuple[Histogram, Histogram]]

    def quant_params(self, method: str, float_layers: Sequence[str] = ()) -> dict[str, ConvQuantParams]:
        """Of all convolutions but the float ones."""
        find = METHODS[method]
        return {
            path: ConvQuantParams(QuantParams.of_range(*find(x)), QuantParams.of_range(*find(y)))
            for path, (x, y) in self.histograms.items()
            if path not in float_layers
        }

    def detections(self) -> int:
        """Those of fp32, in all images."""
        return sum(len(outputs.detections) for outputs in self.outputs)

    def subset(self) -> list[tuple[Path, Floats]]:
        """The images on which methods are compared, with a sample of the backbone's output for each."""
        pairs = zip(self.images, self.outputs, strict=True)
        return [(image, outputs.cells) for image, outputs in pairs if outputs.cells is not None]


def observe(model: Model, images: Sequence[Path], progress: Progress[Any], directory: Path) -> Observation:
    """Runs fp32 on all images but those of one colour.

    Args:
        model: the checkpoint and its preprocessing.
        images: at least one.
        progress: shows the step.
        directory: for the graph.

    Raises:
        DatasetError: when every image is of one colour.
        ImageError: when an image cannot be read.
    """
    options = ExportOptions(mask=False, stages=(CELLS,))
    graph = record(*model, options)
    taps = add_taps(graph, QUANTIZED)
    write_graph(directory / "fp32.onnx", graph, *model, options, external_data=True)
    run = named_outputs(directory / "fp32.onnx")
    histograms = {name: Histogram() for names in taps.values() for name in names}
    used: list[Path] = []
    kept: list[ImageOutputs] = []
    with_cells = 0
    for number, path in enumerate(progress(f"fp32 on {len(images)} images", images)):
        image = read_rgb(path)
        if image.getcolors(maxcolors=1):
            continue
        pixels, _, sizes_hw = batch([image], model[1])
        outputs = run_network(run, pixels, model[0].config.masks, histograms)
        in_subset = with_cells < SUBSET and number * SUBSET >= with_cells * len(images)
        with_cells += in_subset
        used.append(path)
        kept.append(ImageOutputs.of(outputs, sizes_hw, model[0].config.labels, in_subset))
        for name, histogram in histograms.items():
            histogram.add(outputs[name])
    if not used:
        raise DatasetError(
            "the images to calibrate with are blank",
            found=f"one colour only in each of {len(images)}",
            expected="images like those that the network will see",
        )
    return Observation(used, kept, {path: (histograms[x], histograms[y]) for path, (x, y) in taps.items()})
