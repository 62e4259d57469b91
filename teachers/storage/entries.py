"""The files of a cache, each with a seal: a first line that holds the file's name and the digest of all that follows.

A damaged file is noticed when it is read. It is then moved aside, noted in one line, and treated as missing.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from filelock import FileLock

from teachers.errors import RefusedInput
from teachers.files import write_whole
from teachers.notes import Note, silent

T = TypeVar("T")

ASIDE = "damaged"  # the folder to which damaged files are moved
MOST_ASIDE = 100
_LINE = re.compile(rb"distill-audit entry ([0-9a-f]{64}) ([^\n]{1,400})\n")
_LONGEST = 600  # bytes of a first line, at most
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # this process lacks a resource; no damage


class DamagedEntry(ValueError):
    """An entry does not hold what its name says; the message completes the sentence "it …"."""


class Content(NamedTuple):
    """What an entry holds: an open file, positioned at the first byte after the seal."""

    file: IO[bytes]
    size: int  # bytes that follow
    sealed: bool  # False if an older version wrote it without a seal: such content is checked more closely


def used(path: Path) -> None:
    """Mark an entry as used now; pruning removes the least recently used entries first."""
    with suppress(OSError):
        os.utime(path)


def sealed(name: str, content: bytes) -> bytes:
    """Return a content with its seal, for a name relative to the cache."""
    digest = _named(name)
    digest.update(content)
    return b"".join((_line(name, digest.hexdigest()), content))


def _named(name: str) -> hashlib._Hash:
    return hashlib.sha256(name.encode() + b"\n")


def _line(name: str, digest: str) -> bytes:
    return f"distill-audit entry {digest} {name}\n".encode()


def regular(path: Path) -> IO[bytes]:
    """Open a regular file, without following links or waiting for pipes or devices.

    Raises OSError, or DamagedEntry if the path is not a regular file.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise DamagedEntry("is not a regular file")
    return os.fdopen(os.open(path, _FLAGS), "rb")


@contextmanager
def opened(path: Path, name: str) -> Iterator[Content]:
    """Open an entry and check its content against its seal.

    Raises FileNotFoundError, or DamagedEntry if it was changed, belongs to another name, or cannot be read.
    """
    try:
        file = regular(path)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise _unreadable(e) from e
    with file:
        yield _checked(file, name)


def _checked(file: IO[bytes], name: str) -> Content:
    try:
        size = os.fstat(file.fileno()).st_size
        line = _LINE.fullmatch(file.readline(_LONGEST))
        if line is None:
            file.seek(0)
            return Content(file, size, False)
        if line[2] != name.encode():
            raise DamagedEntry(f"holds {line[2].decode(errors='replace')[:100]}, not the one it is named after")
        begin = file.tell()
        digest = _named(name)
        hashlib.file_digest(file, lambda: digest)  # type: ignore[arg-type]  # goes on after the name
        if digest.hexdigest().encode() != line[1]:
            raise DamagedEntry("was damaged: its content has another checksum")
        file.seek(begin)
        return Content(file, size - begin, True)
    except OSError as e:
        raise _unreadable(e) from e


def _unreadable(error: OSError) -> Exception:
    return error if error.errno in _OURS else DamagedEntry(f"cannot be read ({error.strerror})")


@contextmanager
def doubted(content: Content, sentence: str) -> Iterator[None]:
    """Raise DamagedEntry with `sentence` if parsing an entry fails."""
    try:
        yield
    except DamagedEntry:
        raise
    # NumPy, zipfile, torch and pydantic raise many errors on such bytes, TokenError and MemoryError among them.
    except Exception as e:
        if content.sealed and isinstance(e, MemoryError):  # undamaged, but larger than the memory
            raise
        raise DamagedEntry(sentence) from e


@dataclass(frozen=True)
class Entries:
    """Read and write the entries of a cache by name; `note` is called for each damaged one."""

    root: Path
    note: Note = silent
    _locks: dict[Path, FileLock] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Return the path of an entry."""
        return self.root / name

    def lock(self, folder: Path) -> FileLock:
        """Return the reentrant lock to hold while reading and then changing a folder's entries."""
        return self._locks.setdefault(folder, FileLock(folder / ".lock"))

    def read(self, name: str, parse: Callable[[Content], T], again: str) -> T | None:
        """Return the parsed content of an entry; None if it is missing, or damaged and now moved aside.

        `again` ends the line that notes the damage: how the content is made again. An entry without a seal gets one.
        """
        try:
            return self._parsed(name, parse)
        except DamagedEntry:
            return self._once_more(name, parse, again)

    def _parsed(self, name: str, parse: Callable[[Content], T]) -> T | None:
        try:
            with opened(self.path(name), name) as content:
                found = parse(content)
        except FileNotFoundError:
            return None
        if not content.sealed:
            self._seal(name)
        used(self.path(name))
        return found

    def _once_more(self, name: str, parse: Callable[[Content], T], again: str) -> T | None:
        """Read again under the lock, as another process may have replaced the entry; move it aside if still damaged."""
        folder = self.path(name).parent
        with self.writing(), self.lock(folder if folder.is_dir() else self.root):
            try:
                return self._parsed(name, parse)
            except DamagedEntry as e:
                self.set_aside(name, f"{e}; {again}")
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write an entry with its seal, whole or not at all, replacing whatever is there.

        Raises RefusedInput if the disk is full or cannot be written.
        """
        path = self.make_room(name)
        with self.writing():
            if path.is_dir():
                self.set_aside(name, "is a folder")
            write_whole(path, sealed(name, content))

    def take(self, name: str, staged: Path) -> None:
        """Move a staged file with the same name here, whole and with its seal."""
        with opened(staged, name) as content:
            if not content.sealed:
                self.write(name, content.file.read())
                return
        path = self.make_room(name)
        with self.writing():
            with staged.open("rb+") as f:
                os.fsync(f.fileno())
            staged.replace(path)

    def make_room(self, name: str) -> Path:
        """Return the path of an entry, after creating its folder.

        Raises RefusedInput if the folder cannot be created.
        """
        path = self.path(name)
        if self._in_the_way(path) != path:
            self.set_aside(name, "cannot be stored: a file is in the place of its folder")
        with self.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise RefusedInput if the disk is full or cannot be written."""
        try:
            yield
        except OSError as e:
            said = f"the cache {self.root} cannot be written ({e.strerror})"
            raise RefusedInput(f"{said}; make room there, or give another with --cache") from e

    def _seal(self, name: str) -> None:
        """Add a seal to an entry that has none, unless another process already did."""
        path = self.path(name)
        with suppress(OSError, DamagedEntry), self.lock(path.parent), opened(path, name) as content:
            if not content.sealed:
                write_whole(path, sealed(name, content.file.read()))

    def set_aside(self, name: str, why: str) -> None:
        """Move a damaged entry to the folder of damaged files, and note why.

        Raises RefusedInput if it cannot be moved.
        """
        path = self._in_the_way(self.path(name))
        with self.writing():
            target = self._free(path.relative_to(self.root).as_posix())
            with suppress(FileNotFoundError):  # another process already moved it
                shutil.move(path, target)
        self.note(f"cache: {name} {why} (kept as {target.relative_to(self.root).as_posix()})")

    def _in_the_way(self, path: Path) -> Path:
        """Return the path, or the file that stands where one of its parent folders should be."""
        above = [p for p in reversed(path.parents) if p != self.root and p.is_relative_to(self.root)]
        return next((p for p in above if os.path.lexists(p) and not p.is_dir()), path)

    def _free(self, name: str) -> Path:
        """Return an unused path for a damaged file, after removing the oldest such files if there are too many."""
        folder = self.root / ASIDE
        folder.mkdir(exist_ok=True)
        held = sorted(folder.iterdir(), key=_age)
        for old in [p for p in held if not p.is_dir() or p.is_symlink()][: max(0, len(held) - MOST_ASIDE + 1)]:
            old.unlink(missing_ok=True)
            self.note(f"cache: {ASIDE}/{old.name} was removed; the last {MOST_ASIDE} are kept")
        base = folder / f"{name.replace('/', '_')[-200:]}.{os.getpid()}"  # unique to this process
        return next(p for n in itertools.count() if not os.path.lexists(p := base.with_name(f"{base.name}.{n}")))


def _age(path: Path) -> tuple[float, str]:
    with suppress(OSError):
        return path.lstat().st_mtime, path.name
    return 0.0, path.name  # another process has just removed it
