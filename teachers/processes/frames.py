"""What is sent between processes, byte by byte: nothing is read that is larger than it may be, or later.

The frames are those of `multiprocessing.Connection`: a length, then as many bytes.
"""

from __future__ import annotations

import os
import select
import struct
import time
from multiprocessing.connection import Connection

from teachers.processes import forks

PIECE = 2**20  # bytes that are read or written at once
GRACE = 60.0  # seconds for a message that has begun, beside those that its size takes
WEEKS = 2e6  # seconds: what the system counts in
PACE = 2**20  # bytes a second, at least


class PipeError(ValueError):
    """What came is no message."""


class Silence(PipeError):
    """Nothing came, or nothing was taken, for as long as that may last."""


def pair() -> tuple[Connection, Connection]:
    """Return both ends of a pipe; ours never waits longer than it is told to."""
    ours, theirs = forks.CONTEXT.Pipe()
    os.set_blocking(ours.fileno(), False)
    return ours, theirs


class Clock:
    """The moment by which a message must be there."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Return the seconds that are left; None: any number. Raises Silence where there are none."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise Silence("it stopped in the middle of it")
        return left


def enough(size: int) -> float:
    """Return the seconds in which so many bytes must come."""
    return GRACE + size / PACE


def put(pipe: Connection, content: bytes | memoryview, clock: Clock) -> None:
    """Write a frame.

    Raises Silence where the other side does not take it in time, BrokenPipeError where it is gone.
    """
    size = len(content)
    head = struct.pack("!i", size) if size < 2**31 else struct.pack("!iQ", -1, size)
    for part in (memoryview(head), memoryview(content)):
        while part:
            _await(pipe, select.POLLOUT, clock)
            part = part[_written(pipe, part[:PIECE]) :]


def take(pipe: Connection, most: int, clock: Clock) -> bytearray:
    """Read a frame of at most so many bytes.

    Raises PipeError where it is larger, Silence where it does not come in time, EOFError where the other side is gone.
    """
    (size,) = struct.unpack("!i", _exactly(pipe, 4, clock))
    if size == -1:
        (size,) = struct.unpack("!Q", _exactly(pipe, 8, clock))
    if not 0 <= size <= most:
        raise PipeError(f"{size:,} bytes in place of at most {most:,}")
    return _exactly(pipe, size, clock)


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
    """Wait for so many seconds, at most some weeks, until a pipe can be read from or written to."""
    poll = select.poll()
    poll.register(pipe.fileno(), event)
    return bool(poll.poll(None if seconds is None else 1000 * min(seconds, WEEKS)))


def _await(pipe: Connection, event: int, clock: Clock) -> None:
    ready(pipe, event, clock.left())
    clock.left()
