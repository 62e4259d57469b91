"""Write points, durations and sizes, in the same way in every sentence, table and page."""

from __future__ import annotations

import math
from typing import Final

MISSING: Final = "–"
SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def signed(text: str) -> str:
    """Return a formatted number with a true minus sign, and zero without a sign."""
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def points(difference: float | None, digits: int = 2, *, sign: bool = True) -> str:
    """Write a difference of two fractions in percentage points; without `sign`, a gain has no plus."""
    if difference is None or math.isnan(difference):
        return MISSING
    if math.isinf(difference):
        return "+∞" if difference > 0 else "−∞"
    return signed(f"{100 * difference:{'+' if sign else ''}.{digits}f}")


def size(number: float, digits: int = 1) -> str:
    """Write a number of bytes in the unit that suits it: 12.3 MiB."""
    if not math.isfinite(number):
        return MISSING
    for unit in SIZES:
        text = f"{number:.{digits if unit != SIZES[0] else 0}f}"
        if abs(float(text)) < 1024 or unit == SIZES[-1]:
            break
        number /= 1024
    return f"{signed(text)} {unit}"


def duration(seconds: float) -> str:
    """Write a duration in seconds, minutes or hours."""
    if not math.isfinite(seconds):
        return MISSING
    whole = round(seconds)
    if abs(whole) < 60:
        return f"{signed(str(whole))} s"
    hours, minutes = divmod((abs(whole) + 30) // 60, 60)
    text = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
    return f"−{text}" if whole < 0 else text
