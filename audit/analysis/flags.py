"""All flags that an audit can raise, and the page that documents them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from audit.analysis import image_flags, protocol_flags, tuning
from audit.analysis import student_flags as attack_checks
from audit.analysis import teacher_flags as teacher_checks
from audit.analysis.protocol_flags import FlagRule
from audit.analysis.results import Bits
from audit.plan import suite
from audit.statistics.compare import Margin, above, more_steps, paired
from reports.record import Comparison, Flag, Parameters, Probe
from reports.wording import CAPS

if TYPE_CHECKING:
    from audit.analysis.derive import RecordResults

PARTS = {
    "Protocol, data and controls": protocol_flags,
    "Test images that resemble each other": image_flags,
    "The teacher's answers": teacher_checks,
    "Students and attacks": attack_checks,
}

HEAD = """# Flags

A flag says that something weakens an audit's evidence. It is printed with the verdict and shown in the report; the
[rules](verdict.md) say which verdicts it rules out. Flags are computed from the record alone, and `audit verify`
computes them again. A teacher at chance level on validation images raises no flag: it is refused before training.
"""


def doubts() -> dict[str, list[FlagRule]]:
    """Return every flag rule, grouped by the part of the audit that it concerns, in the order of the code."""
    return {part: [v for v in vars(file).values() if isinstance(v, FlagRule)] for part, file in PARTS.items()}


def page() -> str:
    """Write docs/flags.md."""
    return "\n".join(_lines())


def raised(facts: RecordResults, comparisons: Sequence[Comparison], null: Sequence[Comparison]) -> list[Flag]:
    """Return the flags from the probe of the teacher, the data and the students; `null`: the null controls."""
    found = [
        *of_data(facts),
        *of_images(facts, comparisons),
        *of_controls(facts, null),
        *of_length(facts, comparisons, null),
    ]
    for alike in by_student(comparisons):
        found += of_attacks(facts, alike)
    return [*of_answers(facts.record.probe), *(flag for flag in found if flag is not None)]


def of_data(facts: RecordResults) -> list[Flag | None]:
    """Check the test split: class balance, and images that are also in the training split."""
    labels = facts.labels[facts.judged]
    dropped = facts.record.settings.drop_classes
    copies = facts.record.probe.duplicated.array()[facts.judged]
    counts = {c: int((labels == i).sum()) for i, c in enumerate(facts.record.task.classes) if c not in dropped}
    return [protocol_flags.class_imbalance(counts), teacher_checks.duplicates(int(copies.sum()), len(copies))]


def of_images(facts: RecordResults, comparisons: Sequence[Comparison]) -> list[Flag | None]:
    """Check whether test images, or the names of their files, suggest groups that were not given."""
    task, judged = facts.record.task, facts.judged
    alike, named = (None if held is None else held.array()[judged] for held in (task.test_alike, task.test_named))
    rows = [row for row in comparisons if row.knockoff.students and row.holds == "original"]
    means = [knockoff.mean(0) - control.mean(0) for knockoff, control in map(facts.both, rows)]
    return [
        image_flags.near_duplicates(alike, facts.groups),
        image_flags.numbered_files(
            named if facts.groups is None else None, facts.labels[judged], np.mean(means, 0) if means else None
        ),
    ]


def of_controls(facts: RecordResults, null: Sequence[Comparison]) -> list[Flag | None]:
    """Check whether the LS students with the plain recipe are already near perfect."""
    return [
        attack_checks.control_at_ceiling(float(facts.correct(row.control.students).mean()), facts.delta) for row in null
    ]


def of_length(facts: RecordResults, comparisons: Sequence[Comparison], null: Sequence[Comparison]) -> list[Flag | None]:
    """Check whether the usual number of steps is enough, where some tuning students trained for more."""
    found: list[Flag | None] = []
    over = attack_checks.OVER_BOTH if facts.retrains else attack_checks.OVER_IMAGES
    for row in null:
        usual = facts.trials[row.control.students[0]].cell.recipe
        ls = _lengths(facts, suite.LS_NAME, None, row.control.parameters, usual)
        if not ls:
            continue
        alone = [above(side, 0.0) for side in facts.both(row)] if facts.retrains else []
        gain = more_steps(np.stack([b[1] - b[0] for b in ls.values()]), alone)
        found.append(attack_checks.still_improving(gain, facts.delta, over))
        for attack in (c for c in comparisons if c.student == row.student):
            mine = _lengths(facts, attack.attack, "audited", attack.knockoff.parameters, usual)
            if seeds := sorted(mine.keys() & ls.keys()):
                margins = np.stack([mine[seed] - ls[seed] for seed in seeds])  # (S, 2, M)
                before, after = (float(mean) for mean in margins.mean((0, 2)))
                alike = [paired(*facts.both(r)) for r in (attack, row) if facts.retrains and r.knockoff.students]
                gain = more_steps(margins[:, 1] - margins[:, 0], alike)
                found.append(attack_checks.not_converged(attack.attack, before, after, gain, facts.delta, over))
    return found


def _lengths(
    facts: RecordResults, name: str, teacher: Literal["audited"] | None, parameters: Parameters, usual: Parameters
) -> dict[int, NDArray[np.int8]]:
    """Return a setting's correct validation answers at the usual steps and at more steps, (2, M) by seed.

    `teacher` separates an attack's students of the audited teacher from those on smoothed labels (None).
    """
    steps = usual["steps"]
    assert isinstance(steps, int)
    longer = {**usual, "steps": suite.LONGER * steps}
    right: list[dict[int, NDArray[np.int8]]] = [{}, {}]
    for trial in facts.record.trials:
        cell = trial.cell
        mine = (cell.technique, trial.role, trial.teacher, cell.parameters) == (name, "tune", teacher, parameters)
        if mine and not trial.diverged:
            for which, recipe in zip(right, (usual, longer), strict=True):
                if cell.recipe == recipe:
                    which[cell.seed] = trial.validation_correct.array()[facts.tuned].astype(np.int8)
    return {seed: np.stack([bits, right[1][seed]]) for seed, bits in right[0].items() if seed in right[1]}


def of_attacks(facts: RecordResults, rows: Sequence[Comparison]) -> list[Flag | None]:
    """Check the attacks on one student architecture."""
    original = [row for row in rows if row.holds == "original"]
    margins = {row.attack: paired(*facts.both(row), facts.groups) for row in original}
    weak = [row.attack for row in rows if not row.passes and not facts.record.planned]  # it was not tried yet
    return [
        attack_checks.small_test(margins, facts.delta),
        _weaker_access(facts, original),
        *_smaller_budgets(facts, rows),
        attack_checks.fails_positive_control(weak),
        attack_checks.mis_tuned([row.attack for row in rows if row.mis_tuned]),
        _harmful(facts, original),
        attack_checks.cloned(_agreement(facts, original), margins, facts.delta),
    ]


def _harmful(facts: RecordResults, rows: Sequence[Comparison]) -> Flag | None:
    """Check whether answers mislead several attacks, and no attack decodes them."""
    misled = [row for row in rows if tuning.misled(facts, row)]
    if not misled:
        return None
    control = max((facts.correct(row.control.students) for row in misled), key=np.mean)
    teacher = np.broadcast_to(facts.record.teacher.test_correct.array()[facts.judged], control.shape)
    decided = tuning.decided_by_decoding(facts, rows)
    return attack_checks.harmful_answers([row.attack for row in misled], paired(teacher, control), decided)


def by_student(rows: Iterable[Comparison]) -> list[list[Comparison]]:
    """Group the comparisons that have students by the student's architecture."""
    found: dict[str, list[Comparison]] = {}
    for row in rows:
        if row.knockoff.students:
            found.setdefault(row.student, []).append(row)
    return list(found.values())


def _weaker_access(facts: RecordResults, rows: Sequence[Comparison]) -> Flag | None:
    scores = [(row, float(facts.correct(row.knockoff.students).mean())) for row in rows]
    labels = [pair for pair in scores if pair[0].needs == "label"]
    probs = [pair for pair in scores if pair[0].needs != "label"]
    if not labels or not probs:
        return None
    (weak, _), (strong, _) = (max(side, key=lambda pair: pair[1]) for side in (labels, probs))
    margin = _over(facts, weak.knockoff.students, strong.knockoff.students)
    return attack_checks.weaker_access_wins(weak.attack, strong.attack, margin)


def _smaller_budgets(facts: RecordResults, rows: Sequence[Comparison]) -> list[Flag | None]:
    return [
        attack_checks.smaller_budget_wins(
            row.attack, small.queries, large.queries, _over(facts, small.students, large.students)
        )
        for row in rows
        for small, large in pairwise(row.curve)
    ]


def _over(facts: RecordResults, mine: Sequence[str], theirs: Sequence[str]) -> Margin:
    """Compare two groups of students on the seeds that both of them have."""
    seeds = min(len(mine), len(theirs))
    return paired(facts.correct(mine[:seeds]), facts.correct(theirs[:seeds]), facts.groups)


def _agreement(facts: RecordResults, rows: Sequence[Comparison]) -> Mapping[str, Margin]:
    """Compare the teacher agreement of knockoff and LS students, where the record holds it for both."""
    told = {key: t.test_agrees.array()[facts.judged] for key, t in facts.trials.items() if t.test_agrees is not None}
    sides = {row.attack: (row.knockoff.students, row.control.students) for row in rows}
    return {
        name: paired(_stacked(told, both[0]), _stacked(told, both[1]), facts.groups)
        for name, both in sides.items()
        if told.keys() >= {*both[0], *both[1]}
    }


def _stacked(told: Mapping[str, Bits], students: Sequence[str]) -> Bits:
    return np.stack([told[key] for key in students])


def of_answers(probe: Probe) -> list[Flag]:
    """Return the flags that the teacher's answers raise."""
    tried = {other.normalize: other.correct.array() for other in probe.normalised}
    dependent = teacher_checks.batch_dependent(probe.repeated.array(), probe.regrouped.array())
    found = [
        teacher_checks.noisy_answers(probe.repeated.array()),
        dependent,
        None if dependent else _changed(probe),  # other images in the batch explain another answer
        teacher_checks.softmaxed_twice(probe.softmaxed),
        teacher_checks.saturated(probe.saturated),
        teacher_checks.other_normalisation(probe.correct.array(), tried),
    ]
    return [flag for flag in found if flag is not None]


def _changed(probe: Probe) -> Flag | None:
    """Check whether the teacher still answers as it did before training."""
    if probe.again is None:
        return None
    views = probe.again.views.array(), probe.again.noise.array()
    changes = {"validation images": (probe.again.validation.array(), probe.repeated.array()), "views": views}
    return teacher_checks.answers_changed(changes)


def _lines() -> Iterator[str]:
    yield HEAD
    for part, of in doubts().items():
        yield f"## {part}\n"
        for doubt in of:
            yield f"### `{doubt.id}`\n"
            yield f"- **Raised if** {doubt.when}."
            yield f"- **Why it matters:** {doubt.why}."
            yield f"- **What to do:** {doubt.do}."
            yield f"- It {CAPS[doubt.caps]}.\n"
