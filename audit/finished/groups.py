"""Which students each row of a record must compare, and with which properties: one table for all kinds of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any, NamedTuple

from audit.finished.design import known
from audit.plan.cells import OF_OWN, of_labels
from audit.plan.design import own_teacher, smoothing, truths
from audit.plan.suite import FIRST_NULL_SEED, LS_NAME, NULL_NAME, Suite, cost_shares
from reports.record import BaselineResult, Comparison, Cost, Parameters, PositiveControl, Record, Trial

BESIDE = ("kind", "asks", "named", "view", "smoothed", "own")  # entries of `Said` that are not fields of a cell

Said = dict[str, Any]  # a student's properties: the fields of its cell, and those of BESIDE


class Kind(NamedTuple):
    """A description of students that differ only in setting and seed."""

    due: Said
    settings: int = 0  # how many settings tuning tried; 0: any number


class Group(NamedTuple):
    """The students of one setting, by seed, that a row compares."""

    where: str
    cells: tuple[str, ...]
    seeds: Sequence[int]
    kinds: tuple[Kind, ...]  # the kinds that the students may have
    says: Said  # the properties that the row states
    tuned: tuple[Kind, ...] = ()  # the setting is the best on validation of these kinds; (): chosen elsewhere
    alike: str = ""  # the one parameter that they share with the chosen setting; "": all


def said(trial: Trial, swept: tuple[float, ...]) -> Said:
    """Return all properties of a student that a record states; `swept`: smoothings that an attack's own loss tries."""
    cell, smoothed, own = trial.cell, smoothing(trial.cell, swept), own_teacher(trial.cell)
    named = cell.technique + (OF_OWN.get(own or "", "") if smoothed is None else of_labels(smoothed))
    beside = (trial.kind, trial.teacher, named, cell.parameters.get("view"), smoothed, own)
    return {**cell.model_dump(), **dict(zip(BESIDE, beside, strict=True))}


@dataclass(frozen=True)
class Groups:
    """All groups of students in a record."""

    record: Record

    @cached_property
    def suite(self) -> Suite | None:
        """The suite, if its name is known; it says how many students there must be."""
        return known(self.record)

    @cached_property
    def trials(self) -> dict[str, Trial]:
        """Trials by cell key."""
        return {trial.key: trial for trial in self.record.trials}

    @property
    def swept(self) -> tuple[float, ...]:
        """The smoothings that an attack's own loss tries, by the design that the record states."""
        return truths(self.record.design)

    @cached_property
    def said(self) -> dict[str, Said]:
        """The stated properties of each student, by cell key."""
        return {trial.key: said(trial, self.swept) for trial in self.record.trials}

    @cached_property
    def ordinary(self) -> str:
        """The record's name of the ordinary teacher, which may be the audited teacher itself."""
        return "ordinary" if any(trial.teacher == "ordinary" for trial in self.record.trials) else "audited"

    @cached_property
    def holding(self) -> dict[str, str | None]:
        """Digests of the surrogate pool, the empty pool and the pool with a tenth of the labels; None if unused."""
        rows = {row.attack: row for row in self.record.comparisons}
        original, labels = self.record.task.pool_digest, self.record.settings.labels
        cells = [t.cell for t in self.record.trials if t.kind == "attack"]
        attacks = [(rows[cell.technique], cell) for cell in cells if cell.technique in rows]
        apart = [cell for row, cell in attacks if row.holds != "original"]
        tenth = [cell for row, cell in attacks if labels_only(row) and cell.pool != original]
        return {
            "surrogate": next((cell.surrogate for cell in apart if cell.surrogate), None),
            "nothing": next((cell.pool for cell in apart if cell.pool != original), None),
            "tenth": tenth[0].pool if tenth else original if labels < 1 else None,
        }

    def of(self, kind: Kind) -> Iterator[Trial]:
        """Return the trials of a kind."""
        return (trial for trial in self.record.trials if agree(self.said[trial.key], kind.due))

    def all(self) -> Iterator[Group]:
        """Return every group that a row of the record compares."""
        for row in self.record.comparisons:
            yield from self._attack(row)
            yield from self._positive_control(row, row.positive_control)
        for row in self.record.controls:
            yield from self._control(row)

    def _attack(self, row: Comparison) -> Iterator[Group]:
        name, mine = self.record.name_of(row), self.knockoffs(row, "audited")
        found, baseline = row.knockoff, row.baseline or BaselineResult(name="", students=())
        seeds = range(len(found.students))
        tuned = (mine,) if row.status != "failed" else ()  # if it failed during tuning, no setting was chosen
        yield Group(f"students of {name}", found.students, seeds, (mine,), {"parameters": found.parameters}, tuned)
        control = {"parameters": row.control.parameters, "named": row.control.name}
        if not found.students:
            rivals = self.rivals(row, "audited", found.parameters) if row.status == "identical" else ()
            yield Group(f"controls of {name}", (*row.control.students, *baseline.students), (), (), control, rivals)
            return
        rivals = self.rivals(row, "audited", found.parameters)
        yield Group(f"controls of {name}", row.control.students, seeds, rivals, control, rivals)
        best = (*rivals, *(self._alone(control, row.student) for control in self.record.suite.controls))
        if baseline.students or not self._diverged(self.record.suite.controls):
            first = range(min(row.looks, default=0))
            yield Group(f"baseline of {name}", baseline.students, first, best, {"named": baseline.name}, best)
        yield from self._curve(f"curve of {name}", row, row.curve, "audited", found.parameters)

    def _positive_control(self, row: Comparison, found: PositiveControl | None) -> Iterator[Group]:
        if found is None:
            return
        name, mine = f"the positive control of {self.record.name_of(row)}", self.knockoffs(row, self.ordinary)
        setting = self.trials[found.students[0]].cell.parameters
        seeds = self._fewer_seeds(row, found.students)
        if row.holds != "original":
            yield Group(f"students of {name}", found.students, seeds, (mine,), {}, (mine,))
            yield Group(f"controls of {name}", found.control_students, (), (), {})
            yield from self._curve(f"curve of {name}", row, found.curve, self.ordinary, setting)
            return
        rivals = self.rivals(row, self.ordinary, setting)
        if not labels_only(row):
            yield Group(f"students of {name}", found.students, seeds, (mine,), {}, (mine,))
            yield Group(f"controls of {name}", found.control_students, seeds, rivals, {}, rivals)
            return
        held = {"pool": self.holding["tenth"]}
        few, ls = (Kind(kind.due | held) for kind in (mine, self._ls(row.student)))
        yield Group(f"students of {name}", found.students, seeds, (few,), {}, (mine,))
        yield Group(f"controls of {name}", found.control_students, seeds, (ls,), {}, rivals, "smoothing")

    def _curve(
        self, where: str, row: Comparison, points: Sequence[Cost], asks: str, parameters: Parameters
    ) -> Iterator[Group]:
        """Return a steal-cost curve's groups: the last has the attack's own number of queries, the others fewer."""
        if not points:
            return
        own = max(self.trials[cell].queries for cell in points[-1].students)
        seeds = self._fewer_seeds(row, points[-1].students)
        shares = cost_shares(self.suite.budgets if self.suite else len(points))
        for point, share in zip_longest(points, shares):  # None fills up where there are too few or too many points
            due = self.knockoffs(row, asks).due | {"parameters": parameters}
            if share is not None and share < 1:
                due["budget"] = max(1, round(own * share))
            yield Group(where, point.students if point else (), seeds if share else (), (Kind(due),), {})

    def _fewer_seeds(self, row: Comparison, found: Sequence[str]) -> range:
        """Return the seeds of an attack's positive control and of its steal-cost curve."""
        if self.suite is None:
            return range(len(found))
        seeds = self.suite.bite_seeds
        return range(seeds if row.holds == "original" else min(seeds, self.suite.query_seeds))

    def _control(self, row: Comparison) -> Iterator[Group]:
        ls, name = self._ls(row.student), f"{row.attack} on {row.student}"
        mine = self._alone(row.attack, row.student, row.knockoff.tuned_over)
        control = {"parameters": row.control.parameters, "named": row.control.name}
        nulls = [c for c in self.record.controls if (c.attack, c.student) == (NULL_NAME, row.student)]
        longest = max((len(c.knockoff.students) for c in nulls), default=0)
        number = min(self.suite.seeds, self.record.suite.seeds) if self.suite else longest
        seeds = range(number)
        if row.attack == NULL_NAME:
            mine, seeds = ls, range(FIRST_NULL_SEED, FIRST_NULL_SEED + number)
        elif row.status == "failed" and self._diverged((row.attack, LS_NAME)):
            return
        said = {"parameters": row.knockoff.parameters}
        yield Group(f"students of {name}", row.knockoff.students, seeds, (mine,), said, (mine,))
        yield Group(f"controls of {name}", row.control.students, range(number), (ls,), control, (ls,))

    def _diverged(self, names: Sequence[str]) -> bool:
        return any(t.diverged for t in self.record.trials if t.cell.technique in names and t.role == "judge")

    def knockoffs(self, row: Comparison, asks: str) -> Kind:
        """Describe an attack's students that query a teacher."""
        original = row.holds == "original"
        due = {
            "kind": "attack",
            "asks": asks,
            "technique": row.attack,
            "recipe": self._recipe(row.student),
            "budget": self.record.settings.budget,
            "pool": self.record.task.pool_digest if original else self.holding["nothing"],
            "surrogate": self.holding["surrogate"] if row.holds == "surrogate" else None,
        }
        return Kind(due, row.knockoff.tuned_over)

    def rivals(self, row: Comparison, asks: str, parameters: Parameters) -> tuple[Kind, ...]:
        """Describe the control candidates of an attack's setting: LS students of two recipes, its own loss by ε."""
        plain = self._ls(row.student)
        if row.holds != "original":
            return (plain,)
        mine = Kind(self.knockoffs(row, asks).due | {"parameters": parameters})
        like = next(self.of(mine), None)  # the matched LS students see the same views
        matched = plain if like is None else self._ls(row.student, like.regime.recipe, like.regime.view)
        own = {name: mine.due[name] for name in ("technique", "parameters", "recipe", "pool", "surrogate")}
        own["budget"] = None  # who asks oneself pays nothing
        kinds = [plain] if matched == plain else [plain, matched]
        swept = self.swept if row.needs == "probs" else ()
        return (*kinds, *(Kind(own | {"smoothed": e, "surface": "probs"}, 1) for e in swept))

    def _ls(self, student: str, recipe: Parameters | None = None, view: str = "crop") -> Kind:
        kind = self._alone(LS_NAME, student, self.record.suite.settings)
        return Kind(kind.due | {"recipe": recipe or self._recipe(student), "view": view}, kind.settings)

    def _alone(self, technique: str, student: str, settings: int = 0) -> Kind:
        """Describe students that query no teacher."""
        nobody = dict.fromkeys(("asks", "teacher", "surface", "budget", "surrogate"))
        own = {"kind": "control", "technique": technique, "recipe": self._recipe(student)}
        return Kind({**own, **nobody, "pool": self.record.task.pool_digest}, settings)

    def _recipe(self, student: str) -> Parameters:
        return self.record.suite.recipe | {"architecture": student}


def agree(found: Said, due: Said) -> bool:
    """Whether a student has all required properties."""
    return all(found[name] == value for name, value in due.items())


def labels_only(row: Comparison) -> bool:
    """Whether an attack on original data uses only labels."""
    return row.holds == "original" and row.needs == "label"
