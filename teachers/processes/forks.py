"""Start processes by forking a server that has imported what they need and knows nothing about an audit."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.process import BaseProcess
from types import ModuleType

from teachers.errors import RefusedInput
from teachers.processes import limits

CONTEXT = multiprocessing.get_context("forkserver")
TOKEN = "DISTILL_AUDIT_TOKEN"  # environment variable with the bearer token of an API; withheld from child processes
_FORK = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else CONTEXT
_ALWAYS = {"OPENBLAS_NUM_THREADS": "1"}  # arrays are small: a second thread waits in a busy loop, on another's core
# The server imports nothing from the working directory: a stranger's `random.py` there would run.
_SERVER = {"PYTHONSAFEPATH": "1", **_ALWAYS}
_IMPORTED = ("torch", "safetensors.torch", "teachers.intake.readers")
_withheld = {TOKEN}  # names of environment variables withheld from child processes
_ours = False  # whether this process was started by `start`


def withhold(variable: str) -> None:
    """Withhold an environment variable from every process started from now on."""
    _withheld.add(variable)


def prepare(*modules: str) -> None:
    """Start the server if there is none yet; it also imports these modules, in the background.

    Raises RefusedInput if it has no folder for its socket, or not enough memory.
    """
    if _ours:
        return
    if limits.below("RLIMIT_AS", limits.LEAST):  # every fork would run out of memory
        raise RefusedInput(limits.tight(limits.ENOUGH))
    try:
        util.get_temp_dir()
    except OSError as e:
        said = "no temporary folder can be written; set TMPDIR to a folder that can be written"
        raise RefusedInput(said) from e
    CONTEXT.set_forkserver_preload([*_IMPORTED, *modules])
    with unsaid(), variables(_SERVER), _uninterrupted():  # libraries read them once
        forkserver.ensure_running()


def start(target: Callable[..., None], *args: object, daemon: bool = True) -> BaseProcess:
    """Start a process by forking the server; a process that starts others must not be a daemon.

    Inside such a process there is no server: it forks itself, since it has already imported what is needed.
    """
    prepare()
    with unsaid():
        process = (_FORK if _ours else CONTEXT).Process(
            target=_begin, args=(dict(os.environ), target, args), daemon=daemon
        )
        process.start()
    return process


def _begin(environment: dict[str, str], target: Callable[..., None], args: tuple[object, ...]) -> None:
    """Call the target with the environment variables of the requesting process; the server's may differ."""
    global _ours
    _ours = True
    gc.freeze()  # the garbage collector skips what the server imported
    if sys.platform != "win32":  # blocked in the server, and therefore in its forks
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.clear()
    os.environ.update(environment | _ALWAYS)
    target(*args)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Block Ctrl-C while the server starts: Python makes it ignore Ctrl-C only after its imports."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # first, because it unblocks the signals that it blocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def variables(wanted: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables of the environment, or remove them (None), and restore them afterwards."""
    before = {name: os.environ.get(name) for name in wanted}
    try:
        _set(wanted)
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def unsaid() -> Iterator[None]:
    """Let processes start without the user's main script, command line and secrets.

    Importing the script may run code, and the command line names the teacher.
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
    """Discard everything that this process and its children print: the terminal belongs to the user."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # open as long as the process lives
