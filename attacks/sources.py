"""Read our attacks' class attributes from their source code, without torch and without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

from teachers.kinds import Kind


class Statement(NamedTuple):
    """The class attributes of an attack that its record must repeat."""

    needs: Kind
    holds: str
    views: str | None  # kinds of stored views that it asks about, joined by +; None if it decides while it runs
    version: int
    decodes: bool  # whether it finds out what answers mean before it learns from them


@cache
def statements() -> Mapping[str, Statement]:
    """Return the statement of every attack in this package, by the attack's name."""
    classes = {node.name: node for node in _classes()}
    found = {}
    for node in classes.values():
        said = _attributes(node, classes)
        if {"name", "needs", "holds"} <= said.keys():
            views, version = said.get("views"), said.get("version", 1)
            assert isinstance(version, int)
            found[str(said["name"])] = Statement(
                _needs(said["needs"]),
                str(said["holds"]),
                None if views is None else str(views),
                version,
                bool(said.get("decodes", False)),
            )
    return found


def _needs(value: object) -> Kind:
    return next(kind for kind in get_args(Kind) if kind == value)


def _classes() -> Iterator[ast.ClassDef]:
    for path in sorted(Path(__file__).parent.glob("*/*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                yield node


def _attributes(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> dict[str, object]:
    """Return the constant class attributes of a class and its bases."""
    found: dict[str, object] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            found |= _attributes(classes[base.id], classes)
    for line in node.body:
        target = (
            line.targets[0]
            if isinstance(line, ast.Assign)
            else line.target
            if isinstance(line, ast.AnnAssign)
            else None
        )
        value = getattr(line, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
            found[target.id] = value.value
    return found
