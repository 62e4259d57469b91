"""Servers of strangers on loopback, one for each way to answer badly: raw bytes over a socket, for a bounded time."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

IMAGES, CLASSES, SHAPE = 4, 10, (1, 8, 8)
LONGEST = 120.0  # seconds that any of them goes on: so long that a busy machine is told from one that waits
METADATA = {
    "name": "x",
    "platform": "odd",
    "versions": ["1"],
    "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, *SHAPE]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]}],
}
ROW = [float(c) - 4.5 for c in range(CLASSES)]

Bytes = Iterator[bytes]
Reply = Callable[[], Bytes]  # what goes over the socket, a part at a time


@dataclass(frozen=True)
class Server:
    """What a server says to a question about what it is, and to one about images."""

    metadata: Reply
    answer: Reply
    said: str  # what the sentence must say, a regular expression


def http(body: bytes | str, *more: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Write a response."""
    content = body.encode() if isinstance(body, str) else body
    headers = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}", *more]
    return "\r\n".join([*headers, "", ""]).encode() + content


def once(body: bytes | str, *more: str, status: str = "200 OK") -> Reply:
    """Say one thing."""
    return lambda: iter([http(body, *more, status=status)])


def tensor(**more: Any) -> dict[str, Any]:
    """Return an answer's output, with what differs."""
    return {"name": "scores", "datatype": "FP32", "shape": [IMAGES, CLASSES], "data": ROW * IMAGES, **more}


def outputs(*tensors: Any, **more: Any) -> Reply:
    """Answer with tensors."""
    return once(json.dumps({"model_name": "x", "outputs": list(tensors), **more}))


def told(**more: Any) -> Reply:
    """Tell what the model is, with what differs."""
    return once(json.dumps({**METADATA, **more}))


def image(**more: Any) -> dict[str, Any]:
    """Return the metadata's input, with what differs."""
    return {**METADATA["inputs"][0], **more}  # type: ignore[dict-item]


def slowly(head: bytes, rest: bytes, pause: float = 0.02) -> Reply:
    """Say something, and the rest a byte at a time."""

    def parts() -> Bytes:
        yield head
        for byte in rest:
            time.sleep(pause)
            yield bytes([byte])

    return parts


def endlessly(head: bytes, part: bytes, pause: float = 0.0) -> Reply:
    """Say something, and go on with one part for ever."""

    def parts() -> Bytes:
        yield head
        while True:
            time.sleep(pause)
            yield part

    return parts


def silent() -> Bytes:
    """Say nothing, until it has been long."""
    time.sleep(LONGEST)
    yield b""


@cache
def bomb(times: int) -> bytes:
    """Return gzip of very many zeros."""
    return gzip.compress(bytes(2**20) * times)


GOOD, FINE = told(), outputs(tensor())
TRICKLE = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BOMB = http(bomb(40), "Content-Encoding: gzip")
NO_NUMBERS, NO_JSON = "data that are not numbers", "answered text that is not JSON"
LATE, SILENT = r"did not finish its answer in \S+ s", "cannot be reached: timed out, twice"

ANSWERS: dict[str, tuple[Reply, str]] = {
    # never an end
    "a byte now and then of a body": (slowly(TRICKLE, b" " * 9999), LATE),
    "a byte now and then of the first line": (slowly(b"HTTP", b"/" * 9999), LATE),
    "a byte now and then of a header": (slowly(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 9999), LATE),
    "a byte now and then of chunks": (endlessly(CHUNKED, b"1\r\n \r\n", 0.02), LATE),
    "a body without a length": (endlessly(b"HTTP/1.1 200 OK\r\n\r\n", b" ", 0.02), LATE),
    "continue for ever": (endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.005), LATE),
    "continue for ever in a hurry": (endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50), LATE),
    "early hints for ever": (endlessly(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0.005), LATE),
    "headers for ever": (endlessly(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 99), "cannot be reached"),
    "one header for ever": (endlessly(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 9999), "cannot be reached"),
    "trailers for ever": (endlessly(CHUNKED + b"0\r\n", b"X-More: and more\r\n" * 99), "cannot be reached"),
    "a body for ever": (endlessly(CHUNKED, b"2000\r\n" + b" " * 8192 + b"\r\n"), "more than 1 MiB"),
    "nothing at all": (silent, SILENT),
    "redirects to itself": (once("", "Location: infer", status="302 Found"), "redirect, which is not followed"),
    "a redirect to another host": (once("", "Location: http://127.0.0.2/", status="307 X"), "which is not followed"),
    # no HTTP, or odd
    "another protocol": (lambda: iter([b"SSH-2.0-OpenSSH_9.6\r\n"]), "cannot be reached"),
    "HTTP/2": (lambda: iter([b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)]), "cannot be reached"),
    "a negative length": (lambda: iter([http("{}", length=-2)]), "cannot be reached"),
    "two lengths": (once("{}", "Content-Length: 7"), "cannot be reached"),
    "a length of a thousand digits": (once("", "Content-Length: " + "9" * 1000), "cannot be reached"),
    "a chunk of a huge size": (lambda: iter([CHUNKED + b"f" * 15 + b"\r\n"]), "cannot be reached"),
    "a chunk of no size": (lambda: iter([CHUNKED + b"xyz\r\n"]), "cannot be reached"),
    "no status": (lambda: iter([b"HTTP/1.1 OK\r\n\r\n"]), "cannot be reached"),
    "NUL in a header": (once("{}", "X: a\0b"), "cannot be reached"),
    "another protocol from now on": (once("", status="101 Switching Protocols"), "answered 101|cannot be reached"),
    "a status of none": (once("", status="999 What"), "answered 999"),
    "a wait of a million digits": (once("", "Retry-After: " + "9" * 9000, status="503 Later"), "asks to wait"),
    "a wait until the year 1": (
        once("", "Retry-After: Mon, 01 Jan 0001 00:00:00 -2359", status="429 Later"),
        "asks to wait",
    ),
    # encodings that nobody asked for
    "a gzip bomb": (once(bomb(40), "Content-Encoding: gzip"), "more than 1 MiB"),
    "a gzip bomb in small parts": (
        lambda: (BOMB[at : at + 100] for at in range(0, len(BOMB), 100)),
        "more than 1 MiB",
    ),
    "a bomb in a bomb": (once(gzip.compress(bomb(40)), "Content-Encoding: gzip, gzip"), "expected none"),
    "brotli": (once(b"\x8b\x03\x80{}\x03", "Content-Encoding: br"), "in the encoding 'br'; expected none"),
    "zstandard": (once(b"\x28\xb5\x2f\xfd", "Content-Encoding: zstd"), "in the encoding 'zstd'"),
    "an encoding with a newline": (once("{}", "Content-Encoding: \x1b[31mred"), "in the encoding"),
    "gzip that is none": (once("{}", "Content-Encoding: gzip"), "marked as gzip, which it is not"),
    "gzip that ends early": (once(gzip.compress(b"{}" * 99)[:-9], "Content-Encoding: gzip"), "is cut off"),
    "deflate that is none": (once("{}", "Content-Encoding: deflate"), "marked as deflate, which it is not"),
    # no JSON
    "half of it": (once('{"outputs": ['), NO_JSON),
    "HTML": (once("<html>404</html>", "Content-Type: text/html"), NO_JSON),
    "bytes that are no UTF-8": (once(b'{"outputs": "\xff\xfe"}'), NO_JSON),
    "UTF-16": (once('{"outputs": []}'.encode("utf-16")), NO_JSON),
    "deep lists": (once("[" * 200_000), NO_JSON),
    "deep objects": (once('{"a":' * 100_000), NO_JSON),
    "deep data": (once('{"outputs": [{"name": "scores", "data": ' + "[" * 99_999), NO_JSON),
    "a number of 5,000 digits": (once('{"outputs": ' + "9" * 5000 + "}"), NO_JSON),
    "a key twice": (once('{"outputs": [], "outputs": []}'), "JSON with the key outputs twice"),
    "a key twice, deeper": (once('{"outputs": [{"name": "scores", "name": "x"}]}'), "JSON with the key name twice"),
    "an error in a success": (once('{"error": "no GPU left"}'), "answered with an error: no GPU left"),
    "an object as an error": (once('{"error": {"code": 13}}'), 'answered with an error: {"code": 13}'),
    # tensors that only look like some
    "nothing": (once(""), "with the outputs none"),
    "a list": (once("[]"), "with the outputs none"),
    "no tensor": (outputs(), "with the outputs none"),
    "tensors that are numbers": (outputs(1, 2), "with the outputs none"),
    "another tensor": (outputs(tensor(name="features")), "outputs features; expected scores"),
    "a tensor twice": (outputs(tensor(), tensor()), "outputs scores, scores; expected scores"),
    "numbers as text": (outputs(tensor(data=["0.5"] * 40)), NO_NUMBERS),
    "text, as a datatype": (outputs(tensor(datatype="BYTES", data=["0.5"] * 40)), "answered BYTES"),
    "truths for numbers": (outputs(tensor(data=[True, False] * 20)), NO_NUMBERS),
    "one truth among numbers": (outputs(tensor(data=[*ROW * 3, *ROW[:9], True])), NO_NUMBERS),
    "null for all": (outputs(tensor(data=None)), NO_NUMBERS),
    "null for numbers": (outputs(tensor(data=[None] * 40)), "NaN or infinity on 4 of 4"),
    "NaN": (outputs(tensor(data=[float("nan")] * 40)), "NaN or infinity on 4 of 4"),
    "a number that is infinite": (
        once(json.dumps({"outputs": [tensor(data=["1e400"] * 40)]}).replace('"1e400"', "1e400")),
        "NaN or infinity on 4 of 4",
    ),
    "whole numbers beyond floats": (outputs(tensor(data=[10**400] * 40)), NO_NUMBERS),
    "ragged rows": (outputs(tensor(data=[ROW, ROW, ROW, ROW[:9]])), NO_NUMBERS),
    "rows too deep": (outputs(tensor(data=[[ROW]] * 4)), NO_NUMBERS),
    "rows and numbers": (outputs(tensor(data=[ROW, *ROW * 3])), NO_NUMBERS),
    "objects for numbers": (outputs(tensor(data=[{}] * 40)), NO_NUMBERS),
    "an object for data": (outputs(tensor(data={"0": 1})), NO_NUMBERS),
    "a number too few": (outputs(tensor(data=(ROW * 4)[1:])), "answered 39 numbers; expected 40"),
    "a shape of 10^30": (outputs(tensor(shape=[10**30, 10])), "answered the shape"),
    "a shape of 400 digits": (outputs(tensor(shape=[10**400, 10])), r"answered the shape \[a huge number"),
    "a shape of floats": (outputs(tensor(shape=[4.0, 10.0])), r"the shape \[4.0, 10.0\] to 4 images"),
    "a shape of truths": (outputs(tensor(shape=[4, 10, True])), "answered the shape"),
    "a negative shape": (outputs(tensor(shape=[-4, -10])), "answered the shape"),
    "a shape in the shape": (outputs(tensor(shape=[[4], [10]])), "answered the shape"),
    "a shape of 10,000 dimensions": (outputs(tensor(shape=[4, *[2] * 9999])), "answered the shape"),
    "no shape": (outputs(tensor(shape=None)), "answered the shape None"),
    "rows and columns in turn": (outputs(tensor(shape=[10, 4])), "it is transposed"),
    "one score an image": (outputs(tensor(shape=[4, 1], data=[0.5] * 4)), "1 classes; the data has 10"),
    "other classes": (outputs(tensor(shape=[4, 7])), "7 classes; the data has 10"),
    "nothing but zeros": (outputs(tensor(data=[0.0] * 40)), "nothing but zeros on 4 of 4"),
    "scores of one class each": (outputs(tensor(data=[0.4] * 40)), "export the logits, from before the sigmoid"),
}
SAID: dict[str, tuple[Reply, str]] = {
    "a byte now and then": (slowly(TRICKLE, b" " * 9999), LATE),
    "no model": (once('{"error": "unknown model"}', status="404 Not Found"), "answered 404.*unknown model"),
    "an error in a success": (once('{"error": "unknown model"}'), "answered with an error: unknown model"),
    "a list": (once("[]"), "all of it is wrong"),
    "a number": (once("7"), "all of it is wrong"),
    "nothing": (once(""), "takes nothing"),
    "inputs that are none": (told(inputs="images"), "inputs is wrong"),
    "a name that is a number": (told(inputs=[image(name=3)]), "inputs.0.name is wrong"),
    "a shape of truths": (told(inputs=[image(shape=[True, 1, 8, 8])]), "inputs.0.shape.0 is wrong"),
    "a shape of floats": (told(inputs=[image(shape=[-1, 1, 8.0, 8.0])]), "inputs.0.shape.2 is wrong"),
    "a shape of 10^30": (told(inputs=[image(shape=[10**30, 1, 8, 8])]), "inputs.0.shape.0 is wrong"),
    "a shape of 4,000 digits": (told(inputs=[image(shape=[10**4000, 1, 8, 8])]), "inputs.0.shape.0 is wrong"),
    "a shape below none": (told(inputs=[image(shape=[-7, 1, 8, 8])]), "inputs.0.shape.0 is wrong"),
    "no images at once": (told(inputs=[image(shape=[0, 1, 8, 8])]), r"takes images of shape \[0, 1, 8, 8\]"),
    "three million at once": (told(inputs=[image(shape=[3_000_000, 1, 8, 8])]), "takes 3000000 images at once"),
    "a thousand dimensions": (told(inputs=[image(shape=[-1] * 1000)]), r"images of shape \[-1, .*…\], and"),
    "a datatype of 10,000 letters": (told(inputs=[image(datatype="F" * 10_000)]), "takes FFF"),
    "a thousand inputs": (told(inputs=[image()] * 1000), "its metadata must list one input"),
    "a key twice": (once('{"name": "x", "name": "y"}'), "JSON with the key name twice"),
    "a bomb": (once(bomb(40), "Content-Encoding: gzip"), "more than 1 MiB"),
    "deep extras": (once('{"name": "x", "more": ' + "[" * 100_000), NO_JSON),
    "not ready, it says": (once(json.dumps({**METADATA, "ready": False})), "is not ready"),
}
SERVERS: dict[str, Server] = {
    **{name: Server(GOOD, answer, said) for name, (answer, said) in ANSWERS.items()},
    **{f"metadata: {name}": Server(answer, FINE, said) for name, (answer, said) in SAID.items()},
}


@contextmanager
def serving(server: Server, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve on a free port of loopback, and give the model's URL; everything ends with the block."""
    listening = socket.create_server(("127.0.0.1", 0))
    over, held = threading.Event(), list[socket.socket]()

    def accept() -> None:
        with suppress(OSError):
            while not over.is_set():
                connection = listening.accept()[0]
                held.append(connection)
                threading.Thread(target=_speak, args=(server, connection, over, context), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        scheme = "http" if context is None else "https"
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/v2/models/x"
    finally:
        over.set()
        for connection in [listening, *held]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def _speak(server: Server, connection: socket.socket, over: threading.Event, context: ssl.SSLContext | None) -> None:
    """Answer one question, and hang up."""
    end = time.monotonic() + LONGEST
    with suppress(OSError, ValueError):
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        head = _question(connection)
        for part in server.answer() if head.startswith(b"POST") else server.metadata():
            if over.is_set() or time.monotonic() > end:
                break
            connection.sendall(part)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        connection.recv(1)
    connection.close()


def _question(connection: socket.socket) -> bytes:
    """Read a question and its body; return its head."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += connection.recv(65_536) or b"\r\n\r\n"
    head, _, body = text.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    missing = (int(lengths[0]) if lengths else 0) - len(body)
    while missing > 0:
        missing -= len(connection.recv(65_536)) or missing
    return head
