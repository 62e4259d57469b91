"""Standard streams on which printing never fails, and their replacements while other code may print."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TextIO, cast

LONGEST: Final = 10_000  # at most, characters of other code's line before it is printed in parts
PLAIN: Final = {"−": "-", "–": "-", "·": "-", "…": "...", "≤": "<=", "×": "x", "Γ": "Gamma", "δ": "delta", "’": "'"}
LOST: Final = (OSError, ValueError)  # raised for a full disk, a closed pipe or a closed stream


class Stream(io.TextIOBase):
    """A stream on which printing never fails; characters that its encoding lacks are replaced."""

    def __init__(self, real: TextIO | None) -> None:
        self.real = real
        self._encoding: str = getattr(real, "encoding", None) or "utf-8"

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only, as in streams written in C
        """The name of the encoding."""
        return self._encoding

    def write(self, text: str) -> int:
        """Write a text, or drop it if that is impossible."""
        fit = text.encode(self._encoding, "plain").decode(self._encoding)
        self._try(lambda real: real.write(fit))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop the text if that is impossible."""
        self._try(lambda real: real.flush())

    def fileno(self) -> int:
        """Return the file descriptor; raises OSError where there is none."""
        return super().fileno() if self.real is None else self.real.fileno()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
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
    """Point a lost stream to the null device, so that Python's flush at exit does not fail."""
    with suppress(*LOST):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _fit(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks with plain ones, or else with escapes."""
    error = cast(UnicodeEncodeError, error)
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error("plain", _fit)


class Strangers(io.RawIOBase):
    """A stream for the prints of other code; it passes each line to `tell`."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._begun = ""

    @classmethod
    def stream(cls, tell: Callable[[str], None]) -> TextIO:
        """Return a text stream that passes its lines to `tell`."""
        raw = io.BufferedWriter(cls(tell))
        return io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", line_buffering=True)

    def writable(self) -> bool:
        """Return True: the stream can be written."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of standard error."""
        return 2

    def write(self, content: Any) -> int:
        """Pass on the lines that are complete with this content."""
        *lines, self._begun = re.split(r"\r\n|\n|\r", self._begun + bytes(content).decode("utf-8", "surrogateescape"))
        if len(self._begun) > LONGEST:
            lines, self._begun = [*lines, self._begun], ""
        for line in filter(str.strip, lines):
            self._tell(line)
        return len(content)


def prepare() -> None:
    """Replace the process's standard streams by ones on which printing never fails; call it once.

    A closed descriptor is opened on the null device: otherwise the next file would get its number, and with it all that
    libraries print.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)


def taken(out: TextIO | None) -> TextIO | None:
    """Move standard output to a new descriptor, and point the old one to standard error; None if it has none."""
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
    """Move standard output back to its old descriptor."""
    Stream(kept).flush()
    os.dup2(kept.fileno(), 1)
    kept.close()
