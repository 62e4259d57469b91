"""Read an untrusted file in a child process with limited memory and time; only tensors come back."""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teachers import units
from teachers.errors import RefusedInput, UsageError
from teachers.processes import forks
from teachers.processes.limits import GIB as GIB
from teachers.processes.limits import available, below, lower, size

REPORT, TENSORS = "report.json", "tensors.safetensors"  # the files that a child writes; never a pickle
MOST_REPORT = 4 * 2**20

Work = Callable[[Path], Mapping[str, Any]]  # gets a folder for its files, returns data that JSON can hold


@dataclass(frozen=True)
class Limits:
    """The limits of a child process, on top of what it uses at its start."""

    memory: int  # bytes
    seconds: int  # of processor time, and of wall-clock time


def limits(size: int, *, base: int = GIB, times: int = 4) -> Limits:
    """Return the limits for reading a file of `size` bytes: memory for a base and for several copies of the file."""
    return Limits(base + times * size, 60 + size // (20 * 2**20))


def confined(work: Work, folder: Path, path: Path | str, may: Limits) -> dict[str, Any]:
    """Do work on an untrusted file in a child process and return its report.

    Raises RefusedInput with one sentence if the child refuses the file, exceeds a limit or dies; UsageError if the
    child raises one.
    """
    free = available()
    if may.memory > free:
        needed = f"may take {units.size(may.memory)} of memory to open, {units.size(free)} are free"
        raise RefusedInput(f"{path} {needed}; use a machine with more")
    child = forks.start(_child, work, folder, may)
    child.join(may.seconds + 5)  # longer than its own alarm
    if child.is_alive():
        child.kill()
        child.join()
    report = folder / REPORT
    if child.exitcode != 0 or not report.is_file() or report.stat().st_size > MOST_REPORT:
        raise RefusedInput(f"{path} {_end(child.exitcode or 0, may)}; it was not opened")
    found: dict[str, Any] = json.loads(report.read_bytes())
    if "refused" in found:
        raise (UsageError if found.get("usage") else RefusedInput)(str(found["refused"]))
    if "swollen" in found:
        raise RefusedInput(f"{path} needs {_memory(may, str(found['swollen']))}; it was not opened")
    return found


def _memory(may: Limits, flag: str) -> str:
    if flag:
        return f"more memory to read than this shell's ulimit {flag} leaves (raise it)"
    return f"more than {units.size(may.memory)} of memory to read"


def _end(code: int, may: Limits) -> str:
    """Describe how a child without a report ended, and which of the shell's own limits may be the cause."""
    wanted = {"RLIMIT_CPU": may.seconds, "RLIMIT_FSIZE": may.memory, "RLIMIT_AS": size("VmSize") + may.memory}
    flags = [flag for kind, most in wanted.items() if (flag := below(kind, most))]
    hint = f" (this shell has limits of its own: raise ulimit {', '.join(flags)})" if flags else ""
    if -code in (signal.SIGXCPU, signal.SIGALRM):
        return f"took more than {may.seconds} seconds to read{hint}"
    if -code == signal.SIGKILL:
        return f"took too much time or memory to read{hint}"
    if code < 0:
        return f"crashed its reader ({signal.Signals(-code).name}){hint}"
    return f"made its reader fail{hint}"


def _child(work: Work, folder: Path, may: Limits) -> None:
    warnings.simplefilter("ignore")
    forks.hush()  # only the refusal's sentence is printed
    began, flag = _enter(may)
    try:
        found = dict(work(folder))
    except (RefusedInput, UsageError) as e:
        found = {"refused": str(e)[:2000], "usage": isinstance(e, UsageError)}
    except MemoryError:
        found = {"swollen": flag}
    (folder / REPORT).write_text(json.dumps({**found, "grown": size("VmPeak") - began}), encoding="utf-8")
    os._exit(0)  # skips exit handlers that a program registered


def _enter(may: Limits) -> tuple[int, str]:
    """Set the limits; return the process's present size, and the `ulimit` flag that allows less memory, if any."""
    import torch

    torch.set_num_threads(1)
    began, flag = size("VmSize"), ""
    if began:  # only Linux reports the size and enforces the limit
        flag = lower("RLIMIT_AS", began + may.memory)
    lower("RLIMIT_CPU", may.seconds, grace=2)  # first a signal that tells the cause, then SIGKILL
    lower("RLIMIT_FSIZE", may.memory)
    lower("RLIMIT_CORE", 0)
    signal.setitimer(signal.ITIMER_REAL, may.seconds)  # works even if the parent dies
    return began, flag
