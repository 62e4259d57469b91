"""Attacks that change what others of their process would meet, take what is not theirs, or never come to an end."""

import ctypes
import os
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from attacks.base import Attack, Lab
from attacks.logits.soft_kd import SoftKD
from teachers.networks import Shape
from teachers.training import Student

MARKERS = Path(os.environ["HOSTILE_MARKERS"])
print("##[error] printed by a plug-in that is imported")


@dataclass(frozen=True, kw_only=True)
class Restless(SoftKD):
    paper = "nobody 2026"

    @classmethod
    def grid(cls) -> tuple[Attack, ...]:
        return (cls(),)


class Patcher(Restless):
    """Changes torch for whoever comes next."""

    name = "patcher"
    title = "Patcher"

    def run(self, lab: Lab) -> Student:
        student = super().run(lab)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed = torch.random.manual_seed = lambda seed: None  # type: ignore[assignment]
        entropy = nn.functional.cross_entropy
        nn.functional.cross_entropy = lambda *a, **k: 0 * entropy(*a, **k)  # type: ignore[assignment]
        nn.functional.log_softmax = lambda x, *a, **k: torch.zeros_like(x)  # type: ignore[assignment]
        Tensor.backward = lambda self, *a, **k: None  # type: ignore[method-assign]
        torch.optim.SGD.step = lambda self, *a, **k: None  # type: ignore[method-assign]
        from attacks.controls.ls import LS

        LS.loss = lambda self, outputs, batch, step: outputs.logits.sum() * 0  # type: ignore[method-assign]
        return student


class Wrapper(Restless):
    """Has a network of its own, which looks for labels where it is asked."""

    name = "wrapper"
    title = "Wrapper"

    def run(self, lab: Lab) -> Student:
        recipe = replace(lab.recipe, wrap=f"{__name__}:Seer")
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss, recipe)


class Seer(nn.Module):
    def __init__(self, network: nn.Module, classes: int, shape: Shape) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        frame = sys._getframe()
        while frame is not None:
            for held in list(frame.f_locals.values()):
                labels = getattr(held, "labels", None)
                if not self.training and isinstance(labels, np.ndarray):
                    (MARKERS / "labels").touch()
            frame = frame.f_back  # type: ignore[assignment]
        return logits


class Sleeper(Restless):
    name = "sleeper"
    title = "Sleeper"

    def run(self, lab: Lab) -> Student:
        time.sleep(10_000)
        return super().run(lab)


class Asker(Restless):
    """Asks for ever about what is stored."""

    name = "asker"
    title = "Asker"

    def run(self, lab: Lab) -> Student:
        while True:
            lab.oracle(torch.zeros(1, *lab.pool.shape))
            time.sleep(0.05)


class Stopper(Restless):
    """Stops itself."""

    name = "stopper"
    title = "Stopper"

    def run(self, lab: Lab) -> Student:
        os.kill(os.getpid(), 19)
        return super().run(lab)


class Swallower(Restless):
    name = "swallower"
    title = "Swallower"

    def run(self, lab: Lab) -> Student:
        held = []
        while True:
            held.append(bytearray(2**28))


class Parent(Restless):
    """Leaves processes behind: in its group, in a session of its own, and twice removed from it."""

    name = "parent"
    title = "Parent"

    def run(self, lab: Lab) -> Student:
        for kind in ("child", "session", "orphan"):
            if os.fork():
                continue
            if kind != "child":
                os.setsid()
            if kind == "orphan" and os.fork():
                os._exit(0)
            (MARKERS / f"pid-{os.getpid()}").touch()
            time.sleep(600)
            os._exit(0)
        time.sleep(0.5)
        return super().run(lab)


class Printer(Restless):
    name = "printer"
    title = "Printer"

    def run(self, lab: Lab) -> Student:
        print("##[error] printed by a plug-in", flush=True)
        print("\x1b[31m::error::printed by a plug-in", file=sys.stderr, flush=True)
        os.write(1, b"##[error] written by a plug-in\n")
        os.write(2, b"##[error] written by a plug-in\n")
        os.system("echo '##[error] echoed by a plug-in'")
        ctypes.CDLL(None).puts(b"##[error] put by a plug-in")
        return super().run(lab)


class Usurper(Restless):
    """Raises what would end an audit if it were ours."""

    name = "usurper"
    title = "Usurper"

    def run(self, lab: Lab) -> Student:
        from teachers.errors import RefusedInput

        raise RefusedInput("nothing is wrong with the teacher")


class Longer(Restless):
    """Says that its student took more steps than any control could be trained for."""

    name = "longer"
    title = "Longer"

    def run(self, lab: Lab) -> Student:
        student = super().run(lab)
        forged = replace(student.report, recipe=replace(student.report.recipe, steps=10**8))
        lab.last = replace(student, report=forged)
        return lab.last


class Larger(Restless):
    """Trains a larger student than its control."""

    name = "larger"
    title = "Larger"

    def run(self, lab: Lab) -> Student:
        recipe = replace(lab.recipe, architecture="strided-32-64-128")
        return lab.fit(lab.stream("crop", lab.answers("crop")), self.loss, recipe)


ALL = (Patcher, Wrapper, Sleeper, Asker, Stopper, Swallower, Parent, Printer, Usurper, Longer, Larger)
