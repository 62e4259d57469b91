"""Offset: a teacher that adds hidden constants to the non-target logits, others for each top class."""

from __future__ import annotations

from torch import Tensor

from attacks.adaptive.decoders.decoding import Decoding, distinct, per_row, rows, tails, unchanged

LEAST = 8  # images of a class, at least
WORTH = 0.2  # cosine of the deviations from the class means with the reference's, at least: its images are told apart
LESS = 0.8  # times that cosine: what the cosine of the class mean lies below

FEW = 0.5  # share of the classes below which they are no finding


def offset(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers whose class means are the reference's: z − z̄_t + β_t r̄_t over the classes but the top one t.

    `reference` holds the log-probabilities (N, K) or (V·N, K) of an own student trained without the teacher, r̄_t its
    mean non-target logits, and β_t the ratio of the sizes of the deviations from both means. A class is decoded if its
    deviations agree with the reference's (a cosine of WORTH) and its mean clearly does less: an ordinary teacher agrees
    in the means first of all.
    """
    given = rows(log_probs, labels)
    use = given.full & (given.classes == given.tops)
    theirs, ours = tails(log_probs, given.tops)[0], tails(per_row(reference, len(log_probs)), given.tops)[0]
    decoded, found, tops = log_probs.clone(), 0, distinct(given.tops[use])
    for top in tops.tolist():
        mine = use & (given.tops == top)
        if len(distinct(given.images[mine])) < LEAST:
            continue
        z, r = theirs[mine].mean(0), ours[mine].mean(0)
        a, b = theirs[mine] - z, ours[mine] - r
        deviations = _cosine(a, b)
        if deviations < WORTH or LESS * deviations < _cosine(z, r):
            continue
        found += 1
        change = r * a.norm() / b.norm().clamp(min=1e-12) - z
        rest = given.full & (given.tops == top)
        decoded[rest] = (log_probs[rest].double() + change).log_softmax(1).to(log_probs.dtype)
    if not found or found < FEW * len(tops):
        return unchanged(log_probs)
    return Decoding(decoded, f"constants added to the non-target classes for {found} of {len(tops)} classes")


def _cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12))
