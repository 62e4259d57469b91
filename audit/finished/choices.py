"""Check that every judged setting of an attack or a control was the best on validation images of all tried ones."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from audit.finished.design import TOLERANCE, Disagreement
from audit.finished.groups import BESIDE, Group, Groups, agree
from audit.finished.margins import every
from audit.plan.suite import FIRST_TUNING_SEED
from reports.record import Trial


def choices(groups: Groups) -> Iterator[Disagreement]:
    """Check that every judged setting is the best on validation images of those that were tried."""
    for group in every(groups):
        yield from best(groups, group)


def best(groups: Groups, group: Group) -> Iterator[Disagreement]:
    """Check that a group's setting is the best of the kinds it was chosen from, each tuned as the suite says."""
    where = f"settings of {group.where.removeprefix('students of ')}"
    seeds = list(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + groups.record.suite.tuning_seeds))
    tried: dict[str, list[Trial]] = {}
    for kind in group.tuned:
        found: dict[str, list[Trial]] = {}
        for trial in groups.of(kind):
            if trial.role == "tune":
                found.setdefault(setting(groups, trial), []).append(trial)
        entered, finalists = _race(found, seeds, groups.record.suite.finalists)
        wanted = kind.settings or entered
        needed = wanted > 1 or "smoothed" in kind.due  # an attack of a single setting needs no tuning, a control does
        if entered != wanted and (found or needed):
            yield Disagreement(where, f"{entered} settings tuned over {len(seeds)} seeds", str(wanted))
        whole = {name: found[name] for name in finalists if _seeds(found[name]) == seeds}
        if len(whole) != len(finalists):
            yield Disagreement(where, f"{len(whole)} finalists tuned over {len(seeds)} seeds", str(len(finalists)))
        tried |= whole
    scores = {name: float(np.mean([t.validation_accuracy for t in trials])) for name, trials in tried.items()}
    own = max((scores[name] for name, trials in tried.items() if _chosen(groups, group, trials[0])), default=-1.0)
    if scores and max(scores.values()) > own + TOLERANCE:
        first = tried[max(scores, key=lambda name: scores[name])][0].cell
        stored = [f"{c.technique} {c.parameters}" for c in (groups.trials[key].cell for key in group.cells[:1])]
        due = f"{first.technique} {first.parameters}"
        yield Disagreement(where, str(group.says.get("parameters", stored)), due)


def _race(found: dict[str, list[Trial]], seeds: list[int], finalists: int | None) -> tuple[int, list[str]]:
    """Return how many settings were tried as the suite says, and which of them must have all seeds: the finalists.

    Of settings that are equally good on the first seed, those are finalists that have all seeds.
    """
    if finalists is None or len(seeds) == 1:
        whole = [name for name, trials in found.items() if _seeds(trials) == seeds]
        return len(whole), whole
    first = {name: t.validation_accuracy for name, trials in found.items() for t in trials if t.cell.seed == seeds[0]}
    ranked = sorted(first, key=lambda name: (first[name], _seeds(found[name]) == seeds), reverse=True)
    return len(first), ranked[:finalists]


def _seeds(trials: list[Trial]) -> list[int]:
    return sorted(trial.cell.seed for trial in trials)


def setting(groups: Groups, trial: Trial) -> str:
    """Return everything that determines a student except its seed, its pool and the splits on which it is measured.

    Of a teacher that the attacker trains it is the kind: every seed asks another twin.
    """
    apart, said = (*BESIDE, "seed", "pool", "splits"), groups.said[trial.key]
    own = {"teacher": said["own"]} if said["own"] else {}
    return json.dumps({name: value for name, value in said.items() if name not in apart} | own)


def _chosen(groups: Groups, group: Group, tuned: Trial) -> bool:
    """Whether a tuned setting is that of a group and that of the group's row."""
    if not agree(groups.said[tuned.key], group.says):
        return False
    if not group.cells:
        return True
    mine = groups.trials[group.cells[0]]
    if group.alike:
        return tuned.cell.parameters.get(group.alike) == mine.cell.parameters.get(group.alike)
    return setting(groups, tuned) == setting(groups, mine)
