"""How a stranger's checkpoint is to be used: architecture, normalisation, order of its classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from teachers import intake
from teachers.errors import AuditError, RefusedInput, UsageError
from teachers.http.address import is_address
from teachers.intake import Teacher
from teachers.names import quoted
from teachers.networks import PreprocessedNetwork
from teachers.proportions import Correct
from teachers.targets import probe, questions
from teachers.targets.candidates import LOOKED, apart, candidates, misfit, running
from teachers.targets.runtime import Runtime
from teachers.targets.selection import HALVED, Choice, Permutation, Tops, choose, permuted
from teachers.targets.target import Target, TeacherSpec
from teachers.task import Task, known

FEW = 256  # images on which every way to use a network is tried; those that may be the best on more
DEFAULT = "none"  # the normalisation, unless another is clearly better
SHOWN = 10  # classes that a refusal names


@dataclass(frozen=True)
class Identification:
    """How a checkpoint is to be used, and why."""

    architecture: str | None  # None where it is undecided
    alike: tuple[str, ...] = ()  # other networks with these tensors, which answer alike
    among: Choice | None = None  # networks with these tensors that answer otherwise, compared
    normalize: str | None = None  # None where it is undecided
    choice: Choice | None = None  # of the normalisation
    permutation: Permutation | None = None
    asked: int = 0  # images that all candidates were shown
    stated: str | None = None  # the normalisation that the file itself states
    changes: tuple[str, ...] = ()  # from the checkpoint's names of tensors to the network's
    output: str = ""  # which of a program's outputs is taken, as a line to tell
    weights: str = ""  # which of several mappings of tensors these are, as a sentence
    left_over: str = ""  # which tensors are no network's, as a sentence

    @property
    def undecided(self) -> str:
        """What the command line has to decide, as a part of a sentence; empty where all is found."""
        if self.architecture is None and self.among is not None:
            return f"fits several networks, of which none is clearly the best: {_accuracies(self.among)}; give --arch"
        if self.normalize is None and self.choice is not None:
            return f"has no clear normalisation: {tie(self.choice)}; give --normalize"
        return ""


def settled(
    spec: TeacherSpec, task: Task, weights: intake.Weights | None, runtime: Runtime, *, programs: bool = False
) -> TeacherSpec:
    """Fill in how a checkpoint is to be used where neither the command line nor its card says, and tell it.

    One that is a program is left alone, but where `programs` may run: in a process of their own.

    Raises UsageError where that is undecided; RefusedInput where the classes are in another order.
    """
    if weights is not None and weights.is_program and not programs:
        return spec
    if weights is None or weights.card is not None:
        if spec.classes and not is_address(spec.teacher):
            raise UsageError(f"--classes: {spec.teacher} says itself what its classes are; leave --classes out")
        return spec
    found = identify(weights, spec, task, runtime.device)
    for line in told(found, task):
        runtime.note(line)
    if found.permutation is not None:
        raise RefusedInput(f"{weights.path} {another_order(found.permutation, task)}")
    if found.undecided:
        raise UsageError(f"{weights.path} {found.undecided}")
    architecture = None if weights.is_program else found.architecture
    return replace(spec, architecture=architecture, normalize=found.normalize, tried=found.asked)


def refuse_other_order(target: Target, top: Tops, task: Task) -> None:
    """Stop where a teacher behind a URL has its classes in another order, as it is found out of a file beforehand.

    `top` (M,) is what it says of the validation images.
    """
    if target.remote is None or target.teacher.order:
        return
    index = order(task)
    if other := permuted(top[index], known(task.validation)[index], len(task.classes)):
        raise RefusedInput(f"{target.teacher.name} {another_order(other, task)}")


def order(task: Task) -> NDArray[np.int64]:
    """Return the validation images that ways to use a network are tried on, in the order of the probe."""
    return questions.drawn(len(task.validation))


def identify(weights: intake.Weights, spec: TeacherSpec, task: Task, device: str) -> Identification:
    """Find out how a checkpoint is to be used, on validation images.

    Raises UsageError where no network fits, RefusedInput where none can be loaded.
    """
    index = order(task)
    x = torch.from_numpy(task.validation.images[index[:LOOKED]]).float().div_(255)
    changes: tuple[str, ...] = ()
    left = ""
    if weights.is_program:
        loaded = {weights.kind: running(weights, task.shape, len(task.classes))}
    else:
        fits = candidates(weights, spec)
        changes, left = fits[0].changes, fits[0].left_over
        weights = replace(weights, normalize=weights.normalize or fits[0].normalize)
        try:
            loaded = apart(weights, [c.name for c in fits], len(task.classes), x, device)
        except AuditError as e:
            refused = misfit(weights, fits[0], task)
            if refused is None:
                raise
            raise refused from e
    teachers = {name: _in_order(one.teacher, spec, task) for name, one in loaded.items()}
    ways, stated = _ways(weights, spec, task)
    name, among, asked = next(iter(teachers)), None, len(x) * sum(1 + len(one.alike) for one in loaded.values())
    if len(teachers) > 1:
        among = choose({n: _at_best(t, ways, task, index[:FEW], device) for n, t in teachers.items()})
        asked += len(teachers) * len(ways) * min(FEW, len(index))
        if not among.clear:
            return Identification(
                None, among=among, asked=asked, changes=changes, weights=weights.taken, left_over=left
            )
        name = among.best
    tried = _tried(teachers[name], ways, task, index, device)
    other = None if spec.classes else tried.other_order(len(task.classes))
    choice = tried.choice
    if other is not None:
        normalize: str | None = other.behind
    elif choice.clear:
        normalize = choice.best
    else:
        usual = stated or DEFAULT
        normalize = usual if usual in (choice.best, *choice.rivals) else None
    return Identification(
        architecture=name,
        alike=loaded[name].alike,
        among=among,
        normalize=normalize,
        choice=choice if len(ways) > 1 else None,
        stated=stated,
        permutation=other and other.permutation,
        asked=asked + tried.asked,
        changes=changes,
        output=teachers[name].taken,
        weights=weights.taken,
        left_over=left,
    )


def _ways(weights: intake.Weights, spec: TeacherSpec, task: Task) -> tuple[list[str], str | None]:
    """Return the normalisations to try, and the one among them that the file itself states, if it does."""
    if spec.normalize is not None:
        return [spec.normalize], None
    ways = probe.normalisations(task)
    if weights.normalize is None:
        return list(ways), None
    try:
        stated = intake.normalisation(weights.normalize, task.shape[0])
    except UsageError:  # of images of other channels
        return list(ways), None
    name = next((name for name, way in ways.items() if probe.same(way, stated)), str(stated))
    return list(dict.fromkeys([*ways, name])), name


def _in_order(teacher: Teacher, spec: TeacherSpec, task: Task) -> Teacher:
    return intake.reordered(teacher, spec.classes, task.classes) if spec.classes else teacher


class ClassOrder(NamedTuple):
    """Another order of the classes, and the normalisation behind which it was found."""

    behind: str
    permutation: Permutation


@dataclass(frozen=True)
class Attempts:
    """A network behind several normalisations: which is clearly best, and its answers behind those that may be."""

    choice: Choice
    tops: Mapping[str, Tops]
    labels: NDArray[np.int64]
    asked: int  # images, each counted for every way that it was tried

    def other_order(self, classes: int) -> ClassOrder | None:
        """Return the best other order of the classes, if the network is more accurate in it than in the data's own."""
        tries = len(self.choice.accuracies)
        found = {way: permuted(top, self.labels, classes, tries) for way, top in self.tops.items()}
        best = self.choice.accuracies[self.choice.best]
        least = max(1 - HALVED * (1 - best), math.nextafter(best, 2))
        better = [ClassOrder(way, p) for way, p in found.items() if p and p.accuracy >= least]
        return max(better, key=lambda other: other.permutation.accuracy, default=None)


def _tried(teacher: Teacher, ways: Sequence[str], task: Task, index: NDArray[np.int64], device: str) -> Attempts:
    """Try normalisations on few images, and those that may be the best on all of them."""
    few = index[:FEW]
    first = choose(_right(_tops(teacher, ways, task, few, device), task, few))
    left = [way for way in ways if way in (first.best, *first.rivals)]
    tops, labels = _tops(teacher, left, task, index, device), known(task.validation)[index]
    asked = len(ways) * len(few) + len(left) * len(index)
    return Attempts(first.then(choose(_right(tops, task, index), others=len(ways) - 1)), tops, labels, asked)


def _tops(teacher: Teacher, ways: Sequence[str], task: Task, index: NDArray[np.int64], device: str) -> dict[str, Tops]:
    assert isinstance(teacher.network, PreprocessedNetwork)
    network = teacher.network.network
    return {
        way: probe.tops_behind(network, intake.normalisation(way, task.shape[0]), task, index, device) for way in ways
    }


def _right(tops: Mapping[str, Tops], task: Task, index: NDArray[np.int64]) -> dict[str, Correct]:
    labels = known(task.validation)[index]
    return {way: top == labels for way, top in tops.items()}


def _at_best(teacher: Teacher, ways: Sequence[str], task: Task, index: NDArray[np.int64], device: str) -> Correct:
    """Return what a network gets right behind the normalisation that suits it best, (n,)."""
    tried = _right(_tops(teacher, ways, task, index, device), task, index)
    return max(tried.values(), key=lambda right: int(right.sum()))


def told(found: Identification, task: Task) -> list[str]:
    """Say how a checkpoint is used, a line each."""
    if found.architecture is None:
        return []
    same = f"; {', '.join(found.alike)} would answer alike" if found.alike else ""
    why = f", the most accurate of {_accuracies(found.among)}" if found.among else ""
    lines = [f"architecture {found.architecture}{why}{same}"]
    if found.output:
        lines.append(found.output)
    if found.changes:
        lines.append(f"tensors {', '.join(found.changes)}")
    lines += [line for line in (found.weights, found.left_over) if line]
    if found.permutation is not None:
        names = ", ".join(quoted(task.classes[c]) for c in found.permutation.classes)
        lines.append(f"classes in the order of the network's outputs, as found: {names}")
    elif found.choice is not None and found.normalize is not None:
        lines.append(f"normalisation {found.normalize}: {why_normalised(found.choice)}")
        if found.stated is not None:
            its = "this one" if found.stated == found.normalize else f"another, {found.stated}"
            lines.append(f"the file itself states {its}")
    return lines


def why_normalised(choice: Choice) -> str:
    """Say why a normalisation was chosen, or why none was."""
    if not choice.clear:
        return f"{tie(choice)}; --normalize takes another"
    best, second = list(choice.accuracies)[:2]
    return (
        f"right on {choice.accuracies[best]:.1%} of the validation images asked, behind {second} on "
        f"{choice.accuracies[second]:.1%} (p ≤ {max(choice.p.values()):.1g}, McNemar's exact test after Bonferroni's "
        "correction)"
    )


def tie(choice: Choice) -> str:
    """Say between which normalisations there is no telling."""
    best = f"{choice.best} ({choice.accuracies[choice.best]:.1%})"
    rivals = ", ".join(f"{name} ({choice.accuracies[name]:.1%})" for name in choice.rivals)
    return f"on validation images {best} is not clearly better than {rivals}"


def another_order(found: Permutation, task: Task) -> str:
    """Say that a network's classes are in another order, as a sentence."""
    names = [quoted(task.classes[c]) for c in found.classes[:SHOWN]]
    more = ", …" if len(found.classes) > SHOWN else ""
    return (
        f"has its classes in another order: reordered as {', '.join(names)}{more} it is right on {found.accuracy:.1%} "
        f"of {found.images:,} validation images that had no part in finding this, as it is on {found.before:.1%}; give "
        "--classes FILE, one class name a line in the order of the network's outputs"
    )


def _accuracies(choice: Choice) -> str:
    return ", ".join(f"{name} ({share:.1%})" for name, share in choice.accuracies.items())
