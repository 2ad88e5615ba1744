"""Render the image that ships as the example: `python weights/training/example.py --out examples/demo-scene.jpg`."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from weights.training.scenes import Scene, SceneRules, scene

SERIES = 4  # of its own: neither trained on (100 to 103) nor measured on (2 and 3)
CHOSEN = 156  # picked among 500 for what the model finds in it: an example, not a measurement
RULES = SceneRules(objects=(5, 7), object_side=(0.2, 0.5), max_degrees=12, min_visible=0.85, size_hw=(480, 640))


def example_scene(number: int = CHOSEN) -> Scene:
    """One image of 640 x 480 with five to seven objects that hardly overlap."""
    return scene(SERIES, number, RULES)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the example image.")
    parser.add_argument("--number", type=int, default=CHOSEN)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.write_bytes(example_scene(arguments.number).jpeg)


if __name__ == "__main__":
    main()
