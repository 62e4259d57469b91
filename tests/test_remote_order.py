"""The order of the classes is checked for a URL as it is for a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_server import FakeServer
from small_teachers import linear
from torch import Tensor

from audit.cache.store import Cache
from audit.diagnosis.diagnose import diagnose
from audit.plan.options import Options
from teachers.data.datasets import load
from teachers.errors import RefusedInput, UsageError
from teachers.oracle import top_classes
from teachers.surface import FULL
from teachers.targets import remote
from teachers.targets.identify import refuse_other_order
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import behind_url
from teachers.task import Task

TURNED = [1, 0, 2, 3, 4, 5, 6, 9, 7, 8]  # by output, the class that it means
SHAPE = (1, 8, 8)
NAMES = tuple(str(c) for c in TURNED)


@pytest.fixture
def task(kept: Path) -> Task:
    return load("digits", kept)


def server(task: Task, order: list[int]) -> FakeServer:
    network = linear(task)

    def answer(x: Tensor) -> Tensor:
        logits: Tensor = network(x)
        return logits[:, order]

    return FakeServer(answer, SHAPE, 10)


def test_classes_in_another_order_are_noticed_and_put_right_by_name(kept: Path, tmp_path: Path, task: Task) -> None:
    place = Runtime(Cache(tmp_path), "cpu", lambda line: None)
    with server(task, TURNED).serving() as fake, server(task, list(range(10))).serving() as straight:
        spec = TeacherSpec(fake.url, "digits")
        found = behind_url(spec, task, FULL, place)
        with pytest.raises(RefusedInput, match=r"reordered as 1, 0, 2, 3, 4, 5, 6, 9, 7, 8 .*give --classes FILE"):
            refuse_other_order(found, top_classes(found.full, task.validation), task)
        named = behind_url(replace(spec, classes=NAMES), task, FULL, place)
        assert named.fingerprint != found.fingerprint
        top = top_classes(named.full, task.validation)
        refuse_other_order(named, top, task)
        plain = behind_url(TeacherSpec(straight.url, "digits"), task, FULL, place)
        straightforward = top_classes(plain.full, task.validation)
        refuse_other_order(plain, straightforward, task)
        assert (top == straightforward).all()
        x = torch.from_numpy(task.test.images[:20]).float() / 255
        torch.testing.assert_close(named.box(x).values, plain.box(x).values)
        with pytest.raises(UsageError, match="only one has"):
            behind_url(replace(spec, classes=(*NAMES[:9], "nine")), task, FULL, place)


def test_cmi_stops_where_two_classes_are_swapped(kept: Path, tmp_path: Path, task: Task) -> None:
    swapped = [0, 1, 2, 3, 4, 5, 6, 8, 7, 9]
    asked = {"device": "cpu", "cache": tmp_path, "quiet": True, "out": tmp_path / "cmi"}
    with server(task, swapped).serving() as fake, pytest.raises(RefusedInput, match="classes in another order"):
        diagnose(Options(teacher=fake.url, data="digits", **asked))  # type: ignore[arg-type]


def test_what_numbers_are_is_remembered_between_audits(tmp_path: Path, task: Task) -> None:
    network, notes = linear(task), list[str]()
    x = torch.from_numpy(task.validation.images[:40]).float() / 255
    with FakeServer(lambda images: 100 * network(images).softmax(-1), SHAPE, 10).serving() as fake:
        for _ in range(2):
            found = remote.connect(fake.url, None, task, Cache(tmp_path), notes.append)
            (part, log_probs), *more = found.ask(x)
            assert (part, more) == (slice(0, 40), [])
            assert (log_probs.exp().sum(-1) - 1).abs().max() < 1e-5
        assert notes == [f"{fake.url} answers with percentages"]
        fake.answer = network
        with pytest.raises(RefusedInput, match="answered logits; its first answers were percentages"):
            list(remote.connect(fake.url, None, task, Cache(tmp_path), notes.append).ask(x))
