"""The view of a teacher's clusters that a record and a diagnosis show. Pure functions; others add the thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from audit.statistics import cmi
from audit.statistics.clusters import Survey, barycentric, most_confused, projected, survey
from audit.statistics.cmi import Answers, Labels
from reports.clusters import Clusters, Map, Picture, PicturedClass, Projection, Triangle
from reports.record import PoolName, Record

SPREAD, PICTURES = 4, 6  # least concentrated classes that are shown, and images of each
DOTS = 150  # at most, images of one class in the triangle
POINTS = 1_000  # at most, images in the projection


class AnswerSet(NamedTuple):
    """A teacher's answers on one set of images."""

    name: PoolName
    log_p: Answers  # (N, K), in memory or mapped from a file
    y: Labels  # (N,)


@dataclass(frozen=True)
class ClusterView:
    """The answers on held-out images, with their CMI curve and class names."""

    answered: AnswerSet
    curve: cmi.Curve
    classes: tuple[str, ...]

    @cached_property
    def survey(self) -> Survey:
        """The clusters that the answers form."""
        return survey(self.answered.log_p, self.answered.y)

    def ranked(self) -> list[int]:
        """Return the classes whose CMI is known, largest first; ties in class order, the same on every processor."""
        values = self._at_one(self.curve.per_class)
        order = np.argsort(-values.round(5), kind="stable")
        return [int(label) for label in order if not np.isnan(values[label])]

    def furthest(self, label: int, most: int) -> NDArray[np.intp]:
        """Return up to `most` images of a class whose answers are furthest from the class's mean answer."""
        rows = np.flatnonzero(self.answered.y == label)
        return rows[np.argsort(-self.survey.divergence[rows].round(9), kind="stable")][:most]

    def shown(self, label: int, most: int = PICTURES) -> PicturedClass:
        """Describe a class and its least concentrated images."""
        value, se = (float(self._at_one(of)[label]) for of in (self.curve.per_class, self.curve.per_class_se))
        pictures = tuple(self._picture(int(row)) for row in self.furthest(label, most))
        return PicturedClass(name=self.classes[label], cmi=value, se=se, pictures=pictures)

    def _picture(self, row: int) -> Picture:
        said = np.asarray(self.answered.log_p[row], np.float64)
        top = int(said.argmax())
        return Picture(
            row=row,
            divergence=float(self.survey.divergence[row]),
            predicted=self.classes[top],
            probability=min(1.0, float(np.exp(said[top]))),
        )

    @staticmethod
    def _at_one(values: cmi.Floats) -> cmi.Floats:
        found: cmi.Floats = values[cmi.TEMPERATURES.index(1.0)]
        return found


def seen(record: Record, curves: Sequence[cmi.Curve]) -> Clusters | None:
    """Return the cluster view of a record's answers, with the thumbnails that it holds; `curves`: its CMI curves.

    None where the record has no cluster view, or no answers on validation images.
    """
    pools = {
        pool.name: AnswerSet(pool.name, pool.answers.array(), pool.labels.array().astype(np.int64))
        for pool in record.cmi
        if pool.name != "augmented"
    }
    if record.clusters is None or "validation" not in pools:
        return None
    held_out = pools.pop("validation")
    curve = next(curve for pool, curve in zip(record.cmi, curves, strict=True) if pool.name == held_out.name)
    return _kept(clusters(ClusterView(held_out, curve, record.task.classes), tuple(pools.values())), record.clusters)


def _kept(found: Clusters, held: Clusters) -> Clusters:
    """Copy the thumbnails of `held` into `found`: answers do not determine them."""
    pngs = {picture.row: picture.png for shown in held.spread for picture in shown.pictures}
    spread = (
        shown.model_copy(
            update={"pictures": tuple(p.model_copy(update={"png": pngs.get(p.row, "")}) for p in shown.pictures)}
        )
        for shown in found.spread
    )
    return found.model_copy(update={"spread": tuple(spread)})


def clusters(sights: ClusterView, others: Sequence[AnswerSet]) -> Clusters:
    """Show the least concentrated classes, three classes in a triangle (one per set of images), all on two axes."""
    corners = most_confused(sights.survey.means) if len(sights.classes) >= 3 else None
    maps = tuple(_corner(answered, corners) for answered in (*others, sights.answered)) if corners else ()
    return Clusters(
        spread=tuple(sights.shown(label) for label in sights.ranked()[:SPREAD]),
        triangle=Triangle(classes=corners, maps=maps) if corners else None,
        projection=_projection(sights.answered, sights.survey) if sights.survey.distinct else None,
    )


def _corner(answered: AnswerSet, classes: tuple[int, int, int]) -> Map:
    """Place images of three classes in the triangle, at most `DOTS` of each class."""
    rng = np.random.default_rng(0)
    of_each = [np.flatnonzero(answered.y == label) for label in classes]
    rows = np.concatenate([np.sort(rng.permutation(each)[:DOTS]) for each in of_each])
    return _map(answered.name, barycentric(answered.log_p[rows][:, classes]), answered.y[rows])


def _projection(answered: AnswerSet, found: Survey) -> Projection:
    rows = np.sort(np.random.default_rng(0).permutation(len(answered.y))[:POINTS])
    present = np.unique(answered.y)
    P = softmax(np.asarray(answered.log_p[rows], np.float64), 1)
    return Projection(
        explained=found.explained,
        points=_map(answered.name, projected(P, found), answered.y[rows]),
        means=_map("means", projected(found.means[present], found), present),
    )


def _map(name: str, places: cmi.Floats, classes: Labels) -> Map:
    """Build a map with coordinates rounded to seven digits, so that different processors agree to 10⁻⁶."""
    x, y = places.round(7).T.tolist()
    return Map(name=name, x=tuple(x), y=tuple(y), classes=tuple(classes.tolist()))
