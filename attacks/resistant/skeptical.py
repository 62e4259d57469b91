"""Skeptical student: the teacher supervises only a shallow head, never the last one (Kundu et al., NeurIPS 2021)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from attacks.base import Attack, Lab
from attacks.losses import cross_entropy, kd, kl, soft_target, supervised
from attacks.resistant import heads
from teachers.fidelity import Fidelity
from teachers.networks import Shape
from teachers.training import Batch, Outputs, Student


@dataclass(frozen=True, kw_only=True)
class Skeptical(Attack):
    """CE(z) + α T² KL(p_t^T ‖ p_a^T) + (1 − α) CE(a) + 0.3 KL(p_z^T ‖ p_d^T) + 0.7 CE(d).

    z is the last head, a a shallow one, d the deepest auxiliary head; until the delay is over the loss is CE(z).
    """

    name = "skeptical"
    title = "Skeptical student: the teacher speaks to a shallow head"
    paper = "Kundu, Sun, Fu, Pedram & Beerel, NeurIPS 2021"
    published = "up to about 59.5 points more from nasty teachers than an ordinary student (abstract)"
    fidelity = Fidelity(
        source="rkevser/AveragerStudent train_skeptical.py",
        default=False,
        settings=("paper",),
        note=(
            "the loss matches; the default has one separable convolution a head, the preset attention and "
            "up to three double ones"
        ),
    )
    needs = "probs"
    holds = "original"
    views = "crop"
    later = frozenset({"deep"})

    temperature: float = 4.0
    weight: float = 0.9  # α
    shallow: int = 0  # index of the head that the teacher supervises; 0 is the shallowest, −1 the deepest
    coupling: float = 0.3  # weight of the coupling between the deepest auxiliary head and the last one
    delay: float = 0.0  # fraction of the steps before the teacher is used
    deep: bool = False  # the authors' heads, which have attention and more layers

    @classmethod
    def grid(cls) -> tuple[Skeptical, ...]:
        return cls(), cls(delay=0.5)

    @classmethod
    def presets(cls) -> Mapping[str, Attack]:
        """Return the authors' setting: of three auxiliary heads, the teacher supervises the second."""
        return {"paper": cls(temperature=20.0, shallow=-2, delay=20 / 180, deep=True)}

    def run(self, lab: Lab) -> Student:
        wrap = with_deep_heads if self.deep else with_heads
        recipe = replace(lab.recipe, wrap=f"{wrap.__module__}:{wrap.__name__}")
        start = round(self.delay * recipe.steps)

        def loss(outputs: Outputs, batch: Batch, step: int) -> Tensor:
            return self.loss(outputs, batch) if step >= start else supervised(outputs, batch)

        return lab.fit(lab.stream("crop", lab.answers("crop")), loss, recipe)

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss after the delay; if the network has too few heads for `shallow`, the nearest is used."""
        T, truth = self.temperature, batch.truth(outputs.logits.shape[1])
        count = len(outputs.heads)
        hears, deepest = outputs.heads[max(-count, min(self.shallow, count - 1))], outputs.heads[-1]
        told = self.weight * kd(hears, soft_target(batch, T), T) + (1 - self.weight) * cross_entropy(hears, truth)
        # As in the published code, gradients flow to both sides of the coupling, and it is not scaled by T².
        together = kl(F.log_softmax(outputs.logits / T, -1), F.log_softmax(deepest / T, -1))
        coupled = self.coupling * together + (1 - self.coupling) * cross_entropy(deepest, truth)
        return supervised(outputs, batch) + told + coupled


Place = tuple[str, torch.Size]  # an inner module and the shape of its output
Head = Callable[[torch.Size, int, int], nn.Module]


class Headed(nn.Module):
    """A network with an auxiliary head on some of its inner outputs, the shallowest first."""

    def __init__(self, network: nn.Module, places: Sequence[Place], classes: int, head: Head = heads.small) -> None:
        """`head` builds one from the shape of its input, the classes and the number of the network's stages left."""
        super().__init__()
        self.network = network
        self.heads = nn.ModuleList(head(shape, classes, len(places) - i) for i, (_, shape) in enumerate(places))
        self._places = [name for name, _ in places]

    def forward(self, x: Tensor) -> Outputs:
        seen: dict[str, Tensor] = {}
        # Hooks for one pass only: a network that stores closures can be neither copied nor pickled.
        handles = [_watch(self.network, name, seen) for name in self._places]
        try:
            logits: Tensor = self.network(x)
        finally:
            for handle in handles:
                handle.remove()
        return Outputs(logits, tuple(head(seen[name]) for head, name in zip(self.heads, self._places, strict=True)))


def with_heads(network: nn.Module, classes: int, shape: Shape) -> nn.Module:
    """Put a head on every stage of a network but the last: on the last output of each size of its feature maps.

    A network without two stages (transformers, perceptrons) gets one head, on the middle output among those of the most
    common shape.
    """
    return Headed(network, _places(network, shape), classes)


def with_deep_heads(network: nn.Module, classes: int, shape: Shape) -> nn.Module:
    """Put the authors' heads where `with_heads` puts small ones."""
    return Headed(network, _places(network, shape), classes, heads.deep)


def _places(network: nn.Module, shape: Shape) -> list[Place]:
    """Return the last output of each size of a network's feature maps but the smallest, or one half way."""
    outputs = _outputs(network, shape)
    stages: dict[tuple[int, int], Place] = {}
    height, width = shape[1:]
    smallest = height * width + 1
    for name, size in outputs:
        if len(size) != 4 or not 1 < size[2] * size[3] <= smallest:
            continue
        if abs(size[2] / height - size[3] / width) > 1 / height + 1 / width:  # attention, or channels last
            continue
        learns = any(True for _ in network.get_submodule(name).parameters(recurse=False))
        if size[2] * size[3] == smallest or learns:  # pooling does not start a stage
            smallest = size[2] * size[3]
            stages[size[2], size[3]] = name, size
    places = list(stages.values())[:-1]
    if not places:
        commonest = Counter(size for _, size in outputs).most_common(1)[0][0]
        same = [place for place in outputs if place[1] == commonest]
        places = [same[(len(same) - 1) // 2]]
    return places


def _outputs(network: nn.Module, shape: Shape) -> list[Place]:
    """Return the name and output shape of every inner module that a pass calls exactly once, in order of completion."""
    found: list[Place] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found.append((name, output.shape if isinstance(output, Tensor) else torch.Size()))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    network.train(training)
    for handle in handles:
        handle.remove()
    calls = Counter(name for name, _ in found)
    return [(name, size) for name, size in found if calls[name] == 1 and len(size) > 1]


def _watch(network: nn.Module, name: str, seen: dict[str, Tensor]) -> RemovableHandle:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen[name] = output

    return network.get_submodule(name).register_forward_hook(hook)
