"""Damage that an audit's files suffer when they are copied, which is not a forgery."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable
from pathlib import Path

from audit.finished.design import Disagreement

LINES = ": line ends were changed"
AGAIN = "git or an editor did it; copy the folder as it was written, with `-text` in .gitattributes (docs/ci.md)"


class CopyDamage(Disagreement):
    """A file that was damaged or lost in copying: what happened to it, and what to do."""

    def __str__(self) -> str:
        return f"{self.where}{self.stored}: {self.found}"


def _begins(stored: bytes, digest: str) -> bool:
    """Whether the first lines of a file have a digest."""
    seen = hashlib.sha256()
    for line in (b"", *stored.splitlines(keepends=True)):
        seen.update(line)
        if seen.hexdigest() == digest:
            return True
    return False


def missing(name: str, folder: Path) -> CopyDamage:
    """Report a missing file, and the command that writes it."""
    return CopyDamage(name, " is missing", f"`audit report {folder}` writes it")


def lines(name: str, stored: bytes, fits: Callable[[bytes], bool]) -> CopyDamage | None:
    """Report changed line ends, if nothing else changed: if the file fits with other line ends."""
    plain = stored.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    written = (plain, plain.rstrip(b"\n"), plain.replace(b"\n", b"\r\n"))  # the last one: tables have CRLF
    return CopyDamage(name, LINES, AGAIN) if any(fits(one) for one in written if one != stored) else None


def journal(path: Path, digest: str, *, partial: bool = False) -> Disagreement | None:
    """Compare the journal with its digest in the record; that of a partial record may have lines that came later."""
    stored = path.read_bytes() if path.is_file() else b""
    found = hashlib.sha256(stored).hexdigest()
    if found == digest or (partial and _begins(stored, digest)):
        return None
    if not path.is_file():
        return CopyDamage(
            path.name, " is missing", "it lies beside the record.json that `audit run` wrote; copy it, too"
        )
    changed = lines(path.name, stored, lambda content: hashlib.sha256(content).hexdigest() == digest)
    return changed or Disagreement(path.name, found, digest)
