"""The results as one page that needs nothing else: figures, and the worst images with both answers drawn on them.

The page is XML too, so that a parser can tell whether it is well formed, and forbids itself every outside resource.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from detr_onnx.bench.hosted.comparison import Comparison
from detr_onnx.bench.hosted.responses import Items
from detr_onnx.bench.hosted.results import View, sections_of
from detr_onnx.image.preprocess import read_rgb
from detr_onnx.text import printable

LONGEST_SIDE_PX = 900  # of an image on the page
JPEG_QUALITY = 82
MOST_UNANSWERED = 100  # images that are named
TYPE_SHARE = 0.032  # height of the type for the longer side of an image
LETTER_SHARE = 0.62  # width of a letter of the sans type for its height, generously

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --quiet: #57606a; --line: #d0d7de; --both: #0969da;
  --one: #bc4c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --quiet: #9aa4af; --line: #30363d; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 0 3rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: normal; color: var(--quiet); width: 50%; } td, h2, h3 { overflow-wrap: anywhere; }
.image { border-top: 1px solid var(--line); margin-top: 1.5rem; } .image h3 { font-size: 1rem; margin: .75rem 0; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption, .note { color: var(--quiet); }
svg { display: block; width: 100%; height: auto; border-radius: 4px; }
rect.box { fill: none; stroke-width: 2.5px; vector-effect: non-scaling-stroke; }
.both rect.box { stroke: var(--both); } .both rect.plate { fill: var(--both); }
.one rect.box { stroke: var(--one); stroke-dasharray: 7 4; } .one rect.plate { fill: var(--one); }
svg text { fill: #fff; font-family: system-ui, sans-serif; }
.key { display: inline-block; width: 1.6em; height: .8em; border: 2.5px solid var(--both); margin: 0 .3em 0 .8em; }
.key.alone { border: 2.5px dashed var(--one); }
"""
HEAD = (
    '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n<meta charset="utf-8"/>\n'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'\"/>\n"
    '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
)
LEGEND = (
    '<p class="note"><span class="key"></span>found by both<span class="key alone"></span>found by one side only. '
    "Worst first: the scores of what one side only has, and of each pair the difference of scores and what its IoU "
    "lacks of 1, added up.</p>"
)


def html_of(result: Mapping[str, Any], views: Sequence[View], most: int) -> str:
    """The page, with at most so many images, the worst first; equal answers are not among them."""
    title = "The hosted API and this machine" if result["remote_api"]["dialect"] == "cloudflare" else "There and here"
    compared = [(view, view.comparison) for view in views if view.comparison is not None]
    different = sorted((both for both in compared if both[1].distance > 0), key=lambda both: -both[1].distance)
    worst = different[:most]
    parts = [
        f"{HEAD}<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>",
        '<div class="figures">',
        *(_section(heading, rows) for heading, rows in sections_of(result) if rows),
        "</div>",
        f"<h2>The images that differ most ({len(worst)} of {len(different)})</h2>",
        LEGEND if worst else '<p class="note">Every image that both answered has the same answer.</p>',
        *(_image(number, view, found) for number, (view, found) in enumerate(worst)),
        _unanswered([view for view in views if view.comparison is None]),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _section(heading: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = (f'<tr><th scope="row">{_text(name)}</th><td>{_text(figure)}</td></tr>' for name, figure in rows)
    return f"<section>\n<h2>{_text(heading)}</h2>\n<table>\n" + "\n".join(lines) + "\n</table>\n</section>"


def _unanswered(views: Sequence[View]) -> str:
    """The images that one side or both refused, and why; the first hundred."""
    if not views:
        return ""
    rows = [
        (
            view.photograph.name,
            "; ".join(filter(None, (view.line["trouble"], "" if view.local is not None else "refused here"))),
        )
        for view in views[:MOST_UNANSWERED]
    ]
    return _section(f"Images without an answer ({len(views)})", rows)


def _image(number: int, view: View, found: Comparison) -> str:
    """An image twice, with the local and with the hosted boxes."""
    image = read_rgb(view.photograph.path)
    taken = {pair.local for pair in found.pairs}, {pair.hosted for pair in found.pairs}
    name = f"p{number}"
    once = f'<image id="{name}" width="{image.width}" height="{image.height}" href="{_data_url(image)}"/>'
    again = f'<use href="#{name}"/>'
    counts = f"{len(found.pairs)} matched, {len(found.missing)} missing, {len(found.extra)} extra"
    heading = f"{_text(view.photograph.name)}: {counts}; {found.distance:.3g} apart"
    return "\n".join(
        [
            f'<section class="image">\n<h3>{heading}</h3>\n<div class="sides">',
            _side("Local", image.size, once, view.local or [], taken[0]),
            _side("Hosted", image.size, again, view.hosted or [], taken[1]),
            "</div>\n</section>",
        ]
    )


def _side(title: str, size: tuple[int, int], image: str, items: Items, matched: set[int]) -> str:
    """One answer, drawn; what scores best is on top."""
    width, height = size
    drawn = [_box(item, size, place in matched) for place, item in enumerate(items)]
    alone = [item for place, item in enumerate(items) if place not in matched]
    caption = _text(f"{title}: {len(items)} found; only here: {_names(alone)}")
    return "\n".join(
        [
            f'<figure>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{_text(f"{title}: {_names(items)}")}">',
            image,
            *reversed(drawn),
            f"</svg>\n<figcaption>{caption}</figcaption>\n</figure>",
        ]
    )


def _box(item: dict[str, Any], size: tuple[int, int], matched: bool) -> str:
    """A box with its label on a plate, which stays in the image."""
    box, text = item["box"], _names([item])
    type_px = max(size) * TYPE_SHARE
    wide, high = len(text) * type_px * LETTER_SHARE + type_px * 0.4, type_px * 1.25
    x = max(0, min(box["xmin"], size[0] - wide))
    y = box["ymin"] - high if box["ymin"] >= high else max(0, min(box["ymin"], size[1] - high))
    across, down = max(0, box["xmax"] - box["xmin"]), max(0, box["ymax"] - box["ymin"])
    return (
        f'<g class="{"both" if matched else "one"}">'
        f'<rect class="box" x="{box["xmin"]:g}" y="{box["ymin"]:g}" width="{across:g}" height="{down:g}"/>'
        f'<rect class="plate" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"/>'
        f'<text x="{x + type_px * 0.2:.1f}" y="{y + type_px:.1f}" font-size="{type_px:.1f}">{_text(text)}</text></g>'
    )


def _names(items: Items) -> str:
    return ", ".join(f"{item['label']} {item['score']:.2f}" for item in items) or "nothing"


def _data_url(image: Image.Image) -> str:
    """The image, small enough for a page, as a JPEG in base64."""
    small = image.copy()
    small.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _text(text: str) -> str:
    """Fit for an element or an attribute."""
    return escape(printable(text))
