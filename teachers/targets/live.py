"""A teacher that is an object of this process: a module, or a function from images to answers."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from teachers import networks
from teachers.errors import UsageError
from teachers.intake import Teacher, normalisation
from teachers.networks import PreprocessedNetwork
from teachers.oracle import batch
from teachers.targets.spec import LIVE
from teachers.task import Task


class LiveNetwork(nn.Module):
    """A user's object as a network; it stays where it is and as it is: no device, mode or flag of it is changed."""

    def __init__(self, live: Any) -> None:
        super().__init__()
        self._held = (live,)  # in a tuple, so that it is no part of this module
        own = list(live.parameters()) if isinstance(live, nn.Module) else []
        self._device = own[0].device if own else None
        self.parameters_inside = sum(p.numel() for p in own)

    def forward(self, x: Tensor) -> Tensor:
        answers = self._held[0](x if self._device is None else x.to(self._device))
        return (answers if isinstance(answers, Tensor) else torch.as_tensor(np.asarray(answers))).to(x.device)


def name_of(live: Any) -> str:
    """Return what a record calls an object: its class, or its own name if it is a function."""
    return LIVE + (getattr(live, "__name__", "") or type(live).__name__)


def opened(live: Any, task: Task, normalize: str | None) -> Teacher:
    """Return a user's object as a teacher; `normalize` as on the command line, `none` if it is not given.

    The fingerprint is made of the object's tensors and of its answers to all training and validation images.

    Raises UsageError where it does not answer images of the task, or is in training mode.
    """
    name = name_of(live)
    if isinstance(live, nn.Module) and live.training:
        raise UsageError(f"{name} is in training mode, in which it would change while it answers; call .eval() first")
    mean, std, bgr = normalisation(normalize or "none", task.shape[0])
    network = PreprocessedNetwork(LiveNetwork(live), mean, std, bgr)
    networks.try_out(network, name, len(task.classes), task.shape)
    digest = hashlib.sha256(name.encode())
    for key, tensor in sorted(live.state_dict().items()) if isinstance(live, nn.Module) else ():
        digest.update(key.encode() + tensor.detach().cpu().double().numpy().tobytes())
    for pool in (task.train, task.validation):
        for some in torch.split(torch.from_numpy(pool.images), batch(task.shape)):
            with torch.no_grad():
                digest.update(network(some.float().div_(255)).float().cpu().numpy().tobytes())
    return Teacher(name, digest.hexdigest(), network, name, "unknown", mean, std, bgr=bgr, program=True)
