"""Format a leaderboard in the same way on the page, in Markdown and on the terminal."""

from __future__ import annotations

from typing import Final

from reports.leaderboard.board import Difference, Entry, Leaderboard
from reports.wording import MISSING, count, points, priced

RANKING: Final = (
    "Ordered by the largest margin: the teacher whose answers are worth least to an attacker comes first. The interval "
    "is the strongest attack's own, two-sided at 95 %; the floor is its lower bound, corrected for choosing the "
    "strongest. Teachers share a rank where the interval of the difference to the first of that rank contains 0."
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


def sentence(board: Leaderboard) -> str:
    """Say what a comparison shows: which teacher gives away less, or that they cannot be told apart."""
    first, *others = board.entries
    judged = [e for e in others if e.margin is not None]
    if first.margin is None or not judged:
        return "Fewer than two of these audits have a judged attack: nothing can be compared."
    if len(board.entries) == 2:
        (other,) = judged
        by = f"{gap(other.above)} points"
        if other.rank == first.rank:
            return f"{first.name} and {other.name} cannot be told apart: {by}."
        return f"{first.name} gives away less than {other.name}: {by}."
    equals = [e.name for e in judged if e.rank == first.rank]
    least = f"{first.name} gives away least, {points(first.margin.mean, sign=False)} points"
    if not equals:
        return f"{least}, and less than each of the others."
    more = "one more" if len(equals) == 1 else f"{count(len(equals))} more"
    return f"{least}, but {more} of {len(board.entries)} cannot be told apart from it: they share its rank."


def remarks(board: Leaderboard) -> list[str]:
    """Name the entries with unjudged attacks: their largest margin may be too small."""
    return [f"{e.name}: not judged: {', '.join(e.missing)}." for e in board.entries if e.missing]
