"""Hugging Face's client: `segments.py URL IMAGE` prints segments as JSON, with the size and the area of their masks."""

import json
import sys

from huggingface_hub import InferenceClient

url, image = sys.argv[1:]


def shown(item):
    white = sum(item.mask.histogram()[255:])
    return {"label": item.label, "score": item.score, "mode": item.mask.mode, "size": item.mask.size, "white": white}


client = InferenceClient(url, timeout=120)
print(
    json.dumps(
        {
            subtask: [shown(item) for item in client.image_segmentation(image, subtask=subtask, threshold=0.3)]
            for subtask in ("panoptic", "instance", "semantic")
        }
    )
)
