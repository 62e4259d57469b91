"""The adaptive attack: decode what a teacher's answers mean from the attacker's own data, then distil.

It assumes nothing about the defence (Kerckhoffs's principle; Tramèr, Carlini, Brendel & Madry, On adaptive attacks to
adversarial example defenses, NeurIPS 2020, arXiv 2002.08347, section 2): whether answers are scaled, reversed, permuted
or turned to labels after some queries is read from the answers, the attacker's labels and a student trained on these.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from attacks.adaptive.chain import DECODERS, Decodings, shards
from attacks.adaptive.decoders import Decoding, class_scale, evidence
from attacks.adaptive.decoders.decoding import by_class, distinct, hidden, rows, unchanged
from attacks.base import Attack, Lab
from attacks.controls.ls import LS
from attacks.lazy import LazyAnswers, rows_about
from attacks.logits.dist import DIST
from attacks.logits.dkd import DKD
from attacks.logits.kendall import agreement
from attacks.logits.rld import RLD
from attacks.losses import kd, rising, soft_target
from teachers.surface import Answers
from teachers.task import UNLABELLED
from teachers.training import AnswerRows, Batch, Student
from teachers.views import Viewer

Loss = Literal["correlation", "decoupled", "tail", "soft", "order", "refined"]
OTHERS = ("strong", "raw")  # views that are asked where crops tell too little
ENOUGH = 0.15  # cosine of what answers and an own student say about an image, from which crops are enough
CLEARLY = 2.0  # times that other views must tell more
CHUNK = 512  # images per forward pass of the reference student
DECODED = Decodings()


@dataclass(frozen=True, kw_only=True)
class Adaptive(Attack):
    """CE + rising · a loss on decoded answers, which is that of another method.

    DIST's (`correlation`), DKD's (`decoupled`), its `tail`, RLD's (`refined`), `soft` KD, or 1 − Kendall's τ (`order`).
    A decoder changes the answers only where they show its reason; without any, they are used as they were given.
    Answers that tell nothing about the image are left out, down to the labels' loss where all are. Validation images
    choose between settings with all decoders and `cautious` ones: a map that is fitted to an own student's answers
    hands its ignorance to the teacher's, where that student learned from few images.
    """

    name = "adaptive"
    title = "Adaptive attack: decode the answers, then distil"
    paper = "own composition after Tramèr et al., NeurIPS 2020, arXiv 2002.08347, section 2"
    needs = "probs"
    holds = "original"
    views = "crop"
    version = 2
    decodes = True
    later = frozenset({"cautious"})

    rescaled: bool = True  # whether answers are scaled to what the labels say
    loss: Loss = "correlation"
    temperature: float = 4.0
    beta: float = 1.0  # of the loss, or of DKD's non-target part; 0: the labels alone
    warmup: float = 20 / 240  # fraction of the steps in which the distilled part rises, as DKD's
    cautious: bool = False  # whether no map is fitted to an own student's answers, and no other view is asked about

    @classmethod
    def grid(cls) -> tuple[Adaptive, ...]:
        """Return the settings; the first three are those that gained most on six kinds of answers to glyphs."""
        labels_alone = cls(beta=0.0)
        return (
            *(cls(), cls(loss="refined", temperature=2.0), cls(loss="decoupled", temperature=2.0, beta=2.0)),
            *(cls(loss="tail", beta=2.0, rescaled=False), cls(rescaled=False)),
            cls(loss="decoupled", beta=2.0, rescaled=False, cautious=True),
            cls(rescaled=False, cautious=True),
            labels_alone,
        )

    def run(self, lab: Lab) -> Student:
        meaning = _read(lab, self.rescaled, self.cautious)
        lab.decoded = meaning.told
        loss = rising(self.distilled, self.warmup, lab.recipe.steps)
        return lab.fit(lab.stream("crop", meaning.answers), loss)

    def distilled(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the distilled part of the loss; answers that show one class alone have none, but their label."""
        assert batch.answers is not None
        telling = batch.answers.values.isfinite().sum(-1) > 1
        if not self.beta or not telling.any():
            return 0.0 * logits.sum()
        if telling.all():
            return self._distilled(logits, batch)
        part = replace(batch, x=batch.x[telling], labels=batch.labels[telling], answers=batch.answers[telling])
        return telling.to(logits).mean() * self._distilled(logits[telling], part)

    def _distilled(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.answers is not None
        t, beta = self.temperature, self.beta
        if self.loss == "correlation":
            return DIST(beta=beta, gamma=beta, temperature=t).distilled(logits, batch)
        if self.loss == "soft":
            return beta * kd(logits, soft_target(batch, t), t)
        if self.loss == "order":
            return beta * (1 - agreement(logits, batch.answers.log_probs(), 1 / t).mean())
        if self.loss == "refined":
            return RLD(temperature=t, alpha=beta, beta=beta).distilled(logits, batch)
        alpha = 1.0 if self.loss == "decoupled" else 0.0
        return DKD(temperature=t, alpha=alpha, beta=beta).distilled(logits, batch)


# For `audit info`: each decoder in a sentence, that of its module.
Adaptive.__doc__ = "\n- ".join(
    [
        f"{inspect.cleandoc(Adaptive.__doc__ or '')}\n\nDecoders, in their order; a defender whom each undoes:",
        *dict.fromkeys(str(sys.modules[decoder.__module__].__doc__).splitlines()[0] for decoder in DECODERS),
    ]
)


class Meaning(NamedTuple):
    """What answers mean, and a sentence about it."""

    answers: AnswerRows  # view by view
    told: str


class Sight(NamedTuple):
    """What the answers about one kind of view mean, and how much they tell about single images."""

    meaning: Meaning
    tells: float


def _read(lab: Lab, rescaled: bool, cautious: bool = False) -> Meaning:
    """Ask about crops, and about other views if these tell too little; return what the answers about crops mean.

    If other views tell clearly more, the answer about each crop is the mean of those about the image's other views that
    name its label.
    """
    own = lab.fit(lab.stream("crop"), LS().loss) if len(lab.pool.labelled) else None
    crops = _seen(lab, "crop", own, rescaled, cautious)
    if own is None or cautious or crops.tells >= ENOUGH:
        return crops.meaning
    others = {kind: _seen(lab, kind, own, rescaled=False) for kind in OTHERS if _affordable(lab, kind)}
    kind = max(others, key=lambda name: others[name].tells, default="crop")
    if kind == "crop" or others[kind].tells < max(ENOUGH, CLEARLY * crops.tells):
        return crops.meaning
    (found, before), labels = others[kind].meaning, torch.from_numpy(lab.pool.every_label)
    images, views = len(labels), lab.view_set(kind).count

    def mean(shard: Tensor) -> Decoding:
        own = _of_image(found[rows_about(shard, views, images)].values, labels[shard])
        return class_scale(own, labels[shard]) if rescaled else unchanged(own)

    scaled, after = _joined(lab, shards(labels, views * lab.classes), 1, mean)
    told = [f"crops tell nothing about the image, but {kind} views do", before, after]
    each = LazyAnswers(lambda index: scaled[index % images].values, images * lab.recipe.views)
    return Meaning(each, "; ".join(filter(None, told)))


def _joined(lab: Lab, split: Sequence[Tensor], views: int, decode: Callable[[Tensor], Decoding]) -> Meaning:
    """Return what the answers about each shard of the images (n,) mean, which `decode` gives, (views·n, K).

    Those of several shards lie in a file: together, they may take more memory than there is.
    """
    if len(split) == 1:
        whole = decode(split[0])
        return Meaning(Answers("probs", whole.log_probs), whole.told)
    told = []

    def found() -> Iterator[Answers]:
        for shard in split:
            one = decode(shard)
            told.append(one.told)
            yield Answers("probs", one.log_probs)

    images = sum(map(len, split))
    place = torch.cat([rows_about(shard, views, images) for shard in split]).argsort()
    values = lab.stored(len(place), found()).values
    said = list(filter(None, told))
    sentence = f"{said[0]}; this or another thing in {len(said)} of {len(told)} shards of the images" if said else ""
    return Meaning(LazyAnswers(lambda index: values[place[index]], len(place)), sentence)


def _of_image(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Return the mean logits of the views of each image whose top class is its label, (N, K); the label if none is.

    A strong view may show too little of an image to be about its class.
    """
    given, images = rows(log_probs, labels), len(labels)
    use = given.full & (given.classes == given.tops)
    number = by_class(use.double()[:, None], given.images, images)
    mean = by_class(torch.where(use[:, None], log_probs, 0.0), given.images, images) / number.clamp(min=1e-12)
    return hidden(mean.log_softmax(-1).to(log_probs), labels, number[:, 0] == 0)


def _seen(lab: Lab, kind: str, own: Student | None, rescaled: bool, cautious: bool = False) -> Sight:
    paid = lab.paid(kind)  # the attacker's own answers would mislead decoders
    answers, views, asked = lab.told(paid), paid.views, torch.from_numpy(paid.images)
    if not len(answers):
        return Sight(Meaning(paid.completed(answers), ""), 0.0)
    labels, images = torch.from_numpy(lab.pool.every_label)[asked], len(asked)
    viewer = Viewer(lab.pool, lab.view_set(kind, views))
    classes = torch.where(labels == UNLABELLED, answers[torch.arange(images)].labels, labels)
    every, cosines = len(distinct(classes)), []

    def decode(shard: Tensor) -> Decoding:
        given, y = answers[rows_about(shard, views, images)].log_probs(), labels[shard]
        reference = None if own is None else _answers(own, viewer, views, asked[shard], lab.device)
        swaps = len(distinct(classes[shard])) == every
        meaning = DECODED.decode(given, y, reference, rescaled=rescaled, swaps=swaps, cautious=cautious)
        if reference is not None:
            cosines.append(evidence(meaning.log_probs, y, reference, alike=True).cosines())
        return meaning

    found, told = _joined(lab, shards(classes, views * lab.classes), views, decode)
    return Sight(Meaning(paid.completed(found), told), float(torch.cat(cosines).mean()) if cosines else 0.0)


def _affordable(lab: Lab, kind: str) -> bool:
    queries = lab.view_set(kind).count * len(lab.pool)
    return lab.spend(queries) == queries


@torch.no_grad()
def _answers(student: Student, viewer: Viewer, views: int, images: Tensor, device: str) -> Tensor:
    """Return a student's own log-probabilities about all views of some images (n,), (V·n, K), view by view."""
    parts = [
        student.network(viewer(part, torch.full_like(part, view)).to(device)).log_softmax(-1).cpu()
        for view in range(views)
        for part in torch.split(images, CHUNK)
    ]
    return torch.cat(parts)
