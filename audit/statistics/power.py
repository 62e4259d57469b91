"""What an audit could see: the smallest margin that its seeds and test images find with 80 % power."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from audit.statistics.compare import Margin, paired
from audit.statistics.sequential import HORIZON, information, levels, schedule
from audit.statistics.verdict import ALPHA, DELTA
from reports.bag import shipped
from reports.record import Record
from teachers.errors import UsageError

POWER = 0.8
BAG = "bag-1"  # the reference bag whose margins tell how margins scatter


@dataclass(frozen=True)
class Scatter:
    """Variance components of margins, per score, as fractions squared; `source` says whose margins."""

    seeds: float
    images: float
    interaction: float
    source: str

    def margin(self, seeds: int, images: int) -> Margin:
        """Return a margin of zero that scatters so."""
        return Margin(
            mean=0.0,
            seeds=seeds,
            images=images,
            discordant=math.inf,
            between_seeds=self.interaction + images * self.seeds,
            between_images=self.interaction + seeds * self.images,
            residual=self.interaction,
        )


@dataclass(frozen=True)
class Power:
    """What an audit finds with 80 % power, as fractions."""

    gain: float
    """The smallest margin of a single attack that makes it DISTILLABLE, over all attacks and looks."""
    resistance: float
    """The largest margin at which an attack's upper bound falls below δ; negative where it must lose."""


def detectable(margin: Margin, level: float = ALPHA) -> float:
    """Return the smallest true margin whose lower bound, of one-sided error `level`, is above 0 with 80 % power.

    The estimate must exceed its half width, and falls short of the truth by t·se once in five times, with the degrees
    of freedom of the seeds: of a comparison with these variance components, infinite where they are unknown.
    """
    if margin.degenerate:
        return math.inf
    return margin.upper(1 - level) - margin.mean + float(stdtrit(margin.seeds - 1, POWER)) * margin.se


def seeds_for(margin: Margin, delta: float = DELTA, level: float = ALPHA) -> int:
    """Return the fewest seeds that find a margin of δ with 80 % power on the same images: 3 to 20, the most there are.

    These are the seeds of a fixed design, which looks once.
    """
    enough = (seeds for seeds in range(3, HORIZON) if detectable(margin.foreseen(seeds), level) <= delta)
    return next(enough, HORIZON)


def power(scatter: Scatter, first: int, most: int, images: int, comparisons: int) -> Power:
    """Return what looks from `first` to `most` seeds find at the last of them; the looks before can only find more."""
    margins = [scatter.margin(seeds, images) for seeds in schedule(first, most)]
    times = tuple(information(m, HORIZON) for m in margins)
    gain, bound = (detectable(margins[-1], levels(times, alpha)[-1]) for alpha in (ALPHA / comparisons, ALPHA))
    return Power(gain, DELTA - bound)


def of_margins(margins: Iterable[Margin], source: str) -> Scatter:
    """Average the variance components of margins that have some.

    Raises UsageError where none has.
    """
    parts = [(m.seed_variance, m.image_variance, m.residual) for m in margins if not m.degenerate]
    if not parts:
        raise UsageError(f"{source}: none of them says how margins scatter; name another audit with --like")
    seeds, images, interaction = np.mean(parts, axis=0).tolist()
    return Scatter(seeds, images, interaction, source)


def of_record(record: Record) -> Scatter:
    """Return how the margins of an earlier audit scattered."""
    rows = [row for row in record.comparisons if row.students]
    margins = [paired(record.correct(row.students), record.correct(row.control_students)) for row in rows]
    return of_margins(margins, f"the {len(rows)} margins of the audit of {record.teacher.name}")


def reference() -> Scatter:
    """Return how margins scatter in the reference bag, with all labels."""
    bag = shipped(BAG)
    assert bag is not None
    margins = [
        paired(row.correct.array(), bag.controls[row.control].correct.array())
        for teacher in bag.teachers
        if teacher.shots == 1
        for row in teacher.rows
    ]
    return of_margins(margins, f"{len(margins)} margins of the reference bag {BAG} ({bag.task}, {bag.images:,} images)")
