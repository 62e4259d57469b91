"""Parse the cache entries of students and looks; the content is untrusted."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping

from audit.plan.cells import BlockUse, Result
from reports.record import PackedArray
from teachers.storage.entries import Content, DamagedEntry, doubted
from teachers.storage.parsers import MOST_IMAGES, MOST_WORDS, _bytes

MOST_TEXT = 2**26  # bytes of a student's result


MOST_LOOKS = 1_000


def student(content: Content, key: str) -> Result:
    """Read a student; check its name and the size of its answers against its cell."""
    with doubted(content, "is not a student's result"):
        result = Result.model_validate_json(_bytes(content, MOST_TEXT))
    if result.cell.key != key:
        raise DamagedEntry(f"holds the student {result.cell.key[:12]}…, not the one it is named after")
    if (result.test is not None) != (result.cell.splits == "both"):
        raise DamagedEntry("holds answers for other splits than its cell names")
    for packed in (result.validation, result.test):
        if packed is not None and (packed.dtype != "uint16" or len(packed.shape) != 1):
            raise DamagedEntry("holds answers that are not class numbers")
    if type(result.cell.recipe.get("views", 0)) is not int:
        raise DamagedEntry("has a number of views that is not an integer")
    if not all(_counts(asked) for asked in result.asked):
        raise DamagedEntry("lists answers that its block does not have")
    for each in (result.validation, result.test, *(asked.rows for asked in result.asked)):
        if each is not None and not _unpacks(each):
            raise DamagedEntry("holds an array whose size differs from its stated shape")
    numbers = (result.charged, result.estimated, result.network_parameters, result.seconds, result.step_seconds)
    if not all(0 <= number < math.inf for number in numbers) or not 0 <= (result.repeats or 0) <= 1:
        raise DamagedEntry("holds a count, a time or a share that is out of range")
    return result


def fits(result: Result, sizes: Mapping[str, int], classes: int) -> None:
    """Check a student's answers against the sizes of the splits, by name, and the number of classes."""
    for name, packed in (("validation", result.validation), ("test", result.test)):
        if packed is None or name not in sizes:
            continue
        if packed.shape != (sizes[name],) or packed.array().max(initial=0) >= classes:
            raise DamagedEntry(f"holds answers for another {name} split than the one of the data")


def _counts(asked: BlockUse) -> bool:
    rows = asked.rows
    return asked.images >= 0 and (rows is None or (rows.dtype == "bool" and rows.shape == (asked.images,)))


def _unpacks(packed: PackedArray) -> bool:
    """Whether an array has its stated size; unpacks no more than that size."""
    if any(side < 0 for side in packed.shape) or (count := math.prod(packed.shape)) > MOST_IMAGES:
        return False
    expected = -(-count // 8) if packed.dtype == "bool" else 2 * count
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(base64.b64decode(packed.data, validate=True), expected + 1)
    except (ValueError, zlib.error):
        return False
    return len(raw) == expected and stream.eof


def looks(content: Content) -> tuple[int, ...]:
    """Read the numbers of seeds at which a question was looked at."""
    with doubted(content, "is not a list of looks"):
        seeds = json.loads(_bytes(content, MOST_WORDS))
    if not isinstance(seeds, list) or len(seeds) > MOST_LOOKS or not all(type(s) is int and s > 0 for s in seeds):
        raise DamagedEntry("is not a list of looks")
    return tuple(seeds)
