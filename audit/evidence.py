"""The parts of a record that are neither students nor comparisons."""

from __future__ import annotations

import platform
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import torch

import audit
from audit import cmi
from audit.bench import Bench
from audit.cells import Asked
from audit.findings import Outcome
from audit.plan import Request
from audit.protocol import Setup
from audit.subjects import Subject, log_probs
from audit.verdict import DELTA, Ruling
from reports.record import (
    CMIPool,
    Environment,
    LedgerRow,
    Look,
    Packed,
    PoolName,
    Settings,
    SuiteInfo,
    TaskInfo,
    Times,
    Verdict,
)
from teachers.task import Pool, known, stratified
from teachers.views import Viewer, ViewSet

CMI_ENTRIES = 2_000_000  # log-probabilities kept of each pool; beyond that a stratified sample of its images


def cmi_pools(subject: Subject, setup: Setup) -> tuple[CMIPool, ...]:
    """Measure how concentrated the teacher's answers are on training, augmented and validation images.

    Through its full answers, whatever the surface or a guard that is one shows: CMI is not defined on truncated ones.
    """
    task = setup.task
    train, validation = _sample(task.train, len(task.classes)), _sample(task.validation, len(task.classes))
    every = torch.arange(len(train))
    seen = Viewer(train, ViewSet("crop", 1))(every, torch.zeros_like(every))
    augmented = Pool((seen * 255).round().to(torch.uint8).numpy(), train.labels)
    return tuple(
        _cmi_pool(name, subject, pool, len(task.classes))
        for name, pool in zip(get_args(PoolName), (train, augmented, validation), strict=True)
        if measurable(pool)
    )


def measurable(pool: Pool) -> bool:
    """Whether CMI and Γ can be estimated: two classes with two images each."""
    return int((np.bincount(known(pool)) > 1).sum()) > 1


def _sample(pool: Pool, classes: int) -> Pool:
    most = CMI_ENTRIES // classes
    return pool if len(pool) <= most else pool.take(stratified(known(pool), most / len(pool), seed=0))


def _cmi_pool(name: PoolName, subject: Subject, pool: Pool, classes: int) -> CMIPool:
    answers = np.concatenate(log_probs(subject.whole, pool)).clip(-60_000).astype(np.float16)
    labels = known(pool)
    found = curve_fields(cmi.curve(answers, labels, classes))
    return CMIPool(name=name, answers=Packed.of(answers), labels=Packed.of(labels.astype(np.uint16)), **found)


def curve_fields(curve: cmi.Curve) -> dict[str, Any]:
    """Write a curve over `cmi.TEMPERATURES` as the fields of CMICurve."""
    return {
        "temperatures": tuple(curve.temperatures.tolist()),
        "cmi": tuple(curve.cmi.tolist()),
        "se": tuple(curve.se.tolist()),
        "plug_in": tuple(curve.plug_in.tolist()),
        "gamma": tuple(curve.gamma.tolist()),
        "ncmi": tuple(curve.ncmi.tolist()),
        "per_class": finite(curve.per_class[cmi.TEMPERATURES.index(1.0)]),
        "unreliable": int(curve.unreliable.sum()),
    }


def finite(values: np.ndarray) -> tuple[float | None, ...]:
    """Write what is not known as None."""
    return tuple(None if np.isnan(v) else float(v) for v in values)


def task_info(setup: Setup) -> TaskInfo:
    """Describe the task."""
    task = setup.task
    return TaskInfo(
        name=task.name,
        digest=task.digest,
        classes=task.classes,
        shape=task.shape,
        train=len(task.train),
        validation=len(task.validation),
        test=len(task.test),
        majority=task.majority,
        pool_digest=setup.pool.digest,
    )


def suite_info(setup: Setup, complete: bool, plugins: tuple[str, ...]) -> SuiteInfo:
    """Describe the suite."""
    suite = setup.suite
    return SuiteInfo(
        name=suite.name,
        digest=suite.digest,
        attacks=suite.attacks,
        complete=complete,
        recipe=asdict(setup.recipe),
        settings=suite.settings,
        tuning_seeds=suite.tuning_seeds,
        seeds=setup.seeds,
        plugins=plugins,
        controls=suite.controls,
    )


def settings(request: Request, setup: Setup) -> Settings:
    """Describe what the command line chose."""
    return Settings(
        student=setup.recipe.architecture,
        surface=request.surface,
        shots=request.shots,
        labels=request.labels,
        budget=request.budget,
        effort=request.effort,
        surrogate=request.surrogate or "procedural",
        device=request.device,
        dropped=setup.dropped,
    )


def scope(request: Request, setup: Setup, outcomes: Sequence[Outcome]) -> str:
    """Say what a verdict speaks of: the attacks that bite, surface, budget, student and data."""
    biting = [o.comparison.attack for o in outcomes if o.finding.status == "judged" and o.finding.bites]
    kept = "" if request.shots == 1 else f" (--shots {request.shots:g})"
    kept += f" without the classes {', '.join(setup.dropped)}" if setup.dropped else ""
    labelled = "all" if request.labels == 1 else f"{request.labels:.0%}"
    held = f"{len(setup.pool):,} images of {setup.task.name}{kept}, {labelled} of them labelled"
    budget = "no query budget" if request.budget is None else f"at most {request.budget:,} queries a student"
    return (
        f"Suite {setup.suite.name}; attacks that bite: {', '.join(biting) or 'none'}; surface {request.surface}; "
        f"{budget}; student {setup.recipe.architecture}; attacker's data: {held}; {setup.seeds} seeds, "
        f"{int(setup.judged_images.sum()):,} test images."
    )


def verdict(request: Request, setup: Setup, ruling: Ruling, outcomes: Sequence[Outcome], look: Look) -> Verdict:
    """Put the ruling into words."""
    name = request.opening.teacher.rsplit("/", 1)[-1]
    sentences = {
        "DISTILLABLE": f"A student that asks {name} is more accurate than the LS student that does not.",
        "UNDISTILLABLE": f"No attack in scope made a student that is {100 * DELTA:g} points or more above the LS "
        f"student by asking {name}.",
        "INCONCLUSIVE": f"This audit can neither say that {name} is distillable nor that it is not.",
    }
    return Verdict(
        word=ruling.word,
        sentence=sentences[ruling.word],
        scope=scope(request, setup, outcomes),
        reasons=ruling.reasons,
        settle=ruling.settle,
        delta=DELTA,
        look=look.number,
        alpha=look.alpha,
    )


def ledger(bench: Bench, setup: Setup, pools: Sequence[CMIPool]) -> tuple[LedgerRow, ...]:
    """Add up the queries: charged to every attack's students, and the distinct answers they rest on.

    An answer that several attacks rest on is counted as sent once, under `shared`. What the teacher was asked in
    earlier audits counts too: the evidence rests on it.
    """
    charged: dict[tuple[str, str], int] = defaultdict(int)
    blocks = {block: np.ones(images, bool) for block, images in bench.ahead.items()}
    askers: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for key, result in bench.results.items():
        use = bench.uses[key]
        if use.teacher is None:
            continue
        who = (result.cell.technique, f"{use.role}, {use.teacher} teacher")
        charged[who] += result.charged
        for asked in result.asked:
            block = (f"{result.cell.teacher} {result.cell.surface}", asked.block)
            blocks[block] = blocks.get(block, np.zeros(asked.images, bool)) | _rows(asked)
            askers[block].add(who)
    sent: dict[tuple[str, str], int] = defaultdict(int)
    for block, rows in blocks.items():
        alone = len(askers[block]) == 1 and block not in bench.ahead
        sent[next(iter(askers[block])) if alone else ("shared", "all")] += int(rows.sum())
    rows_ = [
        LedgerRow(attack=attack, purpose=purpose, charged=charged[attack, purpose], sent=sent[attack, purpose])
        for attack, purpose in sorted(charged)
    ]
    rows_.append(LedgerRow(attack="shared", purpose="all", charged=0, sent=sent["shared", "all"]))
    evaluated = len(bench.subjects) * (len(setup.task.validation) + len(setup.task.test))
    rows_.append(LedgerRow(attack="auditor", purpose="evaluate", charged=0, sent=evaluated))
    measured = sum(pool.labels.shape[0] for pool in pools)
    rows_.append(LedgerRow(attack="auditor", purpose="cmi", charged=0, sent=measured))
    return tuple(rows_)


def _rows(asked: Asked) -> np.ndarray:
    return np.ones(asked.images, bool) if asked.rows is None else asked.rows.array()


def environment() -> Environment:
    """Describe the machine's software."""
    return Environment(
        tool=audit.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        platform=f"{sys.platform} {platform.machine()}",
        threads=1,
    )


def times(bench: Bench, wall: float) -> Times:
    """Say how long it took, and how much of it was spent in training steps."""
    stepping = sum(bench.results[key].step_seconds for key in bench.trained)
    return Times(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=wall,
        training_share=min(1.0, stepping / (wall * bench.workers)),
        trained=len(bench.trained),
        reused=len(bench.results) - len(bench.trained),
    )
