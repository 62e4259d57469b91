"""Limit a process's memory and time, never beyond the machine's own limits (`ulimit`)."""

from __future__ import annotations

import errno
import math
import mmap
import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from teachers import units

GIB = 2**30
FLAGS = {"RLIMIT_AS": "-v", "RLIMIT_CPU": "-t", "RLIMIT_FSIZE": "-f", "RLIMIT_DATA": "-d", "RLIMIT_CORE": "-c"}
ENOUGH = 6 * GIB  # bytes of address space: torch alone takes 3 GiB
LEAST = 15 * GIB // 4  # bytes of address space below which no process of ours can start
WANTING = (
    "failed to map segment",
    "memory",
    "can't start new thread",
)  # in error messages about memory
MOST_MAPPED = 2**50  # bytes by which mapped files may raise the limit of `hold_memory`
# Python 3.11 has no name for Linux's MAP_NORESERVE.
UNRESERVED = 0x4000 if sys.platform == "linux" else 0
_raised = False  # whether `private` raises this process's limit
CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")


def lower(kind: str, wanted: int, grace: int = 0) -> str:
    """Set this process's limit of a kind (`RLIMIT_AS`…) to `wanted`, or keep the present limit if that is lower.

    `grace` is how much higher the hard limit is, at which the system kills the process. Returns the `ulimit` flag of
    the kind if the present limit is lower than `wanted`, else an empty text.
    """
    import resource  # not on every system

    known = getattr(resource, kind)
    there = [limit for limit in resource.getrlimit(known) if limit != resource.RLIM_INFINITY]
    least = min([wanted, *there])
    hard = resource.getrlimit(known)[1]
    most = wanted + grace if hard == resource.RLIM_INFINITY else min(wanted + grace, hard)
    resource.setrlimit(known, (least, most))
    return FLAGS[kind] if least < wanted else ""


def below(kind: str, wanted: int) -> str:
    """Return the `ulimit` flag of a kind if this process's limit is below `wanted`, else an empty text."""
    import resource

    there = [limit for limit in resource.getrlimit(getattr(resource, kind)) if limit != resource.RLIM_INFINITY]
    return FLAGS[kind] if any(limit < wanted for limit in there) else ""


def starved(error: BaseException) -> str:
    """Return the message for an error caused by the shell's memory limits; empty for any other error."""
    means = isinstance(error, MemoryError | SystemError) or any(word in str(error) for word in WANTING)
    return tight(ENOUGH) if means else ""


def tight(needed: int) -> str:
    """Return the message that the shell's memory limits are below `needed` bytes; empty if they are not."""
    flags = ", ".join(flag for kind in ("RLIMIT_AS", "RLIMIT_DATA") if (flag := below(kind, needed)))
    return flags and f"this shell's ulimit {flags} leaves less memory than the {units.size(ENOUGH, 0)} wanted; raise it"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Kill this process (SIGALRM) if the block takes longer than `seconds`; an earlier alarm keeps its time."""
    began, (before, _) = time.monotonic(), signal.getitimer(signal.ITIMER_REAL)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, before) if before else seconds)
    try:
        yield
    finally:
        left = max(1e-3, before - (time.monotonic() - began)) if before else 0
        signal.setitimer(signal.ITIMER_REAL, left)


def question(shape: Sequence[int]) -> float:
    """Return the seconds that a network gets for images (N, C, H, W): 60, plus 20 per image of 224 × 224 pixels."""
    return 60.0 + 20.0 * math.prod(shape) / (3 * 224 * 224)


def hold_memory(more: int, *, mapping: bool = False) -> None:
    """Limit this process to `more` bytes beyond what it uses now; allocating more raises MemoryError.

    The limit counts private writable pages, not a GPU driver's reservations or mapped files. Only Linux enforces it.
    `mapping`: whether `private` raises it by the size of each file that it maps; so can, then, any code in the process.
    """
    global _raised
    if began := size("VmData"):
        lower("RLIMIT_DATA", began + more, MOST_MAPPED if mapping else 0)
        lower("RLIMIT_CORE", 0)
        _raised = mapping


def private(file: int, size: int) -> mmap.mmap:
    """Map the first `size` bytes of an open file; what is written to them stays in this process.

    Only pages that are written to take memory; the system can drop the others, and reads them again. Linux would
    count all of them against the limit of `hold_memory`, and refuse more than the machine has, reserved or not.
    Raises MemoryError where the shell's own limits are in the way.
    """
    raised = _raise(size) if _raised else 0
    try:
        found = mmap.mmap(file, size, mmap.MAP_PRIVATE | UNRESERVED, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as e:
        _raise(-raised)
        if e.errno == errno.ENOMEM:
            raise MemoryError(f"{units.size(size)} of answers cannot be mapped") from e
        raise
    found.madvise(mmap.MADV_RANDOM)  # a batch reads single rows: the system need not read what is beside them
    if raised:
        weakref.finalize(found, _raise, -raised).atexit = False
    return found


def _raise(more: int) -> int:
    """Raise the limit of `hold_memory` (lower it, if negative) as far as may be; return by how much."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if not more or soft == resource.RLIM_INFINITY:
        return 0
    wanted = soft + more if hard == resource.RLIM_INFINITY else min(soft + more, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    return wanted - soft


def available() -> int:
    """Return the bytes of free memory."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def spare() -> int:
    """Return the bytes that a process can expect to get: the free memory, or the container's limit if lower."""
    found = available()
    for name in CGROUPS:
        with suppress(OSError, ValueError):  # not in such a container, or it has no limit
            found = min(found, int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii")))
    return found


def size(name: str) -> int:
    """Return a memory figure of this process (`VmSize`, `VmData`…) in bytes; 0 if the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
