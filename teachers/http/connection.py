"""The connection in use, which is cut when a question has taken too long: a stranger's server may never end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx


class Overtime(Exception):
    """A question took longer in all than it may."""


class Line:
    """Cut a client's connection from outside: httpx limits single reads, and a byte a second never ends."""

    def __init__(self) -> None:
        self._stream: Any = None  # the network stream that was opened last; there is one at a time

    @contextmanager
    def within(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Give a request's extensions; what it does has to end in time.

        Raises Overtime where it did not.
        """
        over = threading.Event()

        def cut() -> None:
            over.set()
            self._shut()

        def trace(event: str, info: dict[str, Any]) -> None:
            if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
                self._stream = info["return_value"]
                if over.is_set():
                    self._shut()

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield {"trace": trace}
        except httpx.HTTPError:
            if over.is_set():
                raise Overtime from None
            raise
        finally:
            timer.cancel()
        if over.is_set():  # a body without a length ends wherever the connection does
            raise Overtime

    def _shut(self) -> None:
        if self._stream is not None:
            with suppress(OSError):  # it may be closed already
                socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)
