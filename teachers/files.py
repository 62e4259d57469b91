"""Files: of strangers only regular ones are opened, whatever bytes their names are; ours are written whole."""

from __future__ import annotations

import os
import stat
import unicodedata
from contextlib import suppress
from pathlib import Path

from teachers.errors import RefusedInput

KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder"}  # a socket cannot be opened at all


def shown(name: Path | str) -> str:
    """Return a name as text that any file can hold; bytes that are no UTF-8 are written as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def composed(name: str) -> str:
    """Return a name as it is compared: archives of macOS write accents apart from their letters (NFD)."""
    return unicodedata.normalize("NFC", name)


def content(path: Path, most: int, what: str) -> bytes:
    """Read a file, or what a link leads to, of at most `most` bytes; `what` completes "give …" in refusals.

    Raises RefusedInput where it is no regular file (a pipe would be waited for, a device has no end), is larger or
    cannot be read.
    """
    try:
        # Opening a pipe does not wait for its other end.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            kind = KINDS.get(stat.S_IFMT(found.st_mode), "a device")
            raise RefusedInput(f"{shown(path)} is {kind} and no regular file; give {what}")
        with open(handle, "rb") as file:
            held = file.read(most + 1) if found.st_size <= most else b""
    except OSError as e:
        if isinstance(e, FileNotFoundError) and not path.is_symlink():
            raise RefusedInput(f"there is no file {shown(path)}; give {what}") from e
        why = "a link to nothing" if isinstance(e, FileNotFoundError) else (e.strerror or str(e)).lower()
        raise RefusedInput(f"{shown(path)} cannot be opened ({why}); give {what}") from e
    if found.st_size > most or len(held) > most:
        raise RefusedInput(f"{shown(path)} is larger than {most / 2**20:.0f} MiB; give {what}")
    return held


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name, flush to disk, rename.

    Raises OSError that names the file where it cannot be written; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        partial.replace(path)
    except OSError as e:  # of a full disk, it names no file
        with suppress(OSError):
            partial.unlink()
        raise OSError(e.errno, e.strerror, str(path)) from e
