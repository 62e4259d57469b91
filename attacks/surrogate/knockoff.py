"""Knockoff Nets: query unrelated images and imitate the answers (Orekondy, Schiele & Fritz, CVPR 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from attacks.base import Attack, Lab, draw
from attacks.losses import cross_entropy
from teachers.fidelity import PUBLIC, Fidelity
from teachers.training import Batch, Outputs, Recipe, Student


@dataclass(frozen=True, kw_only=True)
class Knockoff(Attack):
    """Ask about random images, drawn without replacement; train with the soft cross entropy; labels become one-hot."""

    name = "knockoff"
    version = 2
    title = "Knockoff Nets, random policy"
    paper = "Orekondy, Schiele & Fritz, CVPR 2019, arXiv 1812.02766"
    published = "Caltech256, 60,000 ImageNet queries: 76.0 %, victim 78.4 % (authors' README)"
    fidelity = Fidelity(source=PUBLIC, note="the random policy matches")
    needs = "label"
    holds = "surrogate"

    queries: int = 20_000
    longer: float = 4.0  # multiple of the recipe's steps; the paper trains for 100 to 200 epochs

    def run(self, lab: Lab) -> Student:
        pool = lab.surrogate
        only = draw(pool, lab.spend(self.queries), lab.seed)
        answers = lab.answers("raw", pool=pool, only=only)
        stream = lab.stream("raw", answers, pool=pool, only=only, source="surrogate")
        return lab.fit(stream, imitate, lengthened(lab.recipe, self.longer))


def lengthened(recipe: Recipe, times: float) -> Recipe:
    """Return the recipe with its steps multiplied: an attack without original data has no control to match."""
    return replace(recipe, steps=max(1, round(times * recipe.steps)))


def imitate(outputs: Outputs, batch: Batch, step: int) -> Tensor:
    """Return the cross entropy with the teacher's answer."""
    assert batch.answers is not None
    return cross_entropy(outputs.logits, batch.answers.probs(outputs.logits.shape[1]))
