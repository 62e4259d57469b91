"""`audit cmi`: measure how concentrated a teacher's answers are, in seconds and without a student."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from audit import folder
from audit.analysis import derive
from audit.cache.store import Cache
from audit.diagnosis import cams, pools, thumbnails
from audit.plan.options import Options, teacher_spec
from audit.recording import evidence
from audit.recording.fitness import refuse
from audit.statistics import cmi, sights
from audit.statistics.sights import AnswerSet, ClusterView
from audit.trials import preparation
from reports import diagnosis_html
from reports.base import encodable
from reports.clusters import PicturedClass
from reports.diagnosis import DiagnosedPool, Diagnosis
from reports.progress import ProgressReporter
from reports.record import PoolName
from teachers.errors import RefusedInput
from teachers.files import write_whole
from teachers.oracle import at_once
from teachers.storage.store import default_cache
from teachers.targets.identify import settled
from teachers.targets.isolation import one
from teachers.targets.runtime import Runtime
from teachers.targets.target import Target, open_task
from teachers.task import Pool, Task, known
from teachers.views import Viewer, ViewSet

FILES = ("cmi.json", "cmi.html")
PANELS = 4  # images of a class that are shown with their Eigen-CAM

POOLS: tuple[PoolName, ...] = get_args(PoolName)


@dataclass(frozen=True)
class DiagnosisReport:
    """A diagnosis and the folder that it was written to."""

    diagnosis: Diagnosis
    folder: Path


class PoolAnswers(NamedTuple):
    """A teacher's answers on one set of images, and their top classes."""

    answered: AnswerSet
    tops: NDArray[np.intp]  # (N,)


def diagnose(options: Options, *, command: str = "") -> DiagnosisReport:
    """Measure a teacher's CMI on training, augmented and validation images; write cmi.json and cmi.html.

    Raises UsageError or RefusedInput where the teacher or its data cannot be opened, or where the teacher is no better
    than chance.
    """
    preparation.check_device(options.device)
    folder.refuse_file(options.out)
    progress, kept = ProgressReporter(options.quiet), Cache(options.cache or default_cache())
    spec = teacher_spec(options)
    with progress.during("opening the teacher and its data"):
        task, weights = open_task(spec, kept, progress.note)
    if not (pools.measurable(task.train) and pools.measurable(task.validation)):
        need = "CMI needs two classes with two images each, in the training and in the validation split"
        raise RefusedInput(f"{need}; give more images")
    runtime = Runtime(kept, options.device, progress.note)
    spec = settled(spec, task, weights, runtime)
    with one(spec, task, weights, runtime) as target, progress.during(f"asking {target.teacher.name}"):
        out = options.out or Path("audit-out") / f"{target.slug}-cmi-{target.fingerprint[:8]}"
        with folder.claimed(out, progress.note, FILES), tempfile.TemporaryDirectory(dir=kept.root) as scratch:
            train, augmented, validation = (_ask(name, target, task, Path(scratch)) for name in POOLS)
            refuse(target, validation.tops.astype(np.uint16), task)
            asked, K = (train, augmented, validation), len(task.classes)
            curves = [cmi.curve(answered.log_p, answered.y, K) for answered, _ in asked]
            shown = ClusterView(validation.answered, curves[-1], task.classes)
            seen = thumbnails.illustrated(sights.clusters(shown, [train.answered]), task.validation.images)
            panels, no_panels = _panels(target, task.validation, shown)
            teacher = target.teacher
            found = Diagnosis(
                command=command,
                teacher=teacher.name,
                sha256=teacher.sha256,
                architecture=teacher.architecture,
                method=teacher.method,
                task=task.name,
                task_digest=task.digest,
                classes=task.classes,
                pools=tuple(_measured(of, curve) for of, curve in zip(asked, curves, strict=True)),
                spread=seen.spread,
                triangle=seen.triangle,
                projection=seen.projection,
                cams=panels,
                no_cams=no_panels,
                behind=target.behind,
                environment=evidence.environment(),
            )
            found = encodable(found)
            for name, text in zip(FILES, (found.model_dump_json(indent=1), diagnosis_html.render(found)), strict=True):
                write_whole(out / name, text.encode())
        return DiagnosisReport(found, out)


def _ask(name: PoolName, target: Target, task: Task, folder_: Path) -> PoolAnswers:
    """Query the teacher for every image of a pool, in chunks, and keep the answers in a file."""
    pool = task.validation if name == "validation" else task.train
    viewer = Viewer(pool, ViewSet("crop" if name == "augmented" else "raw", 1))
    log_p = np.memmap(folder_ / name, np.float32, "w+", shape=(len(pool), len(task.classes)))
    tops = np.empty(len(pool), np.intp)
    for index in torch.split(torch.arange(len(pool)), at_once(pool.shape)):
        answers = target.whole(viewer(index, torch.zeros_like(index))).values.numpy()
        log_p[index], tops[index] = answers, answers.argmax(1)
    return PoolAnswers(AnswerSet(name, log_p, known(pool)), tops)


def _measured(asked: PoolAnswers, curve: cmi.Curve) -> DiagnosedPool:
    name, _, y = asked.answered
    return DiagnosedPool(
        name=name,
        images=len(y),
        accuracy=float((asked.tops == y).mean()),
        per_class_se=derive.finite(curve.per_class_se[cmi.TEMPERATURES.index(1.0)]),
        **derive.cmi_fields(curve),
    )


def _panels(target: Target, pool: Pool, shown: ClusterView) -> tuple[tuple[PicturedClass, ...], str]:
    """Return the most and the least spread class with Eigen-CAM overlays, or else the reason why there are none."""
    ranked, network = shown.ranked(), target.teacher.network
    if network is None:
        kind = "is behind an API" if target.remote is not None else "answers in a process of its own"
        return (), f"the teacher {kind}, so its layers cannot be seen"
    panels = []
    for label in dict.fromkeys([*ranked[:1], *ranked[-1:]]):
        images = pool.images[shown.furthest(label, PANELS)]
        try:
            over = cams.overlays(network, torch.from_numpy(images).float().div_(255))
        except cams.NoPanels as e:
            return (), str(e)
        panels.append(thumbnails.pictured(shown.shown(label, PANELS), pool.images, over.transpose(0, 3, 1, 2)))
    return tuple(panels), ""
