"""The chain of decoders: each changes the answers only where they show its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from attacks.adaptive.decoders import (
    Decoding,
    Evidence,
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
from attacks.adaptive.decoders.decoding import by_class, few, hidden, rows, unchanged
from attacks.adaptive.decoders.evidence import WORTH

DECODERS: tuple[Callable[..., object], ...] = (
    *(change_point, floor, moved, sign, match, offset, lies),
    *(mean_views, widths, ranks, unmix, matrix, mixture, class_scale),
)
Fit = Callable[[Tensor, Tensor, Tensor], Decoding]  # of answers, labels and a reference
CLEARER = 1.05  # times that answers in another order must agree better with the reference
FINER = 1.15  # ... that answers without noise must, or unmixed by what the labels say
# ... and unmixed by what the reference says: an honest teacher's agree 1.2 times better by it on glyphs, of a tenth
# of them 1.6 to 1.9 times. There, validation images choose settings that are cautious.
FITTED = 1.5
PASSES = 2  # noise and a temperature may come together
HALF = 0.5  # of what the better part of the answers tells: the other part is left out if it tells less
WRONG = 0.25  # share of answers that name another class than the label, from which their constants are fitted to it
WHOLE = 2**26  # probabilities that are decoded together; more are, shard by shard
SHARD = 2**21  # probabilities of a shard: decoding takes some 170 bytes for each
EACH = 50  # images of a class that a shard holds, at least and as far as there are: fewer say too little of it
CLASSES = 256  # from which a matrix is not fitted to labels: it has as many entries squared


class Decodings:
    """The last decodings of this process: settings of one seed ask what the same answers mean.

    It holds what `decode` would return again, and nothing that is large.
    """

    def __init__(self, entries: int = 4, most: int = 2**24) -> None:
        self._entries, self._most = entries, most  # most: numbers of an entry
        self._held: dict[bytes, Decoding] = {}

    def decode(self, log_probs: Tensor, labels: Tensor, reference: Tensor | None, **options: bool) -> Decoding:
        """Return what `decode` returns."""
        key = _digest(log_probs, labels, reference, *(f"{name} {options[name]}" for name in sorted(options)))
        found = self._held.pop(key, None) or decode(log_probs, labels, reference, **options)
        if found.log_probs.numel() <= self._most:
            self._held[key] = found
        while len(self._held) > self._entries:
            del self._held[next(iter(self._held))]
        return found._replace(log_probs=found.log_probs.clone())


def _digest(*given: Tensor | str | None) -> bytes:
    found = hashlib.sha256()
    for one in given:
        if isinstance(one, Tensor):
            found.update(f"{one.dtype} {tuple(one.shape)}".encode())
            found.update(one.cpu().contiguous().numpy().data)
        else:
            found.update(repr(one).encode())
    return found.digest()


def decode(
    log_probs: Tensor,
    labels: Tensor,
    reference: Tensor | None,
    *,
    rescaled: bool = True,
    swaps: bool = True,
    cautious: bool = False,
) -> Decoding:
    """Return what answers (V·N, K), view by view, mean.

    `labels` (N,) are UNLABELLED where unknown; `reference` (V·N, K) holds the log-probabilities of a student trained
    without the teacher, None where there are no labels to train one. The order of the classes comes before their scale:
    only with the right order do the labels tell the scale. An answer that tells nothing takes the mean of those about
    the image's other views; where there are none, it shows its label alone. Without `swaps`, an answer that names
    another class than the label is a mistake: images of all classes must be there to tell that it is none. A
    `cautious` decoding fits no map of the classes to the reference.
    """
    fit = _kept if cautious else unmix
    steps = [_in_parts(log_probs, labels, reference, swaps, fit)]
    if reference is not None:
        steps.append(_finest(steps[-1].log_probs, labels, reference, fit))
    if rescaled:
        for scaled in (mixture, class_scale):
            steps.append(scaled(steps[-1].log_probs, labels))
    return Decoding(_filled(steps[-1].log_probs, log_probs, len(labels)), _told(steps))


def shards(classes: Tensor, numbers: int) -> list[Tensor]:
    """Return the images that are decoded together, shard by shard, each in its order; `numbers`: those of one image.

    Of up to WHOLE there is one. Others hold EACH or more images of every class in them, and so few classes where there
    are many: most of what decoders find, they find in the images of a class.
    """
    if len(classes) * numbers <= WHOLE:
        return [torch.arange(len(classes))]
    order = classes.argsort(stable=True)
    sizes = torch.unique_consecutive(classes[order], return_counts=True)[1]
    turns = [torch.arange(n) * max(1, n // EACH) // n for n in sizes.tolist()]  # EACH images of a class take a turn
    order = order[torch.cat(turns).argsort(stable=True)]
    return [part.sort().values for part in torch.tensor_split(order, -(-len(order) * numbers // SHARD))]


def _kept(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    return unchanged(log_probs)


def _in_parts(log_probs: Tensor, labels: Tensor, reference: Tensor | None, swaps: bool, fit: Fit) -> Decoding:
    """Return the order of the classes, decoded before and after the teacher changes; of two parts, those that tell."""
    count, turn = len(log_probs), change_point(log_probs, labels, reference)
    if turn == count:
        return _ordered(log_probs, labels, reference, swaps, fit)
    late = torch.arange(count, device=log_probs.device) >= turn
    parts = [_ordered(hidden(log_probs, labels, out), labels, reference, swaps, fit) for out in (late, ~late)]
    said = f"the answers change after {turn:,} queries"
    tells = [1.0, 0.0] if reference is None else [_tells(part, labels, reference) for part in parts]
    if max(tells) < WORTH:
        return _ordered(log_probs, labels, reference, swaps, fit)
    if min(tells) < HALF * max(tells):
        best = tells.index(max(tells))
        kept = parts[best]
        return kept._replace(told="; ".join(filter(None, [f"{said}, only {WHEN[best]} do they tell", kept.told])))
    told = [f"{when}: {part.told}" for when, part in zip(WHEN, parts, strict=True) if part.told]
    return Decoding(torch.where(late[:, None], parts[1].log_probs, parts[0].log_probs), "; ".join([said, *told]))


WHEN = ("before", "after")


def _tells(part: Decoding, labels: Tensor, reference: Tensor) -> float:
    return max(0.0, evidence(part.log_probs, labels, reference, alike=True).cosine())


def _ordered(log_probs: Tensor, labels: Tensor, reference: Tensor | None, swaps: bool, fit: Fit) -> Decoding:
    """Return answers without a uniform part, their classes in order, and without those that tell nothing."""
    steps = [floor(log_probs, labels)]
    if reference is None:
        return steps[0]
    stages: list[Fit] = [_named, partial(_in_order, fit=fit), lies]
    for stage in stages if swaps else stages[1:]:
        steps.append(stage(steps[-1].log_probs, labels, reference))
    return Decoding(steps[-1].log_probs, _told(steps))


def _named(log_probs: Tensor, labels: Tensor, reference: Tensor) -> Decoding:
    """Return answers whose top class is the label where many were moved, by a swap or by what was added to classes.

    Of the two ways, the one is taken that keeps more of what the other classes tell.
    """
    wrong = _mistakes(log_probs, labels)
    if wrong < few(log_probs.shape[1]):
        return unchanged(log_probs)
    ways = [moved(log_probs, labels, reference)]
    if wrong > WRONG and log_probs.shape[1] <= CLASSES:
        fitted = matrix(log_probs, labels)
        ways += [fitted] if _mistakes(fitted.log_probs, labels) < HALF * wrong else []
    old, *told = (evidence(x.log_probs, labels, reference, alike=True).cosine() for x in (unchanged(log_probs), *ways))
    best, most = max(zip(ways, told, strict=True), key=lambda pair: pair[1] if pair[0].told else -1.0)
    return best if best.told and most > old / CLEARER else unchanged(log_probs)


def _mistakes(log_probs: Tensor, labels: Tensor) -> float:
    given = rows(log_probs, labels)
    return float((given.classes != given.tops).double().mean())


def _in_order(log_probs: Tensor, labels: Tensor, reference: Tensor, fit: Fit) -> Decoding:
    """Return answers in the order that agrees best with the reference, or else without a class's constants.

    Ranks alone are compared: values that a teacher hands out in one order, whatever the image, tell nothing in any.
    Classes that are mixed look permuted in part, too: where unmixing them agrees better, it is left to `_finest`.
    """
    ways = [(f(log_probs, labels, reference), bar) for f, bar in ((sign, CLEARER), (match, CLEARER), (fit, FITTED))]
    found = _best(log_probs, ways, lambda x: evidence(ranks(x, labels).log_probs, labels, reference, alike=True))
    if found is ways[-1][0]:
        return unchanged(log_probs)
    return found if found.told else offset(log_probs, labels, reference)


def _finest(log_probs: Tensor, labels: Tensor, reference: Tensor, fit: Fit) -> Decoding:
    """Return answers without noise, bends, temperatures or a mixture, as far as they then agree better."""
    judge = partial(evidence, labels=labels, reference=reference)
    steps = [unchanged(log_probs)]
    for _ in range(PASSES):
        given = steps[-1].log_probs
        ways = [(f(given, labels), FINER) for f in (widths, ranks, mean_views)]
        mixed = fit(given, labels, reference), FITTED
        found = _best(given, [*ways, mixed], judge)
        if found is mixed[0] and given.shape[1] <= CLASSES:
            found = _best(given, [mixed, (matrix(given, labels), FINER)], judge)
        steps.append(found)
        if not found.told:
            return Decoding(given, _told(steps))
    steps.append(_in_order(steps[-1].log_probs, labels, reference, fit))
    return Decoding(steps[-1].log_probs, _told(steps))


def _best(given: Tensor, ways: Sequence[tuple[Decoding, float]], judge: Callable[[Tensor], Evidence]) -> Decoding:
    """Return the decoding that agrees best with the reference, of those that surely do by their bar and more."""
    old = judge(given)
    sure = []
    for found, bar in ways:
        new = judge(found.log_probs) if found.told else old
        if found.told and better(new, old, bar):
            sure.append((new.cosine() / bar, found))
    return max(sure, key=lambda pair: pair[0])[1] if sure else unchanged(given)


def _filled(decoded: Tensor, given: Tensor, images: int) -> Tensor:
    """Return answers in which every row that was left out holds the mean logits of the image's other views.

    A student that saw the telling views alone would see fewer crops than its control.
    """
    out = _alone(decoded) & ~_alone(given)
    if not out.any():
        return decoded
    image = torch.arange(images, device=decoded.device).repeat(len(decoded) // images)
    full = decoded.isfinite().all(1)
    number = by_class(full.double()[:, None], image, images)
    mean = by_class(torch.where(full[:, None], decoded, 0.0), image, images) / number.to(decoded).clamp(min=1e-12)
    use = out & (number[:, 0] > 0)[image]
    filled = decoded.clone()
    filled[use] = mean.log_softmax(1)[image[use]]
    return filled


def _alone(log_probs: Tensor) -> Tensor:
    return log_probs.isfinite().sum(1) < 2


def _told(steps: Iterable[Decoding]) -> str:
    return "; ".join(step.told for step in steps if step.told)
