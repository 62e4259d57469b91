"""What a cluster costs: two slots against one (and two local processes), a student beside its training, and its driver.

And whether its students are those of this machine: in the demo audit, and with all standard attacks and few seeds.

All nodes are on this machine. The slots of `driver` sleep in place of training, so that only the driver works.

    python benchmarks/cluster.py efficiency [--rounds 3] [--students 2] [--steps 4000]
    python benchmarks/cluster.py overhead [--rounds 3] [--students 40]
    python benchmarks/cluster.py driver [--slots 64] [--seconds 5] [--students 384]
    python benchmarks/cluster.py equality [--slots 3]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from attacks.controls.ls import LS
from audit.cache.store import Cache
from audit.execution.cluster.connection import Cluster
from audit.execution.cluster.executor import ClusterExecutor
from audit.execution.cluster.letters import Letter, Luggage
from audit.execution.cluster.node import Node
from audit.execution.execute import Executor
from audit.execution.processes import Processes
from audit.execution.worker import Job
from audit.pipeline import run
from audit.plan.cells import ENGINE, Cell, Result
from audit.plan.engines import RAY
from audit.plan.options import Options
from audit.plan.suite import EFFORTS, Suite
from reports.record import PackedArray, Regime
from teachers.data import datasets
from teachers.notes import silent
from teachers.training import Recipe

STUDENT = "strided-8-16-32"
FEW = Suite(
    "few-0",
    EFFORTS["standard"].attacks,
    (),
    settings=2,
    tuning_seeds=1,
    seeds=2,
    bite_seeds=2,
    query_seeds=2,
    budgets=2,
    steps=10,
    epochs=0,
    views=2,
)
START = 15.0  # seconds in which the processes of Ray itself start
WARM = 20.0  # seconds that the first student of every slot sleeps, so that each gets one


class SleepingSlot:
    """A slot that sleeps for some seconds, and then says what a student might have answered."""

    node = ""  # what `greet` says
    answer: dict[str, Any] = {}  # noqa: RUF012  # a result without its cell

    def __init__(self, run: str, timeout: float | None, card: bool) -> None:
        self._cell: dict[str, Any] = {}

    def greet(self) -> str:
        """Say what this node is."""
        return self.node

    def begin(self, order: str, luggage: Luggage) -> None:
        """Take an order."""
        self._cell = json.loads(order)["cell"]

    def listen(self) -> Letter:
        """Sleep, and say the answers."""
        time.sleep(float(self._cell["parameters"]["sleep"]))
        return Letter("result", json.dumps(self.answer | {"cell": self._cell}))

    def leave(self) -> None:
        """Hold nothing."""


@dataclass
class Bench:
    """Glyphs, and a cache for their images."""

    cache: Cache

    def __post_init__(self) -> None:
        self.task = datasets.load("glyphs", self.cache.root)
        self.splits = {"validation": self.task.validation, "test": self.task.test}

    def jobs(self, count: int, steps: int, first: int = 0, **parameters: Any) -> list[Job]:
        """Return LS students."""
        pool, recipe = self.cache.pool(self.task.train), Recipe(STUDENT, steps).settings
        cells = (
            Cell(
                engine=ENGINE,
                technique=LS.name,
                version=str(LS.version),
                parameters={**LS().parameters, **parameters},
                recipe=recipe,
                seed=first + number,
                pool=self.task.train.digest,
                task=self.task.digest,
            )
            for number in range(count)
        )
        return [Job(cell=cell, pool=pool, surrogate=None, classes=len(self.task.classes)) for cell in cells]

    def trained(self, crew: Executor, jobs: list[Job]) -> tuple[float, list[Result]]:
        """Train students and store them as an audit does; return the seconds, and the results."""
        began, found = time.perf_counter(), []
        for outcome in crew.run(jobs, lambda cell: None, self.splits):
            assert isinstance(outcome, Result), outcome
            self.cache.finish(outcome)
            found.append(outcome)
        return time.perf_counter() - began, found


def crew_of(slots: int, slot: type | None = None) -> ClusterExecutor:
    """Return the executor of a cluster on this machine."""
    kind = {} if slot is None else {"slot": slot}
    return ClusterExecutor(Cluster(RAY, slots, "cpu"), slots, None, silent, **kind)


def efficiency(bench: Bench, rounds: int, students: int, steps: int) -> None:
    """Print the time of one slot over twice the time of two, and that of local processes, in turn.

    In every round one, two, two and one: a machine that grows slower is no fault of two.
    """
    kinds: dict[str, Callable[[int], Executor]] = {"cluster": crew_of, "local": Processes}
    found, seconds = {name: list[float]() for name in kinds}, []
    for number in range(rounds):
        for name, crew_with in kinds.items():
            took = {1: 0.0, 2: 0.0}
            for most in (1, 2, 2, 1):
                with closing(crew_with(most)) as crew:
                    bench.trained(crew, bench.jobs(most, 1, first=1_000))  # slots start, images arrive
                    time.sleep(START if name == "cluster" else 0)
                    more, results = bench.trained(crew, bench.jobs(students, steps, first=100 * number))
                    took[most] += more
                    seconds += [result.seconds for result in results]
            found[name].append(took[1] / (2 * took[2]))
            print(f"{name}: one {took[1]:.1f} s, two {took[2]:.1f} s: efficiency {found[name][-1]:.3f}", flush=True)
    for name, values in found.items():
        print(f"{name}: efficiency {median(values):.3f} (median of {rounds})")
    print(f"a student takes {median(seconds):.1f} s")


def overhead(bench: Bench, rounds: int, students: int) -> None:
    """Print how much longer a student of one step takes in a slot than in a local process."""
    found = {"local": list[float](), "cluster": list[float]()}
    for number in range(rounds):
        for name in found:
            with closing(crew_of(1) if name == "cluster" else Processes(1)) as crew:
                bench.trained(crew, bench.jobs(1, 1, first=1_000))
                took, _ = bench.trained(crew, bench.jobs(students, 1, first=100 * number))
                found[name].append(1_000 * took / students)
        print({name: round(values[-1], 1) for name, values in found.items()}, flush=True)
    more = median(found["cluster"]) - median(found["local"])
    print(f"{more:.1f} ms a student more than in a local process (medians of {rounds} rounds)")


def driver(bench: Bench, slots: int, seconds: float, students: int) -> None:
    """Print which share of the slots' time was spent in students, although one driver serves them all."""
    rng = np.random.default_rng(0)
    answers = {
        name: PackedArray.of(rng.integers(0, len(bench.task.classes), len(pool)).astype(np.uint16))
        for name, pool in bench.splits.items()
    }
    (sample,) = bench.jobs(1, 1)
    told = Result(
        cell=sample.cell,
        regime=Regime(recipe=sample.cell.recipe, view="crop", source="original"),
        validation=answers["validation"],
        test=answers["test"],
        charged=0,
        asked=(),
        repeats=None,
        diverged=False,
        network_parameters=1,
        seconds=seconds,
        step_seconds=seconds,
    )
    SleepingSlot.node, SleepingSlot.answer = (
        Node.here().model_dump_json(),
        json.loads(told.model_dump_json(exclude={"cell"})),
    )
    with closing(crew_of(slots, SleepingSlot)) as crew:
        began = time.perf_counter()
        bench.trained(crew, bench.jobs(slots, 1, sleep=WARM))
        print(f"{slots} slots began in {time.perf_counter() - began - WARM:.0f} s", flush=True)
        took, _ = bench.trained(crew, bench.jobs(students, 1, first=slots, sleep=seconds))
    busy = students * seconds / (slots * took)
    print(f"{students} students of {seconds:g} s in {slots} slots: {took:.1f} s, {busy:.1%} of the slots' time busy")


def equality(folder: Path, slots: int) -> None:
    """Print whether audits on a cluster end in the same records as here, but for times, nodes and the command."""
    smoke = EFFORTS["smoke"]
    for name, data, suite in (("demo", None, smoke), ("demo", "digits", FEW)):
        EFFORTS["smoke"], records = suite, []
        for engine, jobs in (("local", None), (RAY, slots)):
            out = folder / f"{data}-{engine}"
            asked = Options(
                teacher=name,
                data=data,
                effort="smoke",
                out=out,
                cache=folder / f"cache-{engine}",
                jobs=jobs,
                engine=engine,
            )
            records.append(run(asked).record)
        here, there = (record.model_dump(mode="json", exclude={"times", "journal", "command"}) for record in records)
        for plain in (here, there):
            del plain["environment"]
            for trial in plain["trials"]:
                del trial["seconds"], trial["step_seconds"]
        students = [record.times.trained for record in records]
        print(
            f"{name} on {data or 'its own data'}, {suite.name}: {students} students, equal: {here == there}", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("efficiency", "overhead", "driver", "equality"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--students", type=int)
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Cache(Path(name)))
        if given.part == "efficiency":
            efficiency(bench, given.rounds, given.students or 2, given.steps)
        elif given.part == "overhead":
            overhead(bench, given.rounds, given.students or 40)
        elif given.part == "equality":
            equality(Path(name), given.slots or 3)
        else:
            driver(bench, given.slots or 64, given.seconds, given.students or 384)
