"""Backgrounds that look like photographs: crops of photographs, noise with a 1/f spectrum, dead leaves.

Dead leaves are opaque shapes over one another, with sizes by a power law; their statistics, edges and occlusions
among them, are close to those of photographs [Lee, Mumford, Huang, 2001]. No background shows a pictogram.
"""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

CROPS, LEAVES = 0.55, 0.3  # shares where there are photographs; the rest is noise
LEAVES_ALONE = 0.65  # and where there are none
SMALLEST_CROP = 0.2  # of the largest crop with the same aspect ratio


def natural_background(rng: Generator, height: int, width: int, photographs: Path | None = None) -> Image.Image:
    """An RGB image of a photograph's statistics; `photographs` is a directory of JPEG files to take crops from."""
    kind = rng.random()
    if photographs is not None and kind < CROPS:
        return photograph_crop(rng, height, width, photographs)
    if kind < (LEAVES_ALONE if photographs is None else CROPS + LEAVES):
        return dead_leaves(rng, height, width, photographs)
    return spectrum_noise(rng, height, width)


def photograph_crop(rng: Generator, height: int, width: int, photographs: Path) -> Image.Image:
    """A part of a photograph at another scale, mirrored, in other colours."""
    paths = photograph_paths(photographs)
    image = opened(paths[int(rng.integers(len(paths)))])
    if rng.random() < 0.15:  # a photograph on its side
        image = image.transpose(Image.Transpose.ROTATE_90)
    largest = min(image.width / width, image.height / height)
    scale = largest * np.exp(rng.uniform(np.log(SMALLEST_CROP), 0))
    crop_width, crop_height = scale * width, scale * height
    left, top = rng.uniform(0, image.width - crop_width), rng.uniform(0, image.height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    crop = image.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _recoloured(rng, crop)


def spectrum_noise(rng: Generator, height: int, width: int) -> Image.Image:
    """Noise of all scales: amplitudes fall with the frequency to a power between 0.8 and 1.6."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    amplitude = frequency ** -rng.uniform(0.8, 1.6)
    amplitude[0, 0] = 0.0
    shape = (*amplitude.shape, 3)
    spectrum = amplitude[..., None] * (rng.normal(size=shape) + 1j * rng.normal(size=shape))
    noise = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    noise /= noise.std((0, 1)) + 1e-9
    grey = rng.uniform(0.0, 0.6)  # how far the colours differ
    noise = (1 - grey) * noise[..., :1] + grey * noise
    pixels = rng.uniform(40, 215, 3) + rng.uniform(15, 60) * noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def dead_leaves(rng: Generator, height: int, width: int, photographs: Path | None = None) -> Image.Image:
    """Opaque ellipses, boxes and polygons over one another, plain or textured."""
    image = spectrum_noise(rng, height, width)
    textures = [spectrum_noise(rng, height, width)]
    if photographs is not None:
        textures += [photograph_crop(rng, height, width, photographs) for _ in range(2)]
    smallest, largest = rng.uniform(0.03, 0.12) * min(height, width), rng.uniform(0.3, 0.7) * min(height, width)
    count = int(rng.integers(30, 150))
    radii = (rng.random(count) * (largest**-2 - smallest**-2) + smallest**-2) ** -0.5  # density of r to the power -3
    for radius in np.sort(radii)[::-1]:
        _draw_leaf(rng, image, float(radius), textures)
    return image


def _draw_leaf(rng: Generator, image: Image.Image, radius: float, textures: list[Image.Image]) -> None:
    """Draws one leaf of about `radius` pixels anywhere on `image`."""
    side = max(3, round(2 * radius))
    mask = Image.new("L", (side, max(2, round(side * rng.uniform(0.3, 1.0)))))
    draw, kind = ImageDraw.Draw(mask), int(rng.integers(3))
    if kind == 0:
        draw.ellipse((0, 0, mask.width - 1, mask.height - 1), fill=255)
    elif kind == 1:
        draw.rectangle((0, 0, mask.width, mask.height), fill=255)
    else:
        corners = rng.uniform(0, 1, (int(rng.integers(3, 8)), 2)) * mask.size
        draw.polygon([(float(x), float(y)) for x, y in corners], fill=255)
    mask = mask.rotate(rng.uniform(0, 180), Image.Resampling.BILINEAR, expand=True)
    place = int(rng.uniform(-radius, image.width)), int(rng.uniform(-radius, image.height))
    if rng.random() < 0.5:
        image.paste(_colour(rng), place, mask)
        return
    texture = textures[int(rng.integers(len(textures)))]
    left, top = (int(rng.integers(max(1, have - need + 1))) for have, need in zip(texture.size, mask.size, strict=True))
    image.paste(texture.crop((left, top, left + mask.width, top + mask.height)), place, mask)


def _colour(rng: Generator) -> tuple[int, int, int]:
    """A colour around a grey, as most are in photographs."""
    red, green, blue = np.clip(rng.uniform(10, 245) + rng.normal(0, rng.uniform(2, 45), 3), 0, 255)
    return int(red), int(green), int(blue)


def _recoloured(rng: Generator, image: Image.Image) -> Image.Image:
    """The image with another gamma, saturation and tint."""
    pixels = np.asarray(image, np.float32) / 255
    pixels = pixels ** np.float32(np.exp(rng.uniform(-0.4, 0.4)))
    grey = pixels.mean(2, keepdims=True)
    pixels = grey + np.float32(rng.uniform(0.3, 1.5)) * (pixels - grey)
    pixels = pixels * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    return Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8))


@cache
def photograph_paths(photographs: Path) -> tuple[Path, ...]:
    """The JPEG files of the directory, by name; ValueError if there are none."""
    paths = tuple(sorted(photographs.glob("*.jpg")))
    if not paths:
        raise ValueError(
            f"{photographs} has no JPEG files; weights/training/photographs.py collects photographs into a directory"
        )
    return paths


@lru_cache(maxsize=128)
def opened(path: Path) -> Image.Image:
    """The photograph in RGB; kept, since each is used many times."""
    with Image.open(path) as image:
        return image.convert("RGB")
