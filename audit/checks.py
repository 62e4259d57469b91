"""May this teacher be judged by this protocol? Each doubt is a flag: raised if, why, what to do."""

from __future__ import annotations

from collections.abc import Sequence

from audit.compare import Margin
from reports.record import Flag

VALIDATION = 3_000  # images, below which the best temperature is missed too often
NULL_LEVEL = 0.01
LS, NULL = "ls", "ls (null)"  # the controls that the rules name
SYNTHETIC = "smoothed-truth"  # and the teacher


def small_validation(images: int) -> Flag | None:
    """Doubt the tuning where the validation split is small."""
    if images >= VALIDATION:
        return None
    return Flag(
        id="small-validation",
        raised=f"the validation split has {images} images, fewer than {VALIDATION}",
        why="settings are chosen on it: with few images a weaker setting is often chosen, and an attack looks weaker",
        do="give a larger training split, or a validation split of its own",
        caps="nothing",
    )


def light_tuning(suite: str, seeds: int) -> Flag | None:
    """Doubt resistance where settings were chosen by a single tuning seed."""
    if seeds >= 2:
        return None
    return Flag(
        id="light-tuning",
        raised=f"suite {suite} tunes with {seeds} seed a setting",
        why="an attack that is badly tuned looks like an attack survived",
        do="use --effort standard",
        caps="undistillable",
    )


def weak_teacher(teacher: float, student: float) -> Flag | None:
    """Doubt resistance where the teacher is less accurate than a student that never asked it."""
    if teacher > student:
        return None
    return Flag(
        id="weak-teacher",
        raised=f"the teacher is right on {teacher:.1%} of the validation images, the LS student on {student:.1%}",
        why="a teacher that knows less than the student has nothing to teach; its normalisation may be wrong",
        do="check --normalize and --data",
        caps="undistillable",
    )


def weak_control(diverged: int, lowest: float, chance: float) -> Flag | None:
    """Stop trusting the comparison where an LS student did not learn."""
    if not diverged and lowest > chance:
        return None
    return Flag(
        id="weak-control",
        raised=f"{diverged} LS students diverged; the least accurate is at {lowest:.1%}, chance at {chance:.1%}",
        why="any knockoff beats a control that did not learn",
        do="give another --student",
        caps="inconclusive",
    )


def few_labels(fraction: float) -> Flag | None:
    """Say that with hidden labels any accurate teacher helps."""
    if fraction == 1:
        return None
    return Flag(
        id="few-labels",
        raised=f"the attacker knows {fraction:.0%} of the labels but holds all images",
        why="any accurate teacher, label answers included, then gives away labels: this is no judgement of a defence",
        do="judge the defence without --labels, or with --shots",
        caps="undistillable",
    )


def dropped_classes(names: Sequence[str]) -> Flag | None:
    """Say that a teacher that knows more classes than the attacker helps with them, however it is defended."""
    if not names:
        return None
    return Flag(
        id="dropped-classes",
        raised=f"the attacker never saw an image of {len(names)} classes ({', '.join(names)})",
        why="the verdict rests on the other classes; accuracy on these is reported beside it and judges no defence",
        do="judge the defence without --drop-classes",
        caps="undistillable",
    )


def null_control(margin: Margin) -> Flag | None:
    """Stop trusting the comparison where LS students differ from LS students."""
    p = margin.p_equal()
    if margin.degenerate or p >= NULL_LEVEL:
        return None
    return Flag(
        id="null-control",
        raised=f"LS students differ from LS students of other seeds (p = {p:.2g})",
        why="the two groups are trained alike, so the comparison itself is off, or this is the one time in a hundred",
        do="repeat with more seeds (--seeds)",
        caps="inconclusive",
    )


def synthetic(name: str) -> Flag:
    """Say that this teacher is no model."""
    return Flag(
        id="synthetic-teacher",
        raised=f"{name} is a synthetic teacher",
        why="it exists to show what the audit says of a teacher of known distillability",
        do="nothing",
        caps="nothing",
    )


def identical(attack: str, reason: str) -> Flag:
    """Set aside an attack that trains on the control's own targets."""
    return Flag(
        id="identical-to-control",
        raised=f"{attack} is identical to its control: {reason}",
        why="it asks for what the attacker knows, so its margin says nothing about the teacher; it counts as not run",
        do="see --labels for an attacker without labels",
        caps="nothing",
    )


def failed(attack: str, sentence: str) -> Flag:
    """Keep a crashed or diverged attack from reading as one survived."""
    return Flag(
        id="attack-failed",
        raised=f"{attack} failed: {sentence}",
        why="an attack that did not run is not an attack survived",
        do=f"repair {attack} and run the same command again",
        caps="undistillable",
    )
