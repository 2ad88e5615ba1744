"""The kinds of fuzzers by name. A new kind needs one row here."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz.images import IMAGES
from tests.fuzz.json_files import ANNOTATION_FILES, PROCESSOR_CONFIGS, RESULT_FILES
from tests.fuzz.run import Kind

KINDS: Mapping[str, Kind] = {
    "images": IMAGES,
    "processor-configs": PROCESSOR_CONFIGS,
    "annotations": ANNOTATION_FILES,
    "results": RESULT_FILES,
}
