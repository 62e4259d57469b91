"""The board as plain data: every panel holds the audits of one question, ranked."""

from __future__ import annotations

from reports.leaderboard.board import Difference, Entry
from reports.record import Count, Data

SCHEMA_VERSION = 1


class Gain(Data):
    """An attack's margin with its sure range, as fractions."""

    attack: str
    mean: float
    low: float
    high: float


class Row(Data):
    """One audit on the board."""

    entry: Entry  # its `rank` is its place in the panel, from 1
    defence: str
    by: str = ""  # who measured; empty where nobody says so
    link: str = ""  # where the defence is described
    page: str = ""  # the audit's own page, relative to the board's folder
    largest: Gain | None = None  # the attack with the largest upper end, which ranks; None: not all attacks have run
    passive: Gain | None = None  # the largest margin of attacks that take the answers as they are
    adaptive: Gain | None = None  # that of attacks that read first what the answers mean
    gap: Difference | None = None  # the adaptive margin minus the passive one
    undominated: bool = False  # whether no other teacher is at least as accurate and bounds the gain as well or better


class Correlation(Data):
    """Spearman's rank correlation with a 95 % interval."""

    rho: float
    low: float
    high: float
    entries: Count


class Panel(Data):
    """The audits of one task and attacker, those that bound the gain best first."""

    title: str
    question: tuple[tuple[str, str], ...]
    delta: float
    rows: tuple[Row, ...]
    cmi: Correlation | None = None  # of CMI and the largest margin; None: too few teachers have both


class Board(Data):
    """All panels."""

    schema_version: int = SCHEMA_VERSION
    panels: tuple[Panel, ...]
