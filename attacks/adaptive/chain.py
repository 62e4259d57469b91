"""The chain of decoders: each changes the answers only where they show its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from attacks.adaptive.decoders import (
    Decoding,
    better,
    change_point,
    class_scale,
    evidence,
    floor,
    lies,
    match,
    matrix,
    mean_views,
    mixture,
    moved,
    offset,
    ranks,
    sign,
    unmix,
    widths,
)
from attacks.adaptive.decoders.decoding import by_class, hidden, rows, unchanged

Way = Callable[[Tensor], Decoding]
ORDERS = (sign, match)
CLEARER = 1.05  # times that an order must agree better with the reference than the given one
FINER = {widths: 1.15, ranks: 1.15, mean_views: 1.15, matrix: 1.15, unmix: 1.5}  # the same for what is noise or mixed
PASSES = 2  # of FINER: noise and a temperature may come together
HALF = 0.5  # of what the better part of the answers tells: the other part is left out if it tells less
WRONG = 0.25  # share of answers that name another class than the label, from which their constants are fitted to it
CLASSES = 256  # from which a matrix is not fitted to labels: it has as many entries squared


def decode(log_probs: Tensor, labels: Tensor, reference: Tensor | None, *, rescaled: bool = True) -> Decoding:
    """Return what answers (V·N, K), view by view, mean; the first views alone if no other view tells anything.

    `labels` (N,) are UNLABELLED where unknown; `reference` (V·N, K) holds the log-probabilities of a student trained
    without the teacher, None where there are no labels to train one. The order of the classes comes before their scale:
    only with the right order do the labels tell the scale. An answer that tells nothing takes the mean of those about
    the image's other views; where there are none, it shows its label alone.
    """
    steps = [_in_parts(log_probs, labels, reference)]
    if reference is not None:
        steps.append(_finest(steps[-1].log_probs, labels, reference))
    if rescaled:
        for scaled in (mixture, class_scale):
            steps.append(scaled(steps[-1].log_probs, labels))
    filled = _filled(steps[-1].log_probs, log_probs, len(labels))
    return Decoding(filled, _told(steps))


def _in_parts(log_probs: Tensor, labels: Tensor, reference: Tensor | None) -> Decoding:
    """Return the order of the classes, decoded before and after the teacher changes; of two parts, those that tell."""
    count, turn = len(log_probs), change_point(log_probs, labels, reference)
    if turn == count:
        return _ordered(log_probs, labels, reference)
    late = torch.arange(count, device=log_probs.device) >= turn
    parts = [_ordered(hidden(log_probs, labels, out), labels, reference) for out in (late, ~late)]
    said = f"the answers change after {turn:,} queries"
    tells = [1.0, 0.0] if reference is None else [_tells(part, labels, reference) for part in parts]
    if min(tells) < HALF * max(tells):
        best = tells.index(max(tells))
        kept = parts[best]
        return kept._replace(told="; ".join(filter(None, [f"{said}, only {WHEN[best]} do they tell", kept.told])))
    told = [f"{when}: {part.told}" for when, part in zip(WHEN, parts, strict=True) if part.told]
    return Decoding(torch.where(late[:, None], parts[1].log_probs, parts[0].log_probs), "; ".join([said, *told]))


WHEN = ("before", "after")


def _tells(part: Decoding, labels: Tensor, reference: Tensor) -> float:
    return max(0.0, evidence(part.log_probs, labels, reference, alike=True).cosine())


def _ordered(log_probs: Tensor, labels: Tensor, reference: Tensor | None) -> Decoding:
    """Return answers without a uniform part, their classes in order, and without those that tell nothing."""
    steps = [floor(log_probs, labels)]
    if reference is None:
        return steps[0]
    stages: list[Callable[[Tensor, Tensor, Tensor], Decoding]] = [_unbiased, moved, _in_order, lies]
    for stage in stages:
        steps.append(stage(steps[-1].log_probs, labels, reference))
    return Decoding(steps[-1].log_probs, _told(steps))


def _unbiased(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers to which a matrix was fitted where most mistakes vanish by it, and what they tell does not."""
    given = rows(log_probs, labels)
    wrong = _mistakes(log_probs, labels)
    if wrong < WRONG or log_probs.shape[1] > CLASSES:
        return unchanged(log_probs)
    found = matrix(log_probs, labels)
    if not found.told or _mistakes(found.log_probs, labels) > HALF * wrong:
        return unchanged(log_probs)
    new, old = (evidence(x, labels, reference).cosine() for x in (found.log_probs, given.log_probs))
    return found if new > old / CLEARER else unchanged(log_probs)


def _mistakes(log_probs: Tensor, labels: Tensor) -> float:
    given = rows(log_probs, labels)
    return float((given.classes != given.tops).double().mean())


def _in_order(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers in the first order that agrees better with the reference, or else without a class's constants."""
    old = evidence(log_probs, labels, reference, alike=True)
    for order in ORDERS:
        found = order(log_probs, labels, reference)
        if found.told and better(evidence(found.log_probs, labels, reference, alike=True), old, CLEARER):
            return found
    return offset(log_probs, labels, reference)


def _finest(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers without noise, bends or a linear mixture, as far as they agree better with the reference."""
    steps = [unchanged(log_probs)]
    ways: dict[Callable[..., Decoding], Way] = {
        widths: partial(widths, labels=labels),
        ranks: partial(ranks, labels=labels),
        mean_views: partial(mean_views, labels=labels),
        unmix: partial(unmix, labels=labels, reference=reference),
    }
    if log_probs.shape[1] <= CLASSES:
        ways[matrix] = partial(matrix, labels=labels)
    for _ in range(PASSES):
        old = evidence(steps[-1].log_probs, labels, reference)
        found = {name: way(steps[-1].log_probs) for name, way in ways.items()}
        new = {name: evidence(one.log_probs, labels, reference) for name, one in found.items() if one.told}
        sure = [name for name, one in new.items() if better(one, old, FINER[name])]
        if not sure:
            break
        best = max(sure, key=lambda name: new[name].cosine() / FINER[name])
        steps.append(found[best])
        del ways[best]
    return Decoding(steps[-1].log_probs, _told(steps))


def _filled(decoded: Tensor, given: Tensor, images: int) -> Tensor:
    """Return answers in which every row that was left out holds the mean logits of the image's other views.

    The last views, if all of them were left out, are dropped.
    """
    out = _alone(decoded) & ~_alone(given)
    telling = (~_alone(decoded)).view(-1, images).any(1)
    if not out.any() or not telling.any():
        return decoded
    image = torch.arange(images, device=decoded.device).repeat(len(decoded) // images)
    full = decoded.isfinite().all(1)
    number = by_class(full.double()[:, None], image, images)
    mean = by_class(torch.where(full[:, None], decoded, 0.0), image, images) / number.to(decoded).clamp(min=1e-12)
    use = out & (number[:, 0] > 0)[image]
    filled = decoded.clone()
    filled[use] = mean.log_softmax(1)[image[use]]
    views = int(telling.nonzero().max()) + 1
    return filled[: views * images]


def _alone(log_probs: Tensor) -> Tensor:
    return log_probs.isfinite().sum(1) < 2


def _told(steps: Iterable[Decoding] | Sequence[Decoding]) -> str:
    return "; ".join(step.told for step in steps if step.told)
