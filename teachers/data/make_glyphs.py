"""Render the letter bitmaps of `glyphs.npz` from the fonts that matplotlib ships; run by hand, see README.md."""

from __future__ import annotations

import string
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
DEJAVU = [
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
]
STIX = [f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")]
COMPUTER_MODERN = ["cmb10", "cmr10", "cmss10", "cmti10", "cmtt10"]
FONTS = (*DEJAVU, *STIX, *COMPUTER_MODERN)

SIDE = 32
EM = 26  # pixels; the largest size at which every character fits
BASELINE = 23  # rows from the top: ascenders and descenders then leave the same margin
FINE = 8  # draw this much larger and average, since font libraries hint small sizes differently


def bitmap(font: ImageFont.FreeTypeFont, character: str) -> NDArray[np.uint8]:
    """Draw a character with its ink centred left to right and its baseline in place, (SIDE, SIDE)."""
    left, top, right, bottom = font.getbbox(character, anchor="ls")
    if right - left > SIDE * FINE or top < -BASELINE * FINE or bottom > (SIDE - BASELINE) * FINE:
        raise ValueError(f"{character!r} of {font.getname()} does not fit")
    large = Image.new("L", (SIDE * FINE, SIDE * FINE))
    place = (SIDE * FINE / 2 - (left + right) / 2, BASELINE * FINE)
    ImageDraw.Draw(large).text(place, character, fill=255, font=font, anchor="ls")
    return np.asarray(large.reduce(FINE))


def rendered(path: Path) -> NDArray[np.uint8]:
    """Draw all characters of one font, (62, SIDE, SIDE)."""
    face = FT2Font(str(path))
    missing = [c for c in CHARACTERS if not face.get_char_index(ord(c))]
    if missing:
        raise ValueError(f"{path.name} lacks {missing}")
    font = ImageFont.truetype(str(path), EM * FINE, layout_engine=ImageFont.Layout.BASIC)
    return np.stack([bitmap(font, c) for c in CHARACTERS])


def main() -> None:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    bitmaps = np.stack([rendered(folder / f"{name}.ttf") for name in FONTS], axis=1)  # (62, 20, SIDE, SIDE)
    np.savez_compressed(Path(__file__).with_name("glyphs.npz"), bitmaps=bitmaps, fonts=np.array(FONTS))


if __name__ == "__main__":
    main()
