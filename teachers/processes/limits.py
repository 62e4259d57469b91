"""What a process may take: never more than the machine's own limits (`ulimit`) let it have."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

GIB = 2**30
FLAGS = {"RLIMIT_AS": "-v", "RLIMIT_CPU": "-t", "RLIMIT_FSIZE": "-f", "RLIMIT_DATA": "-d", "RLIMIT_CORE": "-c"}
ENOUGH = 6 * GIB  # of addresses: torch alone takes three
LEAST = 15 * GIB // 4  # of addresses, without which no process of ours begins
WANTING = ("failed to map segment", "memory", "can't start new thread")  # in what is raised where memory is short
CGROUPS = ("memory.max", "memory/memory.limit_in_bytes")


def lower(kind: str, wanted: int, grace: int = 0) -> str:
    """Let this process have as much of a kind (`RLIMIT_AS`…) as is wanted, or as it may have where that is less.

    `grace` is how much more the last limit allows, at which a process is ended without a word. Returns the flag of
    `ulimit` where the machine's own limit is the smaller one, else nothing.
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
    """Return the flag of `ulimit` where this process may not have as much as is wanted, else nothing."""
    import resource

    there = [limit for limit in resource.getrlimit(getattr(resource, kind)) if limit != resource.RLIM_INFINITY]
    return FLAGS[kind] if any(limit < wanted for limit in there) else ""


def starved(error: BaseException) -> str:
    """Return the sentence for an error that comes of this shell's own limits of memory; nothing for another error."""
    means = isinstance(error, MemoryError | SystemError) or any(word in str(error) for word in WANTING)
    return tight(ENOUGH) if means else ""


def tight(needed: int) -> str:
    """Return the sentence for this shell's own limits of memory where they leave less than is needed, else nothing."""
    flags = ", ".join(flag for kind in ("RLIMIT_AS", "RLIMIT_DATA") if (flag := below(kind, needed)))
    return flags and f"this shell's ulimit {flags} leaves less memory than the {ENOUGH / GIB:.0f} GiB wanted; raise it"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """End this process (SIGALRM) where what is done here takes longer; an alarm that was set before rings no later."""
    began, (before, _) = time.monotonic(), signal.getitimer(signal.ITIMER_REAL)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, before) if before else seconds)
    try:
        yield
    finally:
        left = max(1e-3, before - (time.monotonic() - began)) if before else 0
        signal.setitimer(signal.ITIMER_REAL, left)


def question(shape: Sequence[int]) -> float:
    """Return the seconds that a stranger's network has to answer images (N, C, H, W): 20 an image of 224 pixels."""
    return 60.0 + 20.0 * math.prod(shape) / (3 * 224 * 224)


def hold_memory(more: int) -> None:
    """Let this process take so many bytes beyond what it has; what it asks for after that is a MemoryError.

    Counted are private pages that can be written: not what a GPU's driver reserves, nor what lies in files. Only Linux
    keeps to it.
    """
    if began := size("VmData"):
        lower("RLIMIT_DATA", began + more)
        lower("RLIMIT_CORE", 0)


def available() -> int:
    """Return how many bytes of memory are free."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def spare() -> int:
    """Return how many bytes a process may hope for: what is free, or what the container that we are in allows."""
    found = available()
    for name in CGROUPS:
        with suppress(OSError, ValueError):  # no such container, or one without a limit
            found = min(found, int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii")))
    return found


def size(name: str) -> int:
    """Return what the system says of this process's memory (`VmSize`, `VmData`…), in bytes; 0 where it does not."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
