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
    when=f"the same batch of validation images, asked twice, changes a probability by more than {SAME}",
    why="each image is asked once and its answer stored; an attacker who asks again averages the noise out, and no "
    "attack of a suite does",
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
    when=f"validation images that are asked in batches of others change a probability by more than {SAME}, and most of "
    f"them by more than when the same batch is asked twice (sign test, p < {LEVEL})",
    why="answers then belong to batches, not to images: those that are stored here are not those that an attacker "
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
        f"asked in batches of others, the teacher changes a probability by up to {regrouped.max():.2g}, on average by "
        f"{regrouped.mean():.2g} (in the same batch again: {noise.mean():.2g})"
    )


SOFTMAXED_TWICE = FlagRule(
    id="softmaxed-twice",
    when="the network's raw outputs lie in [0, 1] and sum to one: they are probabilities already",
    why="an audit takes a network's outputs for logits; a second softmax flattens every answer, which no API does",
    do="give the network without its last softmax",
    caps="inconclusive",
)


def softmaxed_twice(softmaxed: bool) -> Flag | None:
    """Rule out both decisive words where answers went through a softmax twice."""
    return SOFTMAXED_TWICE.raised("the network's raw outputs are probabilities already") if softmaxed else None


SATURATED = FlagRule(
    id="saturated",
    when="the top probability is exactly 1 in single precision in more than half of the answers",
    why="attackers here are given log-probabilities, which still tell the other classes apart; an API that sends "
    "probabilities would send them nothing but the top class",
    do="audit with what the API sends, such as --surface round:6, too",
    caps="nothing",
)


def saturated(share: float) -> Flag | None:
    """Flag answers that would reveal less if an API returned plain probabilities."""
    return SATURATED.raised(f"the top probability of {share:.1%} of the answers is exactly 1") if share > 0.5 else None


OTHER_NORMALISATION = FlagRule(
    id="other-normalisation",
    when="the network is more accurate on validation images behind another normalisation, by at least one point and "
    f"with p < {LEVEL} (McNemar's exact test, one-sided); tried are those with a name, pixels from 0 to 255, and "
    "the mean and spread of the training images, each in BGR order, too",
    why="the audited teacher is then not the one that its owner serves, but a damaged copy of it",
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
        f"behind the normalisation {best} the network is right on {better[best]:.1%} of {len(chosen):,} validation "
        f"images, behind the one that was given on {chosen.mean():.1%}",
        do=f"give --normalize {best}, or the one that the network was trained with",
    )


DUPLICATED = FlagRule(
    id="duplicates",
    when="images of the test split are in the training split, pixel by pixel; below "
    f"{100 * DUPLICATES:g} % of the test images this is only told, and does not limit the verdict",
    why="students have seen these images with their labels, with a teacher or without: the margin on them is that of "
    "memory, and near zero",
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
