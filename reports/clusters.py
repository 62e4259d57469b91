"""The clusters that a teacher's answers form, as plain data: images far from their class mean, and two maps."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from reports.base import Count, Data, Share

PNG = Annotated[str, Field(pattern=r"^(data:image/png;base64,[A-Za-z0-9+/]+=*)?$")]  # a data URI; empty: no thumbnail


class Picture(Data):
    """A validation image and the teacher's answer to it."""

    row: Count = 0  # its row among the answers on validation images
    png: PNG = ""
    overlay: PNG | None = None  # the same image with its Eigen-CAM
    divergence: float  # KL(P_x ‖ Q_y) at temperature 1, nats
    predicted: str  # the teacher's top class
    probability: Share  # of the top class


class PicturedClass(Data):
    """A class and some of its images, furthest from the class's mean answer first."""

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


class Clusters(Data):
    """The view of the clusters: pictures of spread classes, and two maps."""

    spread: tuple[PicturedClass, ...]  # classes on held-out images, largest CMI first
    triangle: Triangle | None  # None: fewer than three classes
    projection: Projection | None  # None: no two directions have more variance than the others


UNSEEN = Clusters(spread=(), triangle=None, projection=None)  # placeholder until it is computed from the answers
