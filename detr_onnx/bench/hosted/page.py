"""The results as one HTML page without scripts or external resources: figures, plots, and the worst images.

The page is XML too, so that a parser can check it, and its content security policy forbids every outside resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detr_onnx.bench.hosted.drawing import drawn_image, text
from detr_onnx.bench.hosted.plots import latency_plot, score_plot
from detr_onnx.bench.hosted.results import ImageResult, score_pairs
from detr_onnx.bench.hosted.table import sections_of

MOST_UNANSWERED = 100  # images that are listed

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --quiet: #57606a; --line: #d0d7de; --both: #0969da;
  --single: #bc4c00; --local: #1a7f37; --hosted: #8250df; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --quiet: #9aa4af; --line: #30363d;
  --both: #4493f8; --single: #db6d28; --local: #3fb950; --hosted: #ab7df8; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.figures { columns: 2 27rem; column-gap: 3rem; } .figures section { break-inside: avoid; }
.figures section:first-child h2 { margin-top: 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: normal; color: var(--quiet); } th[scope=row] { width: 45%; white-space: pre-wrap; }
td, h2, h3 { overflow-wrap: anywhere; }
figcaption, .note { color: var(--quiet); font-size: .9rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem 3rem;
  align-items: start; }
.plots figure { max-width: 36rem; }
svg { display: block; width: 100%; height: auto; } figure { margin: 0; }
.plot text { fill: var(--quiet); font: 12px system-ui, sans-serif; }
.plot .grid { stroke: var(--line); } .plot .equal { stroke: var(--quiet); stroke-dasharray: 4 4; }
.plot circle.both { fill: var(--both); fill-opacity: .45; }
.plot circle.single { fill: var(--single); fill-opacity: .6; }
.plot .local { stroke: var(--local); fill: var(--local); } .plot .hosted { stroke: var(--hosted); fill: var(--hosted); }
.plot g line { stroke-width: 2; } .plot g text { stroke: none; fill: var(--ink); }
.image { border-top: 1px solid var(--line); margin-top: 1.5rem; } .image h3 { font-size: 1rem; margin: .75rem 0; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.sides figure { max-width: 34rem; }
rect.box { fill: none; stroke-width: 2px; vector-effect: non-scaling-stroke; }
rect.both { stroke: var(--both); } rect.single { stroke: var(--single); stroke-dasharray: 6 4; }
.tag.both rect, .both .number { fill: var(--both); background: var(--both); }
.tag.single rect, .single .number { fill: var(--single); background: var(--single); }
.tag text { fill: var(--paper); font-family: system-ui, sans-serif; font-weight: 600; text-anchor: middle; }
.number { color: var(--paper); display: inline-block; min-width: 1.7em; padding: 0 .35em; border-radius: .25em;
  text-align: center; font-size: .85em; }
.detections { width: auto; min-width: min(100%, 24rem); margin-top: .5rem; font-size: .9rem; }
.key { display: inline-block; width: 1.6em; height: .8em; border: 2px solid var(--both); margin: 0 .3em 0 .8em; }
.key.single { border: 2px dashed var(--single); }
@page { margin: 14mm; }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --quiet: #444; --line: #bbb; --both: #0969da;
    --single: #bc4c00; --local: #1a7f37; --hosted: #8250df; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2, h3, .legend { break-after: avoid; } tr, figure, .image { break-inside: avoid; }
  .figures { columns: 1; } .plots { grid-template-columns: 1fr 1fr; gap: 1rem 2rem; break-inside: avoid; }
  .sides { grid-template-columns: 1fr 1fr; } .sides svg { max-height: 60mm; }
  .detections { font: 7.5pt/1.25 system-ui, sans-serif; }
  .detections td, .detections th { padding: 0 .75rem 0 0; }
}
"""
HEAD = (
    '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n<meta charset="utf-8"/>\n'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'\"/>\n"
    '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
)
LEGEND = (
    '<p class="note legend"><span class="key"></span>found by both<span class="key single"></span>found by one side '
    "only. Worst first, by distance: the scores of detections of one side only, and for each pair the difference of "
    "scores and 1 - IoU, added up.</p>"
)
SCORE_NOTE = "Each dot is a detection; on the line both scores are equal. Dots on an axis are of one side only."
LATENCY_NOTE = "Dot: p50, tick: p90, end of the line: p99; the number is how many requests run at the same time."
ACCURACY_NOTE = (
    "The hosted API returns only scores above 0.1 and boxes in whole pixels, which limits its AP. Compare it with the "
    "local AP under the same limits. The interval is a paired bootstrap over the images."
)
NOTES = {"COCO AP": ACCURACY_NOTE}
"""Below sections, by their headings."""


def html_of(result: Mapping[str, Any], image_results: Sequence[ImageResult], most: int) -> str:
    """The page, with at most so many images, the worst first, without those whose answers are equal."""
    hosted = result["remote_api"]["dialect"] == "cloudflare"
    title = "The hosted API and this machine" if hosted else "The remote API and this machine"
    compared = [
        (image_result, image_result.comparison) for image_result in image_results if image_result.comparison is not None
    ]
    different = [(image_result, comparison) for image_result, comparison in compared if comparison.distance > 0]
    worst = sorted(different, key=lambda pair: -pair[1].distance)[:most]
    parts = [
        f"{HEAD}<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>",
        '<div class="figures">',
        *(_section(heading, rows) for heading, rows in sections_of(result) if rows),
        "</div>",
        _plots(result, image_results),
        f"<h2>The images that differ most ({len(worst)} of {len(different)})</h2>",
        LEGEND if worst else f'<p class="note">{_why_none(len(compared), len(different))}</p>',
        *(drawn_image(index, image_result, comparison) for index, (image_result, comparison) in enumerate(worst)),
        _unanswered([image_result for image_result in image_results if image_result.comparison is None]),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _why_none(compared: int, different: int) -> str:
    """Why the page shows no images."""
    if different:
        return "With --worst 0, none is shown."
    return "Both sides found the same in every image." if compared else "No image was answered by both sides."


def _plots(result: Mapping[str, Any], image_results: Sequence[ImageResult]) -> str:
    """Both plots, where there is something to plot."""
    pairs = [pair for image_result in image_results for pair in score_pairs(image_result)]
    latency = latency_plot(result["latency"])
    figures = [
        _figure("Scores", score_plot(pairs), SCORE_NOTE) if pairs else "",
        _figure("Latency", latency, LATENCY_NOTE) if latency else "",
    ]
    return '<div class="plots">\n' + "\n".join(figures) + "\n</div>" if any(figures) else ""


def _figure(heading: str, plot: str, note: str) -> str:
    return f"<figure>\n<h2>{heading}</h2>\n{plot}\n<figcaption>{note}</figcaption>\n</figure>"


def _section(heading: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = (f'<tr><th scope="row">{text(name)}</th><td>{text(figure)}</td></tr>' for name, figure in rows)
    note = f'<p class="note">{NOTES[heading]}</p>\n' if heading in NOTES else ""
    return f"<section>\n<h2>{text(heading)}</h2>\n<table>\n" + "\n".join(lines) + f"\n</table>\n{note}</section>"


def _unanswered(image_results: Sequence[ImageResult]) -> str:
    """The first hundred images that one side or both refused, and why."""
    rows = []
    for image_result in image_results[:MOST_UNANSWERED]:
        reasons = [image_result.line["error"], "" if image_result.local is not None else "local: refused"]
        rows.append((image_result.image.name, "; ".join(filter(None, reasons))))
    return _section(f"Images without both answers ({len(image_results)})", rows) if rows else ""
