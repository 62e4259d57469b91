"""What of our techniques is their authors' own: the page that says it, made from the techniques themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from attacks.base import Attack, Technique
from attacks.registry import CONTROLS, OURS
from teachers.fidelity import Fidelity
from teachers.methods.registry import METHODS

HEAD = """# What of it is the authors' own

Each technique is written anew from its paper. Where public code was read, the tables say which file, whether our
default setting is the authors', which other settings of an attack are theirs, and what differs. Places in the grid
count from 1, the default; suites tune over the first ones, at standard effort four. `audit attempt NAME --set
FIELD=VALUE` tries any setting, and `--attacks NAME:PRESET` a preset. “Public code” is code whose path was not noted
when it was compared.
"""
UNCOMPARED = "Without a comparison, because they are our own compositions or no code was read: {}."
WORDS = {True: "yes", False: "no", None: "not known"}


def page() -> str:
    """Write docs/fidelity.md."""
    every: dict[str, type[Technique]] = {**{attack.name: attack for attack in OURS}, **CONTROLS}
    other = ", ".join(f"`{name}`" for name, technique in every.items() if technique.fidelity is None)
    rows = [_row(name, t.fidelity, _settings(t, t.fidelity)) for name, t in every.items() if t.fidelity]
    taught = [_row(name, method.fidelity) for name, method in METHODS.items() if method.fidelity]
    lines = [HEAD, "## Attacks and controls\n", *_table("attack", "other settings of the authors", rows)]
    lines += [f"\n{UNCOMPARED.format(other)}\n", "## Ways to teach\n", *_table("way to teach", "", taught)]
    return "\n".join(lines) + "\n"


def _table(what: str, more: str, rows: list[list[str]]) -> Iterator[str]:
    head = [what, "read", "default is the authors'", *([more] if more else []), "what differs, or is not known"]
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |"


def _row(name: str, known: Fidelity, *more: str) -> list[str]:
    source = known.source and (f"`{known.source}`" if "/" in known.source else known.source)
    return [
        f"`{name}`",
        source or "nothing that settles it",
        WORDS[known.default],
        *more,
        known.note or "nothing found",
    ]


def _settings(technique: type[Technique], known: Fidelity) -> str:
    """Write the authors' other settings by what they change, each with its place in the grid or its preset."""
    default, found = asdict(technique()), []
    for place in known.settings:
        if isinstance(place, str):
            setting: Technique = technique.presets()[place] if issubclass(technique, Attack) else technique()
        else:
            setting = technique.grid()[place]
        changes = (
            f"{n}={v:.3g}" if type(v) is float else f"{n}={v}" for n, v in asdict(setting).items() if v != default[n]
        )
        where = f"preset `{place}`" if isinstance(place, str) else f"place {place + 1}"
        found.append(f"`{', '.join(changes)}` ({where})")
    return "; ".join(found) or "–"
