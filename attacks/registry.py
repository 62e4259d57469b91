"""Find attacks and controls by name: ours, and those of installed plug-ins."""

from __future__ import annotations

import inspect
import sys

from attacks import adaptive, data_free, declared, gradients, labels, logits, resistant, surrogate
from attacks.base import Attack, Technique
from attacks.controls import CONTROLS as CONTROLS
from teachers.errors import UsageError
from teachers.names import nearest

WRAPPED = ("network", "classes", "shape")  # the parameters of a wrapping function
FAMILIES = (logits, resistant, adaptive, labels, surrogate, data_free, gradients)
OURS: tuple[type[Attack], ...] = tuple(attack for family in FAMILIES for attack in family.ATTACKS)


def plugins() -> dict[str, type[Attack]]:
    """Return stand-ins for the attacks that other installed distributions register.

    Raises UsageError if one does not import, is no Attack, or uses an existing name: a missing attack would look like
    one that the teacher resisted.
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
    """Return an attack or control by name; for a plug-in's attack, a stand-in that cannot run.

    Raises UsageError, which suggests similar names, if there is none of that name.
    """
    return _ours().get(name) or _find({**_ours(), **plugins()}, name)


def runnable(name: str) -> type[Technique]:
    """Return an attack or control by name, importing a plug-in's code: only for the process that trains."""
    return _ours().get(name) or declared.load(name) or _find(_ours(), name)


def origin(technique: type[Technique]) -> str:
    """Return a technique's origin: empty for ours, else the distribution, version and digest of its package."""
    return getattr(technique, "origin", "")


def owner(name: str, wrap: str | None = None) -> str:
    """Return the distribution whose code trains a technique's students, also if wrapped; empty if all code is ours.

    Raises UsageError if the wrapping belongs to no attack's package.
    """
    technique = find(name)
    if wrap is None or wraps(wrap):
        return getattr(technique, "distribution", "")
    package = wrap.partition(":")[0].partition(".")[0]
    known = (technique,) if origin(technique) else plugins().values()
    for plugin in known:
        if package in getattr(plugin, "packages", ()):
            return str(getattr(plugin, "distribution", ""))
    raise UsageError(
        f"{name} wraps its student by {wrap!r}, which belongs to no attack; name a function of its own package"
    )


def wraps(name: str) -> bool:
    """Whether a wrapping, `module:function`, is ours: defined in an attack's file, with the parameters WRAPPED."""
    module, _, function = name.partition(":")
    if module not in {technique.__module__ for technique in _ours().values()}:
        return False
    made = vars(sys.modules[module]).get(function)
    if not callable(made) or getattr(made, "__module__", "") != module:
        return False
    return tuple(inspect.signature(made).parameters) == WRAPPED


def _ours() -> dict[str, type[Technique]]:
    return {**{attack.name: attack for attack in OURS}, **CONTROLS}


def _find(known: dict[str, type[Technique]], name: str) -> type[Technique]:
    if name not in known:
        hint = nearest(name, known, most=3, otherwise="see `audit ls attacks`")
        raise UsageError(f"unknown attack {name!r}; {hint}")
    return known[name]
