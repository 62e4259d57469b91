"""A process that runs strangers' code, and all that it starts: they end together.

Between this process and the one that works stands a keeper. It runs nothing but this file: it adopts what the worker
leaves behind (also what has left its group and its session), and ends it all once the worker ends, once it is told to,
or once the process that wanted it is gone.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from teachers.processes import forks

DEATH, ADOPT = 1, 36  # of Linux's prctl: what this process hears when its parent dies; its descendants' orphans are its
PATIENCE = 10.0  # seconds that a keeper has to end its tree


def start(target: Callable[..., None], *args: object, daemon: bool = True) -> BaseProcess:
    """Start a process as `forks.start`, with a keeper; what is printed in it goes nowhere."""
    return forks.start(keep, target, *args, daemon=daemon)


def end(process: BaseProcess, *, after: float = 0.0) -> int:
    """End a process that was started here, and all that it started; return its exit code.

    One that is ending by itself has some seconds to do so, so that its code is its own.
    """
    if after:
        process.join(after)
    if process.pid is not None and process.is_alive():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
            os.kill(process.pid, signal.SIGCONT)
        process.join(PATIENCE)
        process.kill()
    process.join()
    return process.exitcode or 0


def keep(target: Callable[..., None], *args: object) -> None:
    """Be the keeper of a process that calls `target`; end as it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks.hush()
    _ask_system(ADOPT, 1)
    _ask_system(DEATH, signal.SIGTERM)
    heard, bell = os.pipe()
    os.set_blocking(bell, False)
    before = signal.set_wakeup_fd(bell)
    for sign in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(sign, lambda *_: None)
    worker = os.fork()
    if not worker:
        signal.set_wakeup_fd(before)
        os.close(heard)
        os.close(bell)
        _work(target, args)
    for end in args:
        if isinstance(end, Connection):
            end.close()
    status = _watch(worker, heard)
    _end_tree()
    _leave_as(status)


def _work(target: Callable[..., None], args: tuple[object, ...]) -> None:
    """Call the target in a session of its own, and end."""
    code = 1
    try:
        _ask_system(DEATH, signal.SIGKILL)
        os.setsid()
        for sign in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(sign, signal.SIG_DFL)
        target(*args)
        code = 0
    finally:
        os._exit(code)  # what the target's code left to be done at the end is not done


def _watch(worker: int, heard: int) -> int:
    """Wait until the worker ends, or is to end; return its status."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while True:
        ready = wait([heard, parent.sentinel])
        signs = os.read(heard, 4096) if heard in ready else b""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid == worker:
                return status
            if not pid:
                break
        if parent.sentinel in ready or signal.SIGTERM in signs:
            return signal.SIGKILL


def _end_tree() -> None:
    """Kill what descends from this process until nothing is left."""
    until = time.monotonic() + PATIENCE / 2
    while time.monotonic() < until:
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def descendants(root: int) -> list[int]:
    """Return the processes that descend from one, by what the system lists; the nearest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat") if sys.platform == "linux" else ():
        with suppress(OSError, ValueError, IndexError):
            parent = entry.read_bytes().rpartition(b")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(entry.parent.name))
    found, layer = [], [root]
    while layer:
        layer = [child for parent in layer for child in children.get(parent, ())]
        found += layer
    return found


def stopped(process: BaseProcess) -> bool:
    """Whether somebody has stopped (SIGSTOP) a process that was started here, or what it started."""
    for pid in (process.pid or 0, *descendants(process.pid or 0)):
        with suppress(OSError, IndexError):
            if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T":
                return True
    return False


def _leave_as(status: int) -> None:
    """End with the status of the worker: its exit code, or the signal that it died by."""
    if os.WIFSIGNALED(status):
        sign = os.WTERMSIG(status)
        if sign != signal.SIGKILL:
            signal.signal(sign, signal.SIG_DFL)
        os.kill(os.getpid(), sign)
        signal.pause()
    os._exit(os.WEXITSTATUS(status))


def _ask_system(option: int, value: int) -> None:
    """Ask Linux for something; elsewhere there is no such thing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)
