"""Models, image processor and pipeline of transformers, in PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from detr_onnx.bench.baselines.images import decode
from detr_onnx.bench.baselines.turns import (
    DECODE,
    DETECT,
    NETWORK,
    PIXELS,
    POSTPROCESS,
    THRESHOLD,
    TOTAL,
    Options,
    Ready,
    Turn,
    concurrent,
    in_parts,
    repeated,
    threshold_for,
    timed,
)


def transformers_network(mode: str, options: Options) -> Ready:
    """The torch model alone. `mode`: "eager", "torch.compile", or "bf16" (eager under autocast)."""
    import numpy as np
    import torch

    run, pixels = _model(mode, options), torch.from_numpy(np.load(options["pixels"]))
    mask = torch.ones((len(pixels), *pixels.shape[2:]), dtype=torch.int64)
    return Ready(timed(NETWORK, lambda: run({"pixel_values": pixels, "pixel_mask": mask})), f"PyTorch, {mode}")


def transformers_on_device(mode: str, options: Options) -> Ready:
    """The torch model alone on `options["device"]`, in float16 on a GPU, from pixels of the CPU to results there."""
    import numpy as np
    import torch

    device = options["device"]
    dtype = torch.float32 if device == "cpu" else torch.float16
    run, pixels = _model(mode, options, device, dtype), torch.from_numpy(np.load(options["pixels"]))

    def turn() -> Any:
        values = pixels.to(device, dtype)
        mask = torch.ones((len(pixels), *pixels.shape[2:]), dtype=torch.int64, device=device)
        outputs = run({"pixel_values": values, "pixel_mask": mask})
        return outputs.logits.cpu(), outputs.pred_boxes.cpu()

    return Ready(timed(NETWORK, turn), f"PyTorch, {mode}, {device}, {str(dtype).removeprefix('torch.')}")


def transformers_parts(mode: str, options: Options) -> Ready:
    """From a file to its detections, part by part, with the image processor that transformers chooses."""
    from transformers import AutoImageProcessor

    run, processor = _model(mode, options), AutoImageProcessor.from_pretrained(options["model"])
    sizes = _sizes_hw(options)

    def detections(outputs: Any) -> Any:
        return processor.post_process_object_detection(outputs, THRESHOLD, target_sizes=sizes)

    return Ready(_from_file(options["image"], processor, run, detections), f"PyTorch, {mode}")


def transformers_panoptic(options: Options) -> Ready:
    """From a file to its panoptic segments; the threshold keeps as many queries as `kept` says."""
    import torch
    from transformers import AutoImageProcessor, DetrForSegmentation

    torch.set_num_threads(options["threads"])
    network: Any = DetrForSegmentation.from_pretrained(options["model"]).eval()
    processor = AutoImageProcessor.from_pretrained(options["model"])
    sizes = _sizes_hw(options)

    def segments(outputs: Any) -> Any:
        scores = outputs.logits[0].softmax(-1)[:, :-1].max(-1).values.tolist()
        threshold = threshold_for(options["kept"], scores)
        return processor.post_process_panoptic_segmentation(outputs, threshold, target_sizes=sizes)

    return Ready(_from_file(options["image"], processor, _inference(network), segments), "PyTorch, eager")


def _from_file(image: str, processor: Any, run: Callable[[Any], Any], postprocess: Callable[[Any], Any]) -> Turn:
    """A turn from a file to its results, part by part."""
    steps = [
        (DECODE, lambda _: decode(image)),
        (PIXELS, lambda decoded: processor(images=decoded, return_tensors="pt")),
        (NETWORK, run),
        (POSTPROCESS, postprocess),
    ]
    return in_parts(DETECT, steps)


def _sizes_hw(options: Options) -> list[tuple[int, int]]:
    """Height and width of the image, as transformers scales boxes and masks to them."""
    width, height = decode(options["image"]).size
    return [(height, width)]


def _model(mode: str, options: Options, device: str = "cpu", dtype: Any = None) -> Callable[[Any], Any]:
    """A function that runs the detection model, from its inputs by name to its outputs."""
    import torch
    from transformers import DetrForObjectDetection

    torch.set_num_threads(options["threads"])
    network: Any = DetrForObjectDetection.from_pretrained(options["model"]).eval()
    network = network.to(device, dtype or torch.float32)  # the checkpoint may be in float16
    network = torch.compile(network) if mode == "torch.compile" else network
    cast = partial(torch.autocast, "cpu", torch.bfloat16) if mode == "bf16" else contextlib.nullcontext
    return _inference(network, cast)


def _inference(network: Any, cast: Callable[[], Any] = contextlib.nullcontext) -> Callable[[Any], Any]:
    """A function that runs the network without gradients, and under a cast."""
    import torch

    def run(inputs: Any) -> Any:
        with torch.inference_mode(), cast():
            return network(**inputs)

    return run


def transformers_preprocessing(options: Options) -> Ready:
    """The image processor of transformers alone, from an encoded image to a tensor."""
    import torch
    from transformers import AutoImageProcessor

    torch.set_num_threads(options["threads"])
    processor = AutoImageProcessor.from_pretrained(options["model"])
    steps = [
        (DECODE, lambda _: decode(options["image"])),
        ("processor", lambda image: processor(images=image, return_tensors="pt")),
    ]
    return Ready(repeated(in_parts(TOTAL, steps)), type(processor).__name__)


def transformers_pipeline(options: Options) -> Ready:
    """The pipeline of transformers, eager, float32, from a file to its detections."""
    return Ready(timed(DETECT, _pipeline(options)), "PyTorch, pipeline")


def transformers_throughput(options: Options) -> Ready:
    """The same pipeline, called from several threads."""
    return Ready(concurrent(_pipeline(options)), "PyTorch, pipeline")


def _pipeline(options: Options) -> Callable[[], Any]:
    import torch
    from transformers import pipeline

    torch.set_num_threads(options["threads"])
    detect = pipeline("object-detection", model=options["model"], device="cpu")
    detect.model.float()
    return lambda: detect(options["image"], threshold=THRESHOLD)
