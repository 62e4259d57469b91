"""Several audits with the same question, side by side, as plain data."""

from __future__ import annotations

from reports.record import Count, Data, Interval, Share, Word

SCHEMA_VERSION = 1


class Difference(Data):
    """A margin of one audit minus a margin of another, on the same test images, as fractions."""

    attack: str
    other: str = ""  # the attack of the subtracted margin, if it is another one
    mean: float
    se: float
    low: float  # two-sided 95 % interval, from the last looks only
    high: float
    p: float  # two-sided
    p_holm: float | None = None  # after Holm's correction over the attacks
    seeds: tuple[Count, Count]  # of the first margin and of the subtracted one
    images: Count
    discordant: float  # expected number of test images per seed that distinguish the two margins
    reliable: bool  # whether there are enough such images, and some variance


class Entry(Data):
    """One audit on the leaderboard."""

    name: str  # unique among the entries
    rank: Count = 0  # from 1; audits whose largest margins cannot be told from that of the first of a rank share it
    teacher: str
    sha256: str
    method: str
    audit: str
    created: str
    word: Word
    accuracy: Share  # of the teacher, on test images
    accuracy_low: Share
    accuracy_high: Share
    strongest: str = ""  # the attack with the largest margin; empty where none was judged
    margin: Interval | None = None
    corrected_lower: float | None = None  # lower bound of this margin, corrected for the number of attacks
    p_holm: float | None = None
    above: Difference | None = None  # this margin minus that of the entry before
    queries: Count = 0  # queries of one student of this attack
    distinct_answers: Count  # of the teacher, that the audit uses
    price: float | None = None  # price of 1,000 queries
    cmi: float | None = None  # largest over temperatures, on validation images, in nats
    cmi_temperature: float | None = None
    judged: Count
    passing: Count  # number of judged attacks that pass the positive control
    missing: tuple[str, ...] = ()  # attacks that were not judged, and why
    flags: tuple[str, ...] = ()  # ids of the flags that limit the verdict


class Line(Data):
    """One attack's margin in every audit, in the order of the entries."""

    attack: str
    margins: tuple[Interval | None, ...]
    statuses: tuple[str, ...]


class Leaderboard(Data):
    """Audits, ordered by their largest margin; the teacher that gives away least comes first."""

    schema_version: int = SCHEMA_VERSION
    question: tuple[tuple[str, str], ...]  # the question that all audits have in common
    delta: float
    alpha: float
    entries: tuple[Entry, ...]
    lines: tuple[Line, ...]
    pair: tuple[str, str] | None = None  # names of the first and the second audit, if there are two
    differences: tuple[Difference, ...] = ()  # with two audits: the second's margin minus the first's, by attack
