"""Draw unlabelled abstract pictures: the "public pool of unrelated images" of a Knockoff attack."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from teachers.task import Pool

Floats = NDArray[np.float32]
Draw = Callable[[int, Floats, Floats, float, np.random.Generator], Floats]

CHUNK = 2**20  # floats in each working array, at most

STROKES, SEGMENTS = 3, 4  # a picture has one to three strokes
GRATING_PERIOD = (0.15, 0.8)  # of the shorter side
WAVES = 5  # superposed in a picture of blobs
BLACK_GROUND = 0.5  # share of pictures on a nearly black ground, as scanned signs have
NOISE = 0.12  # largest sd of pixel noise, of full scale


def procedural(count: int, shape: tuple[int, int, int], seed: int = 0) -> Pool:
    """Draw `count` unlabelled images (count, C, H, W); every second one consists of pen strokes.

    After the surrogate pools of Knockoff Nets (Orekondy et al., CVPR 2019), which are photographs instead.
    """
    c, h, w = shape
    images = np.empty((count, c, h, w), np.uint8)
    rng = np.random.default_rng(seed)
    size = max(len(KINDS), CHUNK // (c * h * w))
    for start in range(0, count, size):
        block = images[start : start + size]
        block[...] = _painted(_masks(len(block), h, w, start, rng), c, rng)
    return Pool(images)


def _masks(n: int, h: int, w: int, start: int, rng: np.random.Generator) -> Floats:
    """Draw each picture's ink mask, 0..1, (n, h, w); lengths are in units of half the shorter side."""
    unit = min(h, w) / 2
    y = ((np.arange(h) + 0.5 - h / 2) / unit).astype(np.float32)[:, None]
    x = ((np.arange(w) + 0.5 - w / 2) / unit).astype(np.float32)[None, :]
    kind = np.arange(start, start + n) % len(KINDS)
    masks = np.empty((n, h, w), np.float32)
    for k, draw in enumerate(KINDS):
        chosen = np.flatnonzero(kind == k)
        if len(chosen):
            masks[chosen] = draw(len(chosen), y, x, 1 / unit, rng)
    return masks


def _painted(masks: Floats, c: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Give each picture a ground, an ink that differs from it, and noise, (n, c, h, w)."""
    n, h, w = masks.shape
    ground = _uniform(rng, 0, 1, n, c, 1, 1)
    ground *= np.where(rng.random((n, 1, 1, 1)) < BLACK_GROUND, np.float32(0.1), np.float32(1))
    lighter = np.where(ground < 0.5, np.float32(1), np.float32(-1))
    ink = ground + lighter * _uniform(rng, 0.3, 1, n, 1, 1, 1) * _uniform(rng, 0.5, 1, n, c, 1, 1)
    noise = rng.standard_normal((n, c, h, w), dtype=np.float32)
    noise *= _uniform(rng, 0, NOISE, n, 1, 1, 1)
    noise += ground + (ink - ground) * masks[:, None]
    return np.rint(_clipped(noise) * 255).astype(np.uint8)


def _uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Floats:
    return rng.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)


def _ink(distance: Floats, half_width: Floats, pixel: float) -> Floats:
    """Fade from 1 inside to 0 outside over one pixel."""
    return _clipped((half_width - distance) / np.float32(pixel) + np.float32(0.5))


def _clipped(values: Floats) -> Floats:
    inside: Floats = np.clip(values, 0, 1)
    return inside


def _strokes(n: int, y: Floats, x: Floats, pixel: float, rng: np.random.Generator) -> Floats:
    """Draw one to three pen strokes: broken lines in half of the pictures, quadratic Bézier curves in the others."""
    used = rng.integers(1, STROKES + 1, n)
    half_width = _uniform(rng, 0.05, 0.16, n, 1, 1) + np.float32(pixel / 4)
    nearest = np.full((n, y.shape[0], x.shape[1]), np.inf, np.float32)
    for stroke in range(STROKES):
        index = np.flatnonzero(used > stroke)
        points = _path(len(index), rng)[..., None, None]  # (index, SEGMENTS + 1, 2, 1, 1)
        distance = nearest[index]
        for a, b in zip(range(SEGMENTS), range(1, SEGMENTS + 1), strict=True):
            np.minimum(distance, _to_segment(y, x, points[:, a], points[:, b]), out=distance)
        nearest[index] = distance
    return _ink(nearest, half_width, pixel)


def _path(n: int, rng: np.random.Generator) -> Floats:
    """Draw the corners of a stroke, (n, SEGMENTS + 1, 2)."""
    t = np.linspace(0, 1, SEGMENTS + 1, dtype=np.float32)[None, :, None]
    a, b, c = (_uniform(rng, -0.9, 0.9, n, 1, 2) for _ in range(3))
    smooth = (1 - t) ** 2 * a + 2 * t * (1 - t) * (2 * b - (a + c) / 2) + t**2 * c  # passes through b
    broken = np.clip(smooth + rng.standard_normal(smooth.shape, dtype=np.float32) * np.float32(0.3), -1, 1)
    return np.where(rng.random((n, 1, 1)) < 0.5, smooth, broken)


def _to_segment(y: Floats, x: Floats, a: Floats, b: Floats) -> Floats:
    """Measure each pixel's distance from the segment a-b; a and b are (n, 2, 1, 1), the result (n, h, w)."""
    ay, ax = a[:, 0], a[:, 1]
    dy, dx = b[:, 0] - ay, b[:, 1] - ax
    y, x = y - ay, x - ax  # (n, h, 1), (n, 1, w)
    scale = np.float32(1) / (dy * dy + dx * dx + np.float32(1e-6))
    t = _clipped(y * (dy * scale) + x * (dx * scale))
    distance: Floats = np.hypot(y - t * dy, x - t * dx)
    return distance


def _turned(n: int, y: Floats, x: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Move the origin and turn the axes at random."""
    angle = _uniform(rng, 0, 2 * np.pi, n, 1, 1)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    y, x = y - _uniform(rng, -0.5, 0.5, n, 1, 1), x - _uniform(rng, -0.5, 0.5, n, 1, 1)
    return cos * y - sin * x, sin * y + cos * x


def _ellipses(n: int, y: Floats, x: Floats, pixel: float, rng: np.random.Generator) -> Floats:
    """Draw an ellipse, filled in half of the pictures and a ring in the others."""
    y, x = _turned(n, y, x, rng)
    ry, rx = _uniform(rng, 0.25, 0.9, n, 1, 1), _uniform(rng, 0.25, 0.9, n, 1, 1)
    inside = (1 - np.sqrt((y / ry) ** 2 + (x / rx) ** 2)) * np.minimum(ry, rx)
    return _solid_or_outline(inside, pixel, rng)


def _rectangles(n: int, y: Floats, x: Floats, pixel: float, rng: np.random.Generator) -> Floats:
    """Draw a rectangle, filled in half of the pictures and a frame in the others."""
    y, x = _turned(n, y, x, rng)
    inside = np.minimum(_uniform(rng, 0.2, 0.9, n, 1, 1) - np.abs(y), _uniform(rng, 0.2, 0.9, n, 1, 1) - np.abs(x))
    return _solid_or_outline(inside, pixel, rng)


def _solid_or_outline(inside: Floats, pixel: float, rng: np.random.Generator) -> Floats:
    n = len(inside)
    half_width = _uniform(rng, 0.05, 0.16, n, 1, 1)
    outline = rng.random((n, 1, 1)) < 0.5
    return np.where(outline, _ink(np.abs(inside), half_width, pixel), _ink(-inside, np.zeros_like(half_width), pixel))


def _gratings(n: int, y: Floats, x: Floats, pixel: float, rng: np.random.Generator) -> Floats:
    """Draw parallel bars, from soft waves to hard edges."""
    y, _ = _turned(n, y, x, rng)
    low, high = GRATING_PERIOD
    period = np.maximum(_uniform(rng, 2 * low, 2 * high, n, 1, 1), np.float32(3 * pixel))
    wave = np.sin(y * (2 * np.pi / period).astype(np.float32))
    return _clipped(wave * _uniform(rng, 0.5, 4, n, 1, 1) + np.float32(0.5))


def _blobs(n: int, y: Floats, x: Floats, pixel: float, rng: np.random.Generator) -> Floats:
    """Draw smooth clouds: a few long waves of random direction, superposed."""
    total = np.zeros((n, y.shape[0], x.shape[1]), np.float32)
    for _ in range(WAVES):
        ky, kx = (rng.standard_normal((n, 1, 1), dtype=np.float32) * np.float32(3) for _ in range(2))
        total += np.sin(ky * y + kx * x + _uniform(rng, 0, 2 * np.pi, n, 1, 1))
    return _clipped(total * (_uniform(rng, 0.3, 2, n, 1, 1) / np.float32(WAVES**0.5)) + np.float32(0.5))


KINDS: tuple[Draw, ...] = (_strokes, _ellipses, _strokes, _rectangles, _strokes, _gratings, _strokes, _blobs)
