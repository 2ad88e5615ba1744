"""The latencies as horizontal bars: a self-contained SVG for light and dark pages.

Ours are blue, the others grey; a thin line reaches from p10 to p90.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Results = Mapping[str, Any]

WIDTH, VALUES, LETTER = 900, 76, 7.2  # px: of the image, reserved for the longest bar's number, of a letter of a title
ROW, BAR, HEADING, MARGIN = 26, 16, 34, 14
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.heading { font-weight: 600; } .value, .note { fill: #59636e; } .value { font-variant-numeric: tabular-nums; }
.ours { fill: #0969da; } .theirs { fill: #8c959f; } .spread { stroke: #1f2328; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .value, .note { fill: #9198a1; } .ours { fill: #4493f8; } .theirs { fill: #656c76; }
  .spread { stroke: #e6edf3; }
}
"""


def bars(sections: Sequence[tuple[str, str, Sequence[Results]]], title: str, note: str) -> str:
    """The SVG.

    Args:
        sections: heading, the part whose milliseconds are drawn, and rows of results.
        title: for screen readers.
        note: the line at the bottom.
    """
    most = max((row["ms"][part]["p90"] for _, part, rows in sections for row in rows), default=1.0)
    longest = max((len(row["title"]) for _, _, rows in sections for row in rows), default=0)
    left = round(MARGIN + 10 + LETTER * longest)
    scale, y, drawn = (WIDTH - left - VALUES - MARGIN) / most, float(MARGIN), list[str]()
    for heading, part, rows in sections:
        drawn.append(f'<text class="heading" x="{MARGIN}" y="{y + 16:g}">{escape(heading)}</text>')
        y += HEADING - 8
        for row in rows:
            drawn += _bar(row["title"], row["ms"][part], row["key"].startswith("ours"), left, y, scale)
            y += ROW
        y += 10
    drawn.append(f'<text class="note" x="{MARGIN}" y="{y + 12:g}">{escape(note)}</text>')
    height = y + HEADING - 8
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
            f'height="{height:g}" role="img" aria-labelledby="title">',
            f'<title id="title">{escape(title)}</title>',
            f"<style>{STYLE}</style>",
            *drawn,
            "</svg>\n",
        ]
    )


def _bar(title: str, ms: Mapping[str, float], is_ours: bool, left: int, y: float, scale: float) -> list[str]:
    """Title, bar, spread and number of one row; bars start at x = `left`."""
    middle, width = y + ROW / 2, ms["median"] * scale
    low, high = left + ms["p10"] * scale, left + ms["p90"] * scale
    kind = "ours" if is_ours else "theirs"
    return [
        f'<text x="{left - 10}" y="{middle + 4.5:g}" text-anchor="end">{escape(title)}</text>',
        f'<rect class="{kind}" x="{left}" y="{middle - BAR / 2:g}" width="{width:.1f}" height="{BAR}" rx="2"/>',
        f'<line class="spread" x1="{low:.1f}" y1="{middle:g}" x2="{high:.1f}" y2="{middle:g}"/>',
        f'<text class="value" x="{max(high, left + width) + 8:.1f}" y="{middle + 4.5:g}">{ms["median"]:.0f} ms</text>',
    ]
