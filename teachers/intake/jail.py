"""A stranger's file is read in a child process that may take little memory and time; only tensors come back."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teachers import forks
from teachers.errors import RefusedInput

REPORT, TENSORS = "report.json", "tensors.safetensors"  # what a child leaves; never a pickle
MOST_REPORT = 4 * 2**20
GIB = 2**30

Work = Callable[[Path], Mapping[str, Any]]  # given a folder for its files, returns what JSON can hold


@dataclass(frozen=True)
class Limits:
    """What a child may take beyond what it begins with."""

    memory: int  # bytes
    seconds: int  # of processor time, and on the clock


def limits(size: int, *, base: int = GIB, times: int = 4) -> Limits:
    """Return what reading a file of `size` bytes may take: a base, and several copies of it."""
    return Limits(base + times * size, 60 + size // (20 * 2**20))


def confined(work: Work, folder: Path, path: Path, may: Limits) -> dict[str, Any]:
    """Do work on a stranger's file in a child process and return its report.

    Raises RefusedInput with one sentence where the child refuses the file, passes a limit or dies.
    """
    free = available()
    if may.memory > free:
        raise RefusedInput(
            f"{path} may take {_gib(may.memory)} of memory to open, {_gib(free)} are free; use a machine with more"
        )
    child = forks.start(_child, work, folder, may)
    child.join(may.seconds + 5)  # its own alarm rings first
    if child.is_alive():
        child.kill()
        child.join()
    report = folder / REPORT
    if child.exitcode != 0 or not report.is_file() or report.stat().st_size > MOST_REPORT:
        raise RefusedInput(f"{path} {_end(child.exitcode or 0, may)}; it was not opened")
    found: dict[str, Any] = json.loads(report.read_bytes())
    if "refused" in found:
        raise RefusedInput(str(found["refused"]))
    if "swollen" in found:
        raise RefusedInput(f"{path} needs more than {_gib(may.memory)} of memory to read; it was not opened")
    return found


def available() -> int:
    """Return how many bytes of memory are free."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _end(code: int, may: Limits) -> str:
    if -code in (signal.SIGXCPU, signal.SIGALRM):
        return f"took more than {may.seconds} seconds to read"
    if -code == signal.SIGKILL:
        return "took too much time or memory to read"
    if code < 0:
        return f"crashed its reader ({signal.Signals(-code).name})"
    return "made its reader fail"


def _child(work: Work, folder: Path, may: Limits) -> None:
    _hush()
    began = _enter(may)
    try:
        found = dict(work(folder))
    except RefusedInput as e:
        found = {"refused": str(e)[:2000]}
    except MemoryError:
        found = {"swollen": True}
    (folder / REPORT).write_text(json.dumps({**found, "grown": _sizes("VmPeak") - began}), encoding="utf-8")
    os._exit(0)  # whatever a program left to be done at the end is not done


def _hush() -> None:
    """Send what readers print nowhere: a refusal is one sentence."""
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # as long as the child lives


def _enter(may: Limits) -> int:
    """Set the limits; return how large the process is now."""
    import resource  # not on every system, where there is no jail either

    import torch

    torch.set_num_threads(1)
    began = _sizes("VmSize")
    if began:  # only Linux says, and only Linux keeps to it
        resource.setrlimit(resource.RLIMIT_AS, (began + may.memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (may.seconds, may.seconds + 2))  # a signal that is known, then the end
    resource.setrlimit(resource.RLIMIT_FSIZE, (may.memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, may.seconds)  # kept where the parent dies
    return began


def _sizes(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
