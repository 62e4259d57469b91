"""Flags about the protocol, the data and the controls: when each is raised, why it matters, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.statistics.collapses import FAR, MOST
from audit.statistics.compare import Margin
from reports.record import Cap, Flag

VALIDATION = 3_000  # with fewer images, tuning misses the best temperature too often
NULL_LEVEL = 0.01
ERRATIC = 1 / 3  # standard deviation of LS students' errors over seeds, as a share of their mean
IMBALANCE = 10  # size of the largest class of the test split, in multiples of the smallest


@dataclass(frozen=True, kw_only=True)
class FlagRule:
    """The rule of one flag; docs/flags.md is generated from these."""

    id: str
    when: str  # the condition, in words
    why: str
    do: str
    caps: Cap

    def raised(self, sentence: str, *, do: str = "", caps: Cap | None = None) -> Flag:
        """Return the flag with a sentence about this audit; `do` and `caps` replace the general ones where given."""
        return Flag(id=self.id, found=sentence, why=self.why, do=do or self.do, caps=caps or self.caps)


SMALL_VALIDATION = FlagRule(
    id="small-validation",
    when=f"the validation split has fewer than {VALIDATION:,} images",
    why="settings are chosen on these images: with few of them, a weak setting is often chosen, and the attack looks "
    "weaker than it is",
    do="give a larger training split, or a validation split of its own",
    caps="nothing",
)


def small_validation(images: int) -> Flag | None:
    """Flag a validation split that is too small for tuning."""
    if images >= VALIDATION:
        return None
    return SMALL_VALIDATION.raised(f"the validation split has {images} images, fewer than {VALIDATION}")


LIGHT_TUNING = FlagRule(
    id="light-tuning",
    when="settings are chosen by one tuning seed each, as in `smoke-3`",
    why="a badly tuned attack gains little from any teacher, and the teacher then looks resistant",
    do="use --effort standard",
    caps="undistillable",
)


def light_tuning(suite: str, seeds: int) -> Flag | None:
    """Rule out UNDISTILLABLE where a single tuning seed chose the settings."""
    return None if seeds >= 2 else LIGHT_TUNING.raised(f"suite {suite} tunes with {seeds} seed a setting")


WEAK_TEACHER = FlagRule(
    id="weak-teacher",
    when="the teacher is no more accurate on validation images than the best LS student",
    why="a teacher that knows less than the student has nothing to teach; its normalisation may be wrong",
    do="check --normalize and --data",
    caps="undistillable",
)


def weak_teacher(teacher: float, student: float) -> Flag | None:
    """Rule out UNDISTILLABLE where the teacher is no more accurate than a student that never queried it."""
    if teacher > student:
        return None
    return WEAK_TEACHER.raised(
        f"the teacher is right on {teacher:.1%} of the validation images, the LS student on {student:.1%}"
    )


WEAK_CONTROL = FlagRule(
    id="weak-control",
    when="a judged LS student diverged (NaN), or is no more accurate than always naming the largest class",
    why="any knockoff beats a control that did not learn",
    do="give another --student",
    caps="inconclusive",
)


def weak_control(diverged: int, lowest: float, chance: float) -> Flag | None:
    """Rule out both decisive words where an LS student did not learn."""
    if not diverged and lowest > chance:
        return None
    return WEAK_CONTROL.raised(
        f"{diverged} LS students diverged; the least accurate is at {lowest:.1%}, chance at {chance:.1%}"
    )


ERRATIC_CONTROL = FlagRule(
    id="erratic-control",
    when=f"the errors of LS students vary over seeds by {ERRATIC:.0%} of their mean or more (standard deviation); or "
    f"more than {MOST:.0%} of the students of an attack on original images, or of its controls, collapse: "
    f"on validation images they are more than {FAR:g} standard deviations below the others. Controls that collapse "
    "allow only INCONCLUSIVE",
    why="a few seeds easily miss a rare bad student: the control then looks better than it is, and its interval is too "
    "short",
    do="give another --student, or longer training (--effort)",
    caps="undistillable",
)


def erratic_control(scatter: float, controls: float = 0.0, attack: tuple[float, str] = (0.0, "")) -> Flag | None:
    """Rule out UNDISTILLABLE where LS students vary so much over seeds that a few do not show their mean.

    So do attacks of which too many students collapse to tell which are the rule; such controls rule out both decisive
    words. `controls`: the largest share of an attack's controls that collapse. `attack`: the same of its students, and
    its name.
    """
    share, name = attack
    if controls > MOST:
        told = f"{controls:.0%} of an attack's controls are far below the others on validation images"
        return ERRATIC_CONTROL.raised(told, caps="inconclusive")
    if share > MOST:
        told = f"{share:.0%} of the students of {name} are far below the others on validation images"
        return ERRATIC_CONTROL.raised(told)
    if scatter < ERRATIC:
        return None
    return ERRATIC_CONTROL.raised(
        f"the errors of LS students vary over seeds by {scatter:.0%} of their mean (standard deviation)"
    )


FEW_LABELS = FlagRule(
    id="few-labels",
    when="the attacker holds images whose labels are hidden (`--labels` below 1)",
    why="every accurate teacher then gives the attacker new labels, even where it answers with labels alone: the "
    "verdict does not judge a defence",
    do="to judge a defence, audit without --labels, or with --shots",
    caps="undistillable",
)


def few_labels(fraction: float) -> Flag | None:
    """Rule out UNDISTILLABLE with hidden labels: any accurate teacher then gives labels away."""
    if fraction == 1:
        return None
    return FEW_LABELS.raised(f"the attacker knows {fraction:.0%} of the labels but holds all images")


DROPPED_CLASSES = FlagRule(
    id="dropped-classes",
    when="the attacker never saw an image of some classes (`--drop-classes`)",
    why="the verdict rests on the other classes; the accuracy on the dropped classes is reported beside it and does "
    "not judge a defence",
    do="to judge a defence, audit without --drop-classes",
    caps="undistillable",
)


def dropped_classes(names: Sequence[str]) -> Flag | None:
    """Rule out UNDISTILLABLE where the attacker lacks classes: any teacher that knows them helps, defended or not."""
    if not names:
        return None
    return DROPPED_CLASSES.raised(f"the attacker never saw an image of {len(names)} classes ({', '.join(names)})")


CLASS_IMBALANCE = FlagRule(
    id="class-imbalance",
    when=f"the largest class of the test split has more than {IMBALANCE} times the images of the smallest",
    why="accuracy then depends mostly on the large classes: a gain or a loss on small classes hardly changes it",
    do="give a balanced test split, or read the verdict as one about the large classes",
    caps="nothing",
)


def class_imbalance(images: Mapping[str, int]) -> Flag | None:
    """Flag an imbalanced test split; `images`: number of images by class."""
    few, many = min(images, key=lambda c: images[c]), max(images, key=lambda c: images[c])
    if images[many] <= IMBALANCE * images[few]:
        return None
    return CLASS_IMBALANCE.raised(f"the test split has {images[many]:,} images of {many} and {images[few]:,} of {few}")


NULL_CONTROL = FlagRule(
    id="null-control",
    when=f"LS students differ from LS students of other seeds, under the same pairing (p < {NULL_LEVEL})",
    why="both groups are trained in the same way: either the comparison itself is wrong, or this is the one chance "
    "result in a hundred",
    do="repeat with more seeds (--seeds)",
    caps="inconclusive",
)


def null_control(margin: Margin) -> Flag | None:
    """Rule out both decisive words where LS students differ from LS students of other seeds."""
    p = margin.p_equal()
    if margin.degenerate or p >= NULL_LEVEL:
        return None
    return NULL_CONTROL.raised(f"LS students differ from LS students of other seeds (p = {p:.2g})")


SYNTHETIC_TEACHER = FlagRule(
    id="synthetic-teacher",
    when="the teacher is not a model: it answers from a table",
    why="it exists to show the audit's verdict on a teacher whose distillability is known",
    do="nothing",
    caps="nothing",
)


def synthetic(name: str) -> Flag:
    """Flag a synthetic teacher, which answers from a table."""
    return SYNTHETIC_TEACHER.raised(f"{name} is a synthetic teacher")


IDENTICAL = FlagRule(
    id="identical-to-control",
    when="a label-only attack gets labels that the attacker already has: the teacher repeats 99.5 % of them, or it is "
    "the synthetic teacher that answers with smoothed labels",
    why="the attacker learns nothing new, so the margin says nothing about the teacher; the attack counts as not run",
    do="to audit an attacker who lacks labels, give --labels",
    caps="nothing",
)


def identical(attack: str, reason: str) -> Flag:
    """Flag an attack that trains on the same targets as its control."""
    return IDENTICAL.raised(f"{attack} is identical to its control: {reason}")


FAILED = FlagRule(
    id="attack-failed",
    when="an attack crashed, or one of its students diverged (NaN)",
    why="an attack that did not run is no evidence that the teacher resists it",
    do="repair the attack and run the same command again",
    caps="undistillable",
)


def failed(attack: str, sentence: str) -> Flag:
    """Rule out UNDISTILLABLE where an attack crashed or diverged."""
    return FAILED.raised(f"{attack} failed: {sentence}", do=f"repair {attack} and run the same command again")
