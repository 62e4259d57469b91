"""Draw the embedded task: 62 characters in 20 fonts, small, turned and noisy, so that look-alikes stay uncertain."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teachers.task import Augment, Images, Pool, Task, known

CLASSES = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
TRAIN, VALIDATION, TEST = 50, 50, 100  # images of each class
SEED = 20260

SIDE = 16  # pixels of the finished image
SIZES = (11, 14)  # font size in pixels, uniform
ROTATION = 8  # degrees, sd
SHIFT = 0.8  # pixels, sd
CONTRAST = (0.5, 1.0)  # brightness of the letter on black, uniform
NOISE = 35  # grey levels out of 255, sd

BITMAPS = Path(__file__).with_name("glyphs.npz")
EM = 26  # font size at which `data/make_glyphs.py` drew the bitmaps, in their pixels
ONE = 4096  # fixed point of draws, cosines and sizes
FINE = 2  # samples across one pixel, averaged

Ints = NDArray[np.int64]


class Draws:
    """Draw integers from raw 64-bit words, the one stream that numpy promises never to change."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def uniform(self, *shape: int) -> Ints:
        """Draw uniformly from 0 to ONE - 1."""
        count = int(np.prod(shape))
        words = self._bits.random_raw(-(-count // 4)).astype("<u8").view("<u2")
        return (words[:count] & np.uint16(ONE - 1)).astype(np.int64).reshape(shape)

    def normal(self, *shape: int) -> Ints:
        """Draw nearly normal integers of mean 0 and sd ONE: sums of twelve uniform ones (whose variance is 1/12)."""
        total = np.zeros(shape, np.int64)
        for _ in range(12):
            total += self.uniform(*shape)
        return total - 12 * (ONE - 1) // 2


def glyphs() -> Task:
    """Draw the task "glyphs", the same bytes on every machine; images (N, 1, 16, 16)."""
    with np.load(BITMAPS) as file:
        bitmaps = np.pad(file["bitmaps"], ((0, 0), (0, 0), (1, 1), (1, 1)))  # (62, 20, 34, 34)
    draws = Draws(SEED)
    (train, _), (validation, _), (test, fonts) = (
        _pool(bitmaps, per_class, draws) for per_class in (TRAIN, VALIDATION, TEST)
    )
    structure = {"font": fonts, "variant": known(test) * bitmaps.shape[1] + fonts}  # a variant: a character in a font
    return Task("glyphs", CLASSES, train, validation, test, structure=structure)


def _pool(bitmaps: Images, per_class: int, draws: Draws) -> tuple[Pool, Ints]:
    """Draw images of every class; return them with the font of each, (N,)."""
    labels = np.tile(np.arange(len(CLASSES)), per_class)
    n = len(labels)
    fonts = draws.uniform(n) * bitmaps.shape[1] // ONE
    letters = _sampled(bitmaps.reshape(-1, *bitmaps.shape[2:]), labels * bitmaps.shape[1] + fonts, _affine(n, draws))
    low, high = (round(c * ONE) for c in CONTRAST)
    contrast = low + draws.uniform(n, 1, 1) * (high - low) // ONE
    noise = draws.normal(n, SIDE, SIDE) * NOISE
    pixels = (letters * contrast + noise + ONE // 2) // ONE
    return Pool(np.clip(pixels, 0, 255).astype(np.uint8)[:, None], labels, Augment(pad=1)), fonts


def _affine(n: int, draws: Draws) -> Ints:
    """Draw the part of its bitmap that each image shows: x and y of the middle, x and y of one step right, (4, N).

    In bitmap pixels / ONE; a step is one pixel / FINE. A step down is the step right turned by 90 degrees.
    """
    sixteenths = draws.normal(n) * ROTATION * 16 // ONE  # of a degree: of so few angles none is near a rounding edge
    angle = np.deg2rad(sixteenths / 16)
    cos, sin = (np.rint(f(angle) * ONE).astype(np.int64) for f in (np.cos, np.sin))
    size = SIZES[0] * ONE + draws.uniform(n) * (SIZES[1] - SIZES[0])
    right_x, right_y = (EM * ONE * part // (size * FINE) for part in (cos, sin))
    shift_x, shift_y = (draws.normal(n) * round(SHIFT * FINE * ONE) // ONE for _ in range(2))  # steps * ONE
    middle = (34 - 1) * ONE // 2
    return np.stack(
        [
            middle - (shift_x * right_x - shift_y * right_y) // ONE,
            middle - (shift_x * right_y + shift_y * right_x) // ONE,
            right_x,
            right_y,
        ]
    )


def _sampled(bitmaps: Images, which: Ints, affine: Ints) -> Ints:
    """Look up each image's bitmap bilinearly and average FINE x FINE samples, (N, SIDE, SIDE) in 0..255."""
    fine = SIDE * FINE
    steps = np.arange(1 - fine, fine, 2)  # half steps from the middle
    middle_x, middle_y, right_x, right_y = affine.astype(np.int32)[:, :, None, None]
    along, down = steps[None, None, :].astype(np.int32), steps[None, :, None].astype(np.int32)
    last = (bitmaps.shape[-1] - 1) * ONE - 1
    x = np.clip(middle_x + (along * right_x - down * right_y) // 2, 0, last)  # (N, fine, fine)
    y = np.clip(middle_y + (along * right_y + down * right_x) // 2, 0, last)
    corner = which.astype(np.int32)[:, None, None] * bitmaps[0].size + (y // ONE) * bitmaps.shape[-1] + x // ONE
    wx, wy = x % ONE // 16, y % ONE // 16  # of 256, so that the products fit 32 bits
    flat = bitmaps.reshape(-1).astype(np.int32)
    top = flat[corner] * (256 - wx) + flat[corner + 1] * wx
    corner += bitmaps.shape[-1]
    bottom = flat[corner] * (256 - wx) + flat[corner + 1] * wx
    samples = (top * (256 - wy) + bottom * wy) // 65536
    total: Ints = samples.reshape(-1, SIDE, FINE, SIDE, FINE).sum((2, 4), dtype=np.int64)
    return total // FINE**2
