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
        whole = {name: trials for name, trials in found.items() if sorted(t.cell.seed for t in trials) == seeds}
        wanted = kind.settings or len(whole)
        needed = wanted > 1 or "smoothed" in kind.due  # an attack of a single setting needs no tuning, a control does
        if len(whole) != wanted and (found or needed):
            yield Disagreement(where, f"{len(whole)} settings tuned over {len(seeds)} seeds", str(wanted))
        tried |= whole
    scores = {name: float(np.mean([t.validation_accuracy for t in trials])) for name, trials in tried.items()}
    own = max((scores[name] for name, trials in tried.items() if _chosen(groups, group, trials[0])), default=-1.0)
    if scores and max(scores.values()) > own + TOLERANCE:
        first = tried[max(scores, key=lambda name: scores[name])][0].cell
        stored = [f"{c.technique} {c.parameters}" for c in (groups.trials[key].cell for key in group.cells[:1])]
        due = f"{first.technique} {first.parameters}"
        yield Disagreement(where, str(group.says.get("parameters", stored)), due)


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
