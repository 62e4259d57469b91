"""One command takes a teacher to a verdict, trains nothing twice, and counts every query."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audits import request, timeless, with_attack
from record_changes import of

from attacks import registry
from attacks.base import Attack, Lab
from attacks.data_free.ideal import IDEAL
from attacks.logits.soft_kd import SoftKD
from audit import pipeline
from audit.analysis.derive import results
from audit.execution import processes
from audit.finished.verify import measured, verify
from audit.plan.suite import EFFORTS, Suite
from audit.statistics import verdict
from audit.statistics.verdict import Finding
from audit.trials.protocol import StudentTrials
from reports.record import Record, load
from teachers.data.datasets import load as load_task
from teachers.errors import NothingAudited, RefusedInput, UsageError
from teachers.oracle import Box
from teachers.surface import Surface
from teachers.synthetic import SmoothedTruth
from teachers.targets.home import LateBox
from teachers.task import known
from teachers.training import Student

pytestmark = pytest.mark.usefixtures("tiny", "figures_once")


def test_an_audit_of_the_demo_teacher_is_complete(finished: Path) -> None:
    record = load(finished)
    assert {"record.json", "report.html", "junit.xml", "summary.md", "journal.jsonl"} <= {
        p.name for p in finished.iterdir()
    }
    assert [c.attack for c in record.comparisons] == ["soft-kd", "label-kd", "knockoff"]
    assert record.verdict.word in {"INCONCLUSIVE", "DISTILLABLE"}
    assert record.suite.complete
    tune = [t for t in record.trials if t.role == "tune"]
    assert all(t.test_correct is None for t in tune), "tuning must never see the test split"
    assert {t.cell.seed for t in tune}.isdisjoint({t.cell.seed for t in record.trials if t.role == "judge"})
    assert {p.name for p in record.cmi} == {"train", "augmented", "validation"}


def test_every_margin_follows_from_the_students_that_its_row_names(finished: Path) -> None:
    record = load(finished)
    judged = [row for row in (*record.comparisons, *record.controls) if row.margin is not None]
    assert [row.attack for row in judged] == ["soft-kd", "knockoff", "ls (null)"]
    for row in judged:
        mine, ls = record.correct(row.knockoff.students), record.correct(row.control.students)
        assert row.margin is not None
        assert (mine.mean(), ls.mean()) == pytest.approx((row.knockoff.accuracy, row.control.accuracy))
        assert mine.mean() - ls.mean() == pytest.approx(row.margin.mean)
        if row.baseline is not None:
            gain = mine.mean() - record.correct(row.baseline.students).mean()
            assert gain == pytest.approx(row.baseline.margin.mean)
        if row.positive_control is not None and row.positive_control.control_students:
            held = next(t for t in record.trials if t.key == row.positive_control.control_students[0])
            named = "LS student" if held.cell.technique == "ls" else f"{held.cell.technique} of "
            assert row.positive_control.baseline.startswith(named)


def test_a_finished_audit_trains_nothing_again(kept: Path, tmp_path: Path) -> None:
    done = pipeline.run(request(kept, tmp_path / "out"))
    first = done.record
    assert load(done.folder) == first
    again = pipeline.run(request(kept, tmp_path / "out")).record
    assert again == first
    elsewhere = pipeline.run(request(kept, tmp_path / "other")).record
    assert elsewhere.times.trained == 0
    assert timeless(elsewhere) == timeless(first)


def test_no_image_is_kept_where_none_may_be(kept: Path, tmp_path: Path) -> None:
    def pictures(record: Record) -> set[str]:
        assert record.clusters is not None
        return {picture.png for shown in record.clusters.spread for picture in shown.pictures}

    assert "" not in pictures(pipeline.run(request(kept, tmp_path / "a")).record)
    for out in ("a", "b"):  # finished before, and not
        assert pictures(pipeline.run(request(kept, tmp_path / out, thumbnails=False)).record) == {""}
        assert not list(verify(tmp_path / out))


def test_the_ledger_counts_every_image_that_reaches_the_teacher(
    cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: Counter[str] = Counter()
    real = Box.__call__

    def counted(self: Box, images: torch.Tensor):  # type: ignore[no-untyped-def]
        sent["all"] += 0 if isinstance(self._network, SmoothedTruth) else len(images)
        return real(self, images)

    def own(self: LateBox, images: torch.Tensor):  # type: ignore[no-untyped-def]
        sent["all"] -= len(images)  # attackers pay nobody for the answers of their own teachers
        return ask(self, images)

    ask = LateBox.__call__
    monkeypatch.setattr(Box, "__call__", counted)
    monkeypatch.setattr(LateBox, "__call__", own)
    record = pipeline.run(request(cold("cache"), tmp_path / "out", surface="label")).record
    assert sum(row.sent for row in record.ledger) == sent["all"]
    charged = sum(row.charged for row in record.ledger)
    assert charged == sum(t.queries for t in record.trials)
    assert charged > sent["all"] / 2


def test_processes_and_one_process_train_the_same_students(
    finished: Path, cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, measure, events = processes.Processes._call, processes.measure, list[str]()
    monkeypatch.setattr(processes.Processes, "_call", lambda *a: (events.append("given"), call(*a)))
    monkeypatch.setattr(processes, "measure", lambda *a: (events.append("measured"), measure(*a))[1])
    spawned = pipeline.run(request(cold("cache"), tmp_path / "b", jobs=2)).record
    assert events.count("measured") == spawned.times.trained
    assert "measured measured" not in " ".join(events), "a worker has its next student before the last one is measured"
    assert spawned.times.trained > 0
    assert timeless(spawned) == timeless(load(finished))


def test_a_setting_that_was_chosen_elsewhere_is_not_tuned_again(kept: Path, tmp_path: Path) -> None:
    fixed = (SoftKD(temperature=3.0),)
    record = pipeline.run(request(kept, tmp_path / "out", attacks="soft-kd"), fixed=fixed).record
    (row,) = record.comparisons
    assert (row.knockoff.parameters["temperature"], row.knockoff.tuned_over) == (3.0, 1)
    assert [t.role for t in record.trials if t.kind == "attack"] == ["judge"] * len(row.knockoff.students)


@pytest.mark.slow
def test_adding_seeds_is_another_look_and_spends_error(cold: Callable[[str], Path], tmp_path: Path) -> None:
    cache = cold("cache")
    first = pipeline.run(request(cache, tmp_path / "a")).record
    more = pipeline.run(request(cache, tmp_path / "b", seeds=4)).record
    same = pipeline.run(request(cache, tmp_path / "c")).record
    assert (first.look.seeds, more.look.seeds, same.look.seeds) == ((2,), (2, 4), (2,))
    assert {row.looks for row in more.comparisons if row.knockoff.students} <= {(2,), (2, 4)}
    between = pipeline.run(request(cache, tmp_path / "d", seeds=3)).record
    assert between.look.seeds == (2, 3)
    assert pipeline.run(request(cache, tmp_path / "e", seeds=4)).record.look.seeds == (2, 3, 4), "3 were looked at, too"
    for wrong in (0, 1, 21):
        with pytest.raises(UsageError, match=f"--seeds {wrong}: an interval needs"):
            pipeline.run(request(cache, tmp_path / "f", seeds=wrong))


@pytest.mark.slow
def test_seeds_are_added_to_open_comparisons_alone(
    cold: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(findings: Sequence[Finding], *_: float) -> list[str]:
        return [f.attack for f in findings if "soft-kd" in f.attack]

    monkeypatch.setattr(verdict, "undecided", left)
    record = pipeline.run(request(cold("cache"), tmp_path / "out", seeds=5)).record
    rows = {row.attack: row for row in record.comparisons}
    assert rows["soft-kd"].looks == (2, 4, 5)
    assert rows["knockoff"].looks == (2,)
    for row in (rows["soft-kd"], rows["knockoff"]):
        assert row.margin is not None
        assert len(row.knockoff.students) == len(row.control.students) == row.looks[-1]
        counted, _ = results(record).typical(row.knockoff.students, row.control.students)
        assert row.margin.seeds == len(counted), "a seed whose student collapsed does not count"
        assert row.baseline is not None
        assert len(row.baseline.students) == row.looks[0]


@pytest.mark.slow
def test_several_students_are_audited_at_once_and_the_worst_case_counts(kept: Path, tmp_path: Path) -> None:
    students = "strided-4-8,strided-8-16-32"
    done = pipeline.run(request(kept, tmp_path / "out", student=students, attacks="soft-kd,knockoff"))
    record = done.record
    named = [(row.attack, row.student) for row in record.comparisons]
    assert named == [(a, s) for s in students.split(",") for a in ("soft-kd", "knockoff")]
    assert [row.student for row in record.controls if row.attack == "ls (null)"] == students.split(",")
    for row in record.comparisons:
        trials = [t for t in record.trials if t.key in (*row.knockoff.students, *row.control.students)]
        assert {t.cell.student for t in trials} == {row.student}
        assert row.p_holm is not None
    assert "student strided-4-8 or strided-8-16-32" in record.verdict.scope
    assert "soft-kd on strided-4-8" in (done.folder / "summary.md").read_text()
    assert list(verify(done.folder)) == []
    with pytest.raises(UsageError, match="names no architecture"):
        pipeline.run(request(kept, tmp_path / "none", student=","))


def test_a_label_surface_leaves_probability_attacks_out(kept: Path, tmp_path: Path) -> None:
    record = pipeline.run(request(kept, tmp_path / "out", surface="label")).record
    rows = {c.attack: c for c in record.comparisons}
    assert rows["soft-kd"].status == "not applicable"
    assert rows["soft-kd"].positive_control is not None, (
        "it is measured on the ordinary teacher with full probabilities"
    )
    assert record.ordinary.name == "ordinary"
    assert {t.teacher for t in record.trials} == {None, "audited", "ordinary"}


def test_label_kd_on_repeated_labels_is_identical_to_its_control(kept: Path, tmp_path: Path) -> None:
    record = pipeline.run(request(kept, tmp_path / "out", teacher="smoothed-truth")).record
    rows = {c.attack: c for c in record.comparisons}
    assert rows["label-kd"].status == "identical"
    assert any(f.id == "identical-to-control" for f in record.flags)
    assert not [t for t in record.trials if t.cell.technique == "label-kd" and t.role == "judge"]
    own = rows["soft-kd"].control.name == "soft-kd of smoothed labels"
    assert (rows["soft-kd"].status == "identical") == own, "not where bare labels, or the LS student, are better"
    assert list(verify(tmp_path / "out")) == []
    forged = of("label-kd", lambda r: {"control.parameters": {"smoothing": 0.9, "view": "crop"}})(record)
    assert "settings of controls of label-kd" in [found.where for found in measured(forged)]


def test_controls_are_shared_between_teachers(kept: Path, tmp_path: Path) -> None:
    demo = pipeline.run(request(kept, tmp_path / "a")).record
    truth = pipeline.run(request(kept, tmp_path / "b", teacher="smoothed-truth")).record

    def controls(record: Record) -> set[str]:
        return {t.key for t in record.trials if t.cell.technique == "ls" and t.role in ("tune", "null")}

    assert controls(demo) == controls(truth)


@pytest.mark.slow
@pytest.mark.parametrize(("option", "images"), [("shots", 90), ("labels", 900)])
def test_the_attackers_data_is_an_option(kept: Path, tmp_path: Path, option: str, images: int) -> None:
    record = pipeline.run(request(kept, tmp_path / "out", **{option: 0.1})).record
    soft = next(t for t in record.trials if t.cell.technique == "soft-kd")
    assert soft.queries == images * 2
    flags = {f.id for f in record.flags}
    assert ("few-labels" in flags) == (option == "labels")
    assert list(verify(tmp_path / "out")) == []


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "asked", "ahead"), [(1_000, 900, 900), (100, 100, 0)])
def test_a_budget_is_kept_by_every_student_and_no_control_sees_fewer_views(
    kept: Path, tmp_path: Path, budget: int, asked: int, ahead: int
) -> None:
    names = "soft-kd,label-mixup,mlkd"
    record = pipeline.run(request(kept, tmp_path / "out", attacks=names, budget=budget)).record
    assert max(t.queries for t in record.trials) <= budget
    assert {t.queries for t in record.trials if t.cell.technique == "soft-kd" and t.teacher} == {asked}
    assert not {c.attack: c.reason for c in record.comparisons if c.status == "failed"}
    assert record.suite.recipe["views"] == 2
    assert record.probe.again is not None
    assert record.probe.again.views.shape[0] == min(256, ahead)
    assert list(verify(tmp_path / "out")) == []


def test_a_budget_below_the_images_takes_their_labels(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--budget 100 is too small: .* 900 images where labels are missing"):
        pipeline.run(request(kept, tmp_path / "tight", budget=100, labels=0.5))
    with pytest.raises(UsageError, match="--budget 0: at least one query is needed"):
        pipeline.run(request(kept, tmp_path / "none", budget=0))


@dataclass(frozen=True, kw_only=True)
class Crashing(SoftKD):
    name = "crashing"

    def run(self, lab: Lab) -> Student:
        raise ZeroDivisionError("the attack's own bug")


@dataclass(frozen=True, kw_only=True)
class Diverging(SoftKD):
    name = "diverging"

    def run(self, lab: Lab) -> Student:
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss, replace(lab.recipe, lr=1e30))


@dataclass(frozen=True, kw_only=True)
class WhileRunning(Attack):
    name = "while-running"
    title = "Asks while it runs"
    paper = "a test"
    needs = "probs"
    holds = "original"

    def run(self, lab: Lab) -> Student:
        lab.oracle.estimate(torch.rand(37, *lab.pool.shape, generator=torch.Generator().manual_seed(lab.seed)))
        first = lab.fit(lab.stream("raw"), lambda outputs, batch, step: outputs.logits.square().mean())
        assert first is lab.last
        return lab.fit(lab.stream("crop", lab.answers("crop")), SoftKD().loss)


@pytest.mark.parametrize("attack", [Crashing, Diverging])
def test_an_attack_that_fails_never_reads_as_survived(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: type[Attack]
) -> None:
    with_attack(monkeypatch, attack)
    record = pipeline.run(request(kept, tmp_path / "out", attacks=f"soft-kd,{attack.name}")).record
    row = next(c for c in record.comparisons if c.attack == attack.name)
    assert row.status == "failed"
    assert row.reason
    assert any(f.id == "attack-failed" and f.caps == "undistillable" for f in record.flags)
    assert list(verify(tmp_path / "out")) == []
    with pytest.raises(NothingAudited, match="every attack failed"):
        pipeline.run(request(kept, tmp_path / "alone", attacks=attack.name))


def test_an_attack_that_asks_while_it_runs_asks_through_the_same_door_and_is_stored(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_attack(monkeypatch, WhileRunning)
    record = pipeline.run(request(kept, tmp_path / "out", attacks="while-running")).record
    mine = [t for t in record.trials if t.cell.technique == "while-running" and t.role == "judge" and t.teacher]
    assert {t.queries for t in mine} == {37 + 2 * 900}
    asked = {row.purpose: (row.charged, row.sent) for row in record.ledger if row.attack == "while-running"}
    assert asked == {
        "judge, audited teacher": (2 * 1_800, 1_800),
        "judge, audited teacher, gradient estimate": (2 * 37, 2 * 37),
    }
    assert not list(verify(tmp_path / "out"))


def test_a_teacher_at_chance_is_refused(kept: Path, tmp_path: Path) -> None:
    from teachers import intake, networks

    torch.manual_seed(0)
    path = tmp_path / "chance.pt"
    torch.save(networks.build("strided-4-8", 10, (1, 8, 8)).state_dict(), path)
    assert intake.open_weights(path).card is None
    wanted = request(kept, tmp_path / "out", teacher=str(path))
    with pytest.raises(UsageError, match="does not say what it was trained on; give --data"):
        pipeline.run(replace(wanted, data=None))
    for named in ({}, {"arch": "strided-4-8", "normalize": "none"}):
        with pytest.raises(RefusedInput, match="no better than always naming the largest class"):
            pipeline.run(replace(wanted, **named))


def test_a_folder_that_holds_another_audit_is_refused_and_kept(kept: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    before = (tmp_path / "out" / "record.json").read_bytes()
    with pytest.raises(UsageError, match="holds another audit"):
        pipeline.run(request(kept, tmp_path / "out", seeds=3))
    assert (tmp_path / "out" / "record.json").read_bytes() == before


def test_a_record_is_strict_json(finished: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((finished / "record.json").read_text(), parse_constant=refuse)


def test_correctness_in_the_record_is_that_of_the_students(finished: Path) -> None:
    record = load(finished)
    row = next(c for c in record.comparisons if c.attack == "soft-kd")
    mine = [t for t in record.trials if t.cell.technique == "soft-kd" and t.role == "judge" and t.teacher]
    bits = np.stack([t.test_correct.array() for t in mine if t.test_correct is not None])
    assert bits.shape == (2, record.task.test)
    assert bits.mean() == pytest.approx(row.knockoff.accuracy)


@pytest.mark.slow
def test_classes_that_the_attacker_never_saw_are_reported_outside_the_verdict(kept: Path, tmp_path: Path) -> None:
    record = pipeline.run(request(kept, tmp_path / "out", drop_classes=("9, 7",))).record
    assert record.settings.drop_classes == ("9", "7")
    soft = next(c for c in record.comparisons if c.attack == "soft-kd")
    assert soft.knockoff.dropped_accuracy is not None
    assert soft.control.dropped_accuracy == 0, "a student without a teacher cannot know them"
    assert soft.margin is not None
    test, train = known(load_task("digits").test), known(load_task("digits").train)
    assert soft.margin.images == (~np.isin(test, [7, 9])).sum()
    assert soft.knockoff.queries == 2 * (~np.isin(train, [7, 9])).sum()
    assert any(f.id == "dropped-classes" and f.caps == "undistillable" for f in record.flags)
    assert "without the classes 9, 7" in record.verdict.scope
    assert list(verify(tmp_path / "out")) == []


@pytest.mark.parametrize(("names", "message"), [("ten", "has no class 'ten'"), ("0,1,2,3,4,5,6,7,8", "leaves 1 class")])
def test_classes_that_cannot_be_dropped_are_refused(kept: Path, tmp_path: Path, names: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pipeline.run(request(kept, tmp_path / "out", drop_classes=(names,)))


def test_the_best_student_without_a_teacher_is_named_and_compared_with(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Suite
) -> None:
    monkeypatch.setitem(EFFORTS, "smoke", replace(tiny, name="tiny-controls", steps=25, controls=("ce", "self-kd")))
    record = pipeline.run(request(kept, tmp_path / "out")).record
    assert [row.attack for row in record.controls] == ["ls (null)", "ce", "self-kd"]
    trials = [t for t in record.trials if t.cell.technique == "self-kd"]
    assert {t.role for t in trials} == {"tune", "judge"}
    assert {(t.kind, t.queries) for t in trials} == {("control", 0)}
    judged = [row for row in record.comparisons if row.status == "judged"]
    assert "soft-kd" in {row.attack for row in judged}
    for row in judged:
        assert row.baseline is not None
        assert row.baseline.name in {"ls", "ce", "self-kd"}
        if row.baseline.name != "ls":
            mine = np.mean(
                [
                    t.test_correct.array().mean()
                    for t in record.trials
                    if t.cell.technique == row.baseline.name and t.test_correct
                ]
            )
            assert row.knockoff.accuracy is not None
            assert row.baseline.margin.mean == pytest.approx(row.knockoff.accuracy - mine)


def test_a_steal_cost_curve_has_a_fresh_student_for_every_budget(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Suite
) -> None:
    monkeypatch.setitem(EFFORTS, "smoke", replace(tiny, name="tiny-curve", budgets=3))
    record = pipeline.run(request(kept, tmp_path / "out", surface="label")).record
    row = next(c for c in record.comparisons if c.attack == "knockoff")
    own = row.knockoff.queries
    assert [point.queries for point in row.curve] == [round(own / 10), round(own / 10**0.5), own]
    assert row.positive_control is not None
    assert len(row.positive_control.curve) == 3
    mine = [t for t in record.trials if t.cell.technique == "knockoff" and t.role == "cost"]
    assert sorted({t.cell.budget for t in mine if t.cell.budget}) == [round(own / 10), round(own / 10**0.5)]
    assert len({t.key for t in mine}) == len(mine) == 4


@dataclass(frozen=True, kw_only=True)
class Brief(IDEAL):
    name = "brief"
    queries: int = 600
    rounds: int = 4
    generator_steps: int = 1

    @classmethod
    def grid(cls) -> tuple["Brief", ...]:
        return (cls(),)


def test_students_of_smaller_budgets_may_be_trained_for_fewer_steps(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_attack(monkeypatch, Brief)
    done = pipeline.run(request(kept, tmp_path / "out", attacks="brief"))
    steps = {t.cell.budget: t.regime.recipe["steps"] for t in done.record.trials if t.cell.technique == "brief"}
    assert steps == {60: 10, None: 19}
    assert list(verify(done.folder)) == []


@dataclass(frozen=True, kw_only=True)
class Preset(SoftKD):
    name = "with-preset"

    @classmethod
    def presets(cls) -> Mapping[str, Attack]:
        return {"paper": cls(temperature=7.0)}


def test_a_preset_runs_alone_and_untuned(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_attack(monkeypatch, Preset)
    record = pipeline.run(request(kept, tmp_path / "out", attacks="with-preset:paper")).record
    assert record.comparisons[0].knockoff.parameters["temperature"] == 7.0
    assert record.comparisons[0].knockoff.tuned_over == 1
    with pytest.raises(UsageError, match="has no preset 'papr'; there is paper"):
        pipeline.run(request(kept, tmp_path / "other", attacks="with-preset:papr"))


def test_attacks_that_hold_no_originals_are_judged_on_fewer_seeds(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Suite
) -> None:
    monkeypatch.setitem(EFFORTS, "smoke", replace(tiny, name="tiny-three", seeds=3))
    record = pipeline.run(request(kept, tmp_path / "out")).record
    seeds = {c.attack: c.margin.seeds for c in record.comparisons if c.margin is not None}
    assert seeds == {"soft-kd": 3, "label-kd": 3, "knockoff": 2} or "label-kd" not in seeds
    assert pipeline.run(request(kept, tmp_path / "out")).record == record, "their first look is none between"


def test_explanations_are_a_surface_of_their_own(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Explained(SoftKD):
        name = "explained"
        needs = "gradients"

        def run(self, lab: Lab) -> Student:
            assert lab.answers("crop").gradients is not None
            return super().run(lab)

    with_attack(monkeypatch, Explained)
    record = pipeline.run(request(kept, tmp_path / "out", attacks="soft-kd,explained", surface="gradients")).record
    assert [c.status for c in record.comparisons] == ["judged", "judged"]
    assert record.comparisons[1].positive_control is not None
    plain = pipeline.run(request(kept, tmp_path / "plain", attacks="soft-kd,explained")).record
    assert plain.comparisons[1].status == "not applicable"


@pytest.mark.slow
@pytest.mark.parametrize("surface", ["gradients", "top:3+round:2"])
def test_every_registered_attack_runs_in_an_audit(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Suite, surface: str
) -> None:
    monkeypatch.setitem(EFFORTS, "smoke", replace(tiny, settings=1, budgets=1))
    names = ",".join(attack.name for attack in registry.OURS)
    record = pipeline.run(request(kept, tmp_path / "out", attacks=names, surface=surface, budget=4_000, jobs=2)).record
    rows = {c.attack: c for c in record.comparisons}
    assert rows.keys() == {attack.name for attack in registry.OURS}
    assert not {n: c.reason for n, c in rows.items() if c.status == "failed"}
    for attack in registry.OURS:
        offered = Surface(surface).offers(attack.needs)
        assert (rows[attack.name].status == "not applicable") == (not offered)
        assert rows[attack.name].knockoff.queries <= 4_000
    assert max(t.queries for t in record.trials) <= 4_000


@pytest.mark.slow
def test_a_running_audit_and_its_record_hold_the_same_arrays(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Suite
) -> None:
    judged: list[StudentTrials] = []
    judge = pipeline.judge

    def listening(students: Sequence[StudentTrials], *more: object, **named: object) -> None:
        judged.extend(students)
        judge(students, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "judge", listening)
    record = pipeline.run(request(kept, tmp_path / "out", drop_classes=("3",))).record
    (trials,), facts = judged, results(record)
    for name in ("labels", "validation_labels", "judged", "tuned"):
        assert (getattr(trials.arrays, name) == getattr(facts, name)).all()
    for trial in record.trials:
        assert (trials.arrays.tuning([trial.key]) == facts.tuning([trial.key])).all()
        assert facts.tuning([trial.key]).mean() == trial.validation_accuracy
        if trial.test_correct is not None:
            assert (trials.arrays.correct([trial.key]) == facts.correct([trial.key])).all()
    for row in (row for row in record.comparisons if row.looks):
        running = trials.arrays.margins(row.knockoff.students, row.control.students, row.looks)
        assert running == facts.looks(row)
