"""The diagnosis: how concentrated a teacher's answers are, as plain data; its page is rendered from this alone."""

from __future__ import annotations

from typing import Literal

from reports.base import Count, Share
from reports.clusters import Clusters, PicturedClass
from reports.record import CMICurve, Environment


class DiagnosedPool(CMICurve):
    """CMI of the teacher's answers on one set of images."""

    images: Count
    accuracy: Share
    per_class_se: tuple[float | None, ...]  # at temperature 1


class Diagnosis(Clusters):
    """How concentrated a teacher's answers are, with a view of their clusters."""

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
    cams: tuple[PicturedClass, ...]  # the most and the least spread class, with Eigen-CAM
    no_cams: str  # why there is no Eigen-CAM; empty if there is
    behind: str = ""  # the guard that CMI ignores, because it hides classes
    environment: Environment
