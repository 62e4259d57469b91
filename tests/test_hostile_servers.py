"""Whatever a server answers, and however slowly: one sentence, in time, and none of our secrets in it."""

from __future__ import annotations

import time

import pytest
import torch
from hostile_servers import CLASSES, IMAGES, LATE, LONGEST, SERVERS, SHAPE, SILENT, serving

from teachers.errors import AuditError
from teachers.http import wire
from teachers.http.remote import Remote, RemoteBox

X = torch.rand(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(0))
TOTAL = 0.25  # seconds of a question to those that never end


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST", 2**20)


def ask(url: str) -> torch.Tensor:
    remote = Remote(url, SHAPE, CLASSES, note=lambda line: None, sleep=lambda seconds: None, clock=lambda: 0.0)
    remote.batch = IMAGES
    return RemoteBox(remote)(X).values


@pytest.mark.parametrize("name", SERVERS)
def test_a_hostile_server_gets_a_sentence_in_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server, began = SERVERS[name], time.monotonic()
    if LATE in server.said:
        monkeypatch.setattr(wire, "TOTAL", TOTAL)
    if SILENT in server.said:
        monkeypatch.setattr(wire, "TIMEOUT", TOTAL)
    with serving(server) as url, pytest.raises(AuditError, match=server.said) as refused:
        ask(url)
    assert time.monotonic() - began < LONGEST / 2
    told = str(refused.value)
    assert told.isprintable()
    assert len(told) < 600
