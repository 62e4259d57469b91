"""From what the command line asks for to what all cells of the audit share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attacks import registry
from audit import protocol
from audit.protocol import Attacks, Setup
from audit.store import Cache
from audit.subjects import Opening, Subject
from audit.suite import Suite
from teachers import networks
from teachers.errors import NothingAudited, UsageError
from teachers.folders import loose_images
from teachers.procedural import procedural
from teachers.task import Pool, Task, few_labels, few_shot
from teachers.training import Recipe

SURROGATES = 20_000  # images of the procedural pool that ships with the tool


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    opening: Opening
    attacks: str = "all"
    student: str | None = None
    seeds: int | None = None
    shots: float = 1.0
    labels: float = 1.0
    surface: str = "probs"
    budget: int | None = None
    effort: str = "standard"
    surrogate: str | None = None
    jobs: int = 1
    device: str = "cpu"
    out: Path | None = None
    cache: Path | None = None
    command: str = ""
    quiet: bool = False


def pick(names: str, suite: Suite) -> tuple[Attacks, tuple[str, ...]]:
    """Return the attacks to run and the plug-ins among them: `all` is the suite and every installed plug-in.

    Raises UsageError for an unknown name, or a plug-in that does not import.
    """
    known, plugins = registry.attacks(), registry.plugins()
    wanted = [*suite.attacks, *plugins] if names == "all" else [n.strip() for n in names.split(",") if n.strip()]
    if not wanted:
        raise NothingAudited("no attack was named; give --attacks all, or names from `audit ls attacks`")
    for name in wanted:
        if name not in known:
            registry.find(name)
            raise UsageError(f"{name} is a control, not an attack; every audit trains it")
    chosen = {name: known[name] for name in dict.fromkeys(wanted)}
    return chosen, tuple(f"{n}: {registry.origin(plugins[n])}" for n in chosen if n in plugins)


def prepare(request: Request, suite: Suite, attacks: Attacks, task: Task, cache: Cache) -> Setup:
    """Settle what all cells share.

    Raises UsageError where options do not fit this machine or this task.
    """
    check_device(request.device)
    if request.jobs < 1:
        raise UsageError(f"--jobs {request.jobs}: at least one process is needed")
    pool = few_labels(few_shot(task.train, request.shots), request.labels)
    seeds = suite.seeds if request.seeds is None else request.seeds
    if not 2 <= seeds <= protocol.TUNING:
        raise UsageError(f"--seeds {seeds}: an interval needs at least 2, and at most {protocol.TUNING} are there")
    student = request.student or default_student(task)
    networks.try_out(networks.build(student, len(task.classes), task.shape), student, len(task.classes), task.shape)
    original = any(attack.holds == "original" for attack in attacks.values())
    views = affordable(request.budget, suite, pool) if original else suite.views
    recipe = Recipe(student, suite.steps_for(len(pool)), suite.batch, suite.lr, views=views)
    return Setup(
        suite=suite,
        task=task,
        pool=pool,
        tenth=few_labels(few_shot(task.train, request.shots), protocol.TENTH),
        nothing=task.train.take(np.arange(0)),
        surrogate=surrogate(request.surrogate, task, cache),
        recipe=recipe,
        seeds=seeds,
        budget=request.budget,
        device=request.device,
    )


def check_device(device: str) -> None:
    """Refuse a device that is not there."""
    if device not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}; there are cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU on this machine; leave --device out")


def affordable(budget: int | None, suite: Suite, pool: Pool) -> int:
    """Return the stored views an image: the suite's, or fewer where the budget is smaller; the control sees as many."""
    if budget is None:
        return suite.views
    if budget < len(pool):
        raise UsageError(
            f"--budget {budget} is too small: an attack on original data asks at least once about each of its "
            f"{len(pool)} images; raise it, or keep fewer images with --shots"
        )
    return min(suite.views, budget // len(pool))


def default_student(task: Task) -> str:
    """Return the student of a task: small against its default teacher."""
    return "strided-8-16-32" if min(task.shape[1:]) < 24 else "strided-16-32-64"


def surrogate(folder: str | None, task: Task, cache: Cache) -> Pool:
    """Return the surrogate images: the procedural pool, or all images under a folder, made to fit the task."""
    if folder is None:
        return procedural(SURROGATES, task.shape)
    return Pool(loose_images(Path(folder).expanduser(), task.shape, cache.root))


def identify(setup: Setup, audited: Subject, attacks: Attacks) -> tuple[str, str]:
    """Return the digest of the question (all but the seeds) and of the audit, 64 hex digits each."""
    question: dict[str, Any] = {
        "teacher": audited.fingerprint,
        "surface": audited.surface.name,
        "task": setup.task.digest,
        "pool": setup.pool.digest,
        "surrogate": setup.surrogate.digest,
        "suite": setup.suite.digest,
        "attacks": {name: [attack.version, registry.origin(attack)] for name, attack in attacks.items()},
        "student": setup.recipe.architecture,
        "budget": setup.budget,
        "device": setup.device,
    }
    digests = []
    for extra in ({}, {"seeds": setup.seeds}):
        text = json.dumps(question | extra, sort_keys=True)
        digests.append(hashlib.sha256(text.encode()).hexdigest())
    return digests[0], digests[1]
