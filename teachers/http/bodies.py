"""What a server sends, read within bounds: bytes, and the JSON that they hold."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

from teachers.errors import RefusedInput

BRACKETS = 2**22  # lists and objects of a reply: each takes twenty times what it takes as text
ZIPPED = ("gzip", "x-gzip", "deflate")
EITHER = 32 + zlib.MAX_WBITS  # zlib's word for gzip or zlib


def collected(parts: Iterable[bytes], encoding: str, most: int, who: str) -> bytes:
    """Join the parts of a body, unpacked where it is gzip, although nobody asked for that.

    Raises RefusedInput where there is more of it than `most` bytes, or it cannot be unpacked.
    """
    kind = encoding.strip().lower()
    if kind not in ("", "identity", *ZIPPED):
        raise RefusedInput(f"{who} answered in the encoding {kind!r:.40}; expected none (identity), or gzip")
    unpack = zlib.decompressobj(EITHER) if kind in ZIPPED else None
    text, taken = bytearray(), 0
    for part in parts:
        taken += len(part)
        try:
            text += part if unpack is None else unpack.decompress(part, most + 1 - len(text))
        except zlib.error:
            raise RefusedInput(f"{who} answered what it says is {kind}, and is none") from None
        if max(len(text), taken) > most or (unpack is not None and unpack.unconsumed_tail):
            raise RefusedInput(f"{who} answered more than {most >> 20} MiB to one question")
    if unpack is not None and taken and not unpack.eof:
        raise RefusedInput(f"{who} answered {kind} that ends before its end")
    return bytes(text)


class DuplicateKey(ValueError):
    """An object of JSON names a key twice."""


def parsed(body: bytes) -> Any:
    """Return what JSON holds, or None where there is nothing.

    Raises ValueError or RecursionError where it is none, names a key twice, or holds too much.
    """
    text = body.decode("utf-8-sig")
    if body.count(b"[") + body.count(b"{") > BRACKETS:
        raise ValueError("too many lists")
    return json.loads(text, object_pairs_hook=_unique) if text.strip() else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise DuplicateKey(next(key for key in found if sum(key == other for other, _ in pairs) > 1))
    return found
