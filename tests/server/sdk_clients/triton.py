"""KServe's client for Triton: `triton.py URL IMAGE` prints its answers as JSON."""

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

url, image = sys.argv[1:]
client = http.InferenceServerClient(url.removeprefix("http://"), connection_timeout=120, network_timeout=120)
MODEL = "detr-resnet-50"


def tensor(name, array, datatype, binary=True):
    value = http.InferInput(name, list(array.shape), datatype)
    value.set_data_from_numpy(array, binary_data=binary)
    return value


def answers(inputs, names, binary):
    outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in names]
    result = client.infer(MODEL, inputs, outputs=outputs, parameters={"threshold": 0.5})
    return {name: [x.decode() if isinstance(x, bytes) else x for x in result.as_numpy(name).tolist()] for name in names}


encoded = np.array([Path(image).read_bytes()], dtype=np.object_)
detections = ["scores", "names", "boxes"]
try:
    client.infer(MODEL, [tensor("other", encoded, "BYTES")])
    refused = None
except InferenceServerException as error:
    refused = str(error)
print(
    json.dumps(
        {
            "live": client.is_server_live() and client.is_server_ready() and client.is_model_ready(MODEL),
            "metadata": client.get_model_metadata(MODEL)["name"],
            "binary": answers([tensor("image", encoded, "BYTES")], detections, True),
            "json": answers([tensor("image", encoded, "BYTES")], detections, False),
            "tensors": np.shape(
                answers([tensor("pixel_values", np.zeros((2, 3, 64, 96), np.float32), "FP32")], ["logits"], True)[
                    "logits"
                ]
            ),
            "refused": refused,
        }
    )
)
