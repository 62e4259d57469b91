"""One slot of a cluster: it trains one student at a time, as the judging process of a local audit does.

It holds the metered oracle, the evaluation splits and, where the teacher is a file, a copy of the teacher. An attack
runs in the one worker process behind its pipe, as everywhere. All that a slot says is text (JSON) and numeric arrays.
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.execution.cards import Share
from audit.execution.cluster import folders
from audit.execution.cluster.connection import SECRETS
from audit.execution.cluster.letters import Letter, Luggage, Order, Question
from audit.execution.cluster.node import Node
from audit.execution.cluster.parcels import Get, Parcel, unpacked
from audit.execution.metering import MADE, Block, CachedTeacher, MeteredOracle, Pixels
from audit.execution.processes import Processes
from audit.execution.worker import Job
from audit.plan.cells import Failure, Result
from teachers.errors import AuditError
from teachers.notes import silent
from teachers.oracle import Ask, at_once
from teachers.processes import forks, messages
from teachers.processes.pipes import Arrays
from teachers.storage.store import Rows, Store
from teachers.surface import Answers, Surface
from teachers.task import Pool


@dataclass(frozen=True)
class DistantTeacher(CachedTeacher):
    """Answers of a teacher on another machine: kept on this node, asked of a copy, or of the driver.

    The driver alone pays: what it has stored or asks itself is fetched with `bring`. `ask` is the copy, if `copied`.
    """

    bring: Callable[[Letter], Letter] = field(kw_only=True)
    copied: bool = field(kw_only=True)

    def _fetch(self, block: Block, missing: Rows, pixels: Pixels) -> None:
        if not (self.copied and block.name.startswith(MADE)):  # no other slot's images are at the driver
            missing = self._brought(block, missing)
        if self.copied:
            super()._fetch(block, missing, pixels)
            return
        for at in range(0, len(missing), self.at_once):
            rows = missing[at : at + self.at_once]
            self._brought(block, rows, {"images": pixels(rows).numpy()})

    def _brought(self, block: Block, rows: Rows, images: Arrays = MappingProxyType({})) -> Rows:
        """Fetch answers from the driver; return the rows that it lacks. With `images`, it asks the teacher."""
        if not len(rows):
            return rows
        asked = Question(block=block.name, size=block.size)
        told = self.bring(Letter("ask", asked.model_dump_json(), {"rows": rows, **images}))
        messages.raise_refusal(told.header)
        arrays = {name: np.array(array) for name, array in told.arrays.items()}  # those that arrived are read-only
        there = arrays.pop("rows")
        if len(there):
            self.store.add(block.name, block.size, there, messages.heard(told.header, arrays, len(there)))
        return np.setdiff1d(rows, there)


class Slot:
    """A trusted process with one worker: the driver calls `greet` once, and for every student `begin`, then `listen`.

    `listen` and `reply` return the next letter: a question, which the driver replies to, or the outcome.
    """

    def __init__(self, run: str, timeout: float | None, card: bool = False, get: Get | None = None) -> None:
        """`card`: whether it trains on a part of one."""
        if get is None:
            import ray

            get = ray.get
        for secret in SECRETS:
            forks.withhold(secret)
        self._get = get
        self._share = Share() if card else None
        self._crew = Processes(1, timeout, self._share)
        self._folder = folders.entered(run)
        self._store = Store(self._folder, silent)
        self._pools: dict[str, Pool] = {}
        self._copies: dict[tuple[str | None, str | None], Ask] = {}
        self._said: queue.Queue[Letter] = queue.Queue()
        self._heard: queue.Queue[Letter] = queue.Queue()

    def greet(self) -> str:
        """Return what this node is: a `Node` as JSON."""
        free = 0 if self._share is None else torch.cuda.mem_get_info()[0]
        return Node.here().model_copy(update={"card": free}).model_dump_json()

    def begin(self, order: str, luggage: Luggage) -> None:
        """Begin to train a student (`order`: JSON); return at once, so that the driver knows that it began."""
        asked = Order.model_validate_json(order)
        threading.Thread(target=self._work, args=(asked, luggage), daemon=True).start()

    def listen(self) -> Letter:
        """Return the next letter."""
        return self._said.get()

    def reply(self, told: Letter) -> Letter:
        """Take the driver's reply to a question; return the next letter."""
        self._heard.put(told)
        return self._said.get()

    def leave(self) -> None:
        """End the worker, and remove what this audit keeps on the node; the last of its slots there is asked to."""
        self._crew.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self, order: Order, luggage: Luggage) -> None:
        try:
            said = self._told(self._trained(order, luggage))
        except AuditError as e:
            said = Letter("refused", json.dumps(messages.refusal(e)))
        except Exception as e:
            said = Letter("broken", json.dumps({"trace": "".join(traceback.format_exception(e))}))
        self._said.put(said)

    def _told(self, outcome: Result | Failure) -> Letter:
        if isinstance(outcome, Result):
            memory = {} if self._share is None else {"memory": np.array([self._share.taken])}
            return Letter("result", outcome.model_dump_json(), memory)
        crowded = self._share is not None and self._share.crowded
        return Letter("crowded" if crowded else "failure", outcome.model_dump_json())

    def _trained(self, order: Order, luggage: Luggage) -> Result | Failure:
        pool = self._pool(luggage.pool, "images")
        surrogate = None if luggage.surrogate is None else self._pool(luggage.surrogate, "images")
        job = Job(
            cell=order.cell,
            pool=self._store.pool(pool),
            surrogate=None if surrogate is None else self._store.pool(surrogate),
            classes=order.classes,
            owner=order.owner,
        )
        held = {one.digest: one for one in (pool, surrogate) if one is not None}
        door = self._door(order, held, luggage.copy) if order.asks else None
        splits = {name: self._pool(parcel, "exams") for name, parcel in luggage.splits.items()}
        (outcome,) = self._crew.run([job], lambda _: door, splits)
        return outcome

    def _pool(self, parcel: Parcel, folder: str) -> Pool:
        if parcel.digest not in self._pools:
            self._pools[parcel.digest] = unpacked(parcel, self._get, self._folder / folder)
        return self._pools[parcel.digest]

    def _door(self, order: Order, held: dict[str, Pool], copy: tuple[Any, ...]) -> MeteredOracle:
        cell, shape = order.cell, next(iter(held.values())).shape
        assert cell.teacher is not None
        assert cell.surface is not None
        surface, asked = Surface.parse(cell.surface), (cell.teacher, cell.surface)
        if copy and asked not in self._copies:
            self._copies[asked] = self._get(copy[0])
        teacher = DistantTeacher(
            self._store.answers(cell.teacher, surface.name, order.classes),
            self._copies.get(asked, _nobody),
            at_once(shape),
            bring=self._bring,
            copied=asked in self._copies,
        )
        return MeteredOracle(teacher, surface, held, cell.budget, self._store.files, order.owner)

    def _bring(self, asked: Letter) -> Letter:
        self._said.put(asked)
        return self._heard.get()


def _nobody(images: Tensor) -> Answers:
    raise RuntimeError("this node has no copy of the teacher")
