"""Renders the example image that ships with the package, and the segments of its objects, which a test needs.

python weights/training/example.py --out examples/demo-scene.jpg --segments tests/weights/demo-scene-segments.png
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from weights.training.scenes import Scene, SceneRules, scene

SERIES = 4  # not used for training (100 and up), validation (3) or measuring (2)
CHOSEN = 156  # of 500, because the model finds everything in it: an example, not a measurement
RULES = SceneRules(objects=(5, 7), object_side=(0.2, 0.5), max_degrees=12, min_visible=0.85, size_hw=(480, 640))


def example_scene(number: int = CHOSEN) -> Scene:
    """A scene of 640x480 with five to seven objects that hardly overlap."""
    return scene(SERIES, number, RULES)


def main() -> None:
    """Writes the image and the segments."""
    parser = argparse.ArgumentParser(description="Writes the example image.")
    parser.add_argument("--number", type=int, default=CHOSEN, help="of the scene (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JPEG to write")
    parser.add_argument("--segments", type=Path, metavar="FILE", help="a PNG to write: the COCO id of each pixel, or 0")
    arguments = parser.parse_args()
    chosen = example_scene(arguments.number)
    arguments.out.write_bytes(chosen.jpeg)
    if arguments.segments is not None:
        coco_ids = np.array([0, *chosen.coco_ids], np.uint8)
        Image.fromarray(coco_ids[chosen.owners]).save(arguments.segments, optimize=True)


if __name__ == "__main__":
    main()
