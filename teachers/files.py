"""Read untrusted files only if they are regular, whatever their names; write our own files whole or not at all."""

from __future__ import annotations

import os
import stat
import unicodedata
from contextlib import suppress
from pathlib import Path

from teachers import units
from teachers.errors import RefusedInput

KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder"}  # a socket cannot be opened


def shown(name: Path | str) -> str:
    """Return a name as UTF-8 text; bytes that are not UTF-8 are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def composed(name: str) -> str:
    """Return a name in the form used for comparison (NFC): macOS archives separate accents from letters (NFD)."""
    return unicodedata.normalize("NFC", name)


def content(path: Path, most: int, what: str) -> bytes:
    """Read a file, or a link's target, of at most `most` bytes; `what` completes "give …" in error messages.

    Raises RefusedInput if it is no regular file (reading a pipe could wait forever, a device has no end), is larger
    or cannot be read.
    """
    try:
        # O_NONBLOCK: opening a pipe does not wait for its other end.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            kind = KINDS.get(stat.S_IFMT(found.st_mode), "a device")
            raise RefusedInput(f"{shown(path)} is {kind} and not a regular file; give {what}")
        with open(handle, "rb") as file:
            held = file.read(most + 1) if found.st_size <= most else b""
    except OSError as e:
        if isinstance(e, FileNotFoundError) and not path.is_symlink():
            raise RefusedInput(f"there is no file {shown(path)}; give {what}") from e
        why = "a link to nothing" if isinstance(e, FileNotFoundError) else (e.strerror or str(e)).lower()
        raise RefusedInput(f"{shown(path)} cannot be opened ({why}); give {what}") from e
    if found.st_size > most or len(held) > most:
        raise RefusedInput(f"{shown(path)} is larger than {units.size(most, 0)}; give {what}")
    return held


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: write a temporary file, flush it to disk, rename it.

    Raises OSError that names the file if it cannot be written; the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        partial.replace(path)
    except OSError as e:  # if the disk is full, the error names no file
        with suppress(OSError):
            partial.unlink()
        raise OSError(e.errno, e.strerror, str(path)) from e
