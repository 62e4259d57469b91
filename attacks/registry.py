"""All attacks and controls by name: ours, and those of installed plug-ins."""

from __future__ import annotations

import difflib

from attacks import data_free, declared, gradients, labels, logits, resistant, surrogate
from attacks.base import Attack, Technique
from attacks.controls import CONTROLS as CONTROLS
from teachers.errors import UsageError

FAMILIES = (logits, resistant, labels, surrogate, data_free, gradients)
OURS: tuple[type[Attack], ...] = tuple(attack for family in FAMILIES for attack in family.ATTACKS)


def plugins() -> dict[str, type[Attack]]:
    """Return stand-ins for the attacks that other installed distributions register.

    Raises UsageError where one does not import, is no Attack, or takes a name that is taken: a missing attack would
    read as an attack survived.
    """
    found = declared.declared()
    for name in found:
        if name in {attack.name for attack in OURS} | CONTROLS.keys():
            raise UsageError(f"a plug-in registers {name!r}, which is taken; rename or uninstall it")
    return found


def attacks() -> dict[str, type[Attack]]:
    """Return every attack by name."""
    return {attack.name: attack for attack in OURS} | plugins()


def find(name: str) -> type[Technique]:
    """Return an attack or control by name; of a plug-in's attack a stand-in that cannot run.

    Raises UsageError with near names where there is none of that name.
    """
    return _ours().get(name) or _find({**_ours(), **plugins()}, name)


def runnable(name: str) -> type[Technique]:
    """Return an attack or control by name, a plug-in's imported: only for the process that trains."""
    return _ours().get(name) or declared.load(name) or _find(_ours(), name)


def origin(technique: type[Technique]) -> str:
    """Return where a technique comes from: empty for ours, else distribution, version and digest of its package."""
    return getattr(technique, "origin", "")


def _ours() -> dict[str, type[Technique]]:
    return {**{attack.name: attack for attack in OURS}, **CONTROLS}


def _find(known: dict[str, type[Technique]], name: str) -> type[Technique]:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see `audit ls attacks`"
        raise UsageError(f"unknown attack {name!r}; {hint}")
    return known[name]
