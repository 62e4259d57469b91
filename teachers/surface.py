"""What an API lets out of a teacher, composed in front of the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from teachers.errors import UsageError

Kind = Literal["probs", "label"]


@dataclass(frozen=True)
class Answers:
    """What came back for N images: log-probabilities (N, K) float32, or labels (N,) int64."""

    kind: Kind
    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    @property
    def labels(self) -> Tensor:
        """The top class of each answer, (N,)."""
        return self.values if self.kind == "label" else self.values.argmax(-1)

    def log_probs(self, temperature: float = 1.0) -> Tensor:
        """Return log of P^(1/T) renormalised, (N, K); labels have no probabilities, so only `probs` answers can."""
        if self.kind == "label":
            raise ValueError("a label answer has no probabilities")
        return F.log_softmax(self.values / temperature, -1)

    def probs(self, classes: int) -> Tensor:
        """Return the answers as distributions (N, K); a label becomes a one-hot row."""
        return F.one_hot(self.values, classes).float() if self.kind == "label" else self.values.exp()

    def __getitem__(self, index: Tensor | slice) -> Answers:
        return Answers(self.kind, self.values[index])


@dataclass(frozen=True)
class Surface:
    """One row of answers per image, as much of it as the API shows."""

    name: Kind

    @classmethod
    def parse(cls, text: str) -> Surface:
        """Read a surface from the command line."""
        if text not in get_args(Kind):
            raise UsageError(f"unknown surface {text!r}; there are {', '.join(get_args(Kind))}")
        return cls(cast(Kind, text))

    def __call__(self, log_probs: Tensor) -> Answers:
        """Show what this surface shows of log-probabilities (N, K)."""
        return Answers("label", log_probs.argmax(-1)) if self.name == "label" else Answers("probs", log_probs)

    def offers(self, need: Kind) -> bool:
        """Whether an attack that needs `need` can be run on this surface."""
        return need == "label" or self.name == "probs"


FULL = Surface("probs")


def concatenate(parts: list[Answers]) -> Answers:
    """Join answers of one kind."""
    return Answers(parts[0].kind, torch.cat([part.values for part in parts]))
