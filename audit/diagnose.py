"""`audit cmi`: how concentrated a teacher's answers are, in seconds and without a student."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from audit import cams, checks, derive, evidence, folder, plan, subjects
from audit.execution.faculty import one
from audit.execution.progress import Teller
from audit.execution.store import Cache, default_cache
from audit.inspecting.identify import settled
from audit.statistics import clusters, cmi
from audit.statistics.clusters import Survey
from audit.subjects import Opening, Place, Subject
from reports import diagnosis_html
from reports.diagnosis import DiagnosedPool, Diagnosis, Map, Picture, PicturedClass, Projection, Triangle
from reports.record import PoolName, write_whole
from teachers.errors import RefusedInput
from teachers.oracle import CHUNK
from teachers.task import Pool, Task, known
from teachers.views import Viewer, ViewSet

SPREAD, PICTURES = 4, 6  # classes, and images of each, of which the least concentrated are shown
PANELS = 4  # images of a class under their Eigen-CAM
DOTS = 150  # images of a class in the triangle
POINTS = 1_000  # images in the projection
SIDE = 96  # most pixels to a side of a picture on the page

POOLS: tuple[PoolName, ...] = get_args(PoolName)


@dataclass(frozen=True)
class Told:
    """A written diagnosis and where it lies."""

    diagnosis: Diagnosis
    folder: Path


class Answered(NamedTuple):
    """A teacher's answers on one set of images."""

    name: PoolName
    log_p: NDArray[np.float32]  # (N, K), mapped from a file: they may be many
    y: NDArray[np.int64]
    tops: NDArray[np.intp]


def diagnose(
    opening: Opening, *, device: str, out: Path | None, cache: Path | None, command: str, quiet: bool = False
) -> Told:
    """Measure a teacher's CMI on training, augmented and validation images; write cmi.json and cmi.html.

    Raises UsageError or RefusedInput with one sentence where the teacher or its data cannot be opened, or where it is
    no better than chance.
    """
    plan.check_device(device)
    folder.refuse_file(out)
    teller, kept = Teller(quiet), Cache(cache or default_cache())
    task, weights = subjects.open_task(opening, kept)
    if not (evidence.measurable(task.train) and evidence.measurable(task.validation)):
        raise RefusedInput("CMI needs two classes with two images each, for training and held out; give more images")
    place = Place(kept, device, teller.note)
    opening = settled(opening, task, weights, place)
    with one(opening, task, weights, place) as subject:
        out = out or Path("audit-out") / f"{subject.slug}-cmi-{subject.fingerprint[:8]}"
        with folder.claimed(out, teller.note), tempfile.TemporaryDirectory(dir=kept.root) as scratch:
            train, augmented, validation = (_ask(name, subject, task, Path(scratch)) for name in POOLS)
            if subject.teacher.method not in checks.SYNTHETIC:
                subjects.refuse_chance(validation.tops, task, subject.teacher.name)
            K = len(task.classes)
            pools = tuple(_measure(answered, K) for answered in (train, augmented, validation))
            survey = clusters.survey(validation.log_p, validation.y)
            shown = _Shown(subject, task.validation, validation, survey, pools[-1], task.classes)
            panels, no_panels = _panels(shown)
            triangle = clusters.most_confused(survey.means) if K >= 3 else None
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
                pools=pools,
                spread=tuple(shown.pictured(label, PICTURES) for label in shown.ranked()[:SPREAD]),
                triangle=triangle
                and Triangle(classes=triangle, maps=(_corner(train, triangle), _corner(validation, triangle))),
                projection=_projection(validation, survey),
                cams=panels,
                no_cams=no_panels,
                behind=subject.behind,
                environment=evidence.environment(),
            )
            write_whole(out / "cmi.json", found.model_dump_json(indent=1).encode())
            write_whole(out / "cmi.html", diagnosis_html.render(found).encode())
        return Told(found, out)


def _ask(name: PoolName, subject: Subject, task: Task, folder_: Path) -> Answered:
    """Ask about every image of a pool, a chunk at a time, and keep the answers in a file."""
    pool = task.validation if name == "validation" else task.train
    viewer = Viewer(pool, ViewSet("crop" if name == "augmented" else "raw", 1))
    log_p = np.memmap(folder_ / name, np.float32, "w+", shape=(len(pool), len(task.classes)))
    tops = np.empty(len(pool), np.intp)
    for index in torch.split(torch.arange(len(pool)), CHUNK):
        answers = subject.whole(viewer(index, torch.zeros_like(index))).values.numpy()
        log_p[index], tops[index] = answers, answers.argmax(1)
    return Answered(name, log_p, known(pool), tops)


def _measure(answered: Answered, K: int) -> DiagnosedPool:
    found = cmi.curve(answered.log_p, answered.y, K)
    return DiagnosedPool(
        name=answered.name,
        images=len(answered.y),
        accuracy=float((answered.tops == answered.y).mean()),
        per_class_se=derive.finite(found.per_class_se[cmi.TEMPERATURES.index(1.0)]),
        **derive.cmi_fields(found),
    )


@dataclass(frozen=True)
class _Shown:
    """The held-out images and what is known of them."""

    subject: Subject
    pool: Pool
    answered: Answered
    survey: Survey
    measured: DiagnosedPool
    classes: tuple[str, ...]

    def ranked(self) -> list[int]:
        """Return the classes whose CMI is known, the largest first."""
        found = [(value, label) for label, value in enumerate(self.measured.per_class) if value is not None]
        return [label for _, label in sorted(found, key=lambda pair: -pair[0])]

    def least_concentrated(self, label: int, most: int) -> NDArray[np.int64]:
        """Return the images of a class that are furthest from its mean answer."""
        rows = np.flatnonzero(self.answered.y == label)
        return rows[np.argsort(-self.survey.divergence[rows], kind="stable")][:most]

    def pictured(self, label: int, most: int, overlays: Sequence[np.ndarray] | None = None) -> PicturedClass:
        """Show the least concentrated images of a class."""
        pictures = []
        for place, row in enumerate(self.least_concentrated(label, most)):
            top = int(self.answered.tops[row])
            pictures.append(
                Picture(
                    png=_png(self.pool.images[row].transpose(1, 2, 0)),
                    overlay=None if overlays is None else _png(overlays[place]),
                    divergence=float(self.survey.divergence[row]),
                    told=self.classes[top],
                    probability=min(1.0, float(np.exp(self.answered.log_p[row, top]))),
                )
            )
        value, se = self.measured.per_class[label], self.measured.per_class_se[label]
        return PicturedClass(name=self.classes[label], cmi=value or 0.0, se=se or 0.0, pictures=tuple(pictures))


def _panels(shown: _Shown) -> tuple[tuple[PicturedClass, ...], str]:
    """Show the most and the least spread class under their Eigen-CAM, or say why not."""
    ranked, network = shown.ranked(), shown.subject.teacher.network
    if network is None:
        return (), "the teacher is behind an API, which shows answers alone"
    panels = []
    for label in dict.fromkeys([*ranked[:1], *ranked[-1:]]):
        images = shown.pool.images[shown.least_concentrated(label, PANELS)]
        try:
            over = cams.overlays(network, torch.from_numpy(images).float().div_(255))
        except cams.NoPanels as e:
            return (), str(e)
        panels.append(shown.pictured(label, PANELS, list(over)))
    return tuple(panels), ""


def _png(pixels: np.ndarray) -> str:
    """Write pixels (H, W, C) uint8 as a data URI."""
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    image.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    image.save(content, "png")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def _corner(answered: Answered, classes: tuple[int, int, int]) -> Map:
    """Place images of three classes in their triangle, at most `DOTS` of each."""
    rng = np.random.default_rng(0)
    of_each = [np.flatnonzero(answered.y == label) for label in classes]
    rows = np.concatenate([np.sort(rng.permutation(each)[:DOTS]) for each in of_each])
    return _map(answered.name, clusters.barycentric(answered.log_p[rows][:, classes]), answered.y[rows])


def _projection(answered: Answered, survey: Survey) -> Projection:
    rows = np.sort(np.random.default_rng(0).permutation(len(answered.y))[:POINTS])
    present = np.unique(answered.y)
    return Projection(
        explained=survey.explained,
        points=_map(answered.name, clusters.projected(np.exp(answered.log_p[rows]), survey), answered.y[rows]),
        means=_map("means", clusters.projected(survey.means[present], survey), present),
    )


def _map(name: str, places: np.ndarray, classes: np.ndarray) -> Map:
    x, y = places.round(4).T.tolist()
    return Map(name=name, x=tuple(x), y=tuple(y), classes=tuple(classes.tolist()))
