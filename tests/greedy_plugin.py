"""An attack that finds no memory on its card, as often as a file says."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from attacks.base import Lab
from attacks.logits.soft_kd import SoftKD
from teachers.training import Student


@dataclass(frozen=True, kw_only=True)
class Greedy(SoftKD):
    """Finds no memory, as often as a file says."""

    name = "greedy"

    def run(self, lab: Lab) -> Student:
        left = Path(os.environ["GREEDY"])
        number = int(left.read_text())
        if number:
            left.write_text(str(number - 1))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().run(lab)

    @classmethod
    def grid(cls):
        return (cls(),)
