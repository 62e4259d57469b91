"""Where students are trained: in processes of this machine, or in slots of a Ray cluster."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import Final

from teachers.errors import UsageError
from teachers.extras import install

LOCAL: Final = "local"
RAY: Final = "ray"  # a cluster on this machine, for one command; ray:ADDRESS one that is there
SECONDS: Final = 3.0  # in which an address must take a connection
AUTO: Final = "auto"  # the address of the cluster that this machine is a node of


def known_engine(engine: str) -> None:
    """Raise UsageError for an unknown engine, where Ray is not installed, or where nothing answers."""
    if engine == LOCAL:
        return
    name, colon, address = engine.partition(":")
    host, _, port = address.rpartition(":")
    if name != RAY or (colon and address != AUTO and not (host and port.isdigit() and "/" not in address)):
        raise UsageError(
            f"unknown engine {engine!r}; there are {LOCAL}, {RAY} (a cluster on this machine) and {RAY}:HOST:PORT, or "
            f"{RAY}:{AUTO} on a node of a cluster"
        )
    if find_spec("ray") is None:
        raise UsageError(f"--engine {engine} needs Ray: {install('ray')}")
    if address and address != AUTO:
        refuse_silent(address, engine)


def refuse_silent(address: str, engine: str) -> None:
    """Raise UsageError if nothing answers at an address of a cluster, HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), SECONDS).close()
    except (OSError, OverflowError) as e:
        raise UsageError(
            f"--engine {engine}: nothing answers at {address} ({getattr(e, 'strerror', None) or e}); start a cluster "
            "with `ray start --head`, or give the address that it prints"
        ) from e


def address_of(engine: str) -> str | None:
    """Return the address of the cluster to join; None: start one here."""
    return engine.partition(":")[2] or None
