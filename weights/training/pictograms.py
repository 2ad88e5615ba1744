"""Pictograms of COCO categories, drawn from the Noto Color Emoji font (SIL OFL 1.1, Copyright Google Inc.)."""

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT_PATH = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")  # Debian package fonts-noto-color-emoji
FONT_SIZE = 109  # the only size of the font's bitmaps (136 x 128)
CANVAS_PX = 160


@dataclass(frozen=True)
class Category:
    """A COCO category and one or two characters that depict it."""

    coco_id: int
    name: str
    characters: str


CATEGORIES = (
    Category(1, "person", "\U0001f9cd\U0001f6b6"),
    Category(2, "bicycle", "\U0001f6b2"),
    Category(3, "car", "\U0001f697\U0001f699"),
    Category(4, "motorcycle", "\U0001f3cd"),
    Category(5, "airplane", "\u2708\U0001f6e9"),
    Category(6, "bus", "\U0001f68c"),
    Category(7, "train", "\U0001f686\U0001f682"),
    Category(8, "truck", "\U0001f69a"),
    Category(9, "boat", "\u26f5\U0001f6a4"),
    Category(10, "traffic light", "\U0001f6a6"),
    Category(13, "stop sign", "\U0001f6d1"),
    Category(16, "bird", "\U0001f426"),
    Category(17, "cat", "\U0001f408"),
    Category(18, "dog", "\U0001f415"),
    Category(19, "horse", "\U0001f40e"),
    Category(20, "sheep", "\U0001f411"),
    Category(21, "cow", "\U0001f404"),
    Category(22, "elephant", "\U0001f418"),
    Category(23, "bear", "\U0001f43b"),
    Category(24, "zebra", "\U0001f993"),
    Category(25, "giraffe", "\U0001f992"),
    Category(27, "backpack", "\U0001f392"),
    Category(28, "umbrella", "\u2602"),
    Category(31, "handbag", "\U0001f45c"),
    Category(32, "tie", "\U0001f454"),
    Category(33, "suitcase", "\U0001f9f3"),
    Category(34, "frisbee", "\U0001f94f"),
    Category(35, "skis", "\U0001f3bf"),
    Category(37, "sports ball", "\u26bd\U0001f3c0"),
    Category(38, "kite", "\U0001fa81"),
    Category(41, "skateboard", "\U0001f6f9"),
    Category(42, "surfboard", "\U0001f3c4"),
    Category(43, "tennis racket", "\U0001f3be"),
    Category(44, "bottle", "\U0001f37e"),
    Category(46, "wine glass", "\U0001f377"),
    Category(47, "cup", "\u2615"),
    Category(49, "knife", "\U0001f52a"),
    Category(50, "spoon", "\U0001f944"),
    Category(51, "bowl", "\U0001f963"),
    Category(52, "banana", "\U0001f34c"),
    Category(53, "apple", "\U0001f34e\U0001f34f"),
    Category(54, "sandwich", "\U0001f96a"),
    Category(55, "orange", "\U0001f34a"),
    Category(56, "broccoli", "\U0001f966"),
    Category(57, "carrot", "\U0001f955"),
    Category(58, "hot dog", "\U0001f32d"),
    Category(59, "pizza", "\U0001f355"),
    Category(60, "donut", "\U0001f369"),
    Category(61, "cake", "\U0001f382\U0001f370"),
    Category(62, "chair", "\U0001fa91"),
    Category(63, "couch", "\U0001f6cb"),
    Category(64, "potted plant", "\U0001fab4"),
    Category(65, "bed", "\U0001f6cf"),
    Category(70, "toilet", "\U0001f6bd"),
    Category(72, "tv", "\U0001f4fa"),
    Category(73, "laptop", "\U0001f4bb"),
    Category(74, "mouse", "\U0001f5b1"),
    Category(76, "keyboard", "\u2328"),
    Category(77, "cell phone", "\U0001f4f1"),
    Category(84, "book", "\U0001f4d5\U0001f4d6"),
    Category(85, "clock", "\u23f0"),
    Category(86, "vase", "\U0001f3fa"),
    Category(87, "scissors", "\u2702"),
    Category(88, "teddy bear", "\U0001f9f8"),
    Category(90, "toothbrush", "\U0001faa5"),
)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    if not FONT_PATH.is_file():
        raise FileNotFoundError(f"no font at {FONT_PATH}: install the Debian package fonts-noto-color-emoji")
    return ImageFont.truetype(str(FONT_PATH), FONT_SIZE)


@cache
def pictogram(character: str) -> Image.Image:
    """The character as an RGBA image, cropped to its visible pixels (about 120 px a side)."""
    canvas = Image.new("RGBA", (CANVAS_PX, CANVAS_PX), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((12, 12), character, font=_font(), embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"the font has no image for U+{ord(character):X}")
    return canvas.crop(box)
