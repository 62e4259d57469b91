"""How often an architecture is guessed from a state dict: `python benchmarks/architectures.py` prints a table.

Networks are drawn from as many families of timm and torchvision as there are rows, with 10 or 100 classes, at 32 or 224
pixels where their weights depend on it, and built by their own library, without memory for the weights.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision.models
from torch import Tensor

from teachers.intake.architecture import guess
from teachers.intake.fingerprint import index

TORCHVISION = 4  # of so many networks, one is torchvision's
FIRST = 3


@dataclass(frozen=True)
class Case:
    """A network as someone trained it."""

    name: str
    classes: int
    size: int
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Guessed:
    """At which place the right name came, and how long that took."""

    case: Case
    place: int | None  # from 1
    first: str
    of: int
    seconds: float


def families() -> tuple[list[str], list[str]]:
    """Return the families of timm and of torchvision, by module."""
    vision = {torchvision.models.get_model_builder(n).__module__ for n in torchvision_names()}
    return timm.list_modules(), sorted(vision)


def torchvision_names() -> list[str]:
    """Return torchvision's classifiers."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def cases(number: int, seed: int) -> Iterator[Case]:
    """Draw networks: a family, one of its networks, classes and a size."""
    rng = random.Random(seed)
    of_timm, of_vision = families()
    rng.shuffle(of_timm)
    rng.shuffle(of_vision)
    for i in range(number):
        classes, size = rng.choice((10, 100)), rng.choice((32, 224))
        if i % TORCHVISION == 0:
            family = of_vision[i // TORCHVISION % len(of_vision)]
            members = [n for n in torchvision_names() if torchvision.models.get_model_builder(n).__module__ == family]
            yield _from_torchvision(rng.choice(members), classes, size)
        else:
            while not (members := timm.list_models(module=of_timm[0])):
                of_timm.append(of_timm.pop(0))
            of_timm.append(of_timm.pop(0))
            yield _from_timm(rng.choice(members), classes, size)


def _from_torchvision(name: str, classes: int, size: int) -> Case:
    sized = {"image_size": size} if name.startswith("vit_") else {}
    device = "cpu" if "regnet" in name else "meta"  # these reckon their widths with tensors
    with torch.device(device):
        network = torchvision.models.get_model(name, weights=None, num_classes=classes, **sized)
    return Case(f"torchvision:{name}", classes, size, network.state_dict())


def _from_timm(name: str, classes: int, size: int) -> Case:
    default = timm.models.get_pretrained_cfg(name)
    if default is None or not default.fixed_input_size:
        return Case(f"timm:{name}", classes, size, _timm(name, classes, {}))
    try:
        return Case(f"timm:{name}", classes, size, _timm(name, classes, {"img_size": size}))
    except (RuntimeError, AssertionError, ValueError, TypeError):  # too small for it
        return Case(f"timm:{name}", classes, default.input_size[1], _timm(name, classes, {}))


def _timm(name: str, classes: int, sized: dict[str, Any]) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False, num_classes=classes, **sized)
    tensors: dict[str, Tensor] = network.state_dict()
    return tensors


def guessed(case: Case) -> Guessed:
    """Guess one network."""
    began = time.perf_counter()
    names = [candidate.name for candidate in guess(case.tensors).candidates]
    seconds = time.perf_counter() - began
    place = names.index(case.name) + 1 if case.name in names else None
    return Guessed(case, place, names[0] if names else "–", len(names), seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    index()  # read once, as in an audit
    rows = []
    print("| network | classes | pixels | place | of | first | seconds |\n|---|---|---|---|---|---|---|")
    for case in cases(asked.number, asked.seed):
        row = guessed(case)
        rows.append(row)
        told = (case.name, case.classes, case.size, row.place or "–", row.of, row.first, f"{row.seconds:.2f}")
        print(f"| {' | '.join(map(str, told))} |", flush=True)
    first = sum(row.place == 1 for row in rows)
    near = sum(row.place is not None and row.place <= FIRST for row in rows)
    print(
        f"\n{first} of {len(rows)} first, {near} ({near / len(rows):.0%}) among the first {FIRST}; at most "
        f"{max(row.seconds for row in rows):.2f} s"
    )


if __name__ == "__main__":
    main()
