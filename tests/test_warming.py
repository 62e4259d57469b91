"""Controls are shared by releases: counted."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audits import request
from counted import trained
from numpy.typing import NDArray

from attacks import registry
from audit import pipeline, teach
from audit.cache.archive import export, load
from audit.cache.store import Cache
from audit.context import RunContext
from audit.execution.measure import EvalSplits, Oracles
from audit.execution.runner import TrialRunner
from audit.execution.worker import Job
from audit.finished.repeat import repeat
from audit.finished.verify import verify
from audit.plan.cells import Result
from audit.plan.design import Arm
from audit.trials.protocol import StudentTrials
from audit.warm import warm
from reports.record import PackedArray, Regime
from teachers.data.datasets import load as load_task
from teachers.targets.target import Target
from teachers.task import known

MOST = 10**9


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> list[Path]:
    """Return two releases of a model, taught shortly, beside the ordinary teacher."""
    folder = tmp_path_factory.mktemp("releases")
    teach.teach("plain", folder / "v0.pt", data="digits", cache=kept)
    for seed in (1, 2):
        teach.teach("plain", folder / f"v{seed}.pt", data="digits", seed=seed, steps=100, cache=kept)
    return [folder / "v1.pt", folder / "v2.pt"]


@pytest.fixture
def cache(releases: list[Path], cold: Callable[[str], Path]) -> Path:
    """Return a cache that holds teachers and nothing else."""
    return cold("cache")


def turn_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attack on an audited checkpoint be best with another setting than it is."""
    real = StudentTrials.best

    def turned(self: StudentTrials, arms: tuple[Arm, ...]) -> Arm | None:
        best = real(self, arms)
        if best is None or any(arm.target != "audited" or arm.chosen_from for arm in arms):
            return best
        return next((arm for arm in arms if arm != best), best)

    monkeypatch.setattr(StudentTrials, "best", turned)


@pytest.mark.usefixtures("tiny")
@pytest.mark.slow
def test_after_warming_a_release_trains_knockoffs_alone_whatever_setting_is_best(
    releases: list[Path], cache: Path, tmp_path: Path
) -> None:
    assert warm(request(cache, tmp_path, str(releases[0]), data=None)).trained > 0
    export(cache, tmp_path / "controls.tar.gz", "controls")
    fresh = tmp_path / "fresh"
    load(tmp_path / "controls.tar.gz", fresh, MOST)
    with pytest.MonkeyPatch.context() as patch:
        turn_settings(patch)
        done = pipeline.run(request(fresh, tmp_path / "a", str(releases[1]), data=None))
    assert {teacher for _, teacher in trained(done.folder, done.record)} == {"audited"}
    assert warm(request(fresh, tmp_path, str(releases[1]), data=None)).trained == 0


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_without_warming_another_best_setting_trains_its_control(
    releases: list[Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pipeline.run(request(cache, tmp_path / "a", str(releases[0]), data=None))
    turn_settings(monkeypatch)
    turned = pipeline.run(request(cache, tmp_path / "b", str(releases[0]), data=None))
    assert {None, "ordinary"} < {teacher for _, teacher in trained(first.folder, first.record)}
    assert ("soft-kd", None) in trained(turned.folder, turned.record)
    assert "ordinary" not in {teacher for _, teacher in trained(turned.folder, turned.record)}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_controls_are_warmed_up_to_the_most_seeds(releases: list[Path], cache: Path, tmp_path: Path) -> None:
    warm(request(cache, tmp_path, str(releases[0]), data=None, seeds=4))
    done = pipeline.run(request(cache, tmp_path / "a", str(releases[1]), data=None, seeds=4))
    assert any(len(row.looks) > 1 for row in done.record.comparisons), "a second look was taken"
    assert {teacher for _, teacher in trained(done.folder, done.record)} == {"audited"}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_forged_control_is_believed_and_found_by_repeating_students(
    releases: list[Path], cache: Path, tmp_path: Path
) -> None:
    """What docs/cache.md says of who may write a cache."""
    wanted = request(cache, tmp_path / "a", str(releases[0]), data=None, attacks="soft-kd")
    honest = pipeline.run(wanted).record
    held, labels = Cache(cache), known(load_task("digits").test)
    for trial in honest.trials:
        found = held.result(trial.cell)
        if trial.teacher is None and found is not None and found.test is not None:
            held.finish(found.model_copy(update={"test": PackedArray.of(labels.astype(np.uint16))}))
    export(cache, tmp_path / "forged.tar", "controls")
    load(tmp_path / "forged.tar", tmp_path / "fresh", MOST)
    misled = pipeline.run(replace(wanted, cache=tmp_path / "fresh", out=tmp_path / "b"))
    (was,), (row,) = honest.comparisons, misled.record.comparisons
    assert was.margin is not None
    assert row.margin is not None
    assert row.margin.mean < was.margin.mean - 0.05
    assert list(verify(misled.folder)) == []
    assert any(one.differs for one in repeat(misled.folder, 100, cache=tmp_path / "fresh"))


class Guessing:
    """Trains nobody: its students guess, so that the whole plan of a large suite is gone through in seconds."""

    engine, workers = None, 1

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self.nodes: dict[str, str] = {}

    def run(self, jobs: Sequence[Job], doors: Oracles, eval_splits: EvalSplits) -> Iterator[Result]:
        for job in jobs:
            technique, cell = registry.find(job.cell.technique), job.cell
            view = cell.parameters.get("view") or getattr(technique, "views", None) or "crop"
            answers = {name: self._answers(known(pool)) for name, pool in eval_splits.items()}
            yield Result(
                cell=cell,
                regime=Regime(recipe=cell.recipe, view=str(view).partition("+")[0], source="original"),
                validation=answers["validation"],
                test=answers["test"] if cell.splits == "both" else None,
                charged=900,
                asked=(),
                repeats=0.9,
                diverged=False,
                network_parameters=1,
                seconds=0,
                step_seconds=0,
            )

    def _answers(self, labels: NDArray[np.int64]) -> PackedArray:
        right = self._rng.random(len(labels)) < self._rng.uniform(0.80, 0.82)
        return PackedArray.of(np.where(right, labels, (labels + 1) % 10).astype(np.uint16))

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.slow
def test_with_the_standard_suite_a_release_trains_knockoffs_alone(
    releases: list[Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid = pipeline.workbench

    def workbench(context: RunContext, out: Path, teachers: Sequence[Target] = ()) -> TrialRunner:
        return replace(laid(context, out, teachers), executor=Guessing())

    for user in ("audit.pipeline", "audit.warm"):
        monkeypatch.setattr(sys.modules[user], "workbench", workbench)
    monkeypatch.setattr(TrialRunner, "ask", lambda runner, target, pool, kind, views: None)
    wanted = request(cache, tmp_path / "a", str(releases[0]), data=None, effort="standard")
    assert warm(wanted).trained > 500
    done = pipeline.run(wanted)
    mine = trained(done.folder, done.record)
    assert len(mine) > 300
    assert {teacher for _, teacher in mine} == {"audited"}
    assert max(len(row.looks) for row in done.record.comparisons) > 1
