"""`audit plan` says what an audit then takes, asks the teacher next to nothing, and leaves nothing behind."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from audits import TINY, request, smoke
from command_line import call

from attacks.controls.ls import LS
from attacks.data_free.noise import Noise
from attacks.labels.copycat import Copycat
from attacks.logits.dkd import DKD
from attacks.logits.soft_kd import SoftKD
from attacks.surrogate.knockoff import Knockoff
from audit import pipeline
from audit.cache.store import Cache
from audit.forecast import stopwatch
from audit.forecast.forecast import Forecast, Span, forecast, memory, stored
from audit.forecast.stopwatch import Measurements
from audit.plan.options import teacher_spec
from audit.plan.suite import EFFORTS, Suite
from audit.teach import teach
from audit.trials.preparation import AttackSelection, prepare
from audit.trials.protocol import Experiment
from reports.record import Record, RecordError
from teachers.data.datasets import load
from teachers.errors import UsageError
from teachers.methods.training import default_recipe
from teachers.targets.target import open_task
from teachers.task import few_shot

pytestmark = pytest.mark.usefixtures("tiny")


planned = partial(forecast, clock=lambda: 0.0)  # every technique is reached, however busy the machine


def within(value: float, span: Span) -> bool:
    return span.least <= value <= span.most


def sent(record: Record) -> int:
    """Return what the audited teacher was asked, where it is the ordinary one."""
    return sum(row.sent for row in record.ledger)


@pytest.mark.parametrize("surface", ["probs", pytest.param("label", marks=pytest.mark.slow)])
def test_a_plan_holds_what_the_audit_takes(cold: Callable[[str], Path], tmp_path: Path, surface: str) -> None:
    asked = request(cold("cache"), surface=surface)
    told = planned(asked)
    assert told.kept == 0
    record = pipeline.run(replace(asked, out=tmp_path / "out")).record
    assert within(record.times.trained, told.trained), (record.times.trained, told.trained)
    roles = Counter(trial.role for trial in record.trials)
    rows = {row.name: row.students for row in told.rows}
    assert roles["tune"] >= rows["tuning"].least
    assert within(roles["judge"] + roles["null"] + roles["positive control"] + roles["cost"], after(told))
    if surface == "probs":
        assert within(sent(record), told.queries), (sent(record), told.queries)
        assert told.auditor == sum(row.sent for row in record.ledger if row.attack == "auditor")
    again = planned(asked, like=tmp_path / "out")
    assert record.teacher.name in again.scatter.source
    assert again.kept == rows["tuning"].least
    assert next(row for row in again.rows if row.name == "tuning").students == Span(0, 0)


def after(told: Forecast) -> Span:
    rows = [row.students for row in told.rows if row.name not in ("tuning", "matching controls", "twice the steps")]
    return sum(rows, Span(0, 0))


@pytest.mark.slow
def test_more_looks_architectures_and_baselines_are_counted(
    cold: Callable[[str], Path], tmp_path: Path, tiny: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    richer = replace(tiny, name="tiny-looks", controls=("ce",), tuning_seeds=2, most=4)
    monkeypatch.setitem(EFFORTS, "smoke", richer)
    asked = request(cold("cache"), student="strided-8-16-32,strided-4-8-16")
    told = planned(asked)
    assert told.seeds == (2, 4)
    record = pipeline.run(replace(asked, out=tmp_path / "out")).record
    assert within(record.times.trained, told.trained), (record.times.trained, told.trained)
    assert within(sent(record), told.queries), (sent(record), told.queries)


def test_a_plan_measures_for_a_part_of_half_a_minute(kept: Path) -> None:
    told = forecast(request(kept), clock=count(0, 12).__next__)
    assert told.measured == 2 < told.techniques, "the second ended after 24 seconds"


def test_a_plan_leaves_nothing_behind(kept: Path, tmp_path: Path) -> None:
    before = set((kept / "cells").rglob("*.json")), set((kept / "answers").rglob("*.npz"))
    told = planned(request(kept, jobs=2, price=2.0))
    assert (set((kept / "cells").rglob("*.json")), set((kept / "answers").rglob("*.npz"))) == before
    assert told.measured == told.techniques
    assert told.memory > 2**27
    assert told.seconds.least > 0
    assert told.price == 2.0


def test_a_line_through_two_parts_gives_the_whole() -> None:
    def seconds(fraction: float) -> float:
        return 0.7 + 12 * fraction

    assert stopwatch.whole(seconds(0.02), seconds(0.1), 0.1) == pytest.approx(12.7)
    assert stopwatch.part(2.0, 30, 1, 30.0, 400) == pytest.approx(0.5 * 30 / (30 * 2 * 1.2))
    assert stopwatch.part(1e-3, 2, 1, 30.0, 400) == 0.5
    assert stopwatch.part(1e6, 30, 1, 30.0, 400) == 5 / 400


def prepared(kept: Path) -> Experiment:
    asked, cache = request(kept), Cache(kept)
    task, _ = open_task(teacher_spec(asked), cache)
    return prepare(asked, EFFORTS["smoke"], AttackSelection({}, (), {}), task, cache)


def test_a_further_worker_takes_its_own_memory_and_images_but_no_answers(kept: Path) -> None:
    experiment, measured = prepared(kept), Measurements(own_bytes=100, worker_bytes=10)
    pool = experiment.pool
    assert memory(experiment, measured, 0) == memory(experiment, Measurements(own_bytes=100), 5) == 100
    assert memory(experiment, measured, 3) - memory(experiment, measured, 2) == 10 + pool.images.nbytes
    assert stored(experiment) == 4 * len(pool) * experiment.recipe.views * 10


def test_techniques_that_were_not_reached_cost_the_median(kept: Path) -> None:
    experiment = prepared(kept)
    nothing = stopwatch.measure(experiment, [SoftKD], 1, limit=0.0)
    assert list(nothing.seconds) == [LS.name]
    assert nothing.student(SoftKD) == nothing.seconds[LS.name] > 0


def test_a_technique_that_was_not_measured_costs_what_others_cost_that_hold_as_much() -> None:
    measured = Measurements({"ls": 1.0, "soft-kd": 2.0, "knockoff": 30.0}, techniques=[LS, SoftKD, Knockoff])
    assert measured.student(SoftKD) == 2.0
    assert measured.student(DKD) == 1.5
    assert measured.student(Copycat) == 30.0
    assert measured.student(Noise) == 2.0, "of all: none without any data was measured"


def test_the_command_tells_and_prints_json(capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    argv = "plan", "--teacher", "demo", "--data", "digits", "--effort", "smoke", "--cache", str(kept), "--jobs", "1"
    code, out, _ = call(capsys, *argv, "--price", "0.5", "--surface", "probs,label")
    assert code == 0
    assert out.count("80% power") == out.count("to pay") == out.count("answers stay on disk, twice") == 2
    assert "demo behind label" in out
    assert "All 2 surfaces: at most" in out
    code, out, _ = call(capsys, *argv, "--json")
    told = json.loads(out)
    assert told["queries"]["least"] > told["auditor"] > 0
    assert told["power"]["gain"] > 0


def test_a_plan_refuses_what_an_audit_refuses(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean soft-kd"):
        planned(request(kept, attacks="sotf-kd"))
    with pytest.raises(UsageError, match="at least 2"):
        planned(request(kept, seeds=1))
    with pytest.raises(RecordError, match="the folder that `audit run` wrote"):
        planned(request(kept), like=tmp_path / "nothing")


def test_a_teacher_that_may_know_nothing_is_planned_as_it_is_audited(kept: Path) -> None:
    told = planned(request(kept, teacher="smoothed-truth"))
    assert told.trained.most > 10


def test_no_teacher_is_trained_for_a_plan_and_all_that_are_due_are_in_it(tmp_path: Path) -> None:
    cache, release = tmp_path / "cache", tmp_path / "v1.pt"
    teach("plain", release, data="digits", seed=1, steps=20, cache=cache)
    for path in (cache / "teachers").iterdir():
        path.unlink()
    told = planned(request(cache, teacher=str(release), data=None))
    assert not list((cache / "teachers").glob("*.safetensors"))
    assert told.teachers.students == Span(3, 3), "the ordinary one, and a twin for each seed"
    assert 0 < told.teachers.seconds.least <= told.seconds.least


@pytest.mark.slow
def test_each_teacher_is_planned_with_its_own_steps_and_a_word_with_twins_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker holds a tenth of what the ordinary teacher sees."""
    asked = request(tmp_path, teacher="smoothed-truth", data="glyphs", attacks="soft-kd,knockoff", shots=0.1)
    found = []
    for step in (0.0, 1_000.0):
        monkeypatch.setattr(stopwatch, "step_seconds", lambda *_, step=step: step)
        with smoke(replace(TINY, attacks=("soft-kd", "knockoff"), stops=(1,))):
            found.append(planned(asked))
    free, dear = found
    train = load("glyphs").train
    held = [replace(load("glyphs"), train=pool) for pool in (train, few_shot(train, 0.1))]
    whole, tenth = (default_recipe(task).steps for task in held)
    assert whole > tenth
    assert dear.teachers.seconds.least - free.teachers.seconds.least == pytest.approx(1_000 * (whole + tenth), rel=0.01)
    assert dear.words[0].seconds.most == pytest.approx(free.words[0].seconds.most, rel=0.9), "no ordinary teacher"
