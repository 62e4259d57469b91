"""Make untrusted text safe for a terminal and for the log of a CI job."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Text that CI runners read as commands, and its harmless form: GitHub (actions/runner, ActionCommand; a command begins
# a line, and wrapping can begin one anywhere), Azure and TeamCity (anywhere in a line), GitLab and Travis (sections).
_COMMANDS: Final = (
    (re.compile(r":(?=:)"), ": "),
    (re.compile(r"#(?=#\w*\[)"), "# "),
    (re.compile(r"(section_(?:start|end)|travis_(?:fold|time))(?=:)"), r"\1 "),
)
# The same for JSON: the characters to escape. There they occur only inside texts.
IN_JSON: Final = re.compile(
    r":(?=:)|#(?=#\w*\[)|(?<=section_start):|(?<=section_end):|(?<=travis_fold):|(?<=travis_time):"
)
_ESCAPED: Final = range(0xDC80, 0xDD00)  # how Python represents a byte of a file name that is not UTF-8


def readable(text: str) -> str:
    """Return a text that UTF-8 can encode: an undecodable byte of a file name becomes an escape such as \\xe9."""
    if text.isascii():
        return text
    return "".join(_told(c) if "\ud800" <= c <= "\udfff" else c for c in text)


def _told(surrogate: str) -> str:
    code = ord(surrogate)
    return f"\\x{code - 0xDC00:02x}" if code in _ESCAPED else f"\\u{code:04x}"


def visible(text: str) -> str:
    """Return a text without invisible characters: control characters, changes of direction, characters without width.

    Every line end or other white space becomes a space.
    """
    return "".join(
        " " if c.isspace() else c for c in readable(text) if c.isspace() or unicodedata.category(c)[0] != "C"
    )


def clean(text: str) -> str:
    """Return a text on one line, without invisible characters."""
    return " ".join(visible(text).split())


def inert(text: str) -> str:
    """Return a text without anything that a CI runner reads as a command."""
    for command, harmless in _COMMANDS:
        text = command.sub(harmless, text)
    return text


def printable(text: str) -> str:
    """Return a text on one line, without invisible characters and CI commands."""
    return inert(clean(text))


def printable_line(text: str) -> str:
    """Return the same, but keep repeated spaces, such as an indentation."""
    return inert(visible(text))
