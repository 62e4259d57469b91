"""Whether an entry of the cache is what its name says, as far as that can be told without training it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from audit.caching.entries import Kind
from audit.execution import forms
from audit.execution.cells import Result
from audit.execution.seals import Broken as Broken
from audit.execution.seals import Content, opened
from teachers import intake
from teachers.errors import RefusedInput, UsageError
from teachers.intake import Teacher

T = TypeVar("T")


def check(kind: Kind, path: Path, name: str) -> None:
    """Check one entry of the cache, by its name there.

    Raises Broken.
    """
    if parse := parsing(kind, name):
        _read(path, name, parse)


def parsing(kind: Kind, name: str) -> Callable[[Content], object] | None:
    """Return what reads an entry; None for what has no seal."""
    stem, above = Path(name).stem, Path(name).parent.name
    known: dict[Kind, Callable[[Content], object]] = {
        "students": lambda content: forms.student(content, stem),
        "teachers": _teacher,
        "answers": forms.output if stem == "output" else lambda content: forms.block(content, above),
        "looks": forms.looks,
        "pools": forms.pool,
        "unfinished": forms.state,
    }
    return known.get(kind)


def student(path: Path, name: str) -> Result:
    """Read a student as the store does.

    Raises Broken.
    """
    return _read(path, name, lambda content: forms.student(content, Path(name).stem))


def teacher(path: Path, name: str = "") -> Teacher:
    """Open a taught teacher as an audit does.

    Raises Broken.
    """
    return _read(path, name or f"{path.parent.name}/{path.name}", _teacher)


def looks(path: Path, name: str) -> tuple[int, ...]:
    """Read at which numbers of seeds a question was looked at.

    Raises Broken.
    """
    return _read(path, name, forms.looks)


def block(path: Path, name: str) -> forms.Block:
    """Read a block of answers.

    Raises Broken.
    """
    return _read(path, name, lambda content: forms.block(content, Path(name).parent.name))


def _read(path: Path, name: str, parse: Callable[[Content], T]) -> T:
    try:
        with opened(path, name) as content:
            return parse(content)
    except FileNotFoundError as e:
        raise Broken("is gone") from e


def _teacher(content: Content) -> Teacher:
    try:
        with forms.checkpoint(content) as weights:
            card = weights.card
            assert card is not None
            return intake.assemble(weights, card.architecture, len(card.classes), card.shape, card.normalize)
    except (RefusedInput, UsageError) as e:
        raise Broken(forms.UNFIT) from e
