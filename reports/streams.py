"""Standard streams that never end a program, and what stands in their place while strangers might print."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TextIO, cast

LONGEST: Final = 10_000  # characters of a stranger's line that does not end
PLAIN: Final = {"−": "-", "–": "-", "·": "-", "…": "...", "≤": "<=", "×": "x", "Γ": "Gamma", "δ": "delta", "’": "'"}
LOST: Final = (OSError, ValueError)  # what a full disk, a reader that is gone or a closed stream raises


class Stream(io.TextIOBase):
    """A stream to which printing never fails; what its encoding lacks is written in other characters."""

    def __init__(self, real: TextIO | None) -> None:
        self.real = real
        self._encoding: str = getattr(real, "encoding", None) or "utf-8"

    @property
    def encoding(self) -> str:  # type: ignore[override]  # of a stream in C, which nobody can set either
        """The name of the encoding."""
        return self._encoding

    def write(self, text: str) -> int:
        """Write a text, or let it go."""
        fit = text.encode(self._encoding, "plain").decode(self._encoding)
        self._try(lambda real: real.write(fit))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or let it go."""
        self._try(lambda real: real.flush())

    def fileno(self) -> int:
        """Return the descriptor; OSError where there is none."""
        return super().fileno() if self.real is None else self.real.fileno()

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self.real is not None and not self.real.closed and self.real.isatty()

    def _try(self, use: Callable[[TextIO], object]) -> None:
        if self.real is None:
            return
        try:
            use(self.real)
        except LOST:
            _silence(self.real)
            self.real = None


def _silence(stream: TextIO) -> None:
    """Let what a lost stream still holds go nowhere, so that Python's own farewell does not fail."""
    with suppress(*LOST):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _fit(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding lacks in plain characters where there are such, else as its number."""
    error = cast(UnicodeEncodeError, error)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error("plain", _fit)


class Strangers(io.RawIOBase):
    """What anybody may print to: `tell` is given its lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._begun = ""

    @classmethod
    def stream(cls, tell: Callable[[str], None]) -> TextIO:
        """Return a text stream of that kind."""
        raw = io.BufferedWriter(cls(tell))
        return io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", line_buffering=True)

    def writable(self) -> bool:
        """Whether it can be written: yes."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of standard error."""
        return 2

    def write(self, content: Any) -> int:
        """Tell the lines that end in this content."""
        *lines, self._begun = re.split(r"\r\n|\n|\r", self._begun + bytes(content).decode("utf-8", "surrogateescape"))
        if len(self._begun) > LONGEST:
            lines, self._begun = [*lines, self._begun], ""
        for line in filter(str.strip, lines):
            self._tell(line)
        return len(content)


def prepare() -> None:
    """Have standard streams to which printing never fails: of the process, once.

    A descriptor that was closed is opened, for the next file would get its number, and what libraries print with it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)


def taken(out: TextIO | None) -> TextIO | None:
    """Return standard output under a new descriptor, the old one leading to standard error; None if it is no file."""
    try:
        if out is None or out.fileno() != 1:
            return None
        out.flush()
        kept = os.fdopen(os.dup(1), "w", encoding=out.encoding)
        os.dup2(2, 1)
    except LOST:
        return None
    return kept


def given_back(kept: TextIO) -> None:
    """Put standard output under its old descriptor again."""
    Stream(kept).flush()
    os.dup2(kept.fileno(), 1)
    kept.close()
