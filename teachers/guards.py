"""Output defences saved in a checkpoint: guards that change a network's answers before they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from teachers.errors import RefusedInput, UsageError
from teachers.networks import PreprocessedNetwork, Shape, weightless
from teachers.surface import Surface


class GuardedNetwork(nn.Module):
    """A network with a guard on its answers: from images to log-probabilities (N, K), −inf where nothing is shown.

    The network is frozen: only the guard is trained.
    """

    guard: nn.Module

    def __init__(self, network: nn.Module, guard: nn.Module) -> None:
        super().__init__()
        self.network, self.guard = network.requires_grad_(False), guard

    @property
    def told(self) -> str:
        """The guard's name in a checkpoint."""
        return str(self.guard.name)

    def train(self, mode: bool = True) -> GuardedNetwork:
        """Put only the guard into training mode."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.guard(F.log_softmax(self.network(x), -1))
        return answers


class SurfaceGuard(nn.Module):
    """A surface as a guard: from log-probabilities (N, K) to log-probabilities."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.surface = name, Surface.parse(name)
        if self.surface.kind != "probs":
            raise UsageError(f"{name!r} is not a guard: a guard shows probabilities")

    def forward(self, log_probs: Tensor) -> Tensor:
        return self.surface(log_probs).values


class Residual(nn.Module):
    """Return log p + MLP(p), renormalised: the residual perturbation of APGP.

    It starts near the identity but not at it, where the gradient of the divergence to be maximised is zero.
    """

    name = "apgp"

    def __init__(self, classes: int, width: int = 512) -> None:
        super().__init__()
        sizes = (classes, width, width, width)
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.body = nn.Sequential(*hidden, nn.Linear(width, classes))

    def forward(self, log_probs: Tensor) -> Tensor:
        return F.log_softmax(log_probs + self.body(log_probs.exp()), -1)


class PublishedResidual(Residual):
    """Return softmax(p + MLP(p)) as log-probabilities: APGP as in the public code, nearly uniform before training."""

    name = "apgp-published"

    def forward(self, log_probs: Tensor) -> Tensor:
        p = log_probs.exp()
        return F.log_softmax(p + self.body(p), -1)


class Purifier(nn.Module):
    """Return W log p + b, renormalised, with W (K, K); it starts as the identity."""

    name = "purified"

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(classes, classes)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, log_probs: Tensor) -> Tensor:
        return F.log_softmax(self.linear(log_probs), -1)


LEARNED: Mapping[str, Callable[[int], nn.Module]] = {
    "apgp": Residual,
    "apgp-published": PublishedResidual,
    "purified": Purifier,
}


def apgp(network: nn.Module, classes: int, shape: Shape) -> nn.Module:
    """Apply a residual perturbation to a network's answers (a recipe's `wrap`)."""
    return GuardedNetwork(network, Residual(classes))


def apgp_published(network: nn.Module, classes: int, shape: Shape) -> nn.Module:
    """Apply the residual perturbation of the public code to a network's answers (a recipe's `wrap`)."""
    return GuardedNetwork(network, PublishedResidual(classes))


def purified(network: nn.Module, classes: int, shape: Shape) -> nn.Module:
    """Apply a linear transform to a network's answers (a recipe's `wrap`)."""
    return GuardedNetwork(network, Purifier(classes))


def behind(network: PreprocessedNetwork, guard: nn.Module) -> PreprocessedNetwork:
    """Apply a guard to the answers of a network that takes raw pixels."""
    return network.around(GuardedNetwork(network.network, guard))


def inside(network: nn.Module) -> PreprocessedNetwork:
    """Move the guard of a network that takes raw pixels inside it, so that the normalisation is outermost."""
    guarded = cast(GuardedNetwork, network)
    return behind(cast(PreprocessedNetwork, guarded.network), guarded.guard)


def restore(name: str, classes: int, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build a guard from its name and tensors in a checkpoint.

    Raises RefusedInput if the name is unknown or the tensors do not fit.
    """

    def build() -> nn.Module:
        return LEARNED[name](classes) if name in LEARNED else SurfaceGuard(name)

    try:
        wanted = {key: t.shape for key, t in weightless(build).state_dict().items()}
        if wanted != {key: t.shape for key, t in tensors.items()}:  # checked before memory is allocated
            raise UsageError(f"{name!r} has other tensors")
        guard = build()
        guard.load_state_dict(tensors)
    except (UsageError, RuntimeError) as e:
        raise RefusedInput(f"the checkpoint names an output defence that cannot be built: {e}") from e
    return guard.eval()
