"""airbench94 (Keller Jordan, arXiv 2404.00498): its network, and its published recipe as a plain loop.

The recipe as it stands in KellerJordan/cifar10-airbench (MIT), without compiled code and without averages over views of
the test images: half precision, images on the card, labels smoothed, random shifts, images flipped in every other
epoch, its own rate for biases of batch norms, and weights that are averaged now and then (Lookahead).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.networks import PreprocessedNetwork, Shape
from teachers.precision import Precision
from teachers.task import Pool, known
from teachers.training import Batch, Recipe, StoredStream

ARCHITECTURE = "strided-8-16-32"  # which `wrapped` puts aside
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
EPOCHS, BATCH, SMOOTHING, SHIFT = 9.9, 1024, 0.2, 2
MOMENTUM = 0.85
SCALE = 1024 * (1 + 1 / (1 - MOMENTUM))  # by which rates are divided: they are those of a sum, and without momentum
RATE, DECAY = 11.5 / SCALE, 0.0153 / SCALE  # of one image; the decay is that of a whole step
FASTER = 64  # times the rate, for biases of batch norms
FIRST, PEAK, LAST = 0.2, 0.23, 0.07  # rate at the start and the end, and the share of the steps until it is full
BIASED, AVERAGED, EVERY, KEPT, POWER = 3, 3, 5, 0.95, 3  # epochs, epochs, steps; of Lookahead
WHITENED = 5_000  # images that the first convolution is computed from


def norm(width: int) -> nn.BatchNorm2d:
    """Build a batch norm whose scale stays 1."""
    made = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    made.weight.requires_grad = False
    return made


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Build a convolution whose first filters pass their input on."""
    made = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(made.weight[:inputs])
    return made


class AirNet(nn.Module):
    """A fixed convolution that whitens, three groups of two convolutions, and a head that is scaled down."""

    def __init__(self, classes: int, channels: int, widths: tuple[int, ...] = (64, 256, 256)) -> None:
        super().__init__()
        inputs = 2 * 4 * channels
        self.whitening = nn.Conv2d(channels, inputs, 2)
        self.whitening.weight.requires_grad = False
        assert self.whitening.bias is not None
        nn.init.zeros_(self.whitening.bias)
        layers: list[nn.Module] = [nn.GELU()]
        for width in widths:
            layers += [convolution(inputs, width), nn.MaxPool2d(2), norm(width), nn.GELU()]
            layers += [convolution(width, width), norm(width), nn.GELU()]
            inputs = width
        self.groups, self.head = nn.Sequential(*layers), nn.Linear(inputs, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.groups(self.whitening(x)).amax((2, 3))) / 9
        return logits

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Let the first convolution whiten patches of 2×2 pixels, as they are in normalised images."""
        patches = F.unfold(x.float(), 2).transpose(1, 2).flatten(0, 1)  # (N, 4 C)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).reshape(-1, x.shape[1], 2, 2)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))


def normal(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the images, those of CIFAR-10 where they have colours."""
    return (MEAN, STD) if channels == 3 else ((0.5,) * channels, (0.25,) * channels)


def wrapped(network: nn.Module, classes: int, shape: Shape) -> PreprocessedNetwork:
    """Return airbench's network in place of another: what a recipe's `wrap` may name."""
    return PreprocessedNetwork(AirNet(classes, shape[0]), *normal(shape[0]))


def recipe(steps: int, batch: int, precision: Precision) -> Recipe:
    """Return the recipe of `fit` that is closest to airbench's: one rate, a cosine, no Lookahead."""
    return Recipe(
        ARCHITECTURE,
        steps,
        batch=batch,
        lr=RATE * batch,
        momentum=MOMENTUM,
        weight_decay=DECAY / RATE,
        warmup=PEAK,
        views=math.ceil(EPOCHS),
        wrap="airbench:wrapped",
        precision=precision,
    )


class WhitenedStream(StoredStream):
    """Batches of a pool; before the first step the network's first convolution is computed from its images."""

    some: Tensor  # (N, C, H, W) uint8

    def next(self, step: int, student: nn.Module) -> Batch:
        if step == 0:
            assert isinstance(student, PreprocessedNetwork)
            assert isinstance(student.network, AirNet)
            x = self.some.to(student.mean.device).float() / 255
            student.network.whiten((x - student.mean) / student.std)
        return super().next(step, student)


def some(pool: Pool) -> Tensor:
    """Return the images that the first convolution is computed from."""
    return torch.from_numpy(np.ascontiguousarray(pool.images[:WHITENED]))


def epochs(images: Tensor, labels: Tensor, batch: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Return batches for ever, each with the number of its epoch: shifted, and flipped every other time."""
    n, _, h, w = images.shape
    mirrored = torch.rand(n, device=images.device) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    padded = F.pad(images, (SHIFT,) * 4, "reflect")
    each = torch.arange(n, device=images.device)[:, None, None]
    epoch = 0
    while True:
        down, right = torch.randint(2 * SHIFT + 1, (2, n, 1), device=images.device)
        rows, columns = down + torch.arange(h, device=images.device), right + torch.arange(w, device=images.device)
        shown = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)  # (N, C, H, W)
        shown = shown.flip(-1) if epoch % 2 else shown
        for part in torch.split(torch.randperm(n, device=images.device), batch):
            if len(part) == batch:
                yield epoch, shown[part], labels[part]
        epoch += 1


class Lookahead:
    """Averages of a network's weights, which the network gets back."""

    def __init__(self, network: nn.Module) -> None:
        self.held = [t.clone() for t in self.floats(network)]

    @staticmethod
    def floats(network: nn.Module) -> list[Tensor]:
        return [t for t in network.state_dict().values() if t.is_floating_point()]

    def update(self, network: nn.Module, kept: float) -> None:
        """Mix the network's weights in, `kept` of the averages staying, and let the network have the averages."""
        for mine, theirs in zip(self.held, self.floats(network), strict=True):
            theirs.copy_(mine.lerp_(theirs, 1 - kept))


def steps_of(pool: Pool, batch: int) -> int:
    """Return the published number of steps."""
    return math.ceil(EPOCHS * (len(pool) // batch))


def plain(pool: Pool, classes: int, steps: int, batch: int, device: str) -> AirNet:
    """Train airbench's network by airbench's loop; with half precision on a card."""
    half = torch.float16 if device == "cuda" else torch.float32
    mean, std = (torch.tensor(part, device=device).reshape(-1, 1, 1) for part in normal(pool.shape[0]))
    images = ((torch.from_numpy(np.asarray(pool.images)).to(device).float() / 255 - mean) / std).to(half)
    labels = torch.from_numpy(known(pool)).to(device)
    network = AirNet(classes, pool.shape[0])
    network.to(device, half, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.float()
    network.whiten(images[:WHITENED])
    biases = [p for part in network.modules() if isinstance(part, nn.BatchNorm2d) for p in [part.bias]]
    others = [p for p in network.parameters() if p.requires_grad and not any(p is bias for bias in biases)]
    decay = DECAY * batch
    groups = [
        {"params": biases, "lr": FASTER * RATE, "weight_decay": decay / (FASTER * RATE)},
        {"params": others, "lr": RATE, "weight_decay": decay / RATE},
    ]
    optimiser = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    rates = np.interp(np.arange(steps), [0, int(PEAK * steps), steps], [FIRST, 1, LAST])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: float(rates[min(step, steps - 1)]))
    batches, ahead, per_epoch = epochs(images, labels, batch), None, len(pool) // batch
    network.train()
    for step in range(1, steps + 1):
        epoch, x, y = next(batches)
        assert network.whitening.bias is not None
        network.whitening.bias.requires_grad = epoch < BIASED
        loss = F.cross_entropy(network(x), y, label_smoothing=SMOOTHING, reduction="none").sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if epoch >= AVERAGED and step % EVERY == 0:
            if ahead is None:
                ahead = Lookahead(network)
            else:
                ahead.update(network, KEPT**EVERY * (step / steps) ** POWER)
        if ahead is not None and (step % per_epoch == 0 or step == steps):
            ahead.update(network, 1.0)
    return network.eval()


@torch.no_grad()
def accuracy(network: AirNet, pool: Pool, device: str) -> float:
    """Return the share of a pool's images that a trained network classifies correctly."""
    mean, std = (torch.tensor(part, device=device).reshape(-1, 1, 1) for part in normal(pool.shape[0]))
    images, labels = torch.from_numpy(np.asarray(pool.images)), torch.from_numpy(known(pool)).to(device)
    kind = network.head.weight.dtype
    parts = [((x.to(device).float() / 255 - mean) / std).to(kind) for x in torch.split(images, 2_000)]
    return float((torch.cat([network(x).argmax(-1) for x in parts]) == labels).float().mean())
