"""Send and receive bytes between processes, within limits of size and time.

The frames are those of `multiprocessing.Connection`: a length, then that many bytes.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from teachers.processes import forks

PIECE = 2**20  # bytes read or written at once
GRACE = 60.0  # seconds for the rest of a message that has begun, plus the time for its size
WEEKS = 2e6  # seconds: the longest wait that `poll` can express
PACE = 2**20  # bytes per second, at least


class PipeError(ValueError):
    """The received bytes are not a valid message."""


class Silence(PipeError):
    """The other side sent or read nothing within the time limit."""


def pair() -> tuple[Connection, Connection]:
    """Return both ends of a pipe, ours and the other process's; ours does not block."""
    ours, theirs = forks.CONTEXT.Pipe()
    os.set_blocking(ours.fileno(), False)
    return ours, theirs


class Clock:
    """The deadline of a message."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Return the seconds left, None if there is no deadline; raise Silence after it."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise Silence("it stopped in the middle of a message")
        return left


def enough(size: int) -> float:
    """Return the seconds allowed for `size` bytes."""
    return GRACE + size / PACE


def put(pipe: Connection, content: bytes | memoryview, clock: Clock) -> None:
    """Write a frame.

    Raises Silence if the other side does not read it in time, BrokenPipeError if it is gone.
    """
    size = len(content)
    head = struct.pack("!i", size) if size < 2**31 else struct.pack("!iQ", -1, size)
    for part in (memoryview(head), memoryview(content)):
        while part:
            _await(pipe, select.POLLOUT, clock)
            part = part[_written(pipe, part[:PIECE]) :]


def take(pipe: Connection, most: int, clock: Clock) -> bytearray:
    """Read a frame of at most `most` bytes.

    Raises PipeError if it is larger, Silence if it does not arrive in time, EOFError if the other side is gone.
    """
    (size,) = struct.unpack("!i", _exactly(pipe, 4, clock))
    if size == -1:
        (size,) = struct.unpack("!Q", _exactly(pipe, 8, clock))
    if not 0 <= size <= most:
        raise PipeError(f"{size:,} bytes in place of at most {most:,}")
    return _exactly(pipe, size, clock)


def give(pipe: Connection, file: int, clock: Clock) -> None:
    """Send an open file, with one byte that carries it.

    Raises what `put` raises.
    """
    with socket.fromfd(pipe.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as line:
        while True:
            _await(pipe, select.POLLOUT, clock)
            with suppress(BlockingIOError):
                socket.send_fds(line, [b"\0"], [file])
                return


def accept(pipe: Connection, clock: Clock) -> int:
    """Receive an open file.

    Raises Silence if it does not arrive in time, EOFError if the other side is gone.
    """
    with socket.fromfd(pipe.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as line:
        _await(pipe, select.POLLIN, clock)
        _, files, _, _ = socket.recv_fds(line, 1, 1)
    if not files:
        raise EOFError
    os.set_inheritable(files[0], False)
    return files[0]


def _exactly(pipe: Connection, size: int, clock: Clock) -> bytearray:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        _await(pipe, select.POLLIN, clock)
        try:
            count = os.readv(pipe.fileno(), [view[:PIECE]])
        except BlockingIOError:
            continue
        if not count:
            raise EOFError
        view = view[count:]
    return content


def _written(pipe: Connection, part: memoryview) -> int:
    try:
        return os.write(pipe.fileno(), part)
    except BlockingIOError:
        return 0


def ready(pipe: Connection, event: int, seconds: float | None) -> bool:
    """Wait until a pipe can be read or written, for `seconds` at most (None: WEEKS); return whether it can."""
    poll = select.poll()
    poll.register(pipe.fileno(), event)
    return bool(poll.poll(None if seconds is None else 1000 * min(seconds, WEEKS)))


def _await(pipe: Connection, event: int, clock: Clock) -> None:
    ready(pipe, event, clock.left())
    clock.left()
