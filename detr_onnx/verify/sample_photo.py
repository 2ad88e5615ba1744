"""An image with the statistics of a photograph, generated from a seed, so that no photograph has to be distributed.

Amplitudes fall with one over the frequency, as in natural scenes [Field, 1987], some surfaces with soft edges occlude
each other, and there is sensor noise. So a JPEG of it is as large, and decodes as fast, as a real one.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

QUALITY = 90
NOISE = 3.0  # standard deviation of the sensor noise, in grey levels
SURFACES = 12


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB image of `width` x `height` pixels; the same seed gives the same image."""
    random = np.random.RandomState(seed)
    image = 118 + 38 * _scene(random, height, width)
    for _ in range(SURFACES):
        cover = _soft_ellipse(random, height, width)[..., None]
        surface = random.uniform(40, 215, 3) + 18 * _scene(random, height, width)
        image = cover * surface + (1 - cover) * image
    image += NOISE * random.standard_normal(image.shape)
    return Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))


def jpeg(width: int, height: int, seed: int = 0) -> bytes:
    """The same image as a JPEG file."""
    file = io.BytesIO()
    photograph(width, height, seed).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _scene(random: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """[height, width, 3] with mean 0, deviation 1 and a 1/f spectrum; the channels are strongly correlated."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width)
    falling = 1 / np.maximum(frequency, 1)
    mix = 0.85 * np.ones((3, 3)) / 3 + 0.15 * np.eye(3)
    waves = [np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) * falling, (height, width))
             for _ in range(3)]  # fmt: skip
    scene = np.stack(waves, axis=-1) @ mix
    scene -= scene.mean(axis=(0, 1))
    whitened: NDArray[np.float64] = scene / scene.std(axis=(0, 1))
    return whitened


def _soft_ellipse(random: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """[height, width] in 0..1: 1 inside a random ellipse, falling to 0 over two pixels."""
    y, x = np.mgrid[:height, :width]
    centre_y, centre_x = random.uniform(0, height), random.uniform(0, width)
    radius_y, radius_x = random.uniform(0.06, 0.3, 2) * min(height, width)
    distance = np.hypot((y - centre_y) / radius_y, (x - centre_x) / radius_x)
    covered: NDArray[np.float64] = np.clip((1 - distance) * min(radius_y, radius_x) / 2 + 0.5, 0, 1)
    return covered
