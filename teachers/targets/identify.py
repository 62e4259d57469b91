"""Identify a checkpoint of unknown origin: its architecture, its normalisation, the order of its classes."""

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
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import Target
from teachers.task import Task, known

FEW = 256  # images on which every normalisation is tried; those that may be the best are then tried on more
DEFAULT = "none"  # the normalisation, unless another is clearly better
SHOWN = 10  # class names in an error message, at most


@dataclass(frozen=True)
class Identification:
    """The architecture, normalisation and class order found for a checkpoint, and the evidence for each."""

    architecture: str | None  # None if undecided
    alike: tuple[str, ...] = ()  # other networks with the same tensors that answer alike
    among: Choice | None = None  # the comparison of networks with the same tensors that answer differently
    normalize: str | None = None  # None if undecided
    choice: Choice | None = None  # the comparison of normalisations
    permutation: Permutation | None = None
    asked: int = 0  # images shown, summed over all candidates
    stated: str | None = None  # the normalisation that the file states
    changes: tuple[str, ...] = ()  # how the checkpoint's tensor names were changed to the network's
    output: str = ""  # which output of a program is used, as a line to print
    weights: str = ""  # which of several state dicts is used, as a sentence
    left_over: str = ""  # which tensors belong to no network, as a sentence

    @property
    def undecided(self) -> str:
        """What the user must decide on the command line, as part of a sentence; empty if nothing."""
        if self.architecture is None and self.among is not None:
            return f"fits several networks, and none is clearly the best: {_accuracies(self.among)}; give --arch"
        if self.normalize is None and self.choice is not None:
            return f"has no clear normalisation: {tie(self.choice)}; give --normalize"
        return ""


def settled(
    spec: TeacherSpec, task: Task, weights: intake.Weights | None, runtime: Runtime, *, programs: bool = False
) -> TeacherSpec:
    """Fill in what neither the command line nor the card says about a checkpoint, and note what was found.

    A program is not identified unless `programs` is set, which requires that this process is isolated.

    Raises UsageError if something stays undecided, RefusedInput if the classes are in another order.
    """
    if weights is not None and weights.is_program and not programs:
        return spec
    if weights is None or weights.card is not None:
        if spec.classes and spec.live is None and not is_address(spec.teacher):
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
    """Stop if a teacher behind a URL has its classes in another order; for a file, `identify` checks this earlier.

    `top` (M,) holds the teacher's top class for each validation image. Raises RefusedInput.
    """
    if target.remote is None or target.teacher.order:
        return
    index = order(task)
    if other := permuted(top[index], known(task.validation)[index], len(task.classes)):
        raise RefusedInput(f"{target.teacher.name} {another_order(other, task)}")


def order(task: Task) -> NDArray[np.int64]:
    """Return the indices of the validation images on which normalisations are tried, in the probe's order."""
    return questions.drawn(len(task.validation))


def identify(weights: intake.Weights, spec: TeacherSpec, task: Task, device: str) -> Identification:
    """Find a checkpoint's architecture, normalisation and class order from its answers to validation images.

    Raises UsageError if no network fits, RefusedInput if none can be loaded.
    """
    index = order(task)
    x = torch.from_numpy(task.validation.images[index[:LOOKED]]).float().div_(255)
    changes: tuple[str, ...] = ()
    left = ""
    if weights.is_program:
        loaded = {weights.program: running(weights, task.shape, len(task.classes))}
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
    """Return the normalisations to try, and the one among them that the file states, or None."""
    if spec.normalize is not None:
        return [spec.normalize], None
    ways = probe.normalisations(task)
    if weights.normalize is None:
        return list(ways), None
    try:
        stated = intake.normalisation(weights.normalize, task.shape[0])
    except UsageError:  # stated for another number of channels
        return list(ways), None
    name = next((name for name, way in ways.items() if probe.same(way, stated)), str(stated))
    return list(dict.fromkeys([*ways, name])), name


def _in_order(teacher: Teacher, spec: TeacherSpec, task: Task) -> Teacher:
    return intake.reordered(teacher, spec.classes, task.classes) if spec.classes else teacher


class ClassOrder(NamedTuple):
    """Another order of the classes, and the normalisation under which it was found."""

    behind: str
    permutation: Permutation


@dataclass(frozen=True)
class Attempts:
    """A network tried under several normalisations: their comparison, and the top classes under the likely ones."""

    choice: Choice
    tops: Mapping[str, Tops]
    labels: NDArray[np.int64]
    asked: int  # images shown, counted once per normalisation

    def other_order(self, classes: int) -> ClassOrder | None:
        """Return the best other order of the classes, or None if the data's own order is as accurate."""
        tries = len(self.choice.accuracies)
        found = {way: permuted(top, self.labels, classes, tries) for way, top in self.tops.items()}
        best = self.choice.accuracies[self.choice.best]
        least = max(1 - HALVED * (1 - best), math.nextafter(best, 2))
        better = [ClassOrder(way, p) for way, p in found.items() if p and p.accuracy >= least]
        return max(better, key=lambda other: other.permutation.accuracy, default=None)


def _tried(teacher: Teacher, ways: Sequence[str], task: Task, index: NDArray[np.int64], device: str) -> Attempts:
    """Try all normalisations on FEW images, then those that may be the best on all images of the index."""
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
    """Return which images a network gets right under its most accurate normalisation, (n,)."""
    tried = _right(_tops(teacher, ways, task, index, device), task, index)
    return max(tried.values(), key=lambda right: int(right.sum()))


def told(found: Identification, task: Task) -> list[str]:
    """Describe how a checkpoint is used, one line per fact."""
    if found.architecture is None:
        return []
    same = f"; {', '.join(found.alike)} would give the same answers" if found.alike else ""
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
    """Explain why a normalisation was chosen, or why none was."""
    if not choice.clear:
        return f"{tie(choice)}; --normalize chooses another"
    best, second = list(choice.accuracies)[:2]
    return (
        f"right on {choice.accuracies[best]:.1%} of the queried validation images, with {second} on "
        f"{choice.accuracies[second]:.1%} (p ≤ {max(choice.p.values()):.1g}, McNemar's exact test after Bonferroni's "
        "correction)"
    )


def tie(choice: Choice) -> str:
    """Name the normalisations that validation images cannot tell apart."""
    best = f"{choice.best} ({choice.accuracies[choice.best]:.1%})"
    rivals = ", ".join(f"{name} ({choice.accuracies[name]:.1%})" for name in choice.rivals)
    return f"on validation images {best} is not clearly better than {rivals}"


def another_order(found: Permutation, task: Task) -> str:
    """Explain that a network's classes are in another order, as a sentence."""
    names = [quoted(task.classes[c]) for c in found.classes[:SHOWN]]
    more = ", …" if len(found.classes) > SHOWN else ""
    return (
        f"has its classes in another order: reordered as {', '.join(names)}{more} it is right on {found.accuracy:.1%} "
        f"of {found.images:,} validation images that were not used to find this order, without reordering on "
        f"{found.before:.1%}; give --classes FILE, one class name per line in the order of the network's outputs"
    )


def _accuracies(choice: Choice) -> str:
    return ", ".join(f"{name} ({share:.1%})" for name, share in choice.accuracies.items())
