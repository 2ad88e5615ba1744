"""Hugging Face's client: `hub.py URL IMAGE` prints its answers as JSON."""

import json
import sys
from dataclasses import asdict

from huggingface_hub import InferenceClient

url, image = sys.argv[1:]
client = InferenceClient(timeout=120)
model = f"{url}/models/facebook/detr-resnet-50"
print(
    json.dumps(
        {
            "default": [asdict(item) for item in client.object_detection(image, model=model)],
            "root": [asdict(item) for item in InferenceClient(url, timeout=120).object_detection(image)],
            "threshold": [asdict(item) for item in client.object_detection(image, model=model, threshold=0.9)],
        }
    )
)
