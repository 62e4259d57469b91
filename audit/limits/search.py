"""Which budget to look at next, and what cells decide of each other. Pure functions.

What an attacker can do with some queries, they can do with more: a budget that is safe makes all smaller ones safe, and
a budget at which an attack gains makes all larger ones gain. The search looks at the largest budget first, and then
bisects. It looks at no more than `looks(n)` of n budgets, a number that is known in advance, so that the error rate is
shared over as many: of all budgets that are not safe, none is called safe with a probability above that rate.

This holds however looks depend on each other. The search meets its first false "safe" only after it called every safe
budget on its way safe, and no other one: a way that no chance changes, with at most `looks(n)` budgets on it. What
other panels decide spares looks on this way, and does not change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.limit.document import Outcome


def looks(budgets: int) -> int:
    """Return the most budgets that the search looks at, of so many: the largest, and a bisection of the others."""
    return 1 + (budgets - 1).bit_length()


def following(found: Mapping[int, Outcome], budgets: int) -> int | None:
    """Return the place of the budget to look at next, of `budgets` in increasing order; None where the search ends.

    `found`: outcomes by place. What is neither safe nor gains is taken for not safe.
    """
    low, high = bounds(found, budgets)
    if high - low == 1:
        return None
    left, right, at = -1, budgets, budgets - 1
    while not low < at < high:
        left, right = (at, right) if at <= low else (left, at)
        at = (left + right) // 2
    return at


def bounds(found: Mapping[int, Outcome], budgets: int) -> tuple[int, int]:
    """Return the place of the largest safe budget (−1: none), and of the smallest that is not (`budgets`: none)."""
    low = max((place for place, outcome in found.items() if outcome == "safe"), default=-1)
    high = min((place for place, outcome in found.items() if outcome != "safe" and place > low), default=budgets)
    return low, high


def implied(found: Mapping[int, Outcome], budgets: int) -> list[Outcome | None]:
    """Return the outcome of every budget: its own, or what another one decides; None where nothing does."""
    safe = max((place for place, outcome in found.items() if outcome == "safe"), default=-1)
    gains = min((place for place, outcome in found.items() if outcome == "gains"), default=budgets)
    return [
        found.get(place) or ("safe" if place < safe else "gains" if place > gains else None) for place in range(budgets)
    ]


def simulates(surface: str, other: str) -> bool:
    """Whether who sees a surface can compute what another one shows: what gains through that, gains through this."""
    whole = ("probs", "logits", "gradients")
    return surface != other and surface in whole and (other not in whole or whole.index(surface) > whole.index(other))


def smallest(grid: Sequence[int | None], budget: int | None) -> int:
    """Return the place of the smallest budget of a grid that allows as many queries as another one."""
    return next(i for i, one in enumerate(grid) if one is None or (budget is not None and one >= budget))
