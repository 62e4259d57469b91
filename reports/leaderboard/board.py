"""Several audits that asked the same question, side by side, as plain data."""

from __future__ import annotations

from reports.record import Count, Data, Interval, Share, Word

SCHEMA_VERSION = 1


class Difference(Data):
    """A margin in one audit less a margin in another, on the same test images, as fractions."""

    attack: str
    other: str = ""  # the attack of the margin that is taken away, where it is another one
    mean: float
    se: float
    low: float  # two-sided 95 % interval, of the last looks alone
    high: float
    p: float  # two-sided
    p_holm: float | None = None  # after Holm's correction over the attacks
    seeds: tuple[Count, Count]  # of the margin, and of the one that is taken away
    images: Count
    discordant: float  # expected number of test images, per seed, that tell the two margins apart
    reliable: bool  # enough of these, and some variance


class Entry(Data):
    """One audit on the leaderboard."""

    name: str  # no other entry has it
    teacher: str
    sha256: str
    method: str
    audit: str
    created: str
    word: Word
    accuracy: Share  # of the teacher, on test images
    accuracy_low: Share
    accuracy_high: Share
    strongest: str = ""  # the attack with the largest margin; empty: none was judged
    margin: Interval | None = None
    floor: float | None = None  # its lower bound, corrected for the number of attacks
    p_holm: float | None = None
    above: Difference | None = None  # its margin less that of the entry before
    queries: Count = 0  # one student of it asked
    answered: Count | None = None  # distinct answers of the teacher that the audit rests on
    price: float | None = None  # of 1,000 queries
    cmi: float | None = None  # largest over temperatures, on validation images, in nats
    cmi_temperature: float | None = None
    judged: Count
    biting: Count  # of those judged
    missing: tuple[str, ...] = ()  # attacks that were not judged, and why
    flags: tuple[str, ...] = ()  # that limit the verdict


class Line(Data):
    """One attack in every audit, in the order of the entries."""

    attack: str
    margins: tuple[Interval | None, ...]
    statuses: tuple[str, ...]


class Leaderboard(Data):
    """Audits by their largest margin, the smallest first: the teacher that gives away least."""

    schema_version: int = SCHEMA_VERSION
    question: tuple[tuple[str, str], ...]  # what all of them asked
    delta: float
    alpha: float
    entries: tuple[Entry, ...]
    lines: tuple[Line, ...]
    pair: tuple[str, str] | None = None  # names of the first and the second, where there are two,
    differences: tuple[Difference, ...] = ()  # then: the second's margin less the first's, by attack
