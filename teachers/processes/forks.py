"""Processes of ours are forks of a server that has imported what they need, and that knows nothing of an audit."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.process import BaseProcess
from types import ModuleType

from teachers.errors import RefusedInput
from teachers.processes import limits

CONTEXT = multiprocessing.get_context("forkserver")
TOKEN = "DISTILL_AUDIT_TOKEN"  # environment variable with the bearer token of an API; no other process has it
_FORK = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else CONTEXT
_IMPORTED = ("torch", "safetensors.torch", "teachers.intake.readers")
_withheld = {TOKEN}  # names of environment variables that no other process has
_ours = False  # whether this process was started here


def withhold(variable: str) -> None:
    """Keep an environment variable from every process that is started from now on."""
    _withheld.add(variable)


def prepare(*modules: str) -> None:
    """Start the server if there is none yet; it imports these modules, too, while this process goes on.

    Raises RefusedInput where there is no folder for its socket, or no memory for it.
    """
    if _ours:
        return
    if limits.below("RLIMIT_AS", limits.LEAST):  # its forks would die one after the other
        raise RefusedInput(limits.tight(limits.ENOUGH))
    try:
        util.get_temp_dir()
    except OSError as e:
        said = "no temporary folder can be written; set TMPDIR to a folder that can be written"
        raise RefusedInput(said) from e
    CONTEXT.set_forkserver_preload([*_IMPORTED, *modules])
    with _unsaid(), _uninterrupted():
        forkserver.ensure_running()


def start(target: Callable[..., None], *args: object, daemon: bool = True) -> BaseProcess:
    """Start a process that is a fork of the server; one that starts others is no daemon.

    In such a process there is no server: the next one is a fork of it, for it has imported all that is needed.
    """
    prepare()
    with _unsaid():
        process = (_FORK if _ours else CONTEXT).Process(
            target=_begin, args=(dict(os.environ), target, args), daemon=daemon
        )
        process.start()
    return process


def _begin(environment: dict[str, str], target: Callable[..., None], args: tuple[object, ...]) -> None:
    """Begin in the environment of the process that wanted this one, which may not be the server's."""
    global _ours
    _ours = True
    if sys.platform != "win32":  # blocked in the server, and so in its forks
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.clear()
    os.environ.update(environment)
    target(*args)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start the server with Ctrl-C blocked: Python has it ignore that only once it has imported all."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # unblocks what it blocked: before ours
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _unsaid() -> Iterator[None]:
    """Start processes that inherit neither the user's main script, nor the command line, nor secrets.

    The script may do more than define, and the command line names the teacher.
    """
    argv, main = sys.argv, sys.modules["__main__"]
    secret = {name: os.environ.pop(name) for name in _withheld if name in os.environ}
    sys.argv, sys.modules["__main__"] = argv[:1], ModuleType("__main__")
    try:
        yield
    finally:
        sys.argv, sys.modules["__main__"] = argv, main
        os.environ.update(secret)


def hush() -> None:
    """Send what this process prints, and what it starts prints, nowhere: the terminal is the user's."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # as long as the process lives
