"""From records to the panels of the board. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, spearmanr

from attacks.adaptive import ATTACKS
from audit.finished.side_by_side import NamedRecord, contrast, entry, names, question, twice
from reports.base import replaced
from reports.board.document import Board, Correlation, Gain, Panel, Row
from reports.record import Comparison, Record
from reports.wording import largest, percent, sure
from teachers.errors import UsageError

ADAPTIVE = tuple(attack.name for attack in ATTACKS)
FEW = 5  # teachers; a rank correlation of fewer says nothing


@dataclass(frozen=True)
class Submission:
    """A record with what is said of it: where it was found, its defence, who measured it."""

    place: str
    record: Record
    defence: str = ""
    by: str = ""
    link: str = ""
    page: str = ""


def board(given: Sequence[Submission]) -> Board:
    """Return the board of some audits: a panel for every question.

    Raises UsageError where there are none, or one is given twice.
    """
    if not given:
        raise UsageError("a board needs audits; give a folder with folders that `audit run` wrote")
    if pair := twice(NamedRecord(one.place, one.record) for one in given):
        raise UsageError(f"{pair[0].place} and {pair[1].place} are the same audit; remove one of them")
    asked: dict[tuple[tuple[str, str], ...], list[Submission]] = {}
    for one in given:
        asked.setdefault(tuple(question(one.record).items()), []).append(one)
    panels = [_panel(key, members) for key, members in asked.items()]
    return Board(panels=tuple(_apart(sorted(panels, key=lambda panel: (panel.title, panel.question)))))


def _panel(asked: tuple[tuple[str, str], ...], members: list[Submission]) -> Panel:
    called = names([one.record for one in members])
    rows = sorted((_row(name, one) for name, one in zip(called, members, strict=True)), key=_order)
    first = members[0].record
    return Panel(
        title=_title(first),
        question=asked,
        delta=first.verdict.delta,
        rows=tuple(
            replaced(row, undominated=_undominated(row, rows), entry=replaced(row.entry, rank=place))
            for place, row in enumerate(rows, 1)
        ),
        cmi=correlation(
            (row.entry.cmi, row.entry.margin.mean)
            for row in rows
            if row.entry.cmi is not None and row.entry.margin is not None
        ),
    )


def _row(name: str, one: Submission) -> Row:
    record = one.record
    judged = [_gain(row, record) for row in record.comparisons if row.margin is not None]
    passive, adapted = (
        largest(row for row in record.comparisons if (row.attack in ADAPTIVE) is adaptive) for adaptive in (False, True)
    )
    return Row(
        entry=entry(name, record, None, 0),
        defence=one.defence or record.teacher.method or record.teacher.name,
        by=one.by,
        link=one.link,
        page=one.page,
        largest=None if record.planned else max(judged, key=lambda gain: gain.high, default=None),
        passive=None if passive is None else _gain(passive, record),
        adaptive=None if adapted is None else _gain(adapted, record),
        gap=None if passive is None or adapted is None else contrast(record, adapted, record, passive),
    )


def _gain(row: Comparison, record: Record) -> Gain:
    assert row.margin is not None
    low, high = sure(row, record)
    return Gain(attack=record.name_of(row), mean=row.margin.mean, low=low, high=high)


def _order(row: Row) -> tuple[float, str]:
    """Sort by the gain that every attack surely stays below; those without a bound come last."""
    return (math.inf if row.largest is None else row.largest.high), row.entry.name


def _undominated(row: Row, rows: list[Row]) -> bool:
    if row.largest is None:
        return False
    mine = row.entry.accuracy, -row.largest.high
    others = [(other.entry.accuracy, -other.largest.high) for other in rows if other.largest is not None]
    return not any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in others)


def correlation(pairs: Iterable[tuple[float, float]]) -> Correlation | None:
    """Return Spearman's rank correlation of pairs; None for fewer than `FEW`, or without variance.

    The interval is Bonett and Wright's (Psychometrika 2000): Fisher's z with variance (1 + rho²/2) / (n − 3).
    """
    found = np.array(list(pairs), dtype=float)
    if len(found) < FEW or np.ptp(found, axis=0).min() == 0:
        return None
    rho = float(spearmanr(found[:, 0], found[:, 1]).statistic)
    if abs(rho) > 1 - 1e-12:
        return Correlation(rho=rho, low=rho, high=rho, entries=len(found))
    half = norm.ppf(0.975) * math.sqrt((1 + rho**2 / 2) / (len(found) - 3))
    low, high = (math.tanh(math.atanh(rho) + side * half) for side in (-1, 1))
    return Correlation(rho=rho, low=low, high=high, entries=len(found))


def _title(record: Record) -> str:
    """Name task and attacker."""
    settings, task = record.settings, record.task
    held = "all images" if settings.shots == 1 else f"{percent(settings.shots, 0)} of the images"
    if settings.labels < 1:
        held += f", {percent(settings.labels, 0)} of the labels"
    return f"{task.name}: {held}; answers: {settings.surface}"


def _apart(panels: list[Panel]) -> list[Panel]:
    """Give panels of equal titles the first thing by which they differ."""
    found = []
    for panel in panels:
        twins = [other for other in panels if other.title == panel.title and other is not panel]
        if twins:
            mine = dict(panel.question)
            differs = next(what for what in mine if any(dict(other.question)[what] != mine[what] for other in twins))
            panel = replaced(panel, title=f"{panel.title}; {differs} {mine[differs]}")
        found.append(panel)
    return found
