"""Who asks: the kinds of attackers of `audit limit`, the attacks that each can run, and the budgets to search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from attacks import registry
from attacks.base import Attack
from audit.context import RunContext, open_context
from audit.limits.panels import WITHOUT, Asker
from audit.plan.names import listed
from audit.plan.options import Options
from audit.plan.suite import QUERIES, Suite
from teachers.errors import UsageError
from teachers.kinds import offers

AUTO: Final = "auto"


class Attacker(NamedTuple):
    """Who asks, and with which options an audit asks in their place."""

    asker: Asker
    options: Options


def holds_of(text: str) -> tuple[str, ...]:
    """Return the kinds of attackers that a text names; raise UsageError for one that is none."""
    found = []
    for name in listed(text):
        try:
            share = None if name in WITHOUT else float(name)
        except ValueError:
            share = 0.0
        if share is not None and not 0 < share <= 1:
            raise UsageError(f"--hold {name}: give fractions of the data such as 1 or 0.1, surrogate, or none")
        found.append(name if share is None else f"{share:g}")
    if not found:
        raise UsageError("--hold names no attacker; give fractions of the data such as 1 or 0.1, surrogate, or none")
    return tuple(dict.fromkeys(found))


def budgets_of(text: str) -> tuple[int, ...]:
    """Return the budgets that a text names, in increasing order; raise UsageError for one that is none."""
    found = listed(text)
    if found == (AUTO,):
        return QUERIES
    if not found or not all(name.isdecimal() and int(name) > 0 for name in found):
        raise UsageError(f"--budgets {text}: give {AUTO}, or numbers of queries with commas, such as 1000,10000")
    return tuple(sorted({int(name) for name in found}))


def attacks_of(suite: Suite, asked: str, hold: str) -> tuple[str, ...]:
    """Return the attacks that such an attacker can run: of the suite and of plug-ins, or of those that are asked for.

    Raises UsageError for an unknown name.
    """
    names = (*suite.attacks, *registry.plugins()) if asked == "all" else listed(asked)
    return tuple(name for name in names if able(attack(name), hold))


def attack(name: str) -> type[Attack]:
    """Return the attack of a name, with a preset or without; raise UsageError for an unknown one."""
    found = registry.find(name.partition(":")[0])
    if not issubclass(found, Attack):
        raise UsageError(f"{name} is a control, not an attack; every audit trains it")
    return found


def able(attack: type[Attack], hold: str) -> bool:
    """Whether an attack is one of an attacker: whoever holds the data needs no attack that does without."""
    if hold in WITHOUT:
        return attack.holds == "no data" or (attack.holds == "surrogate" and hold == "surrogate")
    return attack.holds == "original"


def attacker(options: Options, suite: Suite, surface: str, hold: str, grid: Sequence[int]) -> Attacker | None:
    """Return an attacker, with the budgets of a grid that limit them, and none; None where no attack can ask."""
    can = tuple(name for name in attacks_of(suite, options.attacks, hold) if offers(surface, attack(name).needs))
    if not can:
        return None
    shots = 1.0 if hold in WITHOUT else float(hold)
    wanted = replace(
        options,
        surface=surface,
        attacks=",".join(can),
        shots=shots,
        budget=None,
        out=None,
        outsiders=hold in WITHOUT,
    )
    with open_context(wanted) as context:
        most = max(_wish(one, context) for one in context.selection.attacks.values())
        images = 0 if hold in WITHOUT else len(context.experiment.pool)
    return Attacker(Asker(surface, hold, can, images, (*(b for b in grid if b < most), None)), wanted)


def _wish(attack: type[Attack], context: RunContext) -> int:
    """Return how many queries an attack makes where nothing limits it."""
    experiment = context.experiment
    own = getattr(experiment.presets.get(attack.name) or attack.grid()[0], "queries", None)
    if isinstance(own, int):
        return own
    kinds = 1 + (attack.views or "").count("+")
    return kinds * experiment.recipe.views * len(experiment.pool)
