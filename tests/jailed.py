"""What children of the jail do in tests; a module of its own, because every child imports it."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn


def spin(folder: Path) -> dict[str, int]:
    while True:
        pass


def swell(folder: Path) -> dict[str, int]:
    return {"size": len(bytearray(4 * 2**30))}


def crash(folder: Path) -> dict[str, int]:
    os.kill(os.getpid(), 11)
    return {}


def leave(folder: Path) -> dict[str, int]:
    os._exit(3)


class Harmful(nn.Module):
    """A network that does harm when it is asked."""

    def __init__(self, harm: str) -> None:
        super().__init__()
        self.harm = harm

    def forward(self, x: Tensor) -> Tensor:
        if self.harm == "nan":
            return torch.full((len(x), 5), torch.nan)
        if self.harm == "swell":
            return torch.zeros(2**40)
        {"leave": leave, "crash": crash}[self.harm](Path())
        return x
