"""Limit a process's memory and time, never beyond the machine's own limits (`ulimit`)."""

from __future__ import annotations

import math
import os
import signal
import time
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


def hold_memory(more: int) -> None:
    """Limit this process to `more` bytes beyond what it uses now; allocating more raises MemoryError.

    The limit counts private writable pages, not a GPU driver's reservations or mapped files. Only Linux enforces it.
    """
    if began := size("VmData"):
        lower("RLIMIT_DATA", began + more)
        lower("RLIMIT_CORE", 0)


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
