"""A real model server answers as the checkpoint that it serves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from teachers import intake, networks
from teachers.errors import RefusedInput
from teachers.http.remote import Remote, RemoteBox
from teachers.intake import Card
from teachers.networks import PreprocessedNetwork
from teachers.oracle import Box

PYTHON = os.environ.get("DISTILL_AUDIT_MLSERVER", "")
SHAPE, CLASSES = (1, 8, 8), 10

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="DISTILL_AUDIT_MLSERVER names no Python that has mlserver (1.7.1 was tried) and torch"
)


@pytest.fixture
def network() -> PreprocessedNetwork:
    torch.manual_seed(0)
    return PreprocessedNetwork(networks.build("strided-8-16", CLASSES, SHAPE), (0.4,), (0.3,)).eval()


@pytest.fixture
def url(network: PreprocessedNetwork, tmp_path: Path) -> Iterator[str]:
    card = Card(
        architecture="strided-8-16",
        classes=tuple("0123456789"),
        shape=SHAPE,
        mean=(0.4,),
        std=(0.3,),
        data="digits",
        task_digest="",
        method="plain",
    )
    intake.save_teacher(network, card, tmp_path / "model.pt")
    http, grpc, metrics = free_ports()
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0}))
    model = {
        "name": "x",
        "implementation": "mlserver_model.Checkpoint",
        "parameters": {"uri": str(tmp_path / "model.pt")},
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, *SHAPE]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, CLASSES]}],
    }
    (tmp_path / "model-settings.json").write_text(json.dumps(model))
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent)])
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [PYTHON, "-m", "mlserver.cli.main", "start", str(tmp_path)],
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield f"http://127.0.0.1:{http}/v2/models/x"
        finally:
            server.terminate()
            server.wait(30)
    assert server.returncode is not None


def free_ports() -> tuple[int, ...]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = tuple(int(one.getsockname()[1]) for one in held)
    for one in held:
        one.close()
    return ports


def opened(url: str, log: Path) -> Remote:
    """Open the model once it is served."""
    for _ in range(120):
        try:
            return Remote(url, SHAPE, CLASSES, note=print)
        except RefusedInput:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


def test_mlserver_answers_as_the_checkpoint(url: str, network: PreprocessedNetwork, tmp_path: Path) -> None:
    remote = opened(url, tmp_path / "log")
    images = torch.rand(300, *SHAPE, generator=torch.Generator().manual_seed(0))
    found, here = RemoteBox(remote)(images).values, Box(network)(images).values
    print("largest difference of a log-probability:", float((found - here).abs().max()))
    torch.testing.assert_close(found, here, rtol=0, atol=1e-5)
    assert (remote.sent, remote.output) == (300, "logits")
