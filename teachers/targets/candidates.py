"""Find the networks that a checkpoint fits, and group those that answer alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from teachers import intake
from teachers.errors import AuditError, RefusedInput, UsageError
from teachers.intake import Teacher, Weights
from teachers.intake.architecture import Candidate, Guess, guess, inside, left_over
from teachers.targets import probe
from teachers.targets.spec import TeacherSpec
from teachers.task import Task

MOST = 8  # networks to load, at most, where several share all tensor names and shapes; the likeliest first
LOOKED = 4  # images on which the answers of the loaded networks are compared
PLAIN = "none"  # the normalisation under which networks are compared
CLOSE = 1e-4  # tolerance: log-probabilities closer than this differ by rounding only


def candidates(weights: Weights, spec: TeacherSpec) -> Sequence[Candidate]:
    """Return the networks that a checkpoint fits, or the one that the command line or its card names.

    Raises UsageError if the checkpoint fits none; the message names the nearest network.
    """
    card = weights.card
    found = guess(weights.tensors)
    name = spec.architecture or (card.architecture if card else None)
    if card is None and not found.candidates and (inner := inside(weights.tensors)):
        raise UsageError(f"{weights.path} {_which(weights, inner)}")
    if name is not None:
        known_as = [c for c in found.candidates if name in (c.name, c.name.rpartition(":")[2])]
        one = known_as[0] if known_as else Candidate(name, None, 3, None, fixed=False)
        if card is not None:
            one = replace(one, classes=len(card.classes), channels=card.shape[0], size=card.shape[1])
        return [replace(one, name=name)]
    if not found.candidates:
        raise UsageError(f"{weights.path} {_why_none(weights, found)}")
    return found.candidates


def _why_none(weights: Weights, found: Guess) -> str:
    """Name the network nearest to a checkpoint that fits none, and what the user can do."""
    if found.surplus:
        return (
            f"is more than a network: {found.surplus}, which may change its answers; save the network's own state dict"
        )
    folder = weights.path.parent
    hf = (folder / "config.json").is_file()
    do = (
        f"give its folder, {folder}"
        if hf
        else "name its --arch (your own class: --arch MODULE:FACTORY --trust-model-code), or export it to ONNX"
    )
    return f"fits no architecture that this tool knows; {found.told}; {do}"


def _which(weights: Weights, inner: Mapping[str, Candidate]) -> str:
    """Name the networks that a checkpoint holds as parts, where none of them accounts for all its tensors."""
    at, fit = next(iter(inner.items()))
    if len(inner) > 1:
        told = ", ".join(f"{at} ({fit.name})" for at, fit in inner.items())
        return f"holds several networks: {told}; say which one is meant: --weights {at}"
    rest = tuple(name for name in weights.tensors if not name.startswith(f"{at}."))
    said = left_over(fit.name, len(weights.tensors) - len(rest), rest)
    them = "it" if len(rest) == 1 else "them"
    return f"may answer differently from the network inside {at}: {said}; --weights {at} leaves {them} out"


class CandidateTeacher(NamedTuple):
    """A checkpoint loaded into a network, its raw outputs, and the names of other networks that answer alike."""

    teacher: Teacher
    raw: Tensor  # (n, K)
    alike: tuple[str, ...] = ()


def apart(
    weights: Weights, names: Sequence[str], classes: int, x: Tensor, device: str = "cpu"
) -> dict[str, CandidateTeacher]:
    """Load a checkpoint into each network named; networks that answer images x (n, C, H, W) alike share one entry.

    Raises the first loading error if no network can be loaded.
    """
    found: dict[str, CandidateTeacher] = {}
    refused: AuditError | None = None
    for name in names[:MOST]:
        try:
            teacher = intake.assemble(weights, name, classes, (x.shape[1], x.shape[2], x.shape[3]), PLAIN)
        except AuditError as e:
            refused = refused or e
            continue
        raw = probe.raw(teacher.here.to(device), x.to(device))
        twin = next((n for n, one in found.items() if _alike(one.raw, raw)), None)
        if twin is None:
            found[name] = CandidateTeacher(teacher, raw)
        else:
            found[twin] = found[twin]._replace(alike=(*found[twin].alike, name))
    if not found and refused is not None:
        raise refused
    return found


def running(weights: Weights, shape: tuple[int, int, int], classes: int) -> CandidateTeacher:
    """Run a checkpoint that is a program and so brings its own network."""
    return CandidateTeacher(intake.assemble(weights, "", classes, shape, PLAIN), torch.zeros(0, classes))


def _alike(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.log_softmax(-1), other.log_softmax(-1), CLOSE, CLOSE, equal_nan=True)


def misfit(weights: Weights, fit: Candidate, task: Task) -> RefusedInput | None:
    """Return an error if the network of a checkpoint differs from the data in classes, channels or size, else None."""
    channels, height, width = task.shape
    its = f"{weights.path} ({fit.name})"
    if fit.classes is None:
        return None
    if fit.classes != len(task.classes):
        return RefusedInput(
            f"{its} has {fit.classes} outputs but the data has {len(task.classes)} classes; "
            "give the --data it was trained for"
        )
    if fit.channels != channels:
        return RefusedInput(
            f"{its} takes images of {fit.channels} channels, the data has {channels}; "
            "give the --data it was trained for"
        )
    if fit.fixed and fit.size is not None and (height, width) != (fit.size, fit.size):
        return RefusedInput(
            f"{its} takes images of {fit.size} × {fit.size} pixels, the data has {height} × {width}; "
            f"give --size {fit.size}"
        )
    return None
