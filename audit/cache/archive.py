"""Export a cache to one file, and import it on another machine. Equal content gives equal bytes; imports are untrusted.

The file is a plain tar archive of regular files (POSIX ustar), gzipped or not. It is read header by header, so that
extensions of the format have no effect.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from audit.cache import checking
from audit.cache.entries import CARRIED, STAGING, Entry, Kind, contents, kind_of
from audit.cache.listing import inventory
from audit.cache.merging import Brought
from audit.cache.merging import merge as _merge
from audit.cache.results import MOST_TEXT
from audit.cache.store import Cache
from reports import wording
from teachers.errors import RefusedInput, UsageError
from teachers.storage.entries import opened, regular, sealed
from teachers.storage.parsers import MOST_WORDS

What = Literal["controls", "all"]

SUFFIXES = (".tar", ".tar.gz", ".tgz")
BLOCK = tarfile.BLOCKSIZE
MOST_ENTRIES = 1_000_000
LARGEST = 2 * 1_000**3  # bytes of one entry
SMALL = {"students": MOST_TEXT, "looks": MOST_WORDS, "output": MOST_WORDS}  # bytes of one entry that is text
CHUNK = 2**20
GIVE = "give a file that `audit cache export` wrote"


@dataclass(frozen=True)
class ExportSummary:
    """Summary of an export; damaged (`broken`) entries were left out."""

    entries: tuple[Entry, ...]
    bytes: int  # size of the file
    broken: dict[str, str]


def export(root: Path, file: Path, what: What) -> ExportSummary:
    """Write a cache's controls, or all of its portable entries, to a file; the file is complete or absent.

    Raises UsageError for another extension, RefusedInput where the file cannot be written.
    """
    if not file.name.endswith(SUFFIXES):
        raise UsageError(f"{file} must end in {', '.join(SUFFIXES)}")
    if file.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{file} lies in the cache itself; give a file in another folder")
    cache = Cache(root)  # holds the cache's lock, so that nothing is pruned meanwhile
    found = inventory(contents(cache.root))
    broken = dict(found.broken)
    chosen = []
    for entry in found.contents.entries:
        if entry.kind in CARRIED and entry.name not in broken and (what == "all" or entry.name in found.controls):
            try:
                _carriable(entry)
                chosen.append(entry)
            except checking.DamagedEntry as e:
                broken[entry.name] = str(e)
    try:
        _write_whole(file, chosen)
    except OSError as e:
        raise RefusedInput(f"{file} cannot be written ({e.strerror}); give a file in a folder that you may use") from e
    except checking.DamagedEntry as e:
        raise RefusedInput(f"{file} was not written: an entry of the cache {e}; run the same command again") from e
    return ExportSummary(tuple(chosen), file.stat().st_size, broken)


def _carriable(entry: Entry) -> None:
    """Make the checks that the listing did not make.

    Raises DamagedEntry.
    """
    if entry.bytes > LARGEST:
        raise checking.DamagedEntry(f"is larger than {wording.size(LARGEST)}, so it is not exported")
    if entry.kind == "answers":
        checking.check(entry.kind, entry.path, entry.name)
    try:
        tarfile.TarInfo(entry.name).tobuf(tarfile.USTAR_FORMAT)
    except ValueError as e:
        raise checking.DamagedEntry("has a name that is too long for an archive, so it is not exported") from e


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
    """Write entries in the order given, without times, user names and machine names."""
    with ExitStack() as stack:
        stream = stack.enter_context(gzip.GzipFile("", "wb", fileobj=f, mtime=0)) if zipped else f
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT))
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            with opened(entry.path, entry.name) as content:
                if content.sealed:
                    info.size = content.file.seek(0, io.SEEK_END)
                    content.file.seek(0)
                    archive.addfile(info, content.file)
                else:
                    whole = sealed(entry.name, content.file.read())
                    info.size = len(whole)
                    archive.addfile(info, io.BytesIO(whole))


@dataclass(frozen=True)
class ImportSummary:
    """Summary of an import: new entries by kind, and the number that were here already."""

    taken: dict[Kind, int]
    kept: int
    others: tuple[str, ...]  # names of entries that were here already, with different content


def load(file: Path, root: Path, most: int) -> ImportSummary:
    """Merge an archive of at most `most` bytes into a cache: check everything first, then move it into place.

    Entries that are here already stay, unless they are damaged. Raises RefusedInput, and takes nothing, where the
    archive or one of its entries is not what `export` writes.
    """
    cache = Cache(root)
    brought: list[tuple[Kind, str, Brought]] = []
    try:
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=cache.root))
        try:
            entries = list(_unpacked(file, staging, most))
            brought.extend((kind, name, _merge(cache, kind, name, staging / name)) for kind, name in entries)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as e:
        said = f"{file} cannot be unpacked to {cache.root} ({e.strerror})"
        raise RefusedInput(f"{said}; make room there, or give another cache") from e
    taken = Counter(kind for kind, _, what in brought if what == "new")
    others = tuple(name for _, name, what in brought if what == "other")
    return ImportSummary(dict(taken), len(brought) - taken.total(), others)


def _unpacked(file: Path, staging: Path, most: int) -> Iterator[tuple[Kind, str]]:
    """Write an archive's entries to the staging folder, one by one, and check each."""
    names: set[str] = set()
    total = 0
    with _opened(file) as stream:
        while (info := _header(stream, file)) is not None:
            kind = _allowed(info, file)
            total += info.size
            if info.size > LARGEST or total > most or len(names) == MOST_ENTRIES:
                raise RefusedInput(
                    f"{file} holds more than {wording.size(most)}, {wording.size(LARGEST)} an entry, or "
                    f"{MOST_ENTRIES:,} entries; allow more with --max-size, if you know who wrote it"
                )
            if info.size > SMALL.get("output" if info.name.endswith("/output") else kind, LARGEST):
                raise RefusedInput(f"{file}: {_short(info.name)} is larger than such an entry can be; {GIVE}")
            if info.name.casefold() in names:  # on some systems, names that differ in case are one file
                raise RefusedInput(f"{file} holds {_short(info.name)} twice; {GIVE}")
            names.add(info.name.casefold())
            _copy(stream, info.size, file, staging / info.name)
            _exactly(stream, -info.size % BLOCK, file)
            try:
                checking.check(kind, staging / info.name, info.name)
            except checking.DamagedEntry as e:
                raise RefusedInput(f"{file}: {_short(info.name)} {e}; nothing was imported") from e
            yield kind, info.name


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open an archive, gzipped or not."""
    try:
        f = regular(file.resolve())
    except FileNotFoundError as e:
        raise RefusedInput(f"there is no file {file}; {GIVE}") from e
    except (OSError, RuntimeError) as e:  # RuntimeError: a circle of links
        raise RefusedInput(f"{file} cannot be read ({getattr(e, 'strerror', None) or e}); {GIVE}") from e
    except checking.DamagedEntry as e:
        raise RefusedInput(f"{file} {e}; {GIVE}") from e
    try:
        with ExitStack() as stack:
            stack.enter_context(f)
            zipped = f.read(2) == b"\x1f\x8b"
            f.seek(0)
            yield cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=f, mode="rb"))) if zipped else f
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise RefusedInput(f"{file} is cut off, or is not an archive; {GIVE}") from e


def _header(stream: IO[bytes], file: Path) -> tarfile.TarInfo | None:
    """Read the next header; return None at the end of the archive."""
    block = _exactly(stream, BLOCK, file)
    if not any(block):
        return None
    try:
        return tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as e:
        raise RefusedInput(f"{file} is not a tar archive of a cache; {GIVE}") from e


def _allowed(info: tarfile.TarInfo, file: Path) -> Kind:
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.size < 0:
        raise RefusedInput(f"{file}: {_short(info.name)} is a link, a folder, a device or an extension; {GIVE}")
    kind = kind_of(info.name)
    if kind not in CARRIED:
        raise RefusedInput(f"{file}: {_short(info.name)} is not an entry of a cache; {GIVE}")
    return kind


def _exactly(stream: IO[bytes], size: int, file: Path) -> bytes:
    found = stream.read(size)
    if len(found) != size:
        raise RefusedInput(f"{file} is cut off, or is not an archive; {GIVE}")
    return found


def _copy(stream: IO[bytes], size: int, file: Path, target: Path) -> None:
    """Write the next bytes to a file, in chunks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as f:
        for at in range(0, size, CHUNK):
            f.write(_exactly(stream, min(CHUNK, size - at), file))


def _short(name: str) -> str:
    return repr(name if len(name) < 100 else f"{name[:97]}…")
