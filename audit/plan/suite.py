"""Suites: named, numbered, frozen sets of attacks with their recipe, seeds and tuning.

Changing one makes a new number; a test pins their digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

from teachers.errors import UsageError

# The attacks that gain most from the teachers of the reference bag, in this order (docs/bag-2.md): on ordinary teachers
# DIST is the surest, on defended ones the adaptive attack.
STRONGEST = ("dist", "adaptive", "lskd", "dkd", "mkd", "soft-kd", "avg", "htc", "inversion")
LOGITS_2 = (
    *("soft-kd", "dkd", "nkd", "dist", "mlkd", "ctkd", "lskd", "mse", "ttm", "ckd", "rolewise", "function-matching"),
    "backward-kd-zo",
)
LOGITS = (*LOGITS_2, "rld", "kendall")
RESISTANT = ("avg", "mkd", "htc", "skeptical", "reopt", "view-ensemble", "inversion")
LABELS = ("label-kd", "label-mixup", "copycat", "activethief", "jbda")
SURROGATE = ("knockoff", "knockoff-adaptive")
LARGE = ("dfme", "maze", "disguide", "dfms", "dfms-hl")  # data-free, minutes a student
FIRST_TUNING_SEED = 1_000  # judged seeds start at 0 and are never tuned on
FIRST_NULL_SEED = 2_000
# Budgets that `audit limit` searches, where none are named: frozen like the suites. The largest has no limit.
QUERIES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
BUDGET_STEP = 10  # the smallest point of a steal-cost curve is this many times smaller than the largest
BASELINES_2 = ("ce", "tf-kd", "lw-kd", "self-kd", "dist-ls")
BASELINES = (*BASELINES_2, "tempered-ce")


@dataclass(frozen=True)
class Suite:
    """What `--attacks all` means at an effort."""

    name: str
    attacks: tuple[str, ...]
    controls: tuple[str, ...]  # no-victim baselines beside the LS student
    settings: int  # tried in tuning, for every attack and for every control
    tuning_seeds: int
    seeds: int  # judged at the first look, fresh
    bite_seeds: int  # on the ordinary teacher
    query_seeds: int  # at the first look, at most, of attacks that hold no original images
    budgets: int  # points of their steal-cost curve
    steps: int  # at least
    epochs: float  # at least
    views: int = 8
    batch: int = 128
    lr: float = 0.1
    most: int | None = None  # judged at the last look, of attacks that are open until then; None: there is one look
    finalists: int | None = None  # settings that get all tuning seeds, if best on the first one; None: all do
    stops: tuple[int, ...] | None = None  # numbers of attacks, strongest first, after which the word may be sure
    ends: bool | None = None  # whether an audit ends there without being asked to

    @property
    def digest(self) -> str:
        """sha256 of everything that the suite freezes; a field that came later counts where it says something."""
        frozen = {name: value for name, value in asdict(self).items() if value is not None}
        return hashlib.sha256(repr(sorted(frozen.items())).encode()).hexdigest()

    def groups(self, names: Collection[str]) -> list[tuple[str, ...]]:
        """Divide attacks into groups, each judged before the next: those of the suite in its order, then all others."""
        ends = (0, *(self.stops or ()), len(self.attacks))
        held = [tuple(name for name in self.attacks[a:b] if name in names) for a, b in pairwise(ends)]
        others = tuple(name for name in names if name not in self.attacks)
        return [group for group in (*held[:-1], (*held[-1], *others)) if group]

    def steps_for(self, images: int) -> int:
        """Return the training steps of a student whose holder has so many images."""
        return max(self.steps, round(self.epochs * images / self.batch))


STANDARD = Suite(
    "standard-4",
    (
        *STRONGEST,
        *(name for name in (*LOGITS, *RESISTANT) if name not in STRONGEST),
        *LABELS,
        *SURROGATE,
        "noise",
        "ideal",
    ),
    BASELINES,
    settings=8,
    tuning_seeds=2,
    seeds=5,
    bite_seeds=5,
    query_seeds=3,
    budgets=2,
    steps=400,
    epochs=16,
    most=10,
    finalists=3,
    stops=(1, 4, 9),
)
SMOKE = Suite(
    "smoke-3",
    ("dist", "label-mixup"),
    (),
    settings=2,
    tuning_seeds=1,
    seeds=5,
    bite_seeds=5,
    query_seeds=2,
    budgets=2,
    steps=400,
    epochs=0,
    stops=(1,),
    ends=True,
)
FULL = replace(STANDARD, name="full-4", attacks=(*STANDARD.attacks, *LARGE), most=20, query_seeds=2, budgets=3)
BAG = replace(
    STANDARD,
    name="bag-2",  # what the reference bag of teachers is audited with
    attacks=("adaptive", "soft-kd", "dkd", "dist", "lskd", "avg", "mkd", "htc", "inversion"),
    seeds=4,
    bite_seeds=4,
    most=None,
    finalists=None,
    stops=None,
)
SELFTEST = replace(
    STANDARD,
    name="selftest-2",  # what `audit selftest` asks of teachers whose distillability is known
    attacks=("adaptive", "nkd", "soft-kd", "lskd", "avg"),
    controls=(),
    seeds=8,
    most=None,
    finalists=None,
    stops=None,
)

EFFORTS = {"smoke": SMOKE, "standard": STANDARD, "full": FULL, "bag": BAG, "selftest": SELFTEST}

# Of earlier versions, by effort: no audit runs them any more, and their records stay readable.
_STANDARD_2 = replace(
    STANDARD,
    name="standard-2",
    attacks=(*LOGITS_2, *RESISTANT, *LABELS, *SURROGATE, "noise", "ideal"),
    controls=BASELINES_2,
    settings=4,
    finalists=None,
    stops=None,
)
EARLIER = {
    "smoke": replace(
        SMOKE,
        name="smoke-1",
        attacks=("soft-kd", "avg", "label-mixup", "knockoff"),
        seeds=2,
        bite_seeds=2,
        steps=150,
        stops=None,
        ends=None,
    ),
    "standard": _STANDARD_2,
    "full": replace(
        _STANDARD_2,
        name="full-2",
        attacks=(*_STANDARD_2.attacks, *LARGE),
        most=FULL.most,
        query_seeds=FULL.query_seeds,
        budgets=FULL.budgets,
    ),
    "bag": replace(
        BAG,
        name="bag-1",
        attacks=("soft-kd", "dkd", "dist", "lskd", "avg", "mkd", "htc", "inversion"),
        controls=BASELINES_2,
        settings=4,
    ),
    "selftest": replace(SELFTEST, name="selftest-1", attacks=("soft-kd", "lskd", "avg"), settings=4),
}


def cost_shares(points: int) -> tuple[float, ...]:
    """Return the points of a steal-cost curve as shares of the attack's own number of queries, 1 last."""
    last = points - 1
    return tuple(BUDGET_STEP ** ((i - last) / last) for i in range(points)) if last else (1.0,)


def named(name: str) -> Suite | None:
    """Return the suite that this version knows by a name, today's or an earlier one; None where there is none."""
    return next((suite for suite in (*EFFORTS.values(), *EARLIER.values()) if suite.name == name), None)


def effort_of(suite: Suite) -> str | None:
    """Return the effort that runs a suite or once ran it, by its name."""
    return next((effort for known in (EFFORTS, EARLIER) for effort, s in known.items() if s.name == suite.name), None)


def complete(name: str, attacks: Collection[str]) -> bool:
    """Whether these attacks are all of a suite that is known by its name: nothing else tells what `all` is."""
    known = named(name)
    return known is not None and set(known.attacks) <= set(attacks)


def suite(effort: str) -> Suite:
    """Return the suite of an effort."""
    if effort not in EFFORTS:
        raise UsageError(f"unknown effort {effort!r}; there are {', '.join(EFFORTS)}")
    return EFFORTS[effort]


LS_NAME = "ls"  # the controls that the rules name
NULL_NAME = "ls (null)"
LONGER = 2  # times the usual steps, at which it is looked whether these are enough
