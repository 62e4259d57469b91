"""Names that an option holds, with commas."""

from __future__ import annotations


def listed(text: str) -> tuple[str, ...]:
    """Return the names in a text, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
