"""Suites: named, numbered, frozen sets of attacks with their recipe, seeds and tuning.

Changing one makes a new number; a test pins their digests.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

from teachers.errors import UsageError

EIGHT = ("soft-kd", "dkd", "lskd", "avg", "label-kd", "label-mixup", "knockoff", "noise")


@dataclass(frozen=True)
class Suite:
    """What `--attacks all` means at an effort."""

    name: str
    attacks: tuple[str, ...]
    settings: int  # tried in tuning, for every attack and for the LS student
    tuning_seeds: int
    seeds: int  # judged, fresh
    bite_seeds: int  # on the ordinary teacher
    steps: int  # at least
    epochs: float  # at least
    views: int = 8
    batch: int = 128
    lr: float = 0.1

    @property
    def digest(self) -> str:
        """sha256 of everything that the suite freezes."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()

    def steps_for(self, images: int) -> int:
        """Return the training steps of a student whose holder has so many images."""
        return max(self.steps, round(self.epochs * images / self.batch))


STANDARD = Suite("standard-0", EIGHT, settings=4, tuning_seeds=2, seeds=5, bite_seeds=5, steps=400, epochs=16)
SMOKE = Suite(
    "smoke-0",
    ("soft-kd", "avg", "label-mixup", "knockoff"),
    settings=2,
    tuning_seeds=1,
    seeds=2,
    bite_seeds=2,
    steps=150,
    epochs=0,
)
FULL = Suite("full-0", EIGHT, settings=4, tuning_seeds=2, seeds=20, bite_seeds=5, steps=400, epochs=16)

EFFORTS = {"smoke": SMOKE, "standard": STANDARD, "full": FULL}


def suite(effort: str) -> Suite:
    """Return the suite of an effort."""
    if effort not in EFFORTS:
        raise UsageError(f"unknown effort {effort!r}; there are {', '.join(EFFORTS)}")
    return EFFORTS[effort]
