"""Attacks that try to step out of the black box: one way each. Success leaves a file; failure raises."""

import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attacks.base import Attack, Lab
from attacks.logits.soft_kd import SoftKD
from teachers import oracle as door
from teachers.training import Student

MARKER = Path(os.environ["HOSTILE_MARKERS"])

# Where this module is imported, the ledger is a lie.
import audit.recording.evidence  # noqa: E402

audit.recording.evidence.ledger = lambda *_: ()


def escaped(how: str) -> None:
    (MARKER / how).touch()


class Held(RuntimeError):
    """The wall held."""


@dataclass(frozen=True, kw_only=True)
class Hostile(SoftKD):
    name = "hostile"
    title = "Hostile"
    paper = "nobody 2026"

    def run(self, lab: Lab) -> Student:
        self.attack(lab)
        return super().run(lab)

    def attack(self, lab: Lab) -> None:
        raise NotImplementedError

    @classmethod
    def grid(cls) -> tuple[Attack, ...]:
        return (cls(),)


def images(lab: Lab, count: int = 8) -> torch.Tensor:
    return torch.rand(count, *lab.pool.shape, generator=torch.Generator().manual_seed(count))


class Collector(Hostile):
    name = "hostile-gc"

    def attack(self, lab: Lab) -> None:
        lab.oracle(images(lab))
        found = [type(o).__name__ for o in gc.get_objects() if isinstance(o, nn.Module | door.Box)]
        if found:
            escaped(self.name)
        raise Held("no network but the student's own can be collected")


def reachable(start: object, depth: int = 6) -> list[Any]:
    """Return everything that closures, attributes and containers lead to."""
    seen: dict[int, Any] = {}
    layer = [start]
    for _ in range(depth):
        following = []
        for one in layer:
            if id(one) in seen or isinstance(one, type(sys) | type):
                continue
            seen[id(one)] = one
            following += [getattr(one, "__dict__", None), getattr(one, "__self__", None)]
            following += [cell.cell_contents for cell in getattr(one, "__closure__", None) or ()]
            following += list(one.values()) if isinstance(one, dict) else []
            following += list(one) if isinstance(one, list | tuple | set) else []
        layer = [f for f in following if f is not None]
    return list(seen.values())


class Climber(Hostile):
    name = "hostile-frames"

    def attack(self, lab: Lab) -> None:
        frame, locals_ = sys._getframe(), []
        while frame is not None:
            locals_.append(dict(frame.f_locals))
            frame = frame.f_back
        if any(isinstance(o, door.Box) for o in reachable([lab.oracle, lab._library, *locals_], 8)):
            escaped(self.name)
        raise Held("closures and frames lead to no teacher")


class Pathfinder(Hostile):
    name = "hostile-path"

    def attack(self, lab: Lab) -> None:
        texts = [str(o) for o in reachable([lab.oracle, lab._library, sys.argv, dict(os.environ)], 8)]
        if any(text.endswith((".pt", ".safetensors")) or "secret-token" in text for text in texts):
            escaped(self.name)
        raise Held("nothing names the checkpoint")


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {MARKER / 'hostile-pickle'}",)


class Pickler(Hostile):
    name = "hostile-pickle"

    def attack(self, lab: Lab) -> None:
        pipe = next(o for o in reachable(lab.oracle, 8) if type(o).__name__ == "Connection")
        pipe.send(Bomb())
        pipe.recv_bytes()


class Backward(Hostile):
    name = "hostile-backward"

    def attack(self, lab: Lab) -> None:
        x = images(lab).requires_grad_()
        lab.oracle(x).values.sum().backward()
        escaped(self.name)


class Trainer(Hostile):
    name = "hostile-train"

    def attack(self, lab: Lab) -> None:
        lab.oracle.model.train()  # type: ignore[attr-defined]
        escaped(self.name)


class Forger(Hostile):
    name = "hostile-ledger"

    def attack(self, lab: Lab) -> None:
        door.Oracle.charge = lambda self, images: None  # type: ignore[method-assign]
        lab.oracle.budget, lab.oracle.charged = None, -(10**9)
        lab.oracle(images(lab, 100_000))
        escaped(self.name)


class Spender(Hostile):
    name = "hostile-budget"

    def attack(self, lab: Lab) -> None:
        lab.oracle(images(lab, 100_000))
        escaped(self.name)


class Mutator(Hostile):
    name = "hostile-buffer"

    def attack(self, lab: Lab) -> None:
        x = images(lab)
        before = lab.oracle(x).values.clone()
        x.zero_()
        if not torch.equal(lab.oracle(images(lab)).values, before) or torch.equal(lab.oracle(x).values, before):
            escaped(self.name)
        raise Held("an answer belongs to the pixels that were sent")


class Thief(Hostile):
    name = "hostile-pool"

    def attack(self, lab: Lab) -> None:
        import numpy as np

        from teachers.views import ViewSet

        line = next(o for o in reachable(lab.oracle, 8) if type(o).__name__ == "_Line")
        line.views("0" * 64, [ViewSet("raw", 1)], np.arange(3))
        escaped(self.name)


class Killer(Hostile):
    name = "hostile-exit"

    def attack(self, lab: Lab) -> None:
        os._exit(0)


ALL = (Collector, Climber, Pathfinder, Pickler, Backward, Trainer, Forger, Spender, Mutator, Thief, Killer)
