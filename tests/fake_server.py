"""A model server of the Open Inference Protocol V2 on loopback, which misbehaves on demand and counts images."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from torch import Tensor

Answer = Callable[[Tensor], Tensor]  # float images (N, C, H, W) to rows of numbers (N, K)


@dataclass(frozen=True)
class Fault:
    """What becomes of one request instead of an answer."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False  # the connection, once the request was read
    slow: bool = False  # no answer until the server closes
    short: bool = False  # the connection closes before all of the body was sent


@dataclass
class FakeServer:
    """A model and how it is served; everything may be changed while it runs."""

    answer: Answer
    shape: tuple[int, int, int]
    classes: int
    name: str = "x"
    datatype: str = "FP32"
    layout: str = "NCHW"
    batch: int = -1  # a fixed number of images, or any
    most: int = 1_000  # images that one request may hold; more are 413
    output: dict[str, Any] = field(default_factory=dict)  # what differs in every answer's output tensor
    faults: deque[Fault | None] = field(default_factory=deque)  # of the next questions about images; None: an answer
    metadata: dict[str, Any] = field(default_factory=dict)  # what differs in it
    ready: bool = True
    closed: bool = False  # it answers no question about images any more
    images: int = 0  # that it saw
    requests: list[int] = field(default_factory=list)  # images of each
    tokens: list[str | None] = field(default_factory=list)  # Authorization of every request
    url: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def serving(self) -> Iterator[FakeServer]:
        """Serve on a free port of loopback."""
        server = _Server(("127.0.0.1", 0), _Handler)
        server.fake = self
        self.url = f"http://127.0.0.1:{server.server_port}/v2/models/{self.name}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            server.shutdown()
            for connection in server.connections:  # kept alive, they would still be answered
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            server.server_close()
            thread.join()

    def told(self) -> dict[str, Any]:
        """Return the model's metadata."""
        c, h, w = self.shape
        sizes = [c, h, w] if self.layout == "NCHW" else [h, w, c]
        return {
            "name": self.name,
            "platform": "fake",
            "versions": ["1"],
            "inputs": [{"name": "images", "datatype": self.datatype, "shape": [self.batch, *sizes]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [self.batch, self.classes]}],
            **self.metadata,
        }

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request."""
        (tensor,) = request["inputs"]
        assert tensor["datatype"] == self.datatype
        assert tensor["name"] == "images"
        x = torch.tensor(tensor["data"], dtype=torch.float32).reshape(tensor["shape"])
        x = x if self.layout == "NCHW" else x.permute(0, 3, 1, 2)
        assert tuple(x.shape[1:]) == self.shape
        with torch.no_grad():
            rows = self.answer(x / 255 if self.datatype == "UINT8" else x)
        data = np.asarray(rows, np.float64).ravel().tolist()
        output = {"name": "scores", "datatype": "FP32", "shape": list(rows.shape), "data": data, **self.output}
        return {"model_name": self.name, "outputs": [output]}


class _Server(ThreadingHTTPServer):
    fake: FakeServer
    daemon_threads = True

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self.connections: list[socket.socket] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hangs up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Remember the connection."""
        super().setup()
        self.server.connections.append(self.connection)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        fake = self.server.fake
        fake.tokens.append(self.headers.get("Authorization"))
        path = f"/v2/models/{fake.name}"
        if self.path == path:
            self._say(200, json.dumps(fake.told()))
        elif self.path == f"{path}/ready":
            self._say(200 if fake.ready else 400, "")
        else:
            self._say(404, json.dumps({"error": f"no {self.path}"}))

    def do_POST(self) -> None:
        fake = self.server.fake
        fake.tokens.append(self.headers.get("Authorization"))
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        images = request["inputs"][0]["shape"][0]
        fake.images += images
        fake.requests.append(images)
        fault = fake.faults.popleft() if fake.faults else None
        if fake.closed:
            self._say(500, "closed")
        elif fault is not None:
            self._fail(fault)
        elif images > fake.most or (fake.batch > 0 and images != fake.batch):
            self._say(413, f"{images} images are too many")
        else:
            self._say(200, json.dumps(fake.infer(request)))

    def _fail(self, fault: Fault) -> None:
        if fault.slow:
            self.server.fake.stopped.wait(10)
            self.close_connection = True
        elif fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            self._say(fault.status, fault.body, fault.headers, missing=10 if fault.short else 0)

    def _say(self, status: int, body: str, headers: dict[str, str] | None = None, missing: int = 0) -> None:
        content = body.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) + missing))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = missing > 0
