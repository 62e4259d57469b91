"""An attack in the working directory, made known like an installed plug-in's: its code runs in workers alone."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attacks import declared, registry
from teachers import imports

EXAMPLE = "my_attack:MyAttack"
METADATA = f"Metadata-Version: 2.1\nName: {declared.WORKING}\nVersion: 0\n"


@contextmanager
def known(text: str) -> Iterator[str]:
    """Yield the name of an attack, given by its name, `NAME:PRESET`, or `module:Class` of the working directory.

    Raises UsageError with one sentence if the module or the class cannot be used.
    """
    name, _, inside = text.partition(":")
    if not inside or inside in _presets(name):
        yield text
        return
    imports.check_name(text, EXAMPLE)
    with tempfile.TemporaryDirectory(prefix="distill-audit-") as folder, _first(folder):
        about = Path(folder) / f"{declared.WORKING}-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(METADATA, encoding="utf-8")
        (about / "entry_points.txt").write_text(f"[{declared.GROUP}]\nattempted = {text}\n", encoding="utf-8")
        found = registry.plugins().items()
        yield next(name for name, attack in found if registry.owner(name) == declared.WORKING)


def _presets(name: str) -> tuple[str, ...]:
    attack = registry.attacks().get(name)
    return () if attack is None else tuple(attack.presets())


@contextmanager
def _first(folder: str) -> Iterator[None]:
    """Search a folder first for installed distributions; it holds no code."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
