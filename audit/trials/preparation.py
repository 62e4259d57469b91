"""From the options to what all cells of an audit share."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

import numpy as np
import torch

from attacks import registry
from attacks.base import Attack, draw
from audit.cache.store import Cache
from audit.plan import design, question
from audit.plan.design import TENTH, Attacks
from audit.plan.early import known_device
from audit.plan.names import classes, listed, text_of
from audit.plan.options import DECIDED, Options
from audit.plan.suite import Suite
from audit.statistics.sequential import HORIZON
from audit.trials.protocol import Experiment
from reports.settings import PROCEDURAL, Settings
from teachers import networks
from teachers.data.folders import loose_images
from teachers.data.grouping import test_groups
from teachers.data.procedural import procedural
from teachers.errors import NothingAudited, UsageError
from teachers.methods.training import default_student
from teachers.names import quoted
from teachers.notes import Note, silent
from teachers.places import place
from teachers.precision import Precision, fastest
from teachers.targets.target import Target
from teachers.task import Pool, Task, few_labels, few_shot, without
from teachers.training import Recipe

LONGEST = 10_000_000  # seconds that a worker may be told to be silent for
SURROGATES = 20_000  # images of the procedural pool that ships with the tool


@dataclass(frozen=True)
class AttackSelection:
    """The attacks to run, the plug-ins among them, and which of them run with a preset."""

    attacks: Attacks
    plugins: tuple[str, ...]
    presets: dict[str, Attack]


def pick(names: str, suite: Suite, fixed: Sequence[Attack] = ()) -> AttackSelection:
    """Return the attacks to run: `all` is the suite and every installed plug-in, `NAME:PRESET` a named setting.

    Raises UsageError for an unknown name or preset, or a plug-in that does not import.
    """
    known, plugins = registry.attacks(), registry.plugins()
    wanted = (*suite.attacks, *plugins) if names == "all" else listed(names)
    if not wanted:
        raise NothingAudited("no attack was named; give --attacks all, or names from `audit ls attacks`")
    tuned, presets = {}, {attack.name: attack for attack in fixed}
    for text in wanted:
        name, _, preset = text.partition(":")
        if name not in known:
            registry.find(name)
            raise UsageError(f"{name} is a control, not an attack; every audit trains it")
        tuned[name] = known[name]
        if preset:
            presets[name] = _preset(known[name], preset)
    return AttackSelection(tuned, tuple(f"{n}: {registry.origin(plugins[n])}" for n in tuned if n in plugins), presets)


def _preset(attack: type[Attack], name: str) -> Attack:
    presets = attack.presets()
    if name not in presets:
        there = f"there is {', '.join(presets)}" if presets else "it has none"
        raise UsageError(f"{attack.name} has no preset {name!r}; {there}")
    return presets[name]


def prepare(
    options: Options, suite: Suite, selection: AttackSelection, task: Task, cache: Cache, note: Note = silent
) -> Experiment:
    """Settle what all cells share.

    Raises UsageError where options do not fit this machine or this task.
    """
    check_device(options.device)
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: at least one process is needed")
    if options.cell_timeout is not None and not 1 <= options.cell_timeout <= LONGEST:
        raise UsageError(f"--cell-timeout {options.cell_timeout:g}: give seconds from 1 to {LONGEST:,}")
    if options.stop not in (None, DECIDED):
        raise UsageError(f"--stop {options.stop!r}: give {DECIDED}, or leave it out to fill the table")
    dropped = _dropped(options.drop_classes, task)
    seen = without(task.train, [task.classes.index(name) for name in dropped])
    pool = few_labels(few_shot(seen, options.shots), options.labels)
    most = (suite.most or suite.seeds) if options.seeds is None else options.seeds
    if not 2 <= most <= HORIZON:
        raise UsageError(f"--seeds {most}: an interval needs at least 2, and the looks end at {HORIZON}")
    named = students(options, task)
    original = any(attack.holds == "original" for attack in selection.attacks.values())
    if original:
        affordable(options.budget, pool)
    steps, chosen = suite.steps_for(len(pool)), _precision(options, named, task)
    recipe = Recipe(named[0], steps, suite.batch, suite.lr, views=suite.views, precision=chosen)
    return Experiment(
        suite=suite,
        task=task,
        pool=pool,
        tenth=few_labels(paid(few_shot(seen, options.shots), options.budget), TENTH),
        nothing=task.train.take(np.arange(0)),
        surrogate=surrogate(options.surrogate, task, cache, note),
        recipe=recipe,
        students=named,
        most=most,
        budget=options.budget,
        device=options.device,
        dropped=dropped,
        presets=selection.presets,
        groups=test_groups(options.groups, task),
    )


def students(options: Options, task: Task) -> tuple[str, ...]:
    """Return the architectures of the students, the first one the task's own where none is named.

    Raises UsageError or RefusedInput where one is unknown or does not fit the images.
    """
    names = listed(options.student or default_student(task))
    if not names:
        raise UsageError(f"--student {options.student!r} names no architecture; see `audit ls students`")
    for name in names:
        networks.try_out(networks.build(name, len(task.classes), task.shape), name, len(task.classes), task.shape)
    return names


def for_students(experiment: Experiment) -> list[Experiment]:
    """Return the same for every student architecture."""
    return [replace(experiment, recipe=replace(experiment.recipe, architecture=name)) for name in experiment.students]


def _dropped(texts: Sequence[str], task: Task) -> tuple[str, ...]:
    text = ",".join(text_of([text]) if text in task.classes else text for text in texts)
    names, unknown = classes(text, task.classes)
    if unknown:
        near = difflib.get_close_matches(unknown, task.classes, n=3) or task.classes[:4]
        told = ", ".join(map(quoted, near))
        raise UsageError(f"--drop-classes: {task.name} has no class {unknown!r}; its classes are {told}")
    if len(task.classes) - len(names) < 2:
        raise UsageError(f"--drop-classes leaves {len(task.classes) - len(names)} classes; at least 2 are needed")
    return names


def _precision(options: Options, students: Sequence[str], task: Task) -> Precision:
    """Return the precision of the students, the faster one where none is named."""
    named = options.precision or fastest(students, task.shape, options.device)
    if named not in get_args(Precision):
        raise UsageError(f"unknown precision {named!r}; there are {', '.join(get_args(Precision))}")
    return cast(Precision, named)


def check_device(device: str) -> None:
    """Refuse a device that is not there."""
    known_device(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU on this machine; leave --device out")


def affordable(budget: int | None, pool: Pool) -> None:
    """Refuse a budget without a query, and one of fewer queries than images if the attacker lacks some of the labels.

    An attacker answers what a budget does not pay for, which takes the labels (`attacks.own_answers`).
    """
    if budget is None:
        return
    if budget < 1:
        raise UsageError(f"--budget {budget}: at least one query is needed")
    if budget < len(pool) > len(pool.labelled):
        raise UsageError(
            f"--budget {budget} is too small: an attack asks at least once about each of its {len(pool)} images where "
            "labels are missing; raise it, keep fewer images with --shots, or leave --labels out"
        )


def paid(pool: Pool, budget: int | None) -> Pool:
    """Return as many images of a pool as a budget pays for: all, or some drawn at random."""
    if budget is None or budget >= len(pool):
        return pool
    return pool.take(draw(pool, budget, 0))


def surrogate(folder: str, task: Task, cache: Cache, note: Note = silent) -> Pool:
    """Return the surrogate images: the procedural pool, or all images under a folder, made to fit the task."""
    if folder == PROCEDURAL:
        return procedural(SURROGATES, task.shape)
    return Pool(loose_images(place(folder), task.shape, cache.root, note))


def identify(experiment: Experiment, settings: Settings, audited: Target, attacks: Attacks) -> str:
    """Return the digest of an audit's question: of all but the seeds, 64 hex digits."""
    pools = (experiment.task.digest, experiment.pool.digest, experiment.surrogate.digest)
    return question.question(
        settings,
        question.Digests(audited.fingerprint, *pools, experiment.suite.digest, question.of_groups(experiment.groups)),
        {name: (attack.version, registry.origin(attack)) for name, attack in attacks.items()},
        {name: attack.parameters for name, attack in experiment.presets.items()},
        design.VERSION,
    )
