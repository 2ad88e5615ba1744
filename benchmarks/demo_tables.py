"""Tables of the demo models: their accuracy, and how far engines agree on them."""

from __future__ import annotations

from benchmarks.markdown import Results
from detr_onnx.text import markdown_table


def demo_table(results: Results) -> str:
    """Accuracy of the demo model, from the output of `detr-onnx evaluate --format json`."""
    figures = {name: value for name, value in results["figures"].items() if name.startswith("AP")}
    head = (
        *(name.replace("_", " ") for name in figures),
        "recall at score 0.5, IoU 0.5",
        "false detections per object",
    )
    values = (*figures.values(), results["recall_at_half"], results["false_at_half"])
    note = f"{results['images']} scenes, {results['objects']} objects; {results['engine']}, one image at a time."
    return f"{markdown_table(head, [[f'{value:.3f}' for value in values]])}\n\n{note}"


def engines_table(results: Results) -> str:
    """Largest differences between two engines on the same scenes, from the output of `agree.py`."""
    head = ("scenes", "detections above 0.5", "scenes with other labels", "scores differ by", "boxes differ by")
    row = (
        str(results["images"]),
        str(results["detections"]),
        str(results["images_with_other_labels"]),
        f"{results['score_difference']:.0e}",
        f"{results['box_difference_px']:.0e} px",
    )
    if "mask_pixels" in results:
        head = (*head, "pixels of masks that differ")
        row = (*row, f"{results['mask_pixels_that_differ']:,} of {results['mask_pixels']:,}")
    return f"{markdown_table(head, [row])}\n\nLargest differences, numpy against {results['engine']}."


def demo_panoptic_table(results: Results) -> str:
    """Panoptic quality on the held-out scenes, from the output of `panoptic_quality.py`."""
    head = ("PQ", "SQ", "RQ", "mean mask IoU of detected objects")
    values = (*(results["figures"][name] for name in head[:3]), results["mask_iou"])
    note = (
        f"{results['images']} scenes, {results['segments']} segments of {len(results['classes'])} categories, "
        f"{results['matched_detections']} of them detected; {results['engine']}, one image at a time."
    )
    return f"{markdown_table(head, [[f'{value:.3f}' for value in values]])}\n\n{note}"
