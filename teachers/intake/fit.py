"""Fit a checkpoint's tensors to a network, name by name and shape by shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from teachers.errors import RefusedInput
from teachers.intake.architecture import left_over
from teachers.intake.card import GUARD
from teachers.intake.fingerprint import idle
from teachers.intake.spelling import spelled
from teachers.intake.weights import Weights


def fitted(weights: Weights, wanted: Mapping[str, Tensor], architecture: str, classes: int) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under the names of a network's; those of an output defence are left out.

    Raises RefusedInput that names the keys or shapes that differ.
    """
    card = weights.card
    own = {n: t for n, t in weights.tensors.items() if not (card and card.guard and n.startswith(GUARD))}
    own = {n: t for n, t in spelled(own, wanted).tensors.items() if n in wanted or not idle(n)}
    _check(replace(weights, tensors=own), wanted, architecture, classes)
    return own


def _check(weights: Weights, tensors: Mapping[str, Tensor], architecture: str, classes: int) -> None:
    wanted = {name: tuple(t.shape) for name, t in tensors.items()}
    given = {name: tuple(t.shape) for name, t in weights.tensors.items()}
    missing = sorted(name for name in wanted.keys() - given.keys() if not idle(name))
    surplus = sorted(given.keys() - wanted.keys())
    if (missing or surplus) and weights.card is not None and weights.card.architecture == architecture:
        raise RefusedInput(
            f"{weights.path} says that it is {architecture}, but its tensors are another network's; give its state "
            "dict alone"
        )
    if surplus and not missing:
        said = left_over(architecture, len(wanted), surplus)
        raise RefusedInput(
            f"{weights.path} is more than --arch {architecture}: {said}, which may change its answers; save the "
            "network's state dict"
        )
    if missing or surplus:
        parts = [f"{len(m)} {what} (first: {m[0]})" for m, what in ((missing, "missing"), (surplus, "surplus")) if m]
        hint = "" if weights.factory else "; `audit inspect` says which network it is"
        raise RefusedInput(f"{weights.path} does not fit --arch {architecture}: keys {', '.join(parts)}{hint}")
    wrong = [name for name in wanted if name in given and wanted[name] != given[name]]
    outputs = given[wrong[0]][:1] if wrong and wrong[-1] in list(wanted)[-2:] and len(wrong) <= 2 else ()
    if outputs not in ((), (classes,)):
        raise RefusedInput(
            f"{weights.path} has {outputs[0]} outputs but the data has {classes} classes; "
            "give the --data it was trained for"
        )
    if wrong:
        name = wrong[0]
        raise RefusedInput(
            f"{weights.path} does not fit --arch {architecture}: {name} has shape {given[name]}, "
            f"not {wanted[name]} ({len(wrong)} differ){_own(weights)}"
        )


def _own(weights: Weights) -> str:
    """Say what to do about a network of the user's own that does not fit."""
    return "; name a function that makes it with its arguments" if weights.factory else ""
