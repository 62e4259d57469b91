"""The parts of a record that are neither students nor comparisons."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import audit
from audit.execution.runner import TrialRunner
from audit.execution.software import code
from audit.plan.cells import BlockUse
from audit.trials.protocol import Experiment
from reports.record import (
    CMIPool,
    Engine,
    Environment,
    LedgerRow,
    PackedArray,
    Probe,
    SuiteInfo,
    TaskInfo,
    Times,
    purpose_of,
)
from teachers.data.grouping import suggested
from teachers.data.resemblance import near_duplicates
from teachers.targets.target import Target
from teachers.task import known

PACKAGES = ("numpy", "scipy", "torch", "torchvision", "timm", "matplotlib", "pydantic", "jinja2")


def task_info(experiment: Experiment) -> TaskInfo:
    """Describe the task."""
    task = experiment.task
    return TaskInfo(
        name=task.name,
        digest=task.digest,
        classes=task.classes,
        shape=task.shape,
        train=len(task.train),
        validation=len(task.validation),
        test=len(task.test),
        validation_labels=PackedArray.of(known(task.validation).astype(np.uint16)),
        test_labels=PackedArray.of(known(task.test).astype(np.uint16)),
        pool_digest=experiment.pool.digest,
        pool_images=len(experiment.pool),
        test_groups=_packed(experiment.groups),
        test_alike=_packed(near_duplicates(task)),
        test_named=_packed(suggested(task)),
    )


def _packed(groups: NDArray[np.uint32] | None) -> PackedArray | None:
    return None if groups is None else PackedArray.of(groups)


def suite_info(experiment: Experiment, complete: bool, plugins: tuple[str, ...]) -> SuiteInfo:
    """Describe the suite."""
    suite = experiment.suite
    return SuiteInfo(
        name=suite.name,
        digest=suite.digest,
        attacks=suite.attacks,
        complete=complete,
        recipe=experiment.recipe.settings,
        settings=suite.settings,
        tuning_seeds=suite.tuning_seeds,
        finalists=suite.finalists,
        seeds=experiment.most,
        plugins=plugins,
        controls=suite.controls,
    )


def ledger(
    runner: TrialRunner, experiment: Experiment, pools: Sequence[CMIPool], probe: Probe
) -> tuple[LedgerRow, ...]:
    """Add up the queries: charged to every attack's students, and the distinct answers they rest on.

    An answer that several attacks rest on is counted as sent once, under `shared`. What the teacher was asked in
    earlier audits counts too: the evidence rests on it.
    """
    charged: dict[tuple[str, str], int] = defaultdict(int)
    teachers = [target for target in runner.targets.values() if not target.control]
    boxes = {f"{target.fingerprint} {target.surface.name}" for target in teachers}
    blocks = {block: np.ones(images, bool) for block, images in runner.ahead.items() if block[0] in boxes}
    askers: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for key, result in runner.results.items():
        use = runner.uses[key]
        if use.teacher is None:
            continue
        who, guess = ((result.cell.technique, purpose_of(use.role, use.teacher, e)) for e in (False, True))
        charged[who] += result.charged - result.estimated
        if result.estimated:
            charged[guess] += result.estimated
        for asked in result.asked:
            block = (f"{result.cell.teacher} {result.cell.surface}", asked.block)
            blocks[block] = blocks.get(block, np.zeros(asked.images, bool)) | _rows(asked)
            askers[block].add(guess if asked.estimate else who)
    sent: dict[tuple[str, str], int] = defaultdict(int)
    for block, rows in blocks.items():
        alone = len(askers[block]) == 1 and block not in runner.ahead
        sent[next(iter(askers[block])) if alone else ("shared", "all")] += int(rows.sum())
    rows_ = [
        LedgerRow(attack=attack, purpose=purpose, charged=charged[attack, purpose], sent=sent[attack, purpose])
        for attack, purpose in sorted(charged)
    ]
    rows_.append(LedgerRow(attack="shared", purpose="all", charged=0, sent=sent["shared", "all"]))
    evaluated = len(teachers) * (len(experiment.task.validation) + len(experiment.task.test))
    rows_.append(LedgerRow(attack="auditor", purpose="evaluate", charged=0, sent=evaluated))
    if tried := sum(target.tried for target in teachers):
        rows_.append(LedgerRow(attack="auditor", purpose="identify", charged=0, sent=tried))
    # What a remote teacher said of all validation images is kept, and not asked anew.
    kept = ("validation", len(experiment.task.validation)) if any(target.remote for target in teachers) else None
    sizes = ((pool.name, pool.labels.shape[0]) for pool in pools)
    measured = sum(size for name, size in sizes if (name, size) != kept)
    rows_.append(LedgerRow(attack="auditor", purpose="cmi", charged=0, sent=measured))
    rows_.append(LedgerRow(attack="auditor", purpose="probe", charged=0, sent=probe.queries))
    if probe.again is not None:
        rows_.append(LedgerRow(attack="auditor", purpose="probe again", charged=0, sent=probe.again.queries))
    return tuple(rows_)


def distinct_answers(
    runner: TrialRunner, audited: Target, experiment: Experiment, pools: Sequence[CMIPool], probe: Probe
) -> int:
    """Count the distinct answers of the audited teacher alone: what its owner would be paid for."""
    mine = {key: r for key, r in runner.results.items() if runner.uses[key].teacher == audited.role}
    targets = {key: target for key, target in runner.targets.items() if target is audited}
    return sum(row.sent for row in ledger(replace(runner, results=mine, targets=targets), experiment, pools, probe))


def _rows(asked: BlockUse) -> np.ndarray:
    return np.ones(asked.images, bool) if asked.rows is None else asked.rows.array()


def environment(engine: Engine | None = None) -> Environment:
    """Describe the machine's software, and the cluster that trained students, if one did."""
    return Environment(
        tool=audit.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        platform=f"{sys.platform} {platform.machine()}",
        threads=1,
        packages={name: version(name) for name in PACKAGES},
        code=code(),
        engine=engine,
    )


def journal(path: Path) -> str:
    """Return the digest of the journal; that of nothing where nothing was trained."""
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def times(runner: TrialRunner, wall: float) -> Times:
    """Say how long it took, and how much of it was spent in training steps."""
    stepping = sum(runner.results[key].step_seconds for key in runner.trained)
    return Times(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=wall,
        training_share=min(1.0, stepping / (wall * runner.executor.workers)),
        trained=len(runner.trained),
        reused=len(runner.results) - len(runner.trained),
    )
