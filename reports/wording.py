"""Format a record's numbers and names in the same way in every report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from reports import bag
from reports.record import DISCORDANT, Comparison, Cost, Interval, LedgerRow, Over, Parameters, Record, Word
from teachers.names import quoted
from teachers.units import MISSING as MISSING
from teachers.units import duration as duration
from teachers.units import points as points
from teachers.units import signed
from teachers.units import size as size

HOLDS: Final = {"original": "original data", "surrogate": "surrogate images", "no data": "no data"}
NEEDS: Final = {"probs": "probabilities", "label": "label only", "gradients": "probabilities and input gradients"}
WORST: Final[tuple[Word, ...]] = ("DISTILLABLE", "INCONCLUSIVE", "UNDISTILLABLE")
STATUS: Final = {"identical": "identical to control", "planned": "not run yet"}
AS_WELL: Final[Mapping[Over, str]] = {
    "own loss": "its loss may gain as much without a teacher",
    "twin": "a twin may give as much",
}
CAPS: Final = {
    "nothing": "does not limit the verdict",
    "undistillable": "prevents UNDISTILLABLE",
    "inconclusive": "allows only INCONCLUSIVE",
}


def percent(share: float | None, digits: int = 2) -> str:
    """Write a fraction as a percentage."""
    return MISSING if share is None or not math.isfinite(share) else signed(f"{100 * share:.{digits}f}") + "\u202f%"


def span(interval: Interval | None) -> str:
    """Write the two-sided 95 % interval in points."""
    return MISSING if interval is None else f"[{points(interval.low)}, {points(interval.high)}]"


def probability(p: float | None) -> str:
    """Write a p-value."""
    if p is None or not math.isfinite(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float | None, digits: int = 3) -> str:
    """Write a plain number with a fixed count of decimals."""
    return MISSING if value is None or not math.isfinite(value) else signed(f"{value:.{digits}f}")


def within(value: float | None, se: float | None, digits: int = 3) -> str:
    """Write the two-sided 95 % interval of a value that cannot be negative."""
    if value is None or se is None:
        return MISSING
    return f"[{number(max(0.0, value - 1.96 * se), digits)}, {number(value + 1.96 * se, digits)}]"


def count(value: int | None) -> str:
    """Write a count with thousands separators; None means no limit."""
    return "no limit" if value is None else f"{value:,}"


def parameters(values: Parameters) -> str:
    """Write hyperparameters as name=value, separated by commas."""
    return ", ".join(f"{name}={_value(value)}" for name, value in values.items()) or MISSING


def _value(value: int | float | str | bool | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def distils(comparison: Comparison, record: Record) -> bool:
    """Whether this attack alone makes the teacher distillable."""
    return comparison.p_holm is not None and comparison.p_holm < record.verdict.alpha


def outcome(comparison: Comparison, record: Record) -> str:
    """Return an attack's outcome in a few words: it gains, it may gain, or it cannot gain as much as the tolerance."""
    if comparison.status != "judged":
        return STATUS.get(comparison.status, comparison.status)
    if distils(comparison, record):
        return "gains"
    return f"cannot gain {100 * record.verdict.delta:g}" if _bounded(comparison, record) else "may gain, not shown"


def _bounded(comparison: Comparison, record: Record) -> bool:
    """Whether an attack's sure range is below the tolerance and not above 0: UNDISTILLABLE asks it of every attack."""
    low, high = sure(comparison, record)
    return comparison.margin is not None and supports(comparison.margin) and low <= 0 and high < record.verdict.delta


def doubt(comparison: Comparison, record: Record) -> str:
    """Say why a gain that is seen is not shown to come from the teacher, or why nothing is; empty without a reason."""
    margin = comparison.margin
    if margin is None or distils(comparison, record) or _bounded(comparison, record):
        return ""
    if not supports(margin):
        return "too few images tell the two apart"
    if margin.lower > 0:
        matched = [over for over in AS_WELL if (o := comparison.margin_over(over)) and o.margin.lower <= 0]
        return AS_WELL[matched[0]] if matched else "a gain on its own, not after correction for the number of attacks"
    return ""


def supports(margin: Interval) -> bool:
    """Whether an interval supports a word: enough images tell the students apart, or all students are the control's."""
    return margin.low == margin.mean == margin.high or (margin.df > 0 and margin.discordant >= DISCORDANT)


def sure(comparison: Comparison, record: Record) -> tuple[float, float]:
    """Return the least and the largest margin that are sure: the interval that decides, a fraction.

    Both ends hold over all looks. The lower one is corrected for the number of attacks as well (Bonferroni; an attack
    that gains by Holm's procedure has at least 0). The upper one needs no correction: UNDISTILLABLE asks for all of
    them. A control, which is compared once, has its two-sided interval.
    """
    margin = comparison.margin
    if margin is None:
        return math.nan, math.nan
    if comparison.p_holm is None:
        return margin.low, margin.high
    low = margin.lower if comparison.corrected_lower is None else comparison.corrected_lower
    return max(low, 0.0) if distils(comparison, record) else low, margin.upper


def ends(interval: tuple[float, float]) -> str:
    """Write the two ends of an interval in points."""
    low, high = interval
    return MISSING if math.isnan(low) else f"[{points(low)}, {points(high)}]"


def gain(comparison: Comparison, record: Record) -> str:
    """Write a margin with its sure range, in points."""
    margin = comparison.margin
    return MISSING if margin is None else f"{points(margin.mean)} {ends(sure(comparison, record))}"


def positive_control(comparison: Comparison) -> str:
    """Return whether an attack passes the positive control, and whether it is mis-tuned, as text."""
    told = MISSING if comparison.positive_control is None else "passed" if comparison.passes else "failed"
    return f"{told}, mis-tuned" if comparison.mis_tuned else told


def largest(rows: Iterable[Comparison]) -> Comparison | None:
    """Return the row with the largest margin; None where no row has one."""
    judged = [c for c in rows if c.margin is not None]
    return max(judged, key=lambda c: c.margin.mean if c.margin else 0.0, default=None)


def strongest(record: Record) -> Comparison | None:
    """Return the judged attack with the largest margin."""
    return largest(record.comparisons)


def carrier(record: Record) -> Comparison | None:
    """Return the attack that carries the word.

    DISTILLABLE: of the attacks that gain, the one with the largest gain that is sure. UNDISTILLABLE: the one that could
    still gain most. INCONCLUSIVE: the one with the largest margin.
    """
    judged = [c for c in record.comparisons if c.margin is not None]
    if gaining := [c for c in judged if distils(c, record)]:
        return max(gaining, key=lambda c: (c.corrected_lower or 0.0, c.margin.mean if c.margin else 0.0))
    if record.verdict.word == "UNDISTILLABLE":
        return max(judged, key=lambda c: c.margin.upper if c.margin else -1.0, default=None)
    return largest(judged)


def worst(record: Record) -> Word:
    """Return the worst verdict word of all audited surfaces."""
    words = [row.word for row in record.surfaces] or [record.verdict.word]
    return min(words, key=WORST.index)


def hardening(record: Record) -> str:
    """Name the undistillable surface that is most useful to honest users.

    That is the largest share of images with five ranked classes, then the smallest calibration error, then accuracy.
    """
    held = [row for row in record.surfaces if row.word == "UNDISTILLABLE"]
    if not held:
        return "No audited surface was found undistillable."
    least = max(held, key=lambda row: (row.top5, -(row.calibration_error or 1.0), row.accuracy))
    return f"The least restrictive surface that was found undistillable is {least.surface}."


def beside(record: Record) -> list[str]:
    """Describe results outside the verdict: margin over the best baseline, classes never seen, rank in the bag."""
    lines = [f"{run_so_far(record)}."] if record.planned else []
    best = None if record.planned else carrier(record)
    if best is not None and best.baseline is not None and record.suite.controls:
        gain = f"{points(best.baseline.margin.mean)} points {span(best.baseline.margin)}"
        other = f"{best.baseline.name}, the student without the teacher that is best on validation images"
        lines.append(f"Over {other}, {record.name_of(best)} gains {gain} by the last look alone.")
    unseen = [c for c in record.comparisons if c.knockoff.dropped_accuracy is not None]
    if unseen:
        top = max(unseen, key=lambda c: c.knockoff.dropped_accuracy or 0.0)
        names = ", ".join(map(quoted, record.settings.drop_classes))
        lines.append(
            f"On the classes that the attacker never saw ({names}): {record.name_of(top)} "
            f"{percent(top.knockoff.dropped_accuracy)}, its control {percent(top.control.dropped_accuracy)}."
        )
    return lines + [line for line in (bag.standing(record),) if line and not record.planned]


def run_so_far(record: Record) -> str:
    """Say how much of the table is there."""
    every = len(record.comparisons)
    return f"{every - len(record.planned)} of {every} attacks so far: the word is sure without the others"


def change(record: Record) -> str:
    """Say what would change the verdict."""
    verdict = record.verdict
    if verdict.word == "INCONCLUSIVE":
        return f"What would settle it: {verdict.settle.rstrip('.') or 'that is not known'}."
    if verdict.word == "DISTILLABLE":
        gain = [record.name_of(c) for c in ranked(record) if distils(c, record)]
        names = ", ".join(gain[:5]) + (f" and {len(gain) - 5} more" if len(gain) > 5 else "")
        alone = " Each of these attacks alone is enough for this verdict." if len(gain) > 1 else ""
        return f"What would change it: a teacher or a surface that withstands {names or 'this suite'}.{alone}"
    found = max(((c.margin.upper, record.name_of(c)) for c in record.comparisons if c.margin), default=None)
    nearest = f" The closest of these, {found[1]}, gains at most {points(found[0])}." if found else ""
    return f"What would change it: an attack that gains {points(verdict.delta)} points or more in this scope.{nearest}"


def scenario(record: Record) -> list[str]:
    """Describe the attacker's data, and which few-shot or zero-shot scenario this is."""
    settings, task = record.settings, record.task
    if settings.shots == settings.labels == 1 and not settings.drop_classes:
        return [
            f"Full data: the attacker holds all {task.train:,} training images and their labels. Few images (--shots), "
            "few labels (--labels) or no images of some classes (--drop-classes) need an audit of their own."
        ]
    lines = []
    if settings.shots < 1:
        held = f"{percent(settings.shots, 1)} of the training images, {task.pool_images:,} in all"
        lines.append(f"Few-shot: the attacker holds {held}.")
    if settings.labels < 1:
        lines.append(
            f"Hidden labels: the attacker knows {percent(settings.labels, 1)} of the labels of its images. "
            "Every accurate teacher then gives away labels, so the verdict does not judge a defence."
        )
    if settings.drop_classes:
        unseen = ", ".join(map(quoted, settings.drop_classes))
        lines.append(f"Zero-shot: the attacker never saw an image of these classes: {unseen}.")
    return lines


def scope(record: Record) -> str:
    """Write the scope in a line: how many attacks that work, surface, query limit, data, seeds and test images."""
    settings, task = record.settings, record.task
    working = sum(c.status == "judged" and c.passes and not c.mis_tuned for c in record.comparisons)
    seeds = sorted({len(c.knockoff.students) for c in record.comparisons if c.knockoff.students}) or [0]
    ran = f"{len(record.comparisons) - len(record.planned)} attacks so far"
    held = "all training images" if settings.shots == 1 else f"{percent(settings.shots, 1)} of the training images"
    parts = (
        ran
        if record.planned
        else f"{working} attack{'s'[: working - 1]} that work{'s'[: working == 1]}"
        if working
        else "no attack that works",
        settings.surface,
        "no query limit" if settings.budget is None else f"{settings.budget:,} queries a student",
        held if settings.labels == 1 else f"{held}, {percent(settings.labels, 1)} of the labels",
        f"{'–'.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds",
        f"{task.test:,} test images",
    )
    return " · ".join(parts)


def control(comparison: Comparison, record: Record) -> str:
    """Name a row's control, with what makes it differ from those of other rows: its settings, images and views."""
    own = set(comparison.control.students[:1])
    regimes = [trial.regime for trial in record.trials if trial.key in own]
    name, chosen = comparison.control.name, comparison.control.parameters
    named = f"{name} ({parameters(chosen)})" if chosen else name
    return ", ".join((named, *(f"{regime.source} images, {regime.view} views" for regime in regimes)))


def seeds(comparison: Comparison) -> str:
    """Say how many students a margin has, and at which numbers of students the looks were."""
    if comparison.margin is None:
        return MISSING
    looked = f", looked at with {', '.join(map(str, comparison.looks))}" if comparison.looks else ""
    apart = f"{number(comparison.margin.discordant, 1)} of {comparison.margin.images:,} test images discordant a seed"
    return f"{comparison.margin.seeds} judged{looked}; {apart}"


def behind(guard: str) -> str:
    """Say which answers CMI uses where a guard hides classes."""
    return f"Measured on the network without its guard {guard}: CMI is not defined for answers that hide classes."


def curve(comparison: Comparison) -> tuple[Cost, ...]:
    """Return the steal-cost curve on the audited teacher or, if the record has none, on the ordinary one."""
    return comparison.curve or (() if comparison.positive_control is None else comparison.positive_control.curve)


def ranked(record: Record) -> list[Comparison]:
    """Return the attacks by margin, largest first; those without a margin come last."""
    return sorted(record.comparisons, key=lambda c: -c.margin.mean if c.margin else 2.0)


def cost(record: Record) -> str:
    """Say what the audited teacher's answers cost; empty without a price."""
    price, answers = record.settings.price, record.distinct_answers
    if price is None:
        return ""
    return f"The {answers:,} answers of the audited teacher cost {priced(price, answers)} at {price:,.2f} per 1,000."


def priced(price: float | None, queries: float) -> str:
    """Write what some queries cost, at a price per 1,000."""
    return MISSING if price is None else f"{price * queries / 1000:,.2f}"


def paid(record: Record, queries: int) -> str:
    """Write what some queries cost at the record's price."""
    return priced(record.settings.price, queries)


def totals(rows: tuple[LedgerRow, ...]) -> tuple[int, int]:
    """Return the sums of charged and sent images."""
    return sum(row.charged for row in rows), sum(row.sent for row in rows)
