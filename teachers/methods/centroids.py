"""Class means of tempered answers, Q_y = E[softmax(a z) | y], for MCMI and CMIM: the minimisers of their CMI terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.errors import UsageError
from teachers.task import Pool, known
from teachers.training import Batch, StoredStream

Update = Literal["batch", "epoch", "running"]
Rule = Literal["batch", "epoch", "running", "frozen"]  # the last for a network that is trained already
FLOOR = 1e-8


def clusters(logits: Tensor, powers: Tensor) -> Tensor:
    """Return log softmax(a z) for every power a = 1/T, (A, B, K), of logits (B, K)."""
    return F.log_softmax(powers[:, None, None] * logits, -1)


class Centroids:
    """Class means of answers raised to powers, (A, K, K): by power, label and class.

    `update` says how they follow the network: `batch`: means of the present batch; `epoch`: means of all training
    images, computed at the start of every epoch; `running`: means over batches with exponential decay; `frozen`: means
    over one augmented view of every training image, computed before the first step alone.
    """

    def __init__(
        self, powers: Sequence[float], classes: int, update: Rule, *, decay: float = 0.99, device: str = "cpu"
    ) -> None:
        if update not in get_args(Rule):
            raise UsageError(f"unknown update of class means {update!r}; there are {', '.join(get_args(Rule))}")
        self.powers = torch.tensor(tuple(powers), device=device)
        self.update, self.decay, self.classes = update, decay, classes
        self.sums = torch.zeros((len(self.powers), classes, classes), device=device)
        self.mass = torch.zeros(classes, device=device)

    def cmi(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over a batch of KL(P^a_x ‖ Q^a_y) in nats for every power, (A,).

        The class means are held fixed for the gradient: they minimise the same expression (envelope theorem).
        """
        log_p = clusters(logits, self.powers)
        p = log_p.exp()
        with torch.no_grad():
            if self.update in ("batch", "running"):
                self._add(p.detach(), labels)
            q = self.means()[:, labels]
        return (p * (log_p - q.clamp(min=FLOOR).log())).sum(-1).mean(-1)

    def means(self) -> Tensor:
        """Return the class means, (A, K, K); uniform for a class not seen yet."""
        even = torch.full_like(self.sums, 1 / self.classes)
        return torch.where(self.mass[:, None] > 0, self.sums / self.mass.clamp(min=1e-12)[:, None], even)

    @torch.no_grad()
    def take(self, network: nn.Module, pool: Pool, chunk: int = 512) -> None:
        """Compute the means over all images of a pool with the present network."""
        self._forget(0.0)
        labels = torch.from_numpy(known(pool))
        for at in range(0, len(pool), chunk):
            x = torch.from_numpy(pool.images[at : at + chunk]).to(self.sums.device).float().div_(255)
            y = labels[at : at + chunk].to(self.sums.device)
            self._gather(clusters(network(x), self.powers).exp(), y)

    @torch.no_grad()
    def take_views(self, network: nn.Module, stream: StoredStream, images: int) -> None:
        """Compute the means over the first images of a stream, as it shows them."""
        self._forget(0.0)
        left = images
        while left > 0:
            batch = stream.next(0, network)
            p = clusters(network(batch.x), self.powers).exp()
            self._gather(p[:, :left], batch.labels[:left])
            left -= len(batch.labels)

    def _add(self, p: Tensor, labels: Tensor) -> None:
        self._forget(0.0 if self.update == "batch" else self.decay)
        self._gather(p, labels)

    def _forget(self, keep: float) -> None:
        self.sums *= keep
        self.mass *= keep

    def _gather(self, p: Tensor, labels: Tensor) -> None:
        self.sums.index_add_(1, labels, p)
        self.mass.index_add_(0, labels, torch.ones_like(labels, dtype=self.mass.dtype))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums and counts that the means are computed from."""
        return {"sums": self.sums, "mass": self.mass}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore saved means."""
        self.sums, self.mass = state["sums"].to(self.sums), state["mass"].to(self.mass)


@dataclass(frozen=True, kw_only=True)
class Remembering:
    """Base class of objectives with class means, which are their only state from step to step."""

    centroids: Centroids

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that the next step depends on."""
        return self.centroids.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a saved state."""
        self.centroids.load_state_dict(state)


class Alternating:
    """A stream that recomputes the class means every epoch: the second half of CMIM's alternating minimisation."""

    def __init__(self, stream: StoredStream, centroids: Centroids, pool: Pool, epoch: int) -> None:
        self.stream, self.centroids, self.pool, self.epoch = stream, centroids, pool, epoch
        self.view, self.source = stream.view, stream.source

    def skip(self, step: int) -> Tensor:
        """Skip a batch."""
        return self.stream.skip(step)

    def next(self, step: int, student: nn.Module) -> Batch:
        if self.centroids.update == "epoch" and step % self.epoch == 0:
            self.centroids.take(student.eval(), self.pool)
        return self.stream.next(step, student)
