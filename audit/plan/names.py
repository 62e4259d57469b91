"""Names that an option holds, with commas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from teachers import kinds
from teachers.errors import UsageError
from teachers.files import composed
from teachers.names import in_quotes


def listed(text: str) -> tuple[str, ...]:
    """Return the names in a text, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def surfaces(text: str) -> tuple[str, ...]:
    """Parse a list of surfaces; each is returned once.

    Raises UsageError for an unknown surface.
    """
    names = listed(text)
    if not names:
        raise UsageError(f"--surface {text!r} names no surface; give probs, label, top:5…")
    for name in names:
        kinds.steps(name)
    return names


def classes(text: str, known: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the classes that a text names, each once, and the first name in it that is no class, if there is one.

    A name may hold commas itself: of parts that commas part, as many as make up the name of a class belong together.
    A part in double quotes, with a quote in it written twice, is a name by itself.
    """
    meant = {_plain(name): name for name in known}
    most = max((name.count(",") for name in known), default=0) + 1
    parts = [part.strip() for part in re.findall(r'\s*"(?:[^"]|"")*"\s*(?=,|$)|[^,]+', text) if part.strip()]
    found: dict[str, None] = {}
    while parts:
        lengths = range(min(most, len(parts)), 0, -1)
        length, name = next(((n, name) for n in lengths if (name := _named(parts[:n], meant))), (1, ""))
        if not name:
            return tuple(found), parts[0]
        found[name] = None
        parts = parts[length:]
    return tuple(found), ""


def text_of(names: Iterable[str]) -> str:
    """Return the text in which `classes` finds these names and no others."""
    return ",".join(map(in_quotes, names))


def _named(parts: Sequence[str], known: dict[str, str]) -> str:
    """Return the class that some parts name together; empty where there is none."""
    first = parts[0]
    if len(parts) == 1 and len(first) > 1 and first[0] == first[-1] == '"':
        inside = known.get(_plain(first[1:-1].replace('""', '"')))
        if inside is not None:
            return inside
    return known.get(_plain(",".join(parts)), "")


def _plain(name: str) -> str:
    """Return a name without the spaces around its commas, accents as they are compared."""
    return composed(",".join(part.strip() for part in name.split(",")))
