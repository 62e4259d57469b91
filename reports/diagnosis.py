"""The diagnosis: how concentrated a teacher's answers are, as plain data; its page is made from it alone."""

from __future__ import annotations

from typing import Literal

from reports.record import CMICurve, Count, Data, Environment, Share


class DiagnosedPool(CMICurve):
    """CMI of the teacher's answers on one set of images."""

    images: Count
    accuracy: Share
    per_class_se: tuple[float | None, ...]  # at temperature 1


class Picture(Data):
    """An image, as a data URI."""

    png: str
    overlay: str | None = None  # the same under its Eigen-CAM
    divergence: float  # KL(P_x ‖ Q_y) at temperature 1, nats
    told: str  # the teacher's top class
    probability: Share  # of it


class PicturedClass(Data):
    """A class and some of its images, the least concentrated first."""

    name: str
    cmi: float  # at temperature 1
    se: float
    pictures: tuple[Picture, ...]


class Map(Data):
    """Points in the plane, each with the class of its image."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    classes: tuple[Count, ...]


class Triangle(Data):
    """Answers to images of three classes, renormalised to them, in barycentric coordinates."""

    classes: tuple[Count, Count, Count]
    maps: tuple[Map, ...]


class Projection(Data):
    """Answers on the first two principal components of √P, and the mean of each class that has images."""

    explained: tuple[float, float]
    points: Map
    means: Map


class Diagnosis(Data):
    """How concentrated a teacher's answers are, and what that looks like."""

    schema_version: Literal[1] = 1
    command: str
    teacher: str
    sha256: str
    architecture: str
    method: str
    task: str
    task_digest: str
    classes: tuple[str, ...]
    pools: tuple[DiagnosedPool, ...]
    spread: tuple[PicturedClass, ...]  # of the held-out images, the largest CMI first
    triangle: Triangle | None  # None: fewer than three classes
    projection: Projection
    cams: tuple[PicturedClass, ...]  # the most and the least spread class
    no_cams: str  # why there are none
    behind: str = ""  # the guard behind which it was measured, because it hides classes
    environment: Environment
