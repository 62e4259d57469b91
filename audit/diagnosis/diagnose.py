"""`audit cmi`: how concentrated a teacher's answers are, in seconds and without a student."""

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
from audit.recording import evidence
from audit.statistics import cmi, sights
from audit.statistics.sights import Answered, Sights
from audit.trials import setup
from reports import diagnosis_html
from reports.base import encodable
from reports.clusters import PicturedClass
from reports.diagnosis import DiagnosedPool, Diagnosis
from reports.progress import Teller
from reports.record import PoolName, write_whole
from teachers.errors import RefusedInput
from teachers.oracle import at_once
from teachers.storage.store import default_cache
from teachers.targets import target
from teachers.targets.identify import refuse_other_order, settled
from teachers.targets.isolation import one
from teachers.targets.runtime import Place
from teachers.targets.target import Opening, Subject
from teachers.task import Pool, Task, known
from teachers.views import Viewer, ViewSet

FILES = ("cmi.json", "cmi.html")
PANELS = 4  # images of a class under their Eigen-CAM

POOLS: tuple[PoolName, ...] = get_args(PoolName)


@dataclass(frozen=True)
class Told:
    """A written diagnosis and where it lies."""

    diagnosis: Diagnosis
    folder: Path


class Asked(NamedTuple):
    """A teacher's answers on one set of images, and their top classes."""

    answered: Answered
    tops: NDArray[np.intp]  # (N,)


def diagnose(
    opening: Opening, *, device: str, out: Path | None, cache: Path | None, command: str, quiet: bool = False
) -> Told:
    """Measure a teacher's CMI on training, augmented and validation images; write cmi.json and cmi.html.

    Raises UsageError or RefusedInput with one sentence where the teacher or its data cannot be opened, or where it is
    no better than chance.
    """
    setup.check_device(device)
    folder.refuse_file(out)
    teller, kept = Teller(quiet), Cache(cache or default_cache())
    task, weights = target.open_task(opening, kept, teller.note)
    if not (pools.measurable(task.train) and pools.measurable(task.validation)):
        raise RefusedInput("CMI needs two classes with two images each, for training and held out; give more images")
    place = Place(kept, device, teller.note)
    opening = settled(opening, task, weights, place)
    with one(opening, task, weights, place) as subject:
        out = out or Path("audit-out") / f"{subject.slug}-cmi-{subject.fingerprint[:8]}"
        with folder.claimed(out, teller.note, FILES), tempfile.TemporaryDirectory(dir=kept.root) as scratch:
            train, augmented, validation = (_ask(name, subject, task, Path(scratch)) for name in POOLS)
            refuse_other_order(subject, validation.tops.astype(np.uint16), task)
            if not subject.teacher.synthetic:
                target.refuse_chance(validation.tops, task, subject.teacher.name)
            asked, K = (train, augmented, validation), len(task.classes)
            curves = [cmi.curve(answered.log_p, answered.y, K) for answered, _ in asked]
            shown = Sights(validation.answered, curves[-1], task.classes)
            seen = thumbnails.illustrated(sights.clusters(shown, [train.answered]), task.validation.images)
            panels, no_panels = _panels(subject, task.validation, shown)
            teacher = subject.teacher
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
                behind=subject.behind,
                environment=evidence.environment(),
            )
            found = encodable(found)
            for name, text in zip(FILES, (found.model_dump_json(indent=1), diagnosis_html.render(found)), strict=True):
                write_whole(out / name, text.encode())
        return Told(found, out)


def _ask(name: PoolName, subject: Subject, task: Task, folder_: Path) -> Asked:
    """Ask about every image of a pool, a chunk at a time, and keep the answers in a file."""
    pool = task.validation if name == "validation" else task.train
    viewer = Viewer(pool, ViewSet("crop" if name == "augmented" else "raw", 1))
    log_p = np.memmap(folder_ / name, np.float32, "w+", shape=(len(pool), len(task.classes)))
    tops = np.empty(len(pool), np.intp)
    for index in torch.split(torch.arange(len(pool)), at_once(pool.shape)):
        answers = subject.whole(viewer(index, torch.zeros_like(index))).values.numpy()
        log_p[index], tops[index] = answers, answers.argmax(1)
    return Asked(Answered(name, log_p, known(pool)), tops)


def _measured(asked: Asked, curve: cmi.Curve) -> DiagnosedPool:
    name, _, y = asked.answered
    return DiagnosedPool(
        name=name,
        images=len(y),
        accuracy=float((asked.tops == y).mean()),
        per_class_se=derive.finite(curve.per_class_se[cmi.TEMPERATURES.index(1.0)]),
        **derive.cmi_fields(curve),
    )


def _panels(subject: Subject, pool: Pool, shown: Sights) -> tuple[tuple[PicturedClass, ...], str]:
    """Show the most and the least spread class under their Eigen-CAM, or say why not."""
    ranked, network = shown.ranked(), subject.teacher.network
    if network is None:
        kind = "is behind an API" if subject.remote is not None else "answers in a process of its own"
        return (), f"the teacher {kind}, which shows answers alone and no layer"
    panels = []
    for label in dict.fromkeys([*ranked[:1], *ranked[-1:]]):
        images = pool.images[shown.furthest(label, PANELS)]
        try:
            over = cams.overlays(network, torch.from_numpy(images).float().div_(255))
        except cams.NoPanels as e:
            return (), str(e)
        panels.append(thumbnails.pictured(shown.shown(label, PANELS), pool.images, over.transpose(0, 3, 1, 2)))
    return tuple(panels), ""
