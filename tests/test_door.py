"""Attacks ask at a door that counts on its other side, and what comes through the wall is plain data."""

import json
import multiprocessing
import os
import pickle
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attacks.contract import CLASSES, SHAPE, tiny_lab
from audit.execution.metering import MADE, CachedTeacher, MeteredOracle
from teachers.errors import BudgetExceeded
from teachers.oracle import Box
from teachers.processes import pipes
from teachers.processes.pipes import PipeError
from teachers.storage.entries import Entries
from teachers.storage.mapped import AnswerFiles
from teachers.storage.store import AnswerStore
from teachers.surface import FULL, Answers
from teachers.views import ViewSet


class Counting:
    """A teacher that counts what reaches it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self._box, self.seen = Box(nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), CLASSES))), 0

    def __call__(self, images: torch.Tensor) -> Answers:
        self.seen += len(images)
        return self._box(images)


POOL = tiny_lab(FULL, 0).pool
CROPS = ViewSet("crop", 2)


@pytest.fixture
def teacher() -> Counting:
    return Counting()


def door(teacher: Counting, folder: Path, budget: int | None = None) -> MeteredOracle:
    files = AnswerFiles(Entries(folder))
    return MeteredOracle(CachedTeacher(AnswerStore(folder), teacher), FULL, {"held": POOL}, budget, files)


def test_what_is_stored_is_charged_to_every_cell_and_sent_once(teacher: Counting, tmp_path: Path) -> None:
    some = np.array([1, 4, 5])
    first, second = door(teacher, tmp_path), door(teacher, tmp_path)
    answers = first.views("held", [CROPS], some)
    assert torch.equal(answers.values, second.views("held", [CROPS], some).values)
    assert (first.charged, second.charged, teacher.seen) == (6, 6, 6)
    second.views("held", [CROPS], np.array([4, 7]))
    assert (second.charged, teacher.seen) == (10, 8)
    assert sum(int(a.rows.array().sum()) for a in second.rests if a.rows is not None) == 8


def test_images_that_an_attack_makes_are_stored_by_content(teacher: Counting, tmp_path: Path) -> None:
    one, images = door(teacher, tmp_path), torch.rand(5, *SHAPE)
    assert torch.equal(one.images(images).values, one.images(images.clone()).values)
    assert (one.charged, teacher.seen) == (10, 5)
    assert [a.block.startswith(MADE) for a in one.rests] == [True]


def test_images_that_serve_gradients_alone_are_told_apart(teacher: Counting, tmp_path: Path) -> None:
    one, images = door(teacher, tmp_path, budget=12), torch.rand(3, *SHAPE)
    one.images(images, estimate=True)
    one.images(torch.rand(2, *SHAPE), estimate=True)
    assert (one.charged, one.estimated) == (5, 5)
    assert [a.estimate for a in one.rests] == [True, True]
    one.images(images)
    assert (one.charged, one.estimated, teacher.seen) == (8, 5, 5)
    assert sorted(a.estimate for a in one.rests) == [False, True], "learned from, too"
    one.images(images, estimate=True)
    assert sorted(a.estimate for a in one.rests) == [False, True]
    with pytest.raises(BudgetExceeded):
        one.images(torch.rand(2, *SHAPE), estimate=True)


def test_a_door_refuses_before_anything_is_sent(teacher: Counting, tmp_path: Path) -> None:
    one = door(teacher, tmp_path, budget=7)
    one.views("held", [CROPS], np.arange(3))
    for wrong, error in (
        (lambda: one.views("held", [CROPS], np.arange(1)), BudgetExceeded),
        (lambda: one.images(torch.rand(2, *SHAPE)), BudgetExceeded),
        (lambda: one.views("another", [CROPS], np.arange(1)), PermissionError),
        (lambda: one.views("held", [ViewSet("raw", 1)], np.array([len(POOL)])), ValueError),
        (lambda: one.views("held", [ViewSet("raw", 1)], np.array([-1])), ValueError),
        (lambda: one.images(torch.rand(1, *SHAPE) + 1), ValueError),
        (lambda: one.images(torch.rand(1, 9, 9)), ValueError),
    ):
        with pytest.raises(error):
            wrong()
    assert (one.charged, teacher.seen) == (6, 6)


def pair() -> tuple[Connection, Connection]:
    return multiprocessing.Pipe()


@pytest.mark.parametrize(
    "array",
    [np.arange(6, dtype=np.int64).reshape(2, 3), np.zeros((0, 4), np.float32), np.array(3.5), np.array([True, False])],
)
def test_messages_arrive_as_they_were_sent(array: np.ndarray) -> None:
    here, there = pair()
    pipes.send(here, {"say": "ask", "n": 3}, {"a": array, "b": array[..., ::-1] if array.ndim else array})
    header, arrays = pipes.receive(there)
    assert header == {"say": "ask", "n": 3}
    assert np.array_equal(arrays["a"], array)
    assert arrays["a"].dtype == array.dtype
    assert arrays["a"].flags.writeable


class Bomb:
    """Runs a command wherever it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._marker}",)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    here, there = pair()
    here.send_bytes(pickle.dumps(Bomb(tmp_path / "marker")))
    with pytest.raises(PipeError):
        pipes.receive(there)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xfe",
        b"[]",
        b'{"header": {}}',
        json.dumps({"header": {}, "arrays": [["a", "|O", [1]]]}).encode(),
        json.dumps({"header": {}, "arrays": [["a", "<f4", [-1]]]}).encode(),
        json.dumps({"header": {}, "arrays": [["a", "nonsense", [1]]]}).encode(),
    ],
)
def test_what_is_no_message_is_said_to_be_none(header: bytes) -> None:
    here, there = pair()
    here.send_bytes(header)
    here.send_bytes(b"1234")
    with pytest.raises(PipeError):
        pipes.receive(there)


def test_an_array_of_another_size_is_no_message() -> None:
    here, there = pair()
    here.send_bytes(json.dumps({"header": {}, "arrays": [["a", "<f4", [3]]]}).encode())
    here.send_bytes(b"1234")
    with pytest.raises(PipeError, match="4 bytes for an array of 12"):
        pipes.receive(there)
