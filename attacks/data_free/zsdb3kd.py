"""ZSDB3KD: turn distances to decision boundaries, measured with labels only, into soft labels (Wang, ICML 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Attack, Lab
from attacks.data_free.memory import eight_bit
from attacks.losses import kd, soft_target
from teachers.fidelity import PUBLIC, Fidelity
from teachers.networks import Shape
from teachers.surface import Answers
from teachers.task import Pool
from teachers.training import Batch, Outputs, Student

Label = Callable[[Tensor], Tensor]  # images (N, C, H, W) to the top class of each, (N,)


@dataclass(frozen=True, kw_only=True)
class ZSDB3KD(Attack):
    """T² KL(softmax(v/T) ‖ softmax(z/T)) with v_k = 1 / dist(x → class k) for other classes and v_y = Σ_{k≠y} v_k.

    Noise of all scales is labelled by the teacher, then moved away from its boundaries in `moves` steps; the images of
    every step are used. A distance is measured by bisection towards the nearest image known to be of the other class,
    which costs `halvings` queries; the paper's sign-OPT costs thousands.
    """

    name = "zsdb3kd"
    title = "Zero-shot distillation from decision boundaries"
    paper = "Wang, ICML 2021, arXiv 2106.03310"
    fidelity = Fidelity(source=PUBLIC, note="the soft labels match")
    needs = "label"
    holds = "no data"

    queries: int = 50_000
    searching: float = 0.1  # share of the queries, for labelling noise
    moves: int = 1
    stride: float = 0.5  # L2 length of a move, with pixels in [0, 1]
    halvings: int = 2
    nearest: float = 0.25  # lower limit of a distance
    temperature: float = 20.0

    @classmethod
    def grid(cls) -> tuple[ZSDB3KD, ...]:
        return cls(), cls(moves=0), cls(halvings=1), cls(moves=0, halvings=1)

    @classmethod
    def presets(cls) -> Mapping[str, ZSDB3KD]:
        return {"paper": cls(queries=50_000_000, moves=40, halvings=12)}

    def run(self, lab: Lab) -> Student:
        images, values = self.measured(lab)
        pool = Pool(images.mul(255).round().to(torch.uint8).numpy())
        answers = Answers("probs", F.log_softmax(values, -1))
        return lab.fit(lab.stream("raw", answers, pool=pool, source="generated"), self.loss)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> Tensor:
        return kd(outputs.logits, soft_target(batch, self.temperature), self.temperature)

    def measured(self, lab: Lab) -> tuple[Tensor, Tensor]:
        """Return images (N, C, H, W) with their values v (N, K)."""
        total = lab.spend(self.queries)
        chance = torch.Generator().manual_seed(lab.seed)

        def label(x: Tensor) -> Tensor:
            return lab.oracle(x).labels

        known = eight_bit(noise(max(1, round(self.searching * total)), lab.pool.shape, chance))
        labels = label(known)
        left = total - len(known)
        others = len(seen(labels)) - 1
        if not others:  # only one class was seen: no boundary is known
            return known, torch.zeros(len(known), lab.classes)
        waiting = in_turn(labels, chance)
        count = left // ((self.moves + 1) * others * self.halvings + self.moves)
        if not count:  # the budget does not suffice for one image
            return known, torch.zeros(len(known), lab.classes)
        now, waiting = waiting[:count], waiting[count:]
        x, y = known[now], labels[now]
        kept, values = [], []
        for move in range(self.moves + 1):
            points = boundaries(x, y, known, labels, lab.classes, self.halvings, label)
            distance = (points - x[:, None]).flatten(2).norm(dim=-1).clamp(min=self.nearest)  # (N, K)
            kept.append(x)
            values.append(inverse(distance, y))
            if move < self.moves:
                moved = eight_bit(away(x, points, distance, self.stride))
                stays = label(moved) == y
                # An image that left its class is replaced by the next noise image.
                free, waiting = waiting[: int((~stays).sum())], waiting[int((~stays).sum()) :]
                x = torch.cat([moved[stays], known[free]])
                y = torch.cat([y[stays], labels[free]])
                if not len(x):
                    break
        return torch.cat(kept), torch.cat(values)


def noise(count: int, shape: Shape, chance: torch.Generator) -> Tensor:
    """Draw noise of all scales, from two cells per side to pixels, and of all brightnesses, (N, C, H, W) in [0, 1]."""
    c, h, w = shape
    sides = [2**power for power in range(1, max(h, w).bit_length()) if 2**power <= max(h, w)]
    sizes = [len(part) for part in torch.arange(count).tensor_split(len(sides))]
    drawn = [torch.rand(size, c, side, side, generator=chance) for size, side in zip(sizes, sides, strict=True)]
    smooth = [F.interpolate(part, (h, w), mode="bilinear", align_corners=False) for part in drawn if len(part)]
    gain, bias = torch.rand(2, count, 1, 1, 1, generator=chance)
    images: Tensor = (torch.cat(smooth) - 0.5) * (1 + 3 * gain) + bias
    return images.clamp(0, 1)


def seen(labels: Tensor) -> list[int]:
    """Return the classes that occur."""
    return labels.bincount().nonzero().flatten().tolist()


def in_turn(labels: Tensor, chance: torch.Generator) -> Tensor:
    """Return all indices, cycling through the classes, in random order within each class."""
    order = torch.randperm(len(labels), generator=chance)
    sorted_, by_class = labels[order].sort(stable=True)
    counts = labels.bincount()
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[sorted_]  # rank of each within its class
    return order[by_class[place.argsort(stable=True)]]


def boundaries(
    x: Tensor, y: Tensor, known: Tensor, labels: Tensor, classes: int, halvings: int, label: Label
) -> Tensor:
    """Return for every other class a point near its boundary with x, (N, K, C, H, W); infinity if none is known.

    Bisects the line to the nearest known image of that class. The entry for x's own class is infinity.
    """
    points = x.new_full((len(x), classes, *x.shape[1:]), torch.inf)
    rows, columns, ends = [], [], []
    for k in seen(labels):
        of_class = known[labels == k]
        mine = torch.nonzero(y != k).flatten()
        near = torch.cdist(x[mine].flatten(1), of_class.flatten(1)).argmin(1)
        rows.append(mine)
        columns.append(torch.full_like(mine, k))
        ends.append(of_class[near])
    row, column, end = torch.cat(rows), torch.cat(columns), torch.cat(ends)
    low, high = x.new_zeros(len(row)), x.new_ones(len(row))
    for _ in range(halvings):
        middle = (low + high) / 2
        hit = label(between(x[row], end, middle)) == column
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    points[row, column] = between(x[row], end, high)
    return points


def between(start: Tensor, end: Tensor, way: Tensor) -> Tensor:
    """Return the points at a fraction `way` (N,) from start to end, (N, C, H, W) in [0, 1]."""
    return (start + way[:, None, None, None] * (end - start)).clamp(0, 1)


def inverse(distance: Tensor, y: Tensor) -> Tensor:
    """Return v for distances (N, K): 1/dist, zero at infinite distance, and for class y the sum of the others."""
    own = F.one_hot(y, distance.shape[1]).bool()
    values = (1 / distance).masked_fill(own, 0)
    return torch.where(own, values.sum(-1, keepdim=True), values)


def away(x: Tensor, points: Tensor, distance: Tensor, stride: float) -> Tensor:
    """Move images by a stride away from their boundaries, in the mean direction weighted by 1/distance²."""
    near = torch.isfinite(distance)[:, :, None, None, None]
    weight = (1 / distance**2)[:, :, None, None, None]
    push = torch.where(near, (x[:, None] - points) * weight, 0.0).sum(1)
    length: Tensor = push.flatten(1).norm(dim=-1).clamp(min=1e-8)[:, None, None, None]
    return (x + stride * push / length).clamp(0, 1)
