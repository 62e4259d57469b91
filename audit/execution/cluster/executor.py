"""The executor of a cluster: it hands students to slots, answers what they ask, and gives lost students out again."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch

from audit.execution.cards import MOST, Card
from audit.execution.cluster.connection import Cluster
from audit.execution.cluster.letters import Letter, Luggage, Order, Question
from audit.execution.cluster.node import Node
from audit.execution.cluster.parcels import Parcel, Parcels
from audit.execution.cluster.slot import Slot
from audit.execution.measure import EvalSplits, Oracles
from audit.execution.metering import Block, MeteredOracle
from audit.execution.threads import one_thread
from audit.execution.worker import Job
from audit.plan.cells import Failure, Result
from audit.plan.engines import RAY
from reports.record import Engine, EngineNode
from teachers.errors import AuditError, UsageError
from teachers.notes import Note
from teachers.processes import messages
from teachers.storage.store import read_pool

AGAIN = 3  # times that a student is trained again, if it is lost with its slot
STILLBORN = 10  # moments in a row in which slots may die before they say what they are
LOOK = 1.0  # seconds between two looks at what the cluster has
WAIT = 30.0  # seconds without a slot after which that is told
LEAVE = 5.0  # seconds in which slots may tidy up


@dataclass(eq=False)
class _Seat:
    """A slot as the driver sees it: the call that it has not answered yet, and the student that it trains."""

    slot: Any  # the handle of an actor
    sharing: int  # how many slots shared a card when it was hired
    call: Any  # a reference; None: the slot is free
    node: str = ""
    job: Job | None = None
    door: MeteredOracle | None = None
    began: bool = False
    owner: str = ""  # whose code has run there


@dataclass
class _Batch:
    """The students of one call of `run`."""

    queue: deque[Job]
    doors: Oracles
    splits: dict[str, Parcel]
    lost: Counter[str] = field(default_factory=Counter)  # how often, by key of the cell


class ClusterExecutor:
    """Trains students in slots: as many as the cluster has, nodes that join included, and at most `most`.

    Where it has cards, the first slot on each takes all of it; once it is known what a student takes, as many as fit.
    """

    def __init__(
        self, cluster: Cluster, most: int | None, timeout: float | None, note: Note, slot: type = Slot
    ) -> None:
        import ray

        self.nodes: dict[str, str] = {}  # by key of a cell: where its student was trained
        self.here = Node.here()
        self._cluster, self._most, self._note = cluster, most, note
        # The smallest card that was seen: what a node has free is known when its first slot begins.
        self._card = Card(sys.maxsize, min(MOST, most or MOST), note) if cluster.cards else None
        self._slot = ray.remote(slot)
        self._began = uuid.uuid4().hex, timeout, cluster.cards
        self._crew: list[_Seat] = []
        self._systems: dict[str, str] = {}  # of the nodes that took part, by name
        self._parcels = Parcels(ray.put)
        self._packed = cache(lambda path: self._parcels.of(read_pool(path)))
        self._copies: dict[tuple[str | None, str | None], Any] = {}
        self._idle_since: float | None = time.monotonic()  # since when there is no slot; None: there is, or it was told
        self._looked, self._slots = -LOOK, 0
        self._stillborn, self._rest = 0, 0.0

    @property
    def workers(self) -> int:
        """Number of students that are trained at once."""
        return self._cluster.slots(self._sharing) if self._most is None else self._most

    @property
    def _sharing(self) -> int:
        """Number of students on a card."""
        return 1 if self._card is None else self._card.students

    @property
    def engine(self) -> Engine:
        """What a record keeps: the nodes, and how many students each trained."""
        trained = Counter(self.nodes.values())
        nodes = tuple(EngineNode(name=n, system=s, students=trained[n]) for n, s in sorted(self._systems.items()))
        return Engine(name=RAY, version=self._cluster.version, nodes=nodes)

    def run(self, jobs: Sequence[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result | Failure]:
        """Train and measure every job, in any order.

        Raises UsageError if a node has other software than this machine.
        """
        import ray

        batch = _Batch(deque(jobs), doors, {name: self._parcels.of(pool) for name, pool in eval_splits.items()})
        try:
            while batch.queue or any(seat.job for seat in self._crew):
                self._hire(batch)
                for seat in [seat for seat in self._crew if seat.call is None]:
                    self._give(seat, batch)
                calls = {seat.call: seat for seat in self._crew if seat.call is not None}
                for call in ray.wait(list(calls), timeout=LOOK)[0] if calls else ():
                    yield from self._hear(calls[call], batch)
                if not calls:  # all nodes are gone: one may join
                    time.sleep(LOOK)
                self._complain()
        finally:
            for seat in [seat for seat in self._crew if seat.job is not None]:
                self._dismiss(seat)

    def close(self) -> None:
        """End all slots, let one on every node tidy up, and end the connection."""
        import ray

        last = {seat.node: seat for seat in self._crew if seat.node}
        for seat in [seat for seat in self._crew if seat is not last.get(seat.node)]:
            self._dismiss(seat)
        if tidying := [seat.slot.leave.remote() for seat in self._crew]:
            ray.wait(tidying, num_returns=len(tidying), timeout=LEAVE)
        for seat in list(self._crew):
            self._dismiss(seat)
        self._cluster.close()

    def _hire(self, batch: _Batch) -> None:
        """Ask for as many slots as there is work for; those that find no processor yet wait for one."""
        for seat in [seat for seat in self._crew if seat.job is None and seat.sharing != self._sharing]:
            self._dismiss(seat)
            self._looked = -LOOK
        if time.monotonic() - self._looked >= LOOK:
            self._looked, self._slots = time.monotonic(), self._cluster.slots(self._sharing)
        work = len(batch.queue) + sum(seat.job is not None for seat in self._crew)
        if self._most is None or self._card is not None:
            work = min(work, self._slots)
        wanted = work if self._most is None else min(work, self._most)
        while len(self._crew) < wanted and time.monotonic() >= self._rest:
            slot = self._slot.options(**self._cluster.needs(self._sharing), max_concurrency=2).remote(*self._began)
            self._crew.append(_Seat(slot, self._sharing, slot.greet.remote()))

    def _give(self, seat: _Seat, batch: _Batch) -> None:
        """Send the next student: one of the same owner if there is one."""
        if not batch.queue or seat.sharing != self._sharing:
            return
        job = next((job for job in batch.queue if job.owner == seat.owner), batch.queue[0])
        batch.queue.remove(job)
        seat.job, seat.door, seat.owner, seat.began = job, batch.doors(job.cell), job.owner, False
        order = Order(cell=job.cell, classes=job.classes, owner=job.owner, asks=seat.door is not None)
        surrogate = None if job.surrogate is None else self._packed(job.surrogate)
        luggage = Luggage(self._packed(job.pool), surrogate, batch.splits, self._copy(job, seat.door))
        seat.call = seat.slot.begin.remote(order.model_dump_json(), luggage)

    def _copy(self, job: Job, door: MeteredOracle | None) -> tuple[Any, ...]:
        """Return a reference to a copy of the teacher, where any copy answers as the teacher does."""
        import ray

        if door is None or not door.teacher.portable:
            return ()
        asked = job.cell.teacher, job.cell.surface
        if asked not in self._copies:
            self._copies[asked] = ray.put(door.teacher.ask)
        return (self._copies[asked],)

    def _hear(self, seat: _Seat, batch: _Batch) -> Iterator[Result | Failure]:
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            said = ray.get(seat.call)
        except RayTaskError as e:
            raise (e.cause or e) from e
        except RayError as e:
            yield from self._lose(seat, batch, e)
            return
        if not seat.node:
            self._welcome(seat, Node.model_validate_json(said))
        elif said is None:
            seat.began, seat.call = True, seat.slot.listen.remote()
        elif said.say == "ask":
            assert seat.door is not None
            seat.call = seat.slot.reply.remote(_answered(seat.door, said))
        elif said.say == "crowded" and self._again(seat):
            assert seat.job is not None
            batch.queue.appendleft(seat.job)
            self._dismiss(seat)
        else:
            outcome = _outcome(said)
            self.nodes[outcome.cell.key] = seat.node
            seat.job = seat.door = seat.call = None
            if self._card is not None and "memory" in said.arrays:
                self._card.hold(int(said.arrays["memory"][0]))
            self._give(seat, batch)  # before its student is stored
            yield outcome

    def _again(self, seat: _Seat) -> bool:
        """Whether a student that found no memory on its card is worth another try there, beside fewer."""
        return self._card is not None and (seat.sharing > self._card.students or self._card.full())

    def _welcome(self, seat: _Seat, node: Node) -> None:
        node.fits(self.here)
        seat.node, seat.call, self._idle_since, self._stillborn = node.name, None, None, 0
        if node.name not in self._systems:
            if self._card is not None:
                self._card.free = min(self._card.free, node.card)
            self._systems[node.name] = node.system
            self._note(f"node {node.name} takes part")

    def _lose(self, seat: _Seat, batch: _Batch, error: Any) -> Iterator[Failure]:
        """Let go of a slot that died; its student is trained again, or fails if that happened too often."""
        self._dismiss(seat)
        if not seat.node and time.monotonic() >= self._rest:
            self._stillborn, self._rest = self._stillborn + 1, time.monotonic() + LOOK
        if getattr(error, "actor_init_failed", False) or self._stillborn > STILLBORN:
            said = next(line for line in reversed(str(error).splitlines()) if line.strip())
            raise UsageError(f"a node of the cluster cannot train students: {said.strip()}")
        if seat.job is None:
            return
        self._note(f"node {seat.node} lost a student in training, which is trained again")
        key = seat.job.cell.key
        batch.lost[key] += seat.began
        if batch.lost[key] <= AGAIN:
            batch.queue.appendleft(seat.job)
            return
        told = f"the slot that trained it died {batch.lost[key]} times, at last on node {seat.node} (out of memory?)"
        yield Failure(cell=seat.job.cell, sentence=told)

    def _dismiss(self, seat: _Seat) -> None:
        import ray
        from ray.exceptions import RayError

        with suppress(RayError):  # it never began
            ray.kill(seat.slot)
        self._crew.remove(seat)
        if not self._crew:
            self._idle_since = time.monotonic()

    def _complain(self) -> None:
        """Tell once that there is no slot."""
        if self._idle_since is not None and time.monotonic() - self._idle_since > WAIT:
            self._idle_since = None
            self._note(f"no slot trains yet: the cluster has {self._cluster.told}, which others may be using")


def _outcome(said: Letter) -> Result | Failure:
    if said.say == "result":
        return Result.model_validate_json(said.text)
    if said.say in ("failure", "crowded"):
        return Failure.model_validate_json(said.text)
    messages.raise_refusal(said.header)
    raise RuntimeError(said.header["trace"])


def _answered(door: MeteredOracle, said: Letter) -> Letter:
    """Reply to a slot's question: what is stored, or, about images that it sent, what the teacher answers."""
    asked, rows, teacher = Question.model_validate_json(said.text), np.array(said.arrays["rows"]), door.teacher
    try:
        if "images" in said.arrays:
            images = torch.from_numpy(np.array(said.arrays["images"]))
            with one_thread():
                found = teacher.answers(
                    Block(asked.block, asked.size), rows, lambda some: images[np.searchsorted(rows, some)]
                )
        else:
            stored, missing = teacher.store.load(asked.block, rows)
            rows = np.setdiff1d(rows, missing)
            if stored is None or not len(rows):
                return Letter("answers", arrays={"rows": rows[:0]})
            found = stored[torch.from_numpy(rows)]
    except (AuditError, ValueError, PermissionError) as e:
        return Letter("refused", json.dumps(messages.refusal(e)))
    header, arrays = messages.told(found)
    return Letter("answers", json.dumps(header), {"rows": rows, **arrays})
