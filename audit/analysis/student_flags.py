"""Flags about students and attacks: results of knockoff and LS students that weaken a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from audit.analysis.protocol_flags import FlagRule
from audit.analysis.tuning import HARM, MISTUNED
from audit.plan.suite import LONGER
from audit.statistics.compare import LowerBound, Margin
from audit.statistics.verdict import DELTA
from reports.record import Flag
from teachers.units import points

LEVEL = 0.99  # one-sided confidence at which an unexpected order of two results is not due to chance
OVER_IMAGES, OVER_BOTH = "images", "images and seeds"  # what a bound of more steps allows for
SEVERAL = 2  # attacks that answers must harm: one alone may have an unsuitable loss
CLEARLY = 0.01  # share of test images by which knockoff students agree with the teacher more than LS students

CONTROL_AT_CEILING = FlagRule(
    id="control-at-ceiling",
    when="the LS student is wrong on a smaller share of the test images than twice the tolerance",
    why="the student makes almost no mistakes without a teacher, so no teacher can improve it: a teacher that does not "
    "resist looks resistant",
    do="audit on a harder task, or with fewer of the attacker's images (--shots)",
    caps="undistillable",
)


def control_at_ceiling(accuracy: float, delta: float = DELTA) -> Flag | None:
    """Rule out UNDISTILLABLE where the LS student makes too few mistakes for a teacher to correct."""
    if 1 - accuracy >= 2 * delta:
        return None
    return CONTROL_AT_CEILING.raised(f"the LS student is wrong on {1 - accuracy:.2%} of the test images")


SMALL_TEST = FlagRule(
    id="small-test",
    when="the margin of an attack on original images is undecided, and more seeds cannot decide it: with endless "
    "seeds, the test images alone would leave a one-sided 95 % half width above the tolerance, and an upper bound of "
    "the tolerance or more",
    why="some images favour knockoff students and some favour LS students, whatever the seeds; only more images "
    "average this out",
    do="give a larger test split: more seeds do not help",
    caps="undistillable",
)


def small_test(margins: Mapping[str, Margin], delta: float = DELTA) -> Flag | None:
    """Rule out UNDISTILLABLE where the test split is too small for the tolerance; `margins` by attack."""
    halves = {attack: _endless(m) for attack, m in margins.items() if not m.degenerate and m.lower() <= 0}
    wide = {attack: h for attack, h in halves.items() if h > delta and margins[attack].mean + h >= delta}
    if not wide:
        return None
    attack = max(wide, key=lambda name: wide[name])
    half = points(wide[attack], sign=False)
    return SMALL_TEST.raised(
        f"even with endless seeds, {margins[attack].images:,} test images would leave ±{half} points around the "
        f"margin of {attack}, more than the tolerance of {100 * delta:g}"
    )


def _endless(margin: Margin) -> float:
    """Return the one-sided 95 % half width of a margin with infinitely many seeds: from the test images alone."""
    from scipy.special import stdtrit

    return -float(stdtrit(margin.image_df, 0.05)) * math.sqrt(margin.image_variance / margin.images)


WEAKER_ACCESS_WINS = FlagRule(
    id="weaker-access-wins",
    when="on original images, the best attack that sees labels alone makes more accurate students than the best that "
    f"sees probabilities (one-sided {100 * LEVEL:g} %)",
    why="an attacker who sees probabilities sees the labels, too: the attacks on probabilities are badly tuned or "
    "broken",
    do="add an attack on probabilities that uses the views of the label-only attack, or that has more settings to tune",
    caps="undistillable",
)


def weaker_access_wins(label: str, probs: str, margin: Margin) -> Flag | None:
    """Rule out UNDISTILLABLE where labels alone were worth more than probabilities; `margin`: label over probs."""
    if margin.degenerate or margin.lower(LEVEL) <= 0:
        return None
    return WEAKER_ACCESS_WINS.raised(
        f"{label}, which sees labels alone, is {points(margin.mean)} points above {probs}, which sees probabilities"
    )


SMALLER_BUDGET_WINS = FlagRule(
    id="smaller-budget-wins",
    when="on the audited teacher's steal-cost curve, students of a smaller budget are more accurate than students of a "
    f"larger one (one-sided {100 * LEVEL:g} %)",
    why="an attacker with more answers could ignore the additional ones: the attack does not use its answers well",
    do="repair the attack, or train its students longer",
    caps="undistillable",
)


def smaller_budget_wins(attack: str, small: int, large: int, margin: Margin) -> Flag | None:
    """Rule out UNDISTILLABLE where an attack does worse with more queries; `margin`: fewer queries over more."""
    if margin.degenerate or margin.lower(LEVEL) <= 0:
        return None
    return SMALLER_BUDGET_WINS.raised(
        f"{attack} with {small:,} queries is {points(margin.mean)} points above itself with {large:,}"
    )


FAILS_POSITIVE_CONTROL = FlagRule(
    id="fails-positive-control",
    when="a judged attack does not pass the positive control: on the ordinary teacher it does not beat the baseline of "
    "its own threat model, or it could not be tried there (in a partial table it has not been tried yet)",
    why="an attack that fails on a teacher that hides nothing is no evidence that another teacher resists; the scope "
    "leaves it out",
    do="tune them, or give them a task, a student or a budget with which they are known to work",
    caps="nothing",
)


def fails_positive_control(attacks: Sequence[str]) -> Flag | None:
    """Flag the attacks that do not pass the positive control."""
    if not attacks:
        return None
    names = ", ".join(dict.fromkeys(attacks))
    return FAILS_POSITIVE_CONTROL.raised(f"these attacks do not pass the positive control: {names}")


MIS_TUNED = FlagRule(
    id="mis-tuned",
    when=f"an attack on original images is surely more than {points(MISTUNED, sign=False)} point below its control on "
    "validation images with the best of its settings (one-sided 95 %, over images and the seeds of tuning and judging)",
    why="an attacker who looks at validation images would do what the control does: such an attack is no evidence that "
    "a teacher resists. It is not named in the scope, and UNDISTILLABLE needs another attack that passes the positive "
    "control; its own bounds must hold all the same",
    do="give the attack a setting at which its loss is the control's",
    caps="nothing",
)


def mis_tuned(attacks: Sequence[str]) -> Flag | None:
    """Flag attacks that lose to their own control on validation images."""
    if not attacks:
        return None
    return MIS_TUNED.raised(f"surely below their own control on validation images: {', '.join(dict.fromkeys(attacks))}")


HARMFUL_ANSWERS = FlagRule(
    id="harmful-answers",
    when=f"at least {SEVERAL} attacks on original images that see probabilities are surely more than "
    f"{points(HARM, sign=False)} points below their control: their judged students (95 % bound over all looks), or "
    "more than half of the settings that they tried, on validation images; the teacher is surely more accurate than LS "
    "students; and no attack that decodes answers (`adaptive`) was judged, passes its positive control and has its "
    "upper bound below the tolerance",
    why="answers that say nothing cost an attack little; answers that harm it are misleading, and what misleads may be "
    "decoded. Such a teacher may give all of its knowledge away to an attacker who finds out what its answers mean",
    do="run an attack that decodes answers (--attacks adaptive) or, where it ran, give it more seeds (--seeds): its "
    "upper bound must come below the tolerance",
    caps="undistillable",
)


def harmful_answers(misled: Sequence[str], better: Margin, decided: bool) -> Flag | None:
    """Rule out UNDISTILLABLE where answers mislead; `better`: the teacher's margin over LS students.

    `decided`: whether an attack that decodes answers settles what they are worth.
    """
    if len(misled) < SEVERAL or decided or better.degenerate or better.lower() <= 0:
        return None
    return HARMFUL_ANSWERS.raised(
        f"students of {', '.join(misled)} lose by learning from the answers, in most of the settings that were tried "
        f"or in the judged one, though the teacher is {points(better.mean)} points above the LS student; no attack "
        "that decodes answers has decided yet what they are worth"
    )


CLONED = FlagRule(
    id="cloned-behaviour",
    when=f"knockoff students agree with the teacher on clearly more test images than LS students do (95 % bound above "
    f"{points(CLEARLY)} points), while their margin's 95 % upper bound is below the tolerance",
    why="the student copies the teacher's answers, mistakes included, without becoming more accurate: it clones the "
    "teacher's behaviour. The verdict is about accuracy and does not rule this out",
    do="if a copy of the behaviour is a risk in itself, look at agreement, too",
    caps="nothing",
)


def cloned(agreement: Mapping[str, Margin], accuracy: Mapping[str, Margin], delta: float = DELTA) -> Flag | None:
    """Flag attacks whose students agree with the teacher but are no more accurate; margins over the LS student."""
    names = [a for a, m in agreement.items() if m.lower() > CLEARLY and accuracy[a].upper() < delta]
    if not names:
        return None
    most = max(names, key=lambda name: agreement[name].mean)
    return CLONED.raised(
        f"students of {', '.join(names)} agree with the teacher more often than LS students do, {most} by "
        f"{points(agreement[most].mean)} points, and are no more accurate"
    )


STILL_IMPROVING = FlagRule(
    id="control-still-improving",
    when=f"at {LONGER} times the steps, the chosen LS student with the plain recipe gains more than the tolerance "
    "on validation images, and the gain's one-sided 95 % lower bound over images and seeds is above 0",
    why="more steps would still improve the LS student; margins compare students of equal steps, so knockoff students "
    "stop as early",
    do="nothing for the verdict; for the accuracies themselves, train longer",
    caps="nothing",
)


def still_improving(gain: LowerBound, delta: float = DELTA, over: str = OVER_IMAGES) -> Flag | None:
    """Flag LS students that would become more accurate with more steps."""
    if gain.mean <= delta or gain.lower <= 0:
        return None
    return STILL_IMPROVING.raised(
        f"at {LONGER} times the steps the LS student gains {points(gain.mean)} points on validation images, at least "
        f"{points(gain.lower)} points (95 %, over {over})"
    )


NOT_CONVERGED = FlagRule(
    id="knockoff-not-converged",
    when="on validation images, the margin of the best attack on original images is above 0 at "
    f"{LONGER} times the steps and larger than at the usual steps: by more than the tolerance, and with a "
    "one-sided 95 % lower bound over images and seeds above 0. The scatter over seeds is that of the judged students, "
    "because few seeds are trained for longer",
    why="an attack that stops too early gains too little, and the teacher then looks resistant",
    do="audit with a smaller --student, for which the steps are enough, or with a suite of more steps",
    caps="undistillable",
)


def not_converged(
    attack: str, usual: float, longer: float, gain: LowerBound, delta: float = DELTA, over: str = OVER_IMAGES
) -> Flag | None:
    """Rule out UNDISTILLABLE where the margin grows with the steps; margins over an LS student of equal steps.

    A margin that grows but stays below 0 raises no flag: the attack loses at both lengths.
    """
    if longer <= 0 or gain.mean <= delta or gain.lower <= 0:
        return None
    return NOT_CONVERGED.raised(
        f"at {LONGER} times the steps the margin of {attack} on validation images grows from {points(usual)} points to "
        f"{points(longer)} points, by at least {points(gain.lower)} points (95 %, over {over})"
    )
