"""Recognise tensors that training scripts save with a network: those that cannot change its answers, and others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from teachers.intake.fingerprint import COUNTER
from teachers.intake.normalise import Normalisation

Tensors = Mapping[str, Tensor]

LONGEST = 200  # characters of a name, at most; longer ones are not matched
FEW = 4  # channels, at most, whose mean and standard deviation a script may save with the network
MEANS = re.compile(r"(new_|image_|pixel_|norm_)?(means?|mu)")
SPREADS = re.compile(r"(new_|image_|pixel_|norm_)?(stds?|sds?|sigma)")
LOSS = r"(\w*_)?(loss(es)?|crit|criterions?|criteria|cross_?entropy|bce|nll|focal)(_\w+)?\d*"
PHASE = r"(train|training|val|valid|validation|test|eval|best)"
MEASURE = (
    r"(acc|accuracy|top\d?|auc|auroc|f1|f1_score|ap|map|precision|recall|kappa|confmat|confusion(_matrix)?|metrics?)"
)
METRIC = (
    rf"{PHASE}_{MEASURE}(_\w+|\d*)|(\w+_)?metrics?(_\w+)?|acc\d*"
    r"|\w*(accuracy|auroc|confmat|confusion_?matrix)(_\w+|\d*)"
)
RANDOM = r"\w*(rng|random)(_states?)?|(rng|random)_\w+"
IDLE = re.compile(f"({LOSS}|{METRIC}|{RANDOM})(\\..*)?", re.IGNORECASE)
AVERAGES = re.compile(r"ema|swa|avg|average|teacher|target|momentum|shadow|attacker", re.IGNORECASE)
PLAIN = ("state_dict", "model_state_dict", "model", "net", "module", "ema", "model_ema")


def is_beside(name: str, tensor: Tensor) -> bool:
    """Whether a tensor outside a network belongs to a loss, a metric, a random generator or a counter."""
    if len(name) <= LONGEST and IDLE.fullmatch(name):
        return True
    return tensor.numel() == 1 and not tensor.is_floating_point() and not name.endswith(COUNTER)


def is_statistic(name: str) -> bool:
    """Whether a tensor is the mean or the standard deviation of images, judging by its name."""
    last = name.rpartition(".")[2]
    return MEANS.fullmatch(last) is not None or SPREADS.fullmatch(last) is not None


def plainest(names: Sequence[str]) -> str | None:
    """Return the name that training scripts usually give to the network itself, or None if no name is clear.

    It is the first of the usual names; otherwise the one contained in all others, like `params` in `params_ema`.
    """
    ends = {name.rpartition(".")[2]: name for name in reversed(names)}
    if "" in names:
        return ""
    usual = next((ends[name] for name in PLAIN if name in ends), None)
    if usual is not None:
        return usual
    shortest = min(ends, key=len)
    return ends[shortest] if len(ends) == len(names) and all(shortest in name for name in ends) else None


def copies(inside: Tensors, beside: Tensors) -> dict[str, bool]:
    """Return the prefixes of a network's copies in the same checkpoint, and whether each has the same values."""
    shapes = {name: t.shape for name, t in inside.items() if not name.endswith(COUNTER)}
    last = next(iter(shapes), None)
    found = {}
    for name in beside:
        if last is None or not name.endswith(f".{last}"):
            continue
        at = name.removesuffix(last)
        if all(at + key in beside and beside[at + key].shape == shape for key, shape in shapes.items()):
            found[at.removesuffix(".")] = all(_same(beside[at + key], inside[key]) for key in shapes)
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    return one.is_meta or other.is_meta or torch.equal(one, other)


def stated(beside: Tensors) -> str | None:
    """Return means and standard deviations as a normalisation; None if any other tensor is there, as a temperature.

    Several must agree. Values for pixels from 0 to 255 are scaled to pixels from 0 to 1.
    """
    found: tuple[set[tuple[float, ...]], ...] = (set(), set())
    for name, t in beside.items():
        part = next((i for i, of in enumerate((MEANS, SPREADS)) if of.fullmatch(name.rpartition(".")[2])), None)
        if part is None or t.numel() > FEW:
            return None
        found[part].add(tuple(t.double().flatten().tolist()))
    if [len(values) for values in found] != [1, 1]:
        return None
    (mean,), (std,) = found
    scale = 255 if max((*mean, *std)) > 2 else 1
    mean, std = (tuple(round(value / scale, 6) for value in part) for part in (mean, std))
    return str(Normalisation(mean, std))
