"""Text of strangers as a terminal and the log of a job may be given it."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """Return a text on one line, without control characters."""
    kept = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(kept.split())


def printable(text: str) -> str:
    """Return the same without what the runner of a GitHub job takes for a command (actions/runner, ActionCommand).

    A command begins a line, which any wrapping may do, or stands anywhere in it (`##[`).
    """
    text = clean(text)
    for command, harmless in (("::", ": :"), ("##[", "# #[")):
        while command in text:
            text = text.replace(command, harmless)
    return text
