"""Audits whose test images have groups: the group is the unit of every margin, and the record says so."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audits import request, smoke
from record_changes import rewritten

from audit import pipeline
from audit.analysis.derive import derived
from audit.finished.side_by_side import difference, question
from audit.finished.verify import follows, verify
from audit.plan.question import of_groups
from audit.policy.regression import changes, unlike
from audit.statistics.power import of_record
from reports.record import PackedArray, Record, dumped, load
from teachers.errors import UsageError

pytestmark = pytest.mark.usefixtures("tiny", "figures_once")


@pytest.fixture(scope="module")
def grouped(taught: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same audit as `finished`, whose test images have groups of three."""
    home = tmp_path_factory.mktemp("grouped")
    with (home / "groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("index", "film"), *((i, f"film {i // 3}") for i in range(597))])
    with smoke():
        options = request(finished.parent / "cache", home / "out", groups=str(home / "groups.csv"))
        return pipeline.run(options).folder


def twice(packed: PackedArray) -> PackedArray:
    return PackedArray.of(np.repeat(packed.array(), 2))


def doubled(record: Record) -> Record:
    """Return a record in which every test image is there twice, and both are one group."""

    def teacher(told: Any) -> Any:
        shown = told.usability
        more = {name: twice(getattr(shown, name)) for name in ("correct", "confidence", "classes")}
        return told.model_copy(
            update={"test_correct": twice(told.test_correct), "usability": shown.model_copy(update=more)}
        )

    task = record.task
    return record.model_copy(
        update={
            "task": task.model_copy(
                update={
                    "test": 2 * task.test,
                    "test_labels": twice(task.test_labels),
                    "test_groups": PackedArray.of(np.repeat(np.arange(task.test, dtype=np.uint32), 2)),
                }
            ),
            "teacher": teacher(record.teacher),
            "ordinary": teacher(record.ordinary),
            "probe": record.probe.model_copy(update={"duplicated": twice(record.probe.duplicated)}),
            "trials": tuple(
                trial
                if trial.test_correct is None or trial.test_agrees is None
                else trial.model_copy(
                    update={"test_correct": twice(trial.test_correct), "test_agrees": twice(trial.test_agrees)}
                )
                for trial in record.trials
            ),
        }
    )


def numbers(value: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of plain data, but those that count images."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name not in ("images", "test", "shape", "discordant"):
                yield from numbers(part, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from numbers(part, f"{where}[{i}]")
    elif isinstance(value, int | float):
        yield where, float(value)


def test_every_number_of_an_audit_of_twins_is_that_of_the_single_images(finished: Path) -> None:
    """Whatever uses test images uses their groups: margins, looks, curves, controls, flags, the teacher's interval."""
    record = load(finished)
    once, both = derived(record), derived(doubled(record))
    ours, theirs = (
        dict(numbers(r.model_dump(exclude={"trials": True, "task": {"test_groups"}}))) for r in (once, both)
    )
    assert ours.keys() == theirs.keys()
    for where, value in ours.items():
        assert theirs[where] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), where
    assert [flag.id for flag in once.flags] == [flag.id for flag in both.flags]
    assert once.verdict.word == both.verdict.word
    assert both.verdict.scope == once.verdict.scope.replace("597 test images", "1,194 test images in 597 groups")
    assert of_record(both).images == pytest.approx(2 * of_record(once).images)
    change, other = (changes(r, r, (), 0.005)[0].looks for r in (once, both))
    assert change is not None
    assert other is not None
    assert other.last.interval() == change.last.interval()


def test_an_audit_keeps_its_groups_and_can_be_verified(grouped: Path, finished: Path) -> None:
    record, plain = load(grouped), load(finished)
    assert list(verify(grouped)) == []
    assert record.groups is not None
    assert record.groups.tolist() == [i // 3 for i in range(597)]
    assert "597 test images in 199 groups" in record.verdict.scope
    assert "Groups of test images" in (grouped / "report.html").read_text(encoding="utf-8")
    assert record.audit != plain.audit
    assert {trial.key for trial in record.trials} == {trial.key for trial in plain.trials}, "students know no groups"
    for row, other in zip(record.comparisons, plain.comparisons, strict=True):
        if row.margin is not None and other.margin is not None:
            assert row.margin.mean == other.margin.mean
            assert row.margin.discordant == other.margin.discordant
            assert row.margin.se != other.margin.se


def test_a_record_without_groups_is_written_as_before(finished: Path) -> None:
    text = dumped(load(finished)).decode()
    assert not any(name in text for name in ("test_groups", "test_alike", "test_named", '"groups"'))
    assert (finished / "record.json").read_text(encoding="utf-8") == text


def test_margins_of_other_groups_are_not_compared(grouped: Path, finished: Path) -> None:
    record, plain = load(grouped), load(finished)
    named = difference(plain, record)
    assert named is not None
    assert named[0] == "groups of test images"
    assert named[1] == "none"
    assert unlike(record, plain) == "groups of test images"
    moved = record.model_copy(update={"settings": load(finished).settings})
    assert question(moved) == question(record), "the groups count, not where they were read"


FORGED = {
    "pairs instead of threes": ({"test_groups": np.arange(597) // 2}, "audit"),
    "every image on its own": ({"test_groups": np.arange(597)}, "audit"),
    "groups that are left out": ({"test_groups": None}, "settings.groups"),
    "a single group": ({"test_groups": np.zeros(597, int)}, "task.test_groups"),
    "numbers that leave some out": ({"test_groups": np.arange(597) // 3 * 2}, "task.test_groups"),
    "groups of fewer images": ({"test_groups": np.arange(596) // 3}, "record.json"),
    "near-duplicates that are one": ({"test_alike": np.zeros(597, int)}, "task.test_alike"),
    "names of fewer images": ({"test_named": np.arange(596) // 3}, "record.json"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_groups_are_found_that_all_else_follows_from(name: str, grouped: Path) -> None:
    record, (values, where) = load(grouped), FORGED[name]
    packed = {n: None if v is None else PackedArray.of(np.asarray(v).astype(np.uint32)) for n, v in values.items()}
    forged = record.model_copy(update={"task": record.task.model_copy(update=packed)})
    if where != "record.json":
        forged = derived(forged)
    assert where in [one.where for one in follows(forged)]


def test_groups_change_the_question_of_an_audit() -> None:
    groups = np.array([0, 0, 1], np.uint32)
    assert of_groups(None) == ""
    assert of_groups(groups) == of_groups(groups.astype(np.int64)) != of_groups(np.array([0, 1, 1]))


def test_bad_groups_are_refused_before_anything_is_trained(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file names"):
        pipeline.run(request(finished.parent / "cache", tmp_path / "out", groups=r"(.+)_\d+"))
    assert not (tmp_path / "out").exists()


def test_the_reports_of_a_record_with_groups_can_be_written_again(grouped: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(grouped, tmp_path / "copy"))
    assert list(verify(rewritten(copy, load(copy)))) == []


def test_flags_follow_from_what_a_record_holds_of_its_images(finished: Path, grouped: Path) -> None:
    pairs = PackedArray.of(np.arange(597, dtype=np.uint32) // 2)
    threes = PackedArray.of(np.arange(597, dtype=np.uint32) // 3)

    def flags(folder: Path, **task: PackedArray) -> dict[str, str]:
        record = load(folder)
        told = derived(record.model_copy(update={"task": record.task.model_copy(update=task)}))
        assert list(follows(told)) == []
        assert not task or told.verdict.word != "UNDISTILLABLE"
        return {flag.id: flag.caps for flag in told.flags if flag.id in ("near-duplicates", "numbered-files")}

    assert flags(finished) == {}
    assert flags(finished, test_alike=pairs) == {"near-duplicates": "inconclusive"}
    assert flags(grouped, test_alike=pairs) == {"near-duplicates": "inconclusive"}
    assert flags(grouped, test_alike=threes, test_named=threes) == {}
    named = flags(finished, test_named=threes)
    assert named["numbered-files"] in ("nothing", "inconclusive")


def test_an_experiment_tells_what_its_images_look_like_and_are_called(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from audit.recording.evidence import task_info
    from teachers.task import Pool, Task

    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(0, 256, (20, 1, 8, 8), np.uint8), 3, axis=0)
    pool = Pool(frames, np.arange(60) % 2)
    names = tuple(f"{'ab'[i // 30]}/film{i // 3}_{i % 3}.png" for i in range(60))
    task = Task("films", ("a", "b"), pool.take(np.arange(2)), pool.take(np.arange(2)), pool, names)
    told = task_info(SimpleNamespace(task=task, pool=pool, groups=None))  # type: ignore[arg-type]
    assert told.test_groups is None
    for found in (told.test_alike, told.test_named):
        assert found is not None
        assert found.array().tolist() == [i // 3 for i in range(60)]
