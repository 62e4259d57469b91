"""Names of classes in a list, which may hold commas themselves."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return a name as a part of a list with commas, in quotes where it holds a comma or quotes."""
    return in_quotes(name) if "," in name or '"' in name else name


def in_quotes(name: str) -> str:
    """Return a name in double quotes, a quote in it written twice."""
    return '"' + name.replace('"', '""') + '"'
