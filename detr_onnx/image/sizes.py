"""The sizes that images are resized to, each by a rule of transformers. All sizes are height and width in pixels."""

from __future__ import annotations


def resized_hw(height: int, width: int, shortest_edge: int, longest_edge: int) -> tuple[int, int]:
    """Height and width in pixels, at least 1, by DETR's size rule.

    The short side becomes `shortest_edge`, unless the long side would exceed `longest_edge`; then both are scaled down
    to fit. In that case the long side is computed from the short side *before* rounding and truncated, so it may be one
    pixel below `longest_edge`. An image whose short side already has its length is not resized, even if its long side
    exceeds the limit (1x2000).

    Source: `get_size_with_aspect_ratio` of transformers, which returns a side of 0 for images as thin as 1x5000.
    """
    short, long = min(height, width), max(height, width)
    short_exact: float = shortest_edge
    if long / short * shortest_edge > longest_edge:
        short_exact = longest_edge * short / long
    short_px = round(short_exact)  # half to even
    if short == short_px:
        return height, width
    long_px = int(short_exact * long / short)
    short_px, long_px = max(short_px, 1), max(long_px, 1)
    return (short_px, long_px) if height <= width else (long_px, short_px)


def bounded_hw(height: int, width: int, max_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width, at least 1, of an image that is scaled up or down until it touches a limit of `max_hw`.

    Source: `get_image_size_for_max_height_width` of transformers, truncation in float64 included: with limits of 49, a
    side of 49 may become 48.
    """
    scale = min(max_hw[0] / height, max_hw[1] / width)
    return max(1, int(height * scale)), max(1, int(width * scale))


def fitted_hw(height: int, width: int, canvas_hw: tuple[int, int]) -> tuple[int, int]:
    """The largest height and width in pixels that keep the aspect ratio and fit into `canvas_hw`."""
    canvas_height, canvas_width = canvas_hw
    if height * canvas_width > width * canvas_height:
        return canvas_height, max(1, round(width * canvas_height / height))
    return max(1, round(height * canvas_width / width)), canvas_width
