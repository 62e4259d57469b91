"""Read text files that a user gives: regular files of limited size, in UTF-8."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import Final

from teachers import units

MIB: Final = 1 << 20
# Byte order marks of other encodings. UTF-32 comes first, because its mark begins with that of UTF-16.
_OTHERS: Final = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class Unfit(ValueError):
    """A file cannot be used; the message continues a sentence that starts with the file's name."""


def text(path: Path, most: int) -> str:
    """Return the text of a file of at most `most` bytes, without a byte order mark.

    Raises OSError where it cannot be read, Unfit where it is a folder, a device or a pipe, too large, or not UTF-8.
    """
    content = _content(path, most)
    other = next((name for mark, name in _OTHERS.items() if content.startswith(mark)), None)
    if other is not None:
        raise Unfit(f"is {other} text; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise Unfit(f"is not UTF-8 text ({e.reason} at byte {e.start:,}); save it as UTF-8") from e


def _content(path: Path, most: int) -> bytes:
    try:  # non-blocking, because a pipe without a writer would block
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as e:
        raise Unfit(f"is not a file name ({e})") from e
    with open(descriptor, "rb") as f:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise Unfit("is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise Unfit("is not a regular file, but a pipe or a device")
        content = f.read(most + 1)
    if len(content) > most:
        raise Unfit(f"is larger than {units.size(most, 0)}")
    return content
