"""Check an attack's margins: over which kinds of controls they are, and which students each of them compares."""

from __future__ import annotations

from collections.abc import Iterator

from audit.finished.design import Disagreement, unequal
from audit.finished.groups import Group, Groups, Kind
from reports.record import UNSTATED, Comparison, ControlMargin, Over
from teachers.kinds import offers
from teachers.names import HOME_MADE, TWIN

FULL = "probs"


def every(groups: Groups) -> Iterator[Group]:
    """Return every group of students that a row or one of its margins compares."""
    yield from groups.all()
    for row in groups.record.comparisons:
        for found in row.margins:
            yield _group(groups, row, found)


def margins(groups: Groups) -> Iterator[Disagreement]:
    """Check that no margin was left out or added, and that none is over students that diverged."""
    for row in groups.record.comparisons:
        name, told = groups.record.name_of(row), tuple(found.over for found in row.margins)
        yield from unequal(f"margins of {name}", told, due(groups, row))
        for found in row.margins:
            stated = [groups.trials[key].cell.parameters for key in found.students[:1]]
            yield from unequal(f"setting of {found.over} of {name}", [found.parameters], stated)
            others = set(found.students) - set(row.control.students)  # a flag tells of a control that diverged
            if any(groups.trials[key].diverged for key in others):
                yield Disagreement(f"{found.over} of {name}", "a student that diverged", "none")


def due(groups: Groups, row: Comparison) -> tuple[Over, ...]:
    """Return the kinds of controls over which an attack must have a margin."""
    if groups.record.design == UNSTATED or row.status != "judged" or row.holds != "original":
        return ()
    own: tuple[Over, ...] = ("own loss",) if row.needs == "probs" else ()
    home: tuple[Over, ...] = ("home-made",) if _trained(groups, row) and not groups.record.planned else ()
    return ("ls", *own, "twin", *home)


def _trained(groups: Groups, row: Comparison) -> bool:
    """Whether a home-made teacher's students were trained and none diverged; of an unknown suite, what the row says."""
    if groups.suite is None:
        return row.margin_over("home-made") is not None
    found = {t.cell.seed for t in groups.of(_home(groups, row)) if t.role != "tune" and not t.diverged}
    return found >= set(range(groups.suite.bite_seeds))


def _group(groups: Groups, row: Comparison, found: ControlMargin) -> Group:
    where, says = f"{found.over} of {groups.record.name_of(row)}", {"named": found.name}
    if found.over == "home-made":
        kind, number = _home(groups, row), groups.suite.bite_seeds if groups.suite else len(found.students)
        tuned = (Kind(kind.due, row.knockoff.tuned_over),) if whole(groups) else ()
        return Group(where, found.students, range(number), (kind,), says, tuned)
    seeds = range(len(row.knockoff.students))
    if found.over == "twin":
        asked = _taught(groups, row, TWIN, groups.record.settings.surface)
        tuned = (Kind(asked.due, row.knockoff.tuned_over),)
        return Group(where, found.students, seeds, tuned, says, tuned)
    rivals = groups.rivals(row, "audited", row.knockoff.parameters)
    kinds = tuple(kind for kind in rivals if ("smoothed" in kind.due) == (found.over == "own loss"))
    return Group(where, found.students, seeds, kinds, says, kinds)


def _taught(groups: Groups, row: Comparison, who: str, surface: str) -> Kind:
    """Describe an attack's students that ask a teacher of the attacker's own."""
    same = ("technique", "recipe", "pool", "surrogate")
    mine = groups.knockoffs(row, "audited").due
    taught = {"own": who, "surface": surface, "asks": None, "kind": "control", "budget": None}
    return Kind({name: mine[name] for name in same} | taught)


def _home(groups: Groups, row: Comparison) -> Kind:
    """Describe the students of a home-made teacher: the ordinary one, or one of the attacker's fewer images."""
    if whole(groups):
        return groups.knockoffs(row, groups.ordinary)
    kind = _taught(groups, row, HOME_MADE, ordinary_surface(groups.record.settings.surface))
    tuned = row.positive_control and row.positive_control.students
    return Kind(kind.due | {"parameters": groups.trials[tuned[0]].cell.parameters}) if tuned else kind


def whole(groups: Groups) -> bool:
    """Whether the attacker holds everything that the ordinary teacher was trained on."""
    task = groups.record.task
    labelled = all(t.labels == 1 for t in groups.record.trials if t.cell.pool == task.pool_digest)
    return labelled and task.pool_images == task.train


def ordinary_surface(audited: str) -> str:
    """Return what the ordinary teacher shows, by what the audited one does."""
    return audited if offers(audited, "gradients") else FULL
