"""Run untrusted code in a process that ends together with everything it starts.

Between this process and the worker stands a keeper process, which runs only the code of this file. It adopts the
processes that the worker leaves behind (even in other groups and sessions), and kills them all when the worker ends,
when it is told to (SIGTERM), or when the process that started it is gone.
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

DEATH, ADOPT = 1, 36  # Linux's prctl: the signal sent when the parent dies; adoption of orphaned descendants
PATIENCE = 10.0  # seconds that a keeper has to end its process tree


def start(target: Callable[..., None], *args: object, daemon: bool = True) -> BaseProcess:
    """Start a process like `forks.start`, under a keeper; what it prints is discarded."""
    return forks.start(keep, target, *args, daemon=daemon)


def end(process: BaseProcess, *, after: float = 0.0) -> int:
    """End a process started by `start`, with its descendants; return its exit code.

    `after`: seconds to wait first for the process to end by itself, so that the exit code is its own.
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
    """Run as the keeper of a worker that calls `target`; end with the worker's status."""
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
    """Call the target in a new session, then exit."""
    code = 1
    try:
        _ask_system(DEATH, signal.SIGKILL)
        os.setsid()
        for sign in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(sign, signal.SIG_DFL)
        target(*args)
        code = 0
    finally:
        os._exit(code)  # skips exit handlers that the target's code registered


def _watch(worker: int, heard: int) -> int:
    """Wait until the worker ends or must be killed; return its status."""
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
    """Kill the descendants of this process until none is left."""
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
    """Return the ids of a process's descendants, from /proc; children first, then grandchildren."""
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
    """Whether a process started by `start`, or a descendant of it, is stopped (SIGSTOP)."""
    for pid in (process.pid or 0, *descendants(process.pid or 0)):
        with suppress(OSError, IndexError):
            if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T":
                return True
    return False


def _leave_as(status: int) -> None:
    """Exit with the worker's status: its exit code, or the signal that killed it."""
    if os.WIFSIGNALED(status):
        sign = os.WTERMSIG(status)
        if sign != signal.SIGKILL:
            signal.signal(sign, signal.SIG_DFL)
        os.kill(os.getpid(), sign)
        signal.pause()
    os._exit(os.WEXITSTATUS(status))


def _ask_system(option: int, value: int) -> None:
    """Call Linux's prctl; do nothing on other systems."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)
