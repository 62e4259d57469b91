"""Check that a record holds what every audit holds: correct attacks, plug-ins, the probe, answers for CMI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from attacks.sources import statements
from audit.finished.design import Disagreement, unequal
from audit.plan import measures
from audit.plan.suite import NULL_NAME, effort_of, named
from reports.record import GROUPINGS, CMIPool, PoolName, Probe, Record, TeacherInfo
from teachers.names import SYNTHETIC
from teachers.precision import FLOAT32
from teachers.targets import questions


def parts(record: Record) -> Iterator[Disagreement]:
    """Check that nothing that an audit holds besides its students was left out or exchanged."""
    yield from stated(record)
    yield from plugins(record)
    yield from held(record)
    yield from teachers(record)
    yield from probed(record, record.probe)
    yield from pools(record)
    if record.clusters is None and any(pool.name == "validation" for pool in record.cmi):
        yield Disagreement("clusters", "nothing", "the clusters of the answers on validation images")


def stated(record: Record) -> Iterator[Disagreement]:
    """Check that every attack has the needs and data of its technique, and is marked as part of the suite or extra."""
    suite = record.suite
    for row in record.comparisons:
        name = record.name_of(row)
        if (ours := statements().get(row.attack)) is not None:
            yield from unequal(f"needs of {name}", row.needs, ours.needs)
            yield from unequal(f"holds of {name}", row.holds, ours.holds)
        yield from unequal(f"outside_suite of {name}", row.outside_suite, row.attack not in suite.attacks)
        if row.status == "not applicable":
            due = f"it needs {row.needs}, the surface shows {record.settings.surface}"
            yield from unequal(f"reason of {name}", row.reason, due)
        elif row.status == "judged":
            yield from unequal(f"reason of {name}", row.reason, "")
        if row.status in ("judged", "identical") and not row.knockoff.tuned_over:
            yield Disagreement(f"tuned_over of {name}", "0", "1 setting or more")
    for row in record.controls:
        yield from unequal(f"needs and holds of {row.attack}", (row.needs, row.holds), ("label", "original"))
        yield from unequal(f"outside_suite of {row.attack}", row.outside_suite, False)
        if row.attack == NULL_NAME:  # the LS student's best setting, on other seeds
            yield from unequal(f"tuned_over of {row.attack}", row.knockoff.tuned_over, 0)
    first = record.settings.students[0]
    yield from unequal("suite.recipe.architecture", suite.recipe.get("architecture"), first)
    used = suite.recipe.get("precision", FLOAT32)
    yield from unequal("settings.precision", record.settings.precision or FLOAT32, used)
    if (known := named(suite.name)) is not None:
        yield from unequal("settings.effort", record.settings.effort, effort_of(known))


def plugins(record: Record) -> Iterator[Disagreement]:
    """Check that the listed plug-ins are those in the versions of the students."""
    listed = dict(entry.partition(": ")[::2] for entry in record.suite.plugins)
    told = {trial.cell.technique: trial.cell.version.partition(" ")[2] for trial in record.trials}
    due = []
    for name in dict.fromkeys(row.attack for row in record.comparisons):
        origin = told.get(name, listed.get(name, ""))
        if name in statements():
            yield from unequal(f"origin of {name}", origin, "")
        elif not origin and record.suite.complete:  # no other record can be UNDISTILLABLE
            yield Disagreement(
                f"attack {name}", "an attack that this version does not know", "a known attack or a plug-in"
            )
        due += [f"{name}: {origin}"] if origin else []
    yield from unequal("suite.plugins", record.suite.plugins, tuple(due))


def held(record: Record) -> Iterator[Disagreement]:
    """Check that the attacker holds the requested share of the task."""
    task, asked = record.task, record.settings
    if len(set(task.classes)) != len(task.classes) or len(task.classes) < 2:
        yield Disagreement("task.classes", f"{len(task.classes)} names", "two or more, all different")
    if not set(asked.drop_classes) <= set(task.classes) or len(set(asked.drop_classes)) != len(asked.drop_classes):
        yield Disagreement("settings.drop_classes", ", ".join(asked.drop_classes), "classes of the task, each once")
    for where, labels in (("test", task.test_labels), ("validation", task.validation_labels)):
        if (top := labels.array().max(initial=0)) >= len(task.classes):
            yield Disagreement(f"task.{where}_labels", f"class {top}", f"at most {len(task.classes) - 1}")
    yield from grouped(record)
    due, slack = (
        asked.shots * task.train,
        len(task.classes) * (asked.shots < 1),
    )  # each class is rounded, to at least one image
    images = task.pool_images
    if images > due + slack or (not asked.drop_classes and images < due - slack):
        yield Disagreement("task.pool_images", f"{images:,}", f"a share of {asked.shots:g} of {task.train:,}")


def grouped(record: Record) -> Iterator[Disagreement]:
    """Check that groups of test images are there if they were asked for, two or more, numbered as they occur."""
    task = record.task
    yield from unequal("settings.groups", bool(record.settings.groups), task.test_groups is not None)
    for where in GROUPINGS:
        if (packed := getattr(task, where)) is None:
            continue
        groups = packed.array().astype(np.int64)
        first = np.unique(groups, return_index=True)[1]
        if len(first) < 2 or not np.array_equal(groups[np.sort(first)], np.arange(len(first))):
            yield Disagreement(f"task.{where}", f"{len(first):,} groups", "two or more, numbered as they first occur")


def teachers(record: Record) -> Iterator[Disagreement]:
    """Check that the teachers are those that the students queried, as far as digests and trials show it."""
    audited, asks = record.teacher, {trial.teacher for trial in record.trials}
    prints = {trial.cell.teacher for trial in record.trials if trial.teacher == "audited"}
    if audited.method in SYNTHETIC or audited.network_parameters is None:  # without weights, that is its fingerprint
        yield from unequal("teacher.sha256", {audited.sha256} | prints, {audited.sha256})
    same = not record.second
    if same and "ordinary" in asks:
        yield Disagreement("ordinary", "the audited teacher", "another, which students queried")
    if not same and "ordinary" not in asks and any(row.positive_control for row in record.comparisons):
        yield Disagreement("ordinary", "another teacher", "the audited one: no student queried another")
    for where, teacher in record.teachers:
        yield from _usable(record, where, teacher)


def _usable(record: Record, where: str, teacher: TeacherInfo) -> Iterator[Disagreement]:
    label = where == "teacher" and record.settings.surface == "label"
    yield from unequal(f"{where}.usability.confidence", teacher.usability.confidence is None, label)
    most, told = len(record.task.classes), teacher.usability.classes.array()
    if told.min(initial=1) < 1 or told.max(initial=1) > (1 if label else most):
        yield Disagreement(f"{where}.usability.classes", f"up to {told.max(initial=0)}", f"1 to {1 if label else most}")


def probed(record: Record, probe: Probe) -> Iterator[Disagreement]:
    """Check that the probe used the right images and queries, and that its answers match the teacher's."""
    order = questions.drawn(record.task.validation)
    yield from unequal("probe.images", probe.images, min(len(order), questions.BATCH))
    due = questions.queries(record.task.validation, len(probe.normalised))
    yield from unequal("probe.queries", probe.queries, due)
    if (probe.correct.array() != record.teacher.validation_correct.array()[order]).any():
        yield Disagreement("probe.correct", "other images", "those that the teacher gets right")
    tried = [other.normalize for other in probe.normalised]
    yield from unequal("probe.normalised", len(tried), len(set(tried)))


def pools(record: Record) -> Iterator[Disagreement]:
    """Check that the answers for CMI are there, for the images that an audit uses."""
    task, found = record.task, {pool.name: pool for pool in record.cmi}
    labels, most = task.validation_labels.array(), measures.CMI_ENTRIES // len(task.classes)
    counts = _sampled(np.bincount(labels, minlength=len(task.classes)), most)
    names = tuple(name for name in get_args(PoolName) if name in _due(record, counts) or name in found)
    yield from unequal("cmi", tuple(pool.name for pool in record.cmi), names)
    if "validation" in found:
        kept = found["validation"].labels.array()
        same = (
            np.array_equal(kept, labels) if len(labels) <= most else np.array_equal(_count(kept, task.classes), counts)
        )
        yield from unequal("cmi.validation.labels", "those of the split" if same else "others", "those of the split")
    if "train" in found and "augmented" in found:
        yield from _training(record, found["train"], found["augmented"], most)


def _due(record: Record, validation: NDArray[np.int64]) -> set[str]:
    """Return the pools that must be there; training pools only with two images per class on average."""
    enough = record.task.train >= 2 * len(record.task.classes)
    return {"validation", *(("train", "augmented") if enough else ())} if measures.measurable(validation) else set()


def _training(record: Record, plain: CMIPool, augmented: CMIPool, most: int) -> Iterator[Disagreement]:
    """Check that both pools of training images hold the same images, and the expected number."""
    kept, classes, train = plain.labels.array(), len(record.task.classes), record.task.train
    if not np.array_equal(kept, augmented.labels.array()):
        yield Disagreement("cmi.augmented.labels", "others", "those of the training images")
    if len(kept) != train if train <= most else abs(len(kept) - most) > classes:
        yield Disagreement("cmi.train.labels", f"{len(kept):,} images", f"{min(train, most):,}")


def _count(labels: NDArray[np.uint16], classes: tuple[str, ...]) -> NDArray[np.int64]:
    return np.bincount(labels, minlength=len(classes))


def _sampled(counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return how many images of each class a stratified sample keeps (as `teachers.task.stratified` does)."""
    images = int(counts.sum())
    if images <= most:
        return counts
    return np.array([max(1, round(most / images * count)) if count else 0 for count in counts.tolist()])
