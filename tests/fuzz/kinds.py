"""The kinds of fuzzers by name. A new kind needs one row here."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz.caches import MANIFESTS
from tests.fuzz.checkpoints import MODEL_CONFIGS, SAFETENSORS, SHARDED_INDEXES
from tests.fuzz.graphs import GRAPH_FILES, GRAPH_METADATA, GRAPHS
from tests.fuzz.http_requests import DEEPSTACK_API, EXPLANATIONS, HUGGING_FACE_API, KSERVE, WORKERS_AI
from tests.fuzz.images import IMAGES
from tests.fuzz.journals import API_RESPONSES, JOURNALS
from tests.fuzz.json_files import (
    ANNOTATION_FILES,
    PANOPTIC_FILES,
    PANOPTIC_RESULT_FILES,
    PROCESSOR_CONFIGS,
    RESULT_FILES,
)
from tests.fuzz.run import Kind

KINDS: Mapping[str, Kind] = {
    "images": IMAGES,
    "processor-configs": PROCESSOR_CONFIGS,
    "annotations": ANNOTATION_FILES,
    "results": RESULT_FILES,
    "panoptic-annotations": PANOPTIC_FILES,
    "panoptic-results": PANOPTIC_RESULT_FILES,
    "safetensors": SAFETENSORS,
    "sharded-indexes": SHARDED_INDEXES,
    "model-configs": MODEL_CONFIGS,
    "graph-files": GRAPH_FILES,
    "graph-metadata": GRAPH_METADATA,
    "onnx-graphs": GRAPHS,
    "cache-manifests": MANIFESTS,
    "journals": JOURNALS,
    "api-responses": API_RESPONSES,
    "workers-ai": WORKERS_AI,
    "hugging-face": HUGGING_FACE_API,
    "kserve": KSERVE,
    "deepstack": DEEPSTACK_API,
    "explain": EXPLANATIONS,
}
