"""Read one picture of an untrusted data set, in one of a few formats, within limits of size and time."""

from __future__ import annotations

import io
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from teachers import files, units
from teachers.errors import RefusedInput

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
# No other format is tried: reading EPS starts Ghostscript, and nobody needs the other sixty.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
GRAY_MODES = frozenset({"1", "L", "LA"})
BYTES = {"1": 1, "L": 1, "P": 1}  # per pixel in memory; 4 in all other modes

MOST_FILE = 2**28  # bytes
MOST_HEAD = 2**26  # bytes read before the image size is known: profiles, comments, tags
MOST_DECODED = 2**30  # bytes of memory, including the copy for a change of mode
LARGE = 2**26  # bytes of memory: pictures of at least this size are decoded one at a time
SECONDS = 120  # of processor time
MOST_TAGGED = 2**20  # numbers in one TIFF tag; in memory they take a hundred times their file size

_alone = threading.Lock()


class MeteredBytes(io.BytesIO):
    """The bytes of a picture, with limits on how many a decoder reads and for how long."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.left = min(len(content), MOST_HEAD) + 2**20
        self._end = time.thread_time() + SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like any file.

        Raises ValueError beyond the limits.
        """
        part = super().read(size)
        self.left -= len(part)
        if self.left < 0:
            raise ValueError("its header is far larger than a picture's")
        if time.thread_time() > self._end:
            raise ValueError(f"it takes more than {SECONDS} s to read")
        return part


def picture(path: Path, channels: int | None = None) -> Image:
    """Read a picture: mode L or RGB as `channels` asks for 1 or 3, or else as the file has it.

    Raises RefusedInput, which names the file, if it is no picture or decoding takes too much memory or time.
    """
    from PIL import Image

    content = files.content(path, MOST_FILE, "a picture, or remove it")
    try:
        _refuse_tags(content)
        stream = MeteredBytes(content)
        with Image.open(stream, formats=FORMATS) as image:
            if image.mode[0] in "IF":
                named = f"{files.shown(path)} has more than 8 bits a channel (mode {image.mode})"
                raise RefusedInput(f"{named}; save it with 8 bits")
            stream.left = 2 * len(content) + MOST_DECODED  # for the bytes after the header
            return _decoded(image, channels)
    except (RefusedInput, KeyboardInterrupt):
        raise
    except Exception as e:  # decoders raise many kinds of errors on untrusted bytes; the file is at fault
        raise RefusedInput(f"{files.shown(path)} cannot be read as an image ({_why(e)}); replace or remove it") from e


def plain(image: Image, channels: int | None = None) -> Image:
    """Convert gray modes to L and others to RGB, without alpha; then to L or RGB if `channels` is 1 or 3."""
    own = "L" if image.mode in GRAY_MODES else "RGB"
    wanted = {1: "L", 3: "RGB"}.get(channels or 0, own)
    for mode in (own, wanted):
        if image.mode != mode:
            image = image.convert(mode)
    image.load()
    return image


def _decoded(image: Image, channels: int | None) -> Image:
    """Decode a picture after checking the memory it needs; large pictures are decoded one at a time."""
    a_pixel = BYTES.get(image.mode, 4)
    if image.mode not in ("L", "RGB"):
        a_pixel += 1 if image.mode in GRAY_MODES else 4
    if image.info.get("progressive"):
        a_pixel += 6  # libjpeg holds all coefficients
    needed = image.width * image.height * a_pixel
    if needed > MOST_DECODED:
        pixels = f"{image.width}x{image.height} pixels of mode {image.mode}"
        raise ValueError(f"{pixels} take {units.size(needed)}, above {units.size(MOST_DECODED, 0)}")
    if needed < LARGE:
        return plain(image, channels)
    with _alone:
        return plain(image, channels)


def _why(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # its message holds the address of an object
        return f"it is none of {', '.join(FORMATS)}"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _refuse_tags(content: bytes) -> None:
    """Refuse a TIFF whose tags hold very many numbers, since each becomes a Python object.

    Raises ValueError; a file that is no TIFF passes.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 16:
        return
    big = struct.unpack_from(order + "H", content, 2)[0] == 43
    at: int = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)[0]
    counted, entry = ("Q", struct.Struct(order + "HHQ8x")) if big else ("H", struct.Struct(order + "HHI4x"))
    if at + 8 > len(content):
        return  # damaged; its decoder reports it
    (tags,) = struct.unpack_from(order + counted, content, at)
    at += struct.calcsize(order + counted)
    tags = min(tags, (len(content) - at) // entry.size)
    for _, kind, count in entry.iter_unpack(content[at : at + tags * entry.size]):
        if kind not in (1, 2, 6, 7) and count > MOST_TAGGED:  # bytes stay bytes
            raise ValueError(f"one of its tags holds {count} numbers, above {MOST_TAGGED}")
