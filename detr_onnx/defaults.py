"""Default values and option names, for Python, the server and the command line.

This module imports nothing, so that `detr-onnx --version` starts without numpy.
"""

DEFAULT_MODEL = "facebook/detr-resnet-50"
DEMO, DEMO_PANOPTIC = "demo", "demo-panoptic"
DEMOS = (DEMO, DEMO_PANOPTIC)
"""Models that ship with the package; both detect the same, and the second has a mask head."""
ENGINES = ("auto", "openvino", "onnxruntime", "numpy")
"""Values of `engine`; "auto" takes the first of the others that can run the model."""
DEFAULT_ENGINE = "auto"
EXPORT_PRECISIONS = ("fp32", "fp16", "fp16-weights", "int8-weights", "int8")
"""Precisions of exported graphs; ONNX Runtime runs all of them. With `-weights` only the weights are stored so, and the
graph computes in float32; int8 computes the convolutions of the backbone in 8 bits and the rest in float32."""

DEFAULT_THRESHOLD = 0.5
"""Least score of a detection in Python and on the command line, as in transformers' pipeline."""
API_THRESHOLD = 0.1
"""Least score in the hosted API's answers; no lower score has been seen there."""

JOB_PART_ROWS = 1000

BENCH_RUNS = 10

SERVER_HOST = "127.0.0.1"
SERVER_PORT = 8787
SERVER_WORKERS = 1
SERVER_QUEUE = 64
SERVER_TIMEOUT_S = 60.0
SERVER_MAX_BODY_MB = 32
SERVER_MAX_MEGAPIXELS = 50.0
SERVER_MAX_BATCH = 1
