"""How many students one card trains at once: as many as fit, by what the largest one so far took."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch

from teachers.notes import Note

MOST: Final = 8  # students at once on a card, where the number is left open
CONTEXT: Final = 600 * 2**20  # bytes that a process takes on a card beside its tensors
SPARE: Final = 0.9  # of the free memory that students may take together
SERVER: Final = "/tmp/nvidia-mps"  # where NVIDIA's MPS listens, if CUDA_MPS_PIPE_DIRECTORY does not say otherwise


FULL: Final = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
LOST: Final = (  # in messages about a card that has stopped, for whoever asks it
    *(
        "unspecified launch failure",
        "no CUDA-capable device",
        "busy or unavailable",
        "uncorrectable ECC",
        "GPU is lost",
    ),
    *("unknown error", "driver shutting down", "fallen off the bus"),
)


def crowded(error: BaseException) -> bool:
    """Whether an error says that the card has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in FULL)


def lost(error: BaseException) -> str:
    """Return a sentence if an error says that the card has stopped; else nothing."""
    said = str(error).splitlines()[0] if str(error) else ""
    if not isinstance(error, RuntimeError) or "CUDA" not in said or not any(text in said for text in LOST):
        return ""
    return f"the card has stopped ({said}); finished students are kept: rerun the same command to resume"


class Sharing(Protocol):
    """Who decides how many students a card trains at once."""

    students: int

    def hold(self, taken: int) -> None:
        """Note what a trained student took, in bytes."""

    def full(self) -> bool:
        """Note that a student found no memory; return whether it is worth another try here."""


@dataclass
class Share:
    """One student's part of a card that others use, too: what it takes is told to who knows them all."""

    students: int = 1
    taken: int = 0  # bytes
    crowded: bool = False

    def hold(self, taken: int) -> None:
        """Note what a trained student took, in bytes, and this process with it."""
        here = torch.cuda.max_memory_reserved()
        self.taken = taken + here + CONTEXT * (here > 0)

    def full(self) -> bool:
        """Note that a student found no memory: it may be worth another try elsewhere."""
        self.crowded = True
        return False


@dataclass
class Card:
    """The memory of a card. The first student is trained alone; what it takes says how many fit beside it."""

    free: int  # bytes
    most: int
    note: Note
    students: int = 1  # at once, now
    largest: int = 0  # bytes of the largest student so far

    @classmethod
    def here(cls, most: int | None, note: Note) -> Card:
        """Return the card of this machine, with what is free on it now."""
        free, _ = torch.cuda.mem_get_info()
        if not Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", SERVER)).exists():
            note("students take turns on the card; with NVIDIA's MPS (nvidia-cuda-mps-control -d) they share it")
        return cls(free, MOST if most is None else most, note)

    def hold(self, taken: int) -> None:
        """Note what a trained student took, in bytes; see how many such students fit."""
        if taken <= self.largest:
            return
        self.largest = taken
        fit = max(1, min(self.most, int(SPARE * self.free / (taken + CONTEXT))))
        if fit != self.students:
            self.note(
                f"the card trains {fit} student{'s' * (fit != 1)} at once: one took {taken / 2**30:.1f} GiB of it"
            )
        self.students = fit

    def full(self) -> bool:
        """Halve the number after a student found no memory; return whether it is worth another try."""
        if self.students == 1:
            return False
        self.students = self.most = self.students // 2
        self.note(f"the card is out of memory: {self.students} student{'s' * (self.students != 1)} at once from now on")
        return True
