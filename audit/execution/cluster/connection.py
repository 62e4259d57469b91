"""Start a Ray cluster on this machine, or join one; say what it has, and refuse what it cannot give."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

from audit.execution.cards import MOST
from audit.execution.cluster import folders
from audit.plan.engines import AUTO, address_of, refuse_silent
from teachers.errors import UsageError
from teachers.processes import forks

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns
}
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # where it is 0, Ray listens on this machine alone
NICE = "RAY_worker_niceness"  # Ray's own is 15: beside anything else on this machine, a student would hardly advance
MODE, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"  # who has a cluster's token may run code on it
SECRETS = (TOKEN, "RAY_AUTH_TOKEN_PATH")
OWN = secrets.token_hex(32)  # the token of clusters that this process starts
PARTS = 10_000  # the smallest part of a card that Ray knows is one of so many
LONGEST = 107 if sys.platform == "linux" else 103  # bytes of the name of a socket
SOCKET = "session_2026-11-30_12-00-00_123456_{process}/sockets/plasma_store"  # as Ray names it in its folder
STARTED = itertools.count()  # clusters of this process


class Cluster:
    """A connection to a cluster: a slot takes a processor and, with cards, a part of one."""

    def __init__(self, engine: str, jobs: int | None, device: str) -> None:
        """Connect.

        Raises UsageError if there is no cluster, or if it cannot give what is asked for.
        """
        self._device, self._most = device, jobs
        self._folder = _private()
        address = address_of(engine)
        try:
            self._connect(address, jobs)
            self._refuse(engine)
        except BaseException:
            self.close()
            raise

    def _connect(self, address: str | None, jobs: int | None) -> None:
        """Start a cluster or join one, from `/`: nodes import from what has the name of the working directory there."""
        own = {MODE: None, TOKEN: OWN, LOOPBACK: "0", NICE: "0"} if address is None else {}
        kept = {name: os.environ.get(name) for name in SECRETS}
        _hush()
        with _signals(), forks.unsaid(), forks.variables({**kept, **QUIET, **own}), chdir("/"):
            _forget()
            if address is None:
                import ray

                inside = str(self._folder)
                with _alone():
                    ray.init(address="local", num_cpus=jobs, _temp_dir=inside, include_dashboard=False, **SILENT)
            else:
                _join(address)

    def _refuse(self, engine: str) -> None:
        there, wanted = self.slots(MOST), 1 if self._most is None else self._most
        if there >= wanted:
            return
        what = "card" if self.cards else "processor"
        need = f"--device {self._device}" if not there else f"--jobs {wanted}"
        advice = "leave --jobs out to use what is there" if there else f"give it nodes with a {what}"
        raise UsageError(f"--engine {engine}: {need} is more than the cluster has ({self.told}); {advice}")

    @property
    def cards(self) -> bool:
        """Whether students are trained on its cards."""
        return self._device == "cuda"

    @property
    def told(self) -> str:
        """What the cluster has, in words."""
        import ray

        has, nodes = ray.cluster_resources(), [node for node in ray.nodes() if node["Alive"]]
        parts = [(len(nodes), "node"), (int(has.get("CPU", 0)), "processor"), (int(has.get("GPU", 0)), "card")]
        return ", ".join(f"{number} {name}{'s' * (number != 1)}" for number, name in parts)

    def slots(self, sharing: int = 1) -> int:
        """Number of students that the cluster can train at once, where so many share a card."""
        import ray

        has = ray.cluster_resources()
        processors = int(has.get("CPU", 0))
        return min(processors, sharing * int(has.get("GPU", 0))) if self.cards else processors

    @property
    def version(self) -> str:
        """The version of Ray."""
        import ray

        return str(ray.__version__)

    def needs(self, sharing: int = 1) -> dict[str, float]:
        """What one slot takes, as Ray's options, where so many share a card."""
        part = PARTS // sharing / PARTS if self.cards else 0
        return {"num_cpus": 1, "num_gpus": part, "max_restarts": 0, "max_task_retries": 0}

    def close(self) -> None:
        """Leave the cluster; end one that was started here."""
        import ray

        ray.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


SILENT: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}


def _private() -> Path:
    """Return a new folder in one that only this user can read; remove those of processes that were killed.

    Ray makes its own folder writable for everybody.
    """
    inside = f"{os.getpid()}-{next(STARTED)}"
    base = folders.own("ray", f"{inside}/{SOCKET.format(process=os.getpid())}", LONGEST)
    for other in base.iterdir():
        if other.name == inside or not _alive(other.name.partition("-")[0]):
            shutil.rmtree(other, ignore_errors=True)
    (base / inside).mkdir(mode=0o700)
    return base / inside


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _join(address: str) -> None:
    import ray
    from ray._private import services
    from ray.exceptions import RayError

    try:
        there = services.get_ray_address_from_environment(address, None)
        if address == AUTO:  # Ray would wait for a cluster that is over
            refuse_silent(there, f"ray:{AUTO}")
        ray.init(address=there, **SILENT)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, RayError) as e:
        said = " ".join(str(e).split())[:300]
        start = "--head" if address == AUTO else f"--address={address}"
        raise UsageError(
            f"--engine ray:{address}: this machine cannot join the cluster ({said}); run on one of its nodes, or make "
            f"this machine one with `ray start {start}`"
        ) from e


def _forget() -> None:
    """Let Ray read tokens again: it would keep, and ask for, that of this process's last cluster."""
    from ray import _raylet

    compiled: Any = _raylet
    if hasattr(compiled, "AuthenticationTokenLoader"):  # Ray before 2.52 has no tokens
        compiled.Config.initialize("")
        compiled.AuthenticationTokenLoader.instance().reset_cache()


def _hush() -> None:
    """Let Ray print nothing: where a node dies, it would dump the node's log on the terminal."""
    from ray._private import worker

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    worker.print_to_stdstream = lambda *_, **__: None


@contextmanager
def _alone() -> Iterator[None]:
    """Let Ray listen on this machine alone, although it was imported without the variable that says so."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _signals() -> Iterator[None]:
    """Keep this process's own way to end: Ray replaces it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(TypeError):
            signal.signal(signal.SIGTERM, before)
