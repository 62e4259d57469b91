"""Cut the connection when a request takes too long in all: an untrusted server may never finish its reply."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx


class Overtime(Exception):
    """A request took longer in all than allowed."""


class Line:
    """A client's connection, cut from outside: httpx limits single reads only, so one byte a second would never end."""

    def __init__(self) -> None:
        self._stream: Any = None  # the network stream opened last; only one is open at a time

    @contextmanager
    def within(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield the extensions for a request that must finish within `seconds`.

        Raises Overtime if it does not.
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
        if over.is_set():  # a body without a length looks complete when the connection is cut
            raise Overtime

    def _shut(self) -> None:
        if self._stream is not None:
            with suppress(OSError):  # it may be closed already
                socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)
