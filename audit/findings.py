"""From trained cells to comparisons, bites and trials: what the record holds of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attacks.base import Attack
from attacks.controls.ls import LS
from audit import checks, protocol
from audit.bench import Bench, Use
from audit.cells import Cell, Result
from audit.compare import Margin, above, paired
from audit.protocol import Baseline, Chosen, Setup
from audit.subjects import Subject, Tops
from audit.verdict import Finding
from reports.record import Bite, Comparison, Cost, Flag, Interval, Packed, Trial
from teachers.task import Pool, known

REPEATS = 0.995  # of the labels: a label-only attack is then its own control
BITE_LEVEL = 0.95

Top = NDArray[np.uint16]


@dataclass(frozen=True)
class Scorer:
    """Turns stored answers into correctness and agreement on the test split."""

    setup: Setup
    bench: Bench
    alpha: float

    def correct(self, results: Sequence[Result]) -> NDArray[np.bool_]:
        """Return correctness per seed and judged test image, (S, N)."""
        return self._hits(results)[:, self.setup.judged_images]

    def correct_on_dropped(self, results: Sequence[Result]) -> float | None:
        """Return the accuracy on classes that the attacker never saw, None where there are none."""
        dropped = ~self.setup.judged_images
        return float(self._hits(results)[:, dropped].mean()) if dropped.any() else None

    def bits(self, result: Result) -> NDArray[np.bool_]:
        """Return one student's correctness on every test image, (N,)."""
        hits: NDArray[np.bool_] = self._hits([result])[0]
        return hits

    def _hits(self, results: Sequence[Result]) -> NDArray[np.bool_]:
        truth = known(self.setup.task.test)
        return np.stack([_test(r) == truth for r in results])

    def interval(self, margin: Margin) -> Interval:
        """Return a margin as the record holds it; bounds of a margin lie in [−1, 1]."""
        low, high = margin.interval(0.95)
        bounds = (low, high, margin.lower(1 - self.alpha), margin.upper(1 - self.alpha))
        low, high, lower, upper = (float(np.clip(b, -1, 1)) for b in bounds)
        return Interval(
            mean=margin.mean,
            se=min(1.0, margin.se),
            df=margin.df,
            low=low,
            high=high,
            lower=lower,
            upper=upper,
            p=margin.p_above(),
            seeds=margin.seeds,
            images=margin.images,
            discordant=margin.discordant,
        )


def _test(result: Result) -> Top:
    assert result.test is not None
    array: Top = result.test.array()
    return array


def identical(setup: Setup, bench: Bench, subject: Subject, chosen: Chosen) -> float | None:
    """Return how often the teacher repeats the label, where that makes an attack its own control."""
    if not protocol.labels_only(type(chosen.attack)) or len(setup.pool.labelled) < len(setup.pool):
        return None
    results = bench.found(protocol.tuning_cells(setup, chosen.attack, subject)) or []
    repeats = [r.repeats for r in results if r.repeats is not None and r.regime.view in ("raw", "crop")]
    return float(np.mean(repeats)) if repeats and np.mean(repeats) >= REPEATS else None


def bite(scorer: Scorer, ordinary: Subject, chosen: Chosen, top: Top) -> tuple[Bite | None, bool]:
    """Measure an attack on the ordinary teacher against the baseline of its own threat model."""
    setup, bench = scorer.setup, scorer.bench
    if chosen.attack.holds != "original":
        return _budget_bite(scorer, ordinary, chosen, top)
    if protocol.labels_only(type(chosen.attack)):
        attack, control = protocol.label_bite_cells(setup, chosen, ordinary)
        baseline = f"LS student on {protocol.TENTH:.0%} of the labels, the other images asked"
    else:
        attack, control = protocol.judged_cells(setup, chosen, ordinary, setup.suite.bite_seeds)
        baseline = "LS student"
    knockoffs, students = bench.found(attack), bench.found(control)
    if knockoffs is None or students is None or any(r.diverged for r in (*knockoffs, *students)):
        return None, False
    margin = paired(scorer.correct(knockoffs), scorer.correct(students))
    bites = not margin.degenerate and margin.lower(BITE_LEVEL) > 0
    return Bite(baseline=baseline, bites=bites, margin=scorer.interval(margin)), bites


def _budget_bite(scorer: Scorer, ordinary: Subject, chosen: Chosen, top: Top) -> tuple[Bite | None, bool]:
    points = _curve(scorer, ordinary, chosen)
    if len(points) < 2:
        return None, False
    first, last = scorer.correct(points[0][1]), scorer.correct(points[-1][1])
    margin = above(last, scorer.setup.majority)
    rising = paired(last, first).lower(BITE_LEVEL) > 0
    bites = rising and not margin.degenerate and margin.lower(BITE_LEVEL) > 0
    baseline = "the largest class, and rising with the budget"
    curve = costs(scorer, points, top)
    return Bite(baseline=baseline, bites=bites, margin=scorer.interval(margin), curve=curve), bites


Points = list[tuple[int, list[Result]]]  # queries of a student, and the students that asked so many


def _curve(scorer: Scorer, subject: Subject, chosen: Chosen) -> Points:
    """Return the students of a steal-cost curve; nothing where one of them failed or diverged."""
    cells = protocol.cost_cells(scorer.setup, scorer.bench, chosen, subject)
    found = [scorer.bench.found(point) for point in cells]
    results = [(max(one.charged for one in r), r) for r in found if r is not None]
    diverged = any(one.diverged for _, r in results for one in r)
    return [] if diverged or len(results) < len(cells) else results


def costs(scorer: Scorer, points: Points, top: Top) -> tuple[Cost, ...]:
    """Return accuracy and agreement against queries."""
    return tuple(
        Cost(
            queries=spent,
            accuracy=scorer.interval(above(scorer.correct(r), 0.0)),
            agreement=float(np.mean([_test(one) == top for one in r])),
        )
        for spent, r in points
    )


@dataclass(frozen=True)
class Outcome:
    """One attack's row of the record, what the verdict may know of it, and the doubts it raised."""

    comparison: Comparison
    finding: Finding
    flags: tuple[Flag, ...] = ()


def outcome(
    scorer: Scorer,
    subject: Subject,
    ordinary: Subject,
    attack: type[Attack],
    chosen: dict[str, dict[str, Chosen]],
    tops: dict[str, Tops],
    best: Baseline,
) -> Outcome:
    """Compare one attack's knockoff students with the LS student."""
    setup, bench = scorer.setup, scorer.bench
    row = Comparison(
        attack=attack.name,
        title=attack.title,
        paper=attack.paper,
        holds=attack.holds,
        needs=attack.needs,
        status="judged",
        extra=attack.name not in setup.suite.attacks,
    )
    settled = chosen[ordinary.role].get(attack.name)
    measured, bites = (None, False) if settled is None else bite(scorer, ordinary, settled, tops[ordinary.role].test)
    row = row.model_copy(update={"bite": measured})
    if not subject.surface.offers(attack.needs):
        reason = f"it needs {attack.needs}, the surface shows {subject.surface.name}"
        return Outcome(_set_aside(row, "not applicable", reason), Finding(attack=attack.name, status="not applicable"))
    mine = chosen[subject.role].get(attack.name)
    if mine is None:
        return _failed(row, bench, setup, attack, subject)
    row = row.model_copy(update=_settings(mine))
    repeats = identical(setup, bench, subject, mine)
    if repeats is not None:
        flag = checks.identical(attack.name, repeats)
        return Outcome(
            _set_aside(row, "identical", flag.raised), Finding(attack=attack.name, status="identical"), (flag,)
        )
    knockoffs, students = protocol.judged_cells(setup, mine, subject, setup.seeds)
    results, controls = bench.found(knockoffs), bench.found(students)
    if results is None or controls is None or any(r.diverged for r in results):
        return _failed(row, bench, setup, attack, subject, knockoffs)
    mine_correct, control_correct = scorer.correct(results), scorer.correct(controls)
    margin = paired(mine_correct, control_correct)
    row = row.model_copy(
        update={
            "accuracy": float(mine_correct.mean()),
            "control_accuracy": float(control_correct.mean()),
            "agreement": float(np.mean([_test(r) == tops[subject.role].test for r in results])),
            "queries": max(r.charged for r in results),
            "students": _keys(knockoffs),
            "control_students": _keys(students),
            "margin": scorer.interval(margin),
            "dropped_accuracy": scorer.correct_on_dropped(results),
            "control_dropped_accuracy": scorer.correct_on_dropped(controls),
            "curve": _own_curve(scorer, subject, mine, tops[subject.role].test),
            **_over_baseline(scorer, best, mine, mine_correct, margin),
        }
    )
    return Outcome(row, Finding(attack=attack.name, status="judged", margin=margin, bites=bites))


def _own_curve(scorer: Scorer, subject: Subject, chosen: Chosen, top: Top) -> tuple[Cost, ...]:
    return () if chosen.attack.holds == "original" else costs(scorer, _curve(scorer, subject, chosen), top)


def _over_baseline(
    scorer: Scorer, best: Baseline, chosen: Chosen, knockoffs: NDArray[np.bool_], margin: Margin
) -> dict[str, object]:
    """Return the margin over the attacker's best alternative without the teacher, as validation ranks them.

    That is the attack's own LS student where no other baseline is better.
    """
    setup, bench = scorer.setup, scorer.bench
    if best.score <= protocol.ls_score(setup, bench, chosen.control):
        own = protocol.ls_cells(setup, chosen.control, range(len(knockoffs)))
        return {
            "baseline": chosen.control.control.name,
            "baseline_students": _keys(own),
            "baseline_margin": scorer.interval(margin),
        }
    cells = protocol.baseline_cells(setup, best, len(knockoffs))
    students = bench.found(cells)
    if students is None or any(r.diverged for r in students):
        return {}
    over = paired(knockoffs, scorer.correct(students))
    return {
        "baseline": best.control.name,
        "baseline_students": _keys(cells),
        "baseline_margin": scorer.interval(over),
    }


def _keys(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.key for cell in cells)


def _settings(chosen: Chosen) -> dict[str, object]:
    return {
        "parameters": chosen.attack.parameters,
        "tuned_over": chosen.tuned_over,
        "control": chosen.control.control.name,
        "control_parameters": chosen.control.control.parameters,
    }


def _set_aside(row: Comparison, status: str, reason: str) -> Comparison:
    return row.model_copy(update={"status": status, "reason": reason})


def _failed(
    row: Comparison,
    bench: Bench,
    setup: Setup,
    attack: type[Attack],
    subject: Subject,
    cells: Sequence[Cell] = (),
) -> Outcome:
    tuning = [c for s in protocol.settings(setup, attack) for c in protocol.tuning_cells(setup, s, subject)]
    failure = bench.failure([*tuning, *cells])
    sentence = "a student diverged (NaN)" if failure is None else failure.sentence
    return Outcome(
        _set_aside(row, "failed", sentence),
        Finding(attack=attack.name, status="failed"),
        (checks.failed(attack.name, sentence),),
    )


def null(scorer: Scorer, control: protocol.LSSetting) -> tuple[Comparison, Margin]:
    """Compare LS students with LS students of other seeds, paired as attacks are."""
    cells, others = protocol.null_cells(scorer.setup, control)
    first, second = scorer.bench.found(cells), scorer.bench.found(others)
    assert first is not None
    assert second is not None
    margin = paired(scorer.correct(second), scorer.correct(first))
    row = Comparison(
        attack="ls (null)",
        title="LS students against LS students of other seeds",
        paper=control.control.paper,
        holds="original",
        needs="label",
        status="judged",
        parameters=control.control.parameters,
        control=control.control.name,
        control_parameters=control.control.parameters,
        accuracy=float(scorer.correct(second).mean()),
        control_accuracy=float(scorer.correct(first).mean()),
        students=_keys(others),
        control_students=_keys(cells),
        margin=scorer.interval(margin),
    )
    return row, margin


def baseline_row(scorer: Scorer, baseline: Baseline, ls: Baseline) -> Comparison:
    """Compare a no-victim baseline with the LS student, paired as attacks are; outside the verdict."""
    setup = scorer.setup
    mine, theirs = (scorer.bench.found(protocol.baseline_cells(setup, b, setup.seeds)) for b in (baseline, ls))
    control = baseline.control
    row = Comparison(
        attack=control.name,
        title=control.title,
        paper=control.paper,
        holds="original",
        needs="label",
        status="failed",
        reason="a student diverged (NaN)",
        parameters=control.parameters,
        tuned_over=baseline.tuned_over,
        control=ls.control.name,
        control_parameters=ls.control.parameters,
    )
    if mine is None or theirs is None or any(r.diverged for r in (*mine, *theirs)):
        return row
    first, second = scorer.correct(mine), scorer.correct(theirs)
    measured = {
        "status": "judged",
        "reason": "",
        "accuracy": float(first.mean()),
        "control_accuracy": float(second.mean()),
        "students": _keys([r.cell for r in mine]),
        "control_students": _keys([r.cell for r in theirs]),
        "margin": scorer.interval(paired(first, second)),
    }
    return row.model_copy(update=measured)


def trial(scorer: Scorer, use: Use, tops: dict[str, Tops]) -> Trial:
    """Return what the record keeps of one student."""
    result = scorer.bench.results[use.cell.key]
    cell = result.cell
    top = None if use.teacher is None or result.test is None else tops[use.teacher].test
    return Trial(
        cell=cell.key,
        kind=use.kind,
        name=cell.technique,
        role=use.role,
        teacher=use.teacher,
        parameters=cell.parameters,
        student=str(cell.recipe["architecture"]),
        seed=cell.seed,
        labels=_labelled(scorer.bench.pools[cell.pool]),
        budget=cell.budget,
        regime=result.regime,
        validation_accuracy=protocol.validation_accuracy(scorer.setup, result),
        correct=None if result.test is None else Packed.of(scorer.bits(result)),
        agreement=None if top is None else float((_test(result) == top).mean()),
        charged=result.charged,
        repeats=result.repeats,
        diverged=result.diverged,
        network_parameters=result.network_parameters,
        seconds=result.seconds,
        step_seconds=result.step_seconds,
    )


def _labelled(pool: Pool) -> float:
    return len(pool.labelled) / len(pool) if len(pool) else 0.0


def control_flag(scorer: Scorer) -> Flag | None:
    """Look whether every LS student that is compared with has learned something."""
    results = [
        scorer.bench.results[key]
        for key, use in scorer.bench.uses.items()
        if use.cell.technique == LS.name and use.role != "tune" and use.cell.pool == scorer.setup.pool.digest
    ]
    lowest = float(scorer.correct(results).mean(1).min())
    return checks.weak_control(sum(r.diverged for r in results), lowest, scorer.setup.majority)


def adjusted(outcomes: Sequence[Outcome], p_holm: dict[str, float]) -> tuple[Comparison, ...]:
    """Write the Holm-adjusted p-values into the rows."""
    return tuple(o.comparison.model_copy(update={"p_holm": p_holm.get(o.comparison.attack)}) for o in outcomes)
