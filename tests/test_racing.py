"""Racing: every setting gets its first tuning seed, and the best on it get the others."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from audits import TINY, request, smoke
from counted import trained

from attacks.logits.soft_kd import SoftKD
from audit import pipeline, teach
from audit.analysis import tuning
from audit.analysis.derive import results
from audit.finished.verify import verify
from audit.forecast.forecast import forecast
from audit.plan.design import Arm
from audit.plan.suite import FIRST_TUNING_SEED
from audit.statistics.compare import paired
from audit.trials.protocol import StudentTrials
from audit.warm import warm
from reports.record import Record, Trial, load, save
from teachers.training import Recipe

SUITE = replace(TINY, name="tiny-race", attacks=("soft-kd", "dist"), settings=4, tuning_seeds=2, finalists=2, steps=8)


@pytest.fixture(scope="module")
def raced(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of an audit whose settings raced."""
    with smoke(SUITE):
        yield pipeline.run(request(kept, tmp_path_factory.mktemp("raced") / "out")).folder


def settings(record: Record, attack: str) -> Mapping[str, list[Trial]]:
    """Return the tuning students of an attack's settings on the audited teacher, with the usual steps."""
    found: dict[str, list[Trial]] = {}
    for trial in record.trials:
        if (trial.role, trial.teacher, trial.cell.technique) != ("tune", "audited", attack):
            continue
        if trial.cell.recipe["steps"] == record.suite.recipe["steps"]:
            found.setdefault(str(trial.cell.parameters), []).append(trial)
    return found


def test_the_best_on_the_first_seed_get_the_second_and_the_best_of_these_is_judged(raced: Path) -> None:
    record = load(raced)
    assert record.suite.finalists == 2
    for row in record.comparisons:
        found = settings(record, row.attack)
        assert len(found) == 4
        first = {name: trials[0].validation_accuracy for name, trials in found.items()}
        assert {trials[0].cell.seed for trials in found.values()} == {FIRST_TUNING_SEED}
        finalists = [name for name, trials in found.items() if len(trials) == 2]
        assert sorted(first[name] for name in finalists) == sorted(first.values())[-2:]
        both = {name: sum(trial.validation_accuracy for trial in found[name]) for name in finalists}
        assert both[str(row.knockoff.parameters)] == max(both.values())


def test_leaders_are_the_best_on_their_first_seed_alone() -> None:
    """The worst on the first seed would be the best on both."""
    accuracy = {0.1: (0.5, 0.9), 0.2: (0.7, 0.1), 0.3: (0.6, 0.6), 0.4: (0.8, 0.1)}  # of each seed, by rate
    race = tuple(Arm(SoftKD(), Recipe("any", 10, lr=lr), range(1_000, 1_002)) for lr in accuracy)

    def score(arm: Arm) -> float:
        return float(np.mean(accuracy[arm.recipe.lr][: len(arm.seeds)]))

    trials: Any = SimpleNamespace(failure=lambda *arms: None, score=score)
    assert [arm.recipe.lr for arm in StudentTrials.leaders(trials, race, 2)] == [0.2, 0.4]


def test_the_race_is_verified(raced: Path, tmp_path: Path) -> None:
    assert list(verify(raced)) == []
    shutil.copytree(raced, tmp_path / "forged")
    record = load(raced)
    finalist = next(trials for trials in settings(record, "dist").values() if len(trials) == 2)
    left = tuple(trial for trial in record.trials if trial.key != finalist[1].key)
    save(record.model_copy(update={"trials": left}), tmp_path / "forged/record.json")
    told = [str(found) for found in verify(tmp_path / "forged")]
    assert any("1 finalists tuned over 2 seeds, expected 2" in line for line in told), told
    entrant = next(trials for trials in settings(record, "dist").values() if len(trials) == 1)
    left = tuple(trial for trial in record.trials if trial.key != entrant[0].key)
    save(record.model_copy(update={"trials": left}), tmp_path / "forged/record.json")
    told = [str(found) for found in verify(tmp_path / "forged")]
    assert any("3 settings tuned over 2 seeds, expected 4" in line for line in told), told


@pytest.mark.slow
def test_a_plan_counts_the_students_of_a_race(raced: Path, kept: Path, tmp_path: Path) -> None:
    trained = len(load(raced).trials)
    with smoke(SUITE):
        planned = forecast(request(tmp_path / "cache"), clock=iter(range(10**6)).__next__).trained
        whole = replace(SUITE, finalists=None)
    assert planned.least <= trained <= planned.most
    with smoke(whole):
        assert forecast(request(tmp_path / "cache"), clock=iter(range(10**6)).__next__).trained.least > planned.least


@pytest.mark.slow
def test_after_warming_a_release_trains_knockoffs_alone(cold: Callable[[str], Path], tmp_path: Path) -> None:
    cache, release = cold("cache"), tmp_path / "v1.pt"
    teach.teach("plain", release, data="digits", seed=1, steps=100, cache=cache)
    with smoke(replace(SUITE, attacks=("soft-kd",), settings=3)):
        assert warm(request(cache, tmp_path / "warm", str(release), data=None)).trained > 0
        done = pipeline.run(request(cache, tmp_path / "out", str(release), data=None))
        assert list(verify(done.folder)) == []
    assert {teacher for _, teacher in trained(done.folder, done.record)} == {"audited"}


@pytest.mark.parametrize(("share", "finalists", "harmed"), [(0.60, 2, True), (0.65, 2, False), (0.60, None, False)])
def test_a_setting_that_left_the_race_is_harmed_by_twice_the_loss(
    raced: Path, share: float, finalists: int | None, harmed: bool
) -> None:
    record = load(raced)
    suite = record.suite.model_copy(update={"finalists": finalists})
    facts = results(record.model_copy(update={"suite": suite}))
    mine, control = np.arange(1_000)[None] < 1_000 * share, np.arange(1_000)[None] < 700
    assert tuning._harmed(facts, paired(mine, control)) == harmed
