"""From trained cells to the students and rows of a record; every number of them follows in `audit.analysis.derive`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from attacks.base import Attack
from audit.execution.bench import Bench
from audit.plan import suite
from audit.plan.cells import Cell, Use, planned
from audit.recording.teacher import Tops
from audit.trials import protocol
from audit.trials.protocol import Baseline, Chosen, Rival, Setup, Side, _keys, set_aside, sound
from reports.record import UNMEASURED, Bite, Comparison, Cost, Packed, Trial
from teachers.targets.target import Subject
from teachers.task import Pool, known


@dataclass(frozen=True)
class Rows:
    """Names the students that each row compares."""

    side: Side
    bench: Bench
    audited: Subject
    ordinary: Subject

    @property
    def setup(self) -> Setup:
        """What the side's cells share."""
        return self.side.setup

    @cached_property
    def baselines(self) -> list[Baseline]:
        """The students without a teacher, the LS student with the plain recipe first."""
        return protocol.baselines(self.setup, self.bench)

    def attack(self, attack: type[Attack]) -> Comparison:
        """Return one attack's row: its knockoff students and their LS students, or why there are none."""
        surface, bench = self.audited.surface, self.bench
        on_ordinary = self.side.settled[self.ordinary.role].get(attack.name)
        row = Comparison(
            attack=attack.name,
            student=self.setup.recipe.architecture,
            title=attack.title,
            paper=attack.paper,
            holds=attack.holds,
            needs=attack.needs,
            status="judged",
            extra=attack.name not in self.setup.suite.attacks,
            bite=None if on_ordinary is None else self._bite(on_ordinary),
        )
        if not surface.offers(attack.needs):
            return _aside(row, "not applicable", f"it needs {attack.needs}, the surface shows {surface.name}")
        mine = self.side.settled[self.audited.role].get(attack.name)
        if mine is None:
            return self._failed(row, attack)
        row = row.model_copy(update=_settings(mine))
        identical = set_aside(self.setup, bench, self.audited, mine)
        if identical is not None:
            return _aside(row, "identical", identical)
        looks = self.side.looks[attack.name]
        knockoffs, students = protocol.judged_cells(self.setup, mine, self.audited, looks[-1])
        if not sound(bench, knockoffs) or bench.found(students) is None:
            return self._failed(row, attack, knockoffs)
        curve = () if attack.holds == "original" else self._curve(mine, self.audited)
        return row.model_copy(
            update={
                "looks": looks,
                "students": _keys(knockoffs),
                "control_students": _keys(students),
                "curve": curve,
                **self._baseline(mine, looks[0]),
            }
        )

    def controls(self) -> list[Comparison]:
        """Return the rows of the null control and of the no-victim baselines."""
        ls, *others = self.baselines
        return [self._null(protocol.best_ls(self.setup, self.bench)), *(self._control(base, ls) for base in others)]

    def _null(self, ls: Rival) -> Comparison:
        """Return the row of LS students against LS students of other seeds, paired as attacks are."""
        cells, others = protocol.null_cells(self.setup, ls)
        return Comparison(
            attack=suite.NULL_NAME,
            student=self.setup.recipe.architecture,
            title="LS students against LS students of other seeds",
            paper=ls.technique.paper,
            holds="original",
            needs="label",
            status="judged",
            parameters=ls.technique.parameters,
            control=ls.name,
            control_parameters=ls.technique.parameters,
            students=_keys(others),
            control_students=_keys(cells),
        )

    def _control(self, baseline: Baseline, ls: Baseline) -> Comparison:
        """Return the row of a no-victim baseline against the LS student; outside the verdict."""
        mine, theirs = (protocol.baseline_cells(self.setup, b, self.setup.seeds) for b in (baseline, ls))
        control = baseline.control
        row = Comparison(
            attack=control.name,
            student=self.setup.recipe.architecture,
            title=control.title,
            paper=control.paper,
            holds="original",
            needs="label",
            status="judged",
            parameters=control.parameters,
            tuned_over=baseline.tuned_over,
            control=ls.control.name,
            control_parameters=ls.control.parameters,
        )
        if not sound(self.bench, [*mine, *theirs]):
            return _aside(row, "failed", "a student diverged (NaN)")
        return row.model_copy(update={"students": _keys(mine), "control_students": _keys(theirs)})

    def _baseline(self, chosen: Chosen, seeds: int) -> dict[str, object]:
        """Return the attacker's best alternative without the teacher, as validation ranks them.

        That is the attack's own LS student where no other baseline is better.
        """
        best = max(self.baselines, key=lambda baseline: baseline.score)
        if best.score <= protocol.rival_score(self.setup, self.bench, chosen.control):
            cells = protocol.rival_cells(self.setup, chosen.control, range(seeds))
            return {"baseline": chosen.control.name, "baseline_students": _keys(cells)}
        cells = protocol.baseline_cells(self.setup, best, seeds)
        return {"baseline": best.control.name, "baseline_students": _keys(cells)} if sound(self.bench, cells) else {}

    def _bite(self, chosen: Chosen) -> Bite | None:
        """Return what shows whether an attack beats the baseline of its own threat model on the ordinary teacher."""
        setup = self.setup
        measured = Bite(baseline="LS student", bites=False, margin=UNMEASURED)
        if chosen.attack.holds != "original":
            points = self._curve(chosen, self.ordinary)
            baseline = "the largest class, and rising with the budget"
            update = {"baseline": baseline, "students": points[-1].students if points else (), "curve": points}
            return measured.model_copy(update=update) if len(points) > 1 else None
        attack, control = protocol.judged_cells(setup, chosen, self.ordinary, setup.suite.bite_seeds)
        if protocol.labels_only(type(chosen.attack)):
            attack, control = protocol.label_bite_cells(setup, chosen, self.ordinary)
            baseline = f"LS student on {protocol.TENTH:.0%} of the labels, the other images asked"
            measured = measured.model_copy(update={"baseline": baseline})
        if not sound(self.bench, [*attack, *control]):
            return None
        return measured.model_copy(update={"students": _keys(attack), "control_students": _keys(control)})

    def _curve(self, chosen: Chosen, subject: Subject) -> tuple[Cost, ...]:
        """Return the students of a steal-cost curve; nothing where one of them failed or diverged."""
        points = protocol.cost_cells(self.setup, self.bench, chosen, subject)
        if not all(sound(self.bench, cells) for cells in points):
            return ()
        return tuple(Cost(queries=0, accuracy=UNMEASURED, agreement=0, students=_keys(cells)) for cells in points)

    def _failed(self, row: Comparison, attack: type[Attack], cells: Sequence[Cell] = ()) -> Comparison:
        setup = self.setup
        tried = protocol.settings(setup, attack)
        tuning = [c for s in tried for c in protocol.tuning_cells(setup, s, self.audited)]
        beside = [c for s in tried for c in protocol.rivals_tuned(setup, self.bench, self.audited, s)]
        failure = self.bench.failure([*tuning, *cells, *beside])
        return _aside(row, "failed", "a student diverged (NaN)" if failure is None else failure.sentence)


def _settings(chosen: Chosen) -> dict[str, object]:
    return {
        "parameters": chosen.attack.parameters,
        "tuned_over": chosen.tuned_over,
        "control": chosen.control.name,
        "control_parameters": chosen.control.technique.parameters,
    }


def _aside(row: Comparison, status: str, reason: str) -> Comparison:
    return row.model_copy(update={"status": status, "reason": reason})


def trial(setup: Setup, bench: Bench, use: Use, tops: dict[str, Tops]) -> Trial:
    """Return what the record keeps of one student, image by image."""
    result = bench.results[use.cell.key]
    cell, test = result.cell, None if result.test is None else result.test.array()
    top = tops[use.teacher or "audited"].test
    return Trial(
        cell=cell.key,
        kind=use.kind,
        name=cell.technique,
        role=use.role,
        teacher=use.teacher,
        parameters=cell.parameters,
        student=str(cell.recipe["architecture"]),
        seed=cell.seed,
        labels=_labelled(bench.pools[cell.pool]),
        budget=cell.budget,
        regime=result.regime,
        planned=planned(cell),
        validated=Packed.of(result.validation.array() == known(setup.task.validation)),
        correct=None if test is None else Packed.of(test == known(setup.task.test)),
        agrees=None if test is None else Packed.of(test == top),
        charged=0 if use.teacher is None else result.charged,
        estimated=0 if use.teacher is None else result.estimated,
        repeats=result.repeats,
        diverged=result.diverged,
        network_parameters=result.network_parameters,
        seconds=result.seconds,
        step_seconds=result.step_seconds,
    )


def _labelled(pool: Pool) -> float:
    return len(pool.labelled) / len(pool) if len(pool) else 0.0
