"""Format a leaderboard in the same way on the page, in Markdown and on the terminal."""

from __future__ import annotations

from typing import Final

from reports.leaderboard.board import Difference, Entry, Leaderboard
from reports.wording import MISSING, count, points, priced

RANKING: Final = (
    "Ordered by the largest margin: the teacher whose answers are worth least to an attacker comes first. The interval "
    "is the strongest attack's own, two-sided at 95 %; the floor is its lower bound, corrected for choosing the "
    "strongest. Two places differ significantly where the interval of their difference does not contain 0."
)
DIFFERENCES: Final = (
    "Standard errors are those of the difference itself, over training seeds and test images at once. Both audits have "
    "the same test images; students of the same seed share initial weights, views and order, and LS students that both "
    "audits share cancel out. Intervals are two-sided at 95 %, from the last looks only; Holm p is corrected for the "
    "number of attacks."
)
UNSURE: Final = "too few images distinguish the two, or there is no variance"


def gap(difference: Difference | None) -> str:
    """Write a difference of margins with its interval, in points."""
    if difference is None:
        return MISSING
    if not difference.reliable:
        return f"{points(difference.mean)} (no interval)"
    return f"{points(difference.mean)} [{points(difference.low)}, {points(difference.high)}]"


def price(entry: Entry) -> str:
    """Write the price of one student of the strongest attack."""
    return priced(entry.price, entry.queries)


def judged(entry: Entry) -> str:
    """Write how many attacks were judged, and how many of these pass the positive control."""
    return f"{entry.judged} of {entry.judged + len(entry.missing)}, {entry.passing} pass the positive control"


def title(board: Leaderboard) -> str:
    """Return the title: how many audits are compared, and of which data."""
    question = dict(board.question)
    return f"{count(len(board.entries))} audits of {question['task'].partition(' (')[0]} side by side"


def remarks(board: Leaderboard) -> list[str]:
    """Name the entries with unjudged attacks: their largest margin may be too small."""
    return [f"{e.name}: not judged: {', '.join(e.missing)}." for e in board.entries if e.missing]
