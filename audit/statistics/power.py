"""Statistical power of an audit: the smallest margin that its seeds and test images detect with 80 % power."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from audit.statistics.compare import Margin, paired
from audit.statistics.sequential import HORIZON, information, levels, schedule
from audit.statistics.verdict import ALPHA, DELTA
from reports.bag import REFERENCE, shipped
from reports.record import Record
from teachers.errors import UsageError

POWER = 0.8


@dataclass(frozen=True)
class Scatter:
    """Variance components of margins, per score, in squared fractions; `source` says where the margins come from."""

    seeds: float
    images: float
    interaction: float
    source: str

    def margin(self, seeds: int, images: int, independent: float | None = None) -> Margin:
        """Return a margin of zero with these variance components; `independent`: effective number of image groups."""
        return Margin(
            mean=0.0,
            seeds=seeds,
            images=images,
            discordant=math.inf,
            between_seeds=self.interaction + images * self.seeds,
            between_images=self.interaction + seeds * self.images,
            residual=self.interaction,
            independent=independent,
        )


@dataclass(frozen=True)
class Power:
    """Margins that an audit detects with 80 % power, as fractions."""

    gain: float
    """The smallest margin of one attack that gives DISTILLABLE, corrected for all attacks and looks."""
    resistance: float
    """The largest margin at which an attack's upper bound is below δ; negative where the attack must lose accuracy."""


def detectable(margin: Margin, level: float = ALPHA) -> float:
    """Return the smallest true margin whose lower bound (one-sided error `level`) is above 0 with 80 % power.

    The estimate must exceed its half width, and in one case of five it is below the truth by t·se or more (t with
    seeds - 1 degrees of freedom). `margin` supplies the variance components; the result is infinite where it has none.
    """
    if margin.degenerate:
        return math.inf
    return margin.upper(1 - level) - margin.mean + float(stdtrit(margin.seeds - 1, POWER)) * margin.se


def seeds_for(margin: Margin, delta: float = DELTA, level: float = ALPHA) -> int:
    """Return the fewest seeds, 3 to 20, that detect a margin of δ with 80 % power on the same images.

    This is for a fixed design, which looks at the data once; 20 is also returned where even 20 seeds are too few.
    """
    enough = (seeds for seeds in range(3, HORIZON) if detectable(margin.foreseen(seeds), level) <= delta)
    return next(enough, HORIZON)


def power(
    scatter: Scatter,
    first: int,
    most: int,
    images: int,
    comparisons: int,
    delta: float = DELTA,
    independent: float | None = None,
) -> Power:
    """Return the power at the last of the looks from `first` to `most` seeds; earlier looks can only detect more."""
    margins = [scatter.margin(seeds, images, independent) for seeds in schedule(first, most)]
    times = tuple(information(m, HORIZON) for m in margins)
    gain, bound = (detectable(margins[-1], levels(times, alpha)[-1]) for alpha in (ALPHA / comparisons, ALPHA))
    return Power(gain, delta - bound)


def of_margins(margins: Iterable[Margin], source: str) -> Scatter:
    """Average the variance components of the margins that have them.

    Raises UsageError where no margin has any.
    """
    parts = [(m.seed_variance, m.image_variance, m.residual) for m in margins if not m.degenerate]
    if not parts:
        raise UsageError(f"{source}: none of them has a variance; name another audit with --like")
    seeds, images, interaction = np.mean(parts, axis=0).tolist()
    return Scatter(seeds, images, interaction, source)


def of_record(record: Record) -> Scatter:
    """Return the variance components of an earlier audit's margins."""
    rows = [row for row in record.comparisons if row.knockoff.students]
    margins = [
        paired(record.correct(row.knockoff.students), record.correct(row.control.students), record.groups)
        for row in rows
    ]
    return of_margins(margins, f"the {len(rows)} margins of the audit of {record.teacher.name}")


def reference() -> Scatter:
    """Return the variance components of the reference bag's margins, from its teachers with all labels."""
    bag = shipped(REFERENCE)
    assert bag is not None
    margins = [
        paired(row.correct.array(), bag.controls[row.control].correct.array())
        for teacher in bag.teachers
        if teacher.shots == 1
        for row in teacher.rows
    ]
    return of_margins(
        margins, f"{len(margins)} margins of the reference bag {REFERENCE} ({bag.task}, {bag.images:,} images)"
    )
