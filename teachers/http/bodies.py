"""Read a server's reply within size limits: its bytes, and the JSON that they hold."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

from teachers import units
from teachers.errors import RefusedInput

BRACKETS = 2**22  # lists and objects in a reply, at most: each takes twenty times more memory than its text
ZIPPED = ("gzip", "x-gzip", "deflate")
EITHER = 32 + zlib.MAX_WBITS  # zlib's `wbits` value that accepts gzip and zlib


def collected(parts: Iterable[bytes], encoding: str, most: int, who: str) -> bytes:
    """Join the parts of a body, and decompress it: some servers send gzip although the request does not accept it.

    Raises RefusedInput if it has more than `most` bytes or cannot be decompressed.
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
            raise RefusedInput(f"{who} answered a body marked as {kind}, which it is not") from None
        if max(len(text), taken) > most or (unpack is not None and unpack.unconsumed_tail):
            raise RefusedInput(f"{who} answered more than {units.size(most, 0)} to one question")
    if unpack is not None and taken and not unpack.eof:
        raise RefusedInput(f"{who} answered {kind} that is cut off")
    return bytes(text)


class DuplicateKey(ValueError):
    """A JSON object has a key twice."""


def parsed(body: bytes) -> Any:
    """Parse JSON; return None for an empty body.

    Raises ValueError or RecursionError if it is not JSON, has a key twice, or is too large.
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
