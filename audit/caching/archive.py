"""A cache in one file, for another machine: written alike for the same content, read with suspicion.

The file is a plain tar of regular files (POSIX ustar), gzipped or not. It is read header by header, so that no
extension of the format is ever acted upon.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from audit import folder
from audit.caching import checking
from audit.caching.entries import CARRIED, STAGING, Entry, Kind, contents, kind_of
from audit.caching.listing import inventory
from audit.caching.pruning import written
from audit.execution.store import AnswerStore, Cache
from reports.record import write_whole
from teachers.errors import RefusedInput, UsageError

What = Literal["controls", "all"]

SUFFIXES = (".tar", ".tar.gz", ".tgz")
BLOCK = tarfile.BLOCKSIZE
MOST_ENTRIES = 1_000_000
LARGEST = 2 * 1_000**3  # bytes of one entry
GIVE = "give a file that `audit cache export` wrote"


@dataclass(frozen=True)
class Exported:
    """What an archive holds; `broken` entries were left out."""

    entries: tuple[Entry, ...]
    bytes: int  # of the file
    broken: dict[str, str]


def export(root: Path, file: Path, what: What) -> Exported:
    """Write the controls of a cache, or all that means the same on another machine, to a file, whole or not at all.

    Raises UsageError for another extension, RefusedInput where the file cannot be written.
    """
    if not file.name.endswith(SUFFIXES):
        raise UsageError(f"{file} must end in {', '.join(SUFFIXES)}")
    cache = Cache(root)  # held: nothing is pruned meanwhile
    found = inventory(contents(cache.root))
    broken = dict(found.broken)
    chosen = []
    for entry in found.contents.entries:
        if entry.kind in CARRIED and entry.name not in broken and (what == "all" or entry.name in found.controls):
            try:
                if entry.kind == "answers":
                    checking.answers(entry.path)
                chosen.append(entry)
            except checking.Broken as e:
                broken[entry.name] = str(e)
    try:
        _write_whole(file, chosen)
    except OSError as e:
        raise RefusedInput(f"{file} cannot be written ({e.strerror}); give a file in a folder that you may use") from e
    return Exported(tuple(chosen), file.stat().st_size, broken)


def _write_whole(file: Path, entries: list[Entry]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as f:
            _write(f, entries, zipped=not file.name.endswith(".tar"))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _write(f: IO[bytes], entries: list[Entry], zipped: bool) -> None:
    """Write entries in the order given, without times, users and names of machines."""
    with ExitStack() as stack:
        stream = stack.enter_context(gzip.GzipFile("", "wb", fileobj=f, mtime=0)) if zipped else f
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT))
        for entry in entries:
            content = entry.path.read_bytes()
            info = tarfile.TarInfo(entry.name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@dataclass(frozen=True)
class Imported:
    """What an archive brought: entries that are new here, and how many were here already."""

    taken: dict[Kind, int]
    kept: int


def load(file: Path, root: Path, most: int) -> Imported:
    """Merge an archive of at most `most` bytes into a cache: everything is checked first, then moved into place.

    What is here already stays, but for what cannot be read. Raises RefusedInput with one sentence, and takes nothing,
    where the archive or one of its entries is not what `export` writes.
    """
    cache = Cache(root)
    taken: dict[Kind, int] = {}
    kept = 0
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=cache.root))
    try:
        entries = list(_unpacked(file, staging, most))
        for kind, name in entries:
            if _merge(cache, kind, name, staging / name):
                taken[kind] = taken.get(kind, 0) + 1
            else:
                kept += 1
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Imported(taken, kept)


def _unpacked(file: Path, staging: Path, most: int) -> Iterator[tuple[Kind, str]]:
    """Write what an archive holds into a folder of its own, entry by entry, and check it."""
    names: set[str] = set()
    total = 0
    with _opened(file) as stream:
        while (info := _header(stream, file)) is not None:
            kind = _allowed(info, file)
            total += info.size
            if info.size > LARGEST or total > most or len(names) == MOST_ENTRIES:
                raise RefusedInput(
                    f"{file} holds more than {written(most)}, {written(LARGEST)} an entry, or {MOST_ENTRIES:,} "
                    "entries; allow more with --max-size, if you know who wrote it"
                )
            if info.name in names:
                raise RefusedInput(f"{file} holds {_short(info.name)} twice; {GIVE}")
            names.add(info.name)
            write_whole(staging / info.name, _exactly(stream, info.size, file))
            _exactly(stream, -info.size % BLOCK, file)
            try:
                checking.check(kind, staging / info.name)
            except checking.Broken as e:
                raise RefusedInput(f"{file}: {_short(info.name)} {e}; nothing of the archive was taken") from e
            yield kind, info.name


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open an archive, gzipped or not."""
    try:
        with ExitStack() as stack:
            f: IO[bytes] = stack.enter_context(file.open("rb"))
            if f.read(2) == b"\x1f\x8b":
                f.seek(0)
                f = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=f, mode="rb")))
            else:
                f.seek(0)
            yield f
    except FileNotFoundError as e:
        raise RefusedInput(f"there is no file {file}; {GIVE}") from e
    except (IsADirectoryError, EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise RefusedInput(f"{file} is cut off or no archive; {GIVE}") from e


def _header(stream: IO[bytes], file: Path) -> tarfile.TarInfo | None:
    """Read the next header; None at the end of the archive."""
    block = _exactly(stream, BLOCK, file)
    if not any(block):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as e:
        raise RefusedInput(f"{file} is no tar archive of ours; {GIVE}") from e


def _allowed(info: tarfile.TarInfo, file: Path) -> Kind:
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.size < 0:
        raise RefusedInput(f"{file}: {_short(info.name)} is a link, a folder, a device or an extension; {GIVE}")
    kind = kind_of(info.name)
    if kind not in CARRIED:
        raise RefusedInput(f"{file}: {_short(info.name)} is no entry of a cache; {GIVE}")
    return kind


def _exactly(stream: IO[bytes], size: int, file: Path) -> bytes:
    found = stream.read(size)
    if len(found) != size:
        raise RefusedInput(f"{file} is cut off or no archive; {GIVE}")
    return found


def _short(name: str) -> str:
    return repr(name if len(name) < 100 else f"{name[:97]}…")


def _merge(cache: Cache, kind: Kind, name: str, staged: Path) -> bool:
    """Move an entry to its place unless it is here already; tell whether it brought anything."""
    target = cache.root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == "looks":
        if not _sound(kind, target):
            target.unlink(missing_ok=True)
        before = folder.looked(cache, target.stem)
        folder.remember_looks(cache, target.stem, checking.looks(staged))
        return folder.looked(cache, target.stem) != before
    if kind == "answers" and target.suffix == ".npz" and _sound(kind, target):
        return _add_answers(target, staged)
    with FileLock(target.with_suffix(".lock")) if kind == "teachers" else ExitStack():
        if _sound(kind, target):
            return False
        staged.replace(target)
    return True


def _sound(kind: Kind, path: Path) -> bool:
    try:
        checking.check(kind, path)
    except (checking.Broken, FileNotFoundError):
        return False
    return True


def _add_answers(target: Path, staged: Path) -> bool:
    """Add the answers that are missing in a block here, where both are of one kind."""
    here, there = (np.load(path, allow_pickle=False) for path in (target, staged))
    with here, there:
        alike = all(_form(here[n]) == _form(there[n]) for n in here.files) if here.files == there.files else False
        new = np.flatnonzero(there["there"] & ~here["there"]) if alike else np.arange(0)
    if not len(new):
        return False
    answers, _ = AnswerStore(staged.parent).load(staged.stem, new)
    assert answers is not None
    AnswerStore(target.parent).add(target.stem, len(answers), new, answers[torch.from_numpy(new)])
    return True


def _form(array: NDArray[Any]) -> tuple[object, ...]:
    return array.dtype, array.shape
