"""What tuning says about an attack: whether it loses to its own control, and whether answers mislead it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attacks.sources import statements
from audit.statistics.compare import Margin, paired
from audit.statistics.verdict import DELTA, usable
from reports.record import UNSTATED, Cell, Comparison, Trial

if TYPE_CHECKING:
    from audit.analysis.derive import RecordResults

MISTUNED = 0.01  # below its control, on validation images
HARM = 0.03  # below its control: more than answers cost that say nothing, whatever the loss
Students = dict[int, str]  # by seed


def setting(cell: Cell) -> Cell:
    """Return what the students of a setting share: all but the seed, and what they were measured on."""
    return cell.model_copy(update={"seed": 0, "splits": "both"})


def students(trials: Iterable[Trial], like: Cell) -> Students:
    """Return the students of a setting, from tuning and from judging: each was measured on validation images."""
    shared = setting(like)
    same = (trial for trial in trials if trial.cell.technique == like.technique)
    return {trial.cell.seed: trial.key for trial in same if setting(trial.cell) == shared}


def validation_margin(facts: RecordResults, mine: Students, theirs: Students) -> Margin | None:
    """Return the margin on validation images over the seeds that both have; None if there are none."""
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        return None
    return paired(facts.tuning([mine[seed] for seed in seeds]), facts.tuning([theirs[seed] for seed in seeds]))


def mis_tuned(facts: RecordResults, row: Comparison) -> bool:
    """Whether an attack's best setting on validation is surely more than a point below its control there.

    Attacks without original images are left out: they cannot do what their control does.
    """
    if not rational(facts, row):
        return False
    mine, theirs = (students(facts.record.trials, facts.trials[keys[0]].cell) for keys in sides(row))
    return surely_below(validation_margin(facts, mine, theirs), MISTUNED)


def rational(facts: RecordResults, row: Comparison) -> bool:
    """Whether a row is of an attack that could have done what its control does, in an audit that looks for it."""
    return bool(row.knockoff.students) and row.holds == "original" and facts.record.design > UNSTATED


def sides(row: Comparison) -> tuple[Sequence[str], Sequence[str]]:
    """Return the judged students of a row, and of its control."""
    return row.knockoff.students, row.control.students


def surely_below(margin: Margin | None, least: float) -> bool:
    """Whether the one-sided 95 % upper bound of a margin lies below −`least`."""
    return margin is not None and not margin.degenerate and margin.upper() < -least


def misled(facts: RecordResults, row: Comparison) -> bool:
    """Whether answers harm an attack that sees probabilities: its students, or most of the settings that it tried.

    An attack whose grid falls back to the labels ends at its control; what it tried before tells all the same.
    """
    if not rational(facts, row) or row.needs == "label":
        return False
    if usable(facts.looks(row).last) and row.margin is not None and row.margin.upper < -HARM:
        return True
    best, control = (facts.trials[keys[0]].cell for keys in sides(row))
    theirs = students(facts.record.trials, control)
    tried = [
        t.cell
        for t in facts.record.trials
        if t.role == "tune" and (t.cell.technique, t.cell.teacher) == (row.attack, best.teacher)
        if t.cell.recipe == best.recipe
    ]
    settings = {setting(cell).key: students(facts.record.trials, cell) for cell in tried}
    lost = [_harmed(facts, validation_margin(facts, mine, theirs)) for mine in settings.values()]
    return sum(lost) > len(lost) / 2


def _harmed(facts: RecordResults, margin: Margin | None) -> bool:
    """Whether a setting is surely harmed; one that left the race has a single seed, and counts by twice the loss."""
    if facts.record.suite.finalists is not None and margin is not None and margin.seeds == 1:
        return margin.mean < -2 * HARM
    return surely_below(margin, HARM)


def decided_by_decoding(facts: RecordResults, rows: Iterable[Comparison]) -> bool:
    """Whether an attack that decodes answers passes its positive control and surely gains less than the tolerance."""
    known = statements()
    return any(
        row.attack in known
        and known[row.attack].decodes
        and row.passes
        and not row.mis_tuned
        and row.margin is not None
        and usable(facts.looks(row).last)
        and row.margin.upper < DELTA
        for row in rows
    )
