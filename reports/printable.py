"""Text of strangers as a terminal and the log of a job may be given it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# What the runners of jobs take for commands, and how it is told: GitHub (actions/runner, ActionCommand; a command
# begins a line, which any wrapping may do), Azure and TeamCity (anywhere in a line), GitLab and Travis (sections).
_COMMANDS: Final = (
    (re.compile(r":(?=:)"), ": "),
    (re.compile(r"#(?=#\w*\[)"), "# "),
    (re.compile(r"(section_(?:start|end)|travis_(?:fold|time))(?=:)"), r"\1 "),
)
# The same, as the characters that are escaped in JSON, where they stand within texts alone.
IN_JSON: Final = re.compile(
    r":(?=:)|#(?=#\w*\[)|(?<=section_start):|(?<=section_end):|(?<=travis_fold):|(?<=travis_time):"
)
_ESCAPED: Final = range(0xDC80, 0xDD00)  # how Python holds a byte of a file's name that is no UTF-8


def readable(text: str) -> str:
    """Return a text that UTF-8 can hold: a byte of a file's name that could not be read is told as \\xe9."""
    if text.isascii():
        return text
    return "".join(_told(c) if "\ud800" <= c <= "\udfff" else c for c in text)


def _told(surrogate: str) -> str:
    code = ord(surrogate)
    return f"\\x{code - 0xDC00:02x}" if code in _ESCAPED else f"\\u{code:04x}"


def visible(text: str) -> str:
    """Return a text without what is not seen: control characters, turns of direction, characters without width.

    Whatever ends a line or is a space becomes one space.
    """
    return "".join(
        " " if c.isspace() else c for c in readable(text) if c.isspace() or unicodedata.category(c)[0] != "C"
    )


def clean(text: str) -> str:
    """Return a text on one line, without what is not seen."""
    return " ".join(visible(text).split())


def inert(text: str) -> str:
    """Return a text without what the runner of a job takes for a command."""
    for command, harmless in _COMMANDS:
        text = command.sub(harmless, text)
    return text


def printable(text: str) -> str:
    """Return a text on one line, without what is not seen and what the runner of a job takes for a command."""
    return inert(clean(text))


def printable_line(text: str) -> str:
    """Return the same with its spaces as they are, such as those that set a line in."""
    return inert(visible(text))
