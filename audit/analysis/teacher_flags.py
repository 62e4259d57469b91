"""Flags about the teacher's answers, from the results of the probe (teachers/targets/probe.py)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from audit.analysis.protocol_flags import FlagRule
from audit.statistics.compare import Correct
from reports.record import Flag
from teachers.proportions import LEVEL, mcnemar

SAME = 1e-3  # answers whose probabilities differ by less are equal up to rounding
DUPLICATES = 0.01  # share of the test images
GAIN = 0.01  # accuracy by which another normalisation must be better

Changes = NDArray[np.float16]  # (n,) the largest change of a probability, for each image

NOISY_ANSWERS = FlagRule(
    id="noisy-answers",
    when="the teacher answers the same batch of validation images twice, and a probability differs by more than "
    f"{SAME}",
    why="the audit asks about each image once and stores the answer; an attacker who asks again can average the noise "
    "out, and no attack of a suite does that",
    do="make the network deterministic (no dropout when it answers); noise that is a defence belongs in --surface",
    caps="undistillable",
)


def noisy_answers(repeated: Changes) -> Flag | None:
    """Rule out UNDISTILLABLE where identical queries get different answers."""
    if repeated.max() <= SAME:
        return None
    return NOISY_ANSWERS.raised(
        f"asked the same batch twice, the teacher changes a probability by up to {repeated.max():.2g}, on average by "
        f"{repeated.mean():.2g}"
    )


BATCH_DEPENDENT = FlagRule(
    id="batch-dependent",
    when=f"the teacher answers validation images again in batches with other images, and a probability differs by more "
    f"than {SAME}; for most images it differs by more than when the same batch is answered twice (sign test, "
    f"p < {LEVEL})",
    why="an answer then depends on the other images of its batch: the stored answers are not those that an attacker "
    "gets. Batch norm in training mode does this",
    do="give the network in evaluation mode, with running statistics in its batch norms",
    caps="inconclusive",
)


def batch_dependent(repeated: Changes, regrouped: Changes) -> Flag | None:
    """Rule out both decisive words where an answer depends on the other images of its batch; changes for each image."""
    noise = repeated[: len(regrouped)]
    if regrouped.max() <= SAME or mcnemar(regrouped > noise, noise > regrouped) >= LEVEL:
        return None
    return BATCH_DEPENDENT.raised(
        f"asked in batches with other images, the teacher changes a probability by up to {regrouped.max():.2g}, on "
        f"average by {regrouped.mean():.2g} (asked in the same batch again: {noise.mean():.2g})"
    )


ANSWERS_CHANGED = FlagRule(
    id="answers-changed",
    when="after training, the teacher answers images that it answered before, among them views that attacks train on, "
    f"and a probability differs by more than {SAME}; for more images than chance allows it differs by more than when "
    f"the same is asked twice in a row (sign test, p < {LEVEL})",
    why="the teacher changed while it was audited: attacks and auditor, or early and late views, then got answers of "
    "two different teachers. A defence that counts queries does this, and so does an API whose model is replaced",
    do="audit a teacher that stays the same; to know what an attacker gets from the answers of one state, audit that "
    "state",
    caps="inconclusive",
)


def answers_changed(changes: Mapping[str, tuple[Changes, Changes]]) -> Flag | None:
    """Rule out both decisive words where answers are not those from before training.

    `changes`: by kind of image, the change since then and the change between two answers in a row, for each image. If
    nothing but noise changed, each is as likely as the other to be the larger one.
    """
    moved = {
        kind: (now > np.maximum(noise, SAME), noise > np.maximum(now, SAME)) for kind, (now, noise) in changes.items()
    }
    found = [kind for kind, (more, less) in moved.items() if mcnemar(more, less) < LEVEL / len(changes)]
    if not found:
        return None
    told = (f"{int(moved[kind][0].sum())} of {len(changes[kind][0])} {kind}" for kind in found)
    return ANSWERS_CHANGED.raised(f"asked again after training, the teacher answers {' and '.join(told)} differently")


SOFTMAXED_TWICE = FlagRule(
    id="softmaxed-twice",
    when="the network's raw outputs lie in [0, 1] and sum to one: they are probabilities already",
    why="an audit treats a network's outputs as logits; a second softmax flattens every answer, which no API does",
    do="give the network without its last softmax",
    caps="inconclusive",
)


def softmaxed_twice(softmaxed: bool) -> Flag | None:
    """Rule out both decisive words where answers went through a softmax twice."""
    return SOFTMAXED_TWICE.raised("the network's raw outputs are probabilities already") if softmaxed else None


SATURATED = FlagRule(
    id="saturated",
    when="the top probability is exactly 1 in single precision in more than half of the answers",
    why="the attacks of this audit get log-probabilities, which still distinguish the other classes; an API that sends "
    "plain probabilities would show the top class alone",
    do="also audit the surface that the API shows, such as --surface round:6",
    caps="nothing",
)


def saturated(share: float) -> Flag | None:
    """Flag answers that would reveal less if an API returned plain probabilities."""
    return SATURATED.raised(f"the top probability of {share:.1%} of the answers is exactly 1") if share > 0.5 else None


OTHER_NORMALISATION = FlagRule(
    id="other-normalisation",
    when="the network is more accurate on validation images with another normalisation, by at least one point and with "
    f"p < {LEVEL} (McNemar's exact test, one-sided); the audit tries those with a name, pixels from 0 to 255, and the "
    "mean and spread of the training images, each in BGR order, too",
    why="the audited teacher is then a damaged copy of the one that its owner serves",
    do="give the --normalize that the network was trained with",
    caps="inconclusive",
)


def other_normalisation(chosen: Correct, tried: Mapping[str, Correct]) -> Flag | None:
    """Rule out both decisive words where another normalisation makes the teacher more accurate; correctness (n,)."""
    better = {
        text: right.mean()
        for text, right in tried.items()
        if right.mean() - chosen.mean() >= GAIN and mcnemar(right, chosen) < LEVEL
    }
    if not better:
        return None
    best = max(better, key=lambda text: better[text])
    return OTHER_NORMALISATION.raised(
        f"with the normalisation {best} the network is right on {better[best]:.1%} of {len(chosen):,} validation "
        f"images, with the chosen one on {chosen.mean():.1%}",
        do=f"give --normalize {best}, or the one that the network was trained with",
    )


DUPLICATED = FlagRule(
    id="duplicates",
    when="images of the test split are in the training split, pixel by pixel; below "
    f"{100 * DUPLICATES:g} % of the test images the flag does not limit the verdict",
    why="all students, with a teacher or without, have trained on these images and their labels: the margin on them "
    "measures memory and is near zero",
    do="remove them from one of the splits",
    caps="undistillable",
)


def duplicates(count: int, images: int) -> Flag | None:
    """Flag test images that are in the training split; rule out UNDISTILLABLE from 1 % on."""
    if not count:
        return None
    return DUPLICATED.raised(
        f"{count:,} of {images:,} test images are in the training split, too",
        caps="nothing" if count < DUPLICATES * images else "undistillable",
    )
