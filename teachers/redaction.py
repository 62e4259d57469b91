"""Texts of strangers without our secrets, whether they are echoed plainly, escaped, encoded or taken apart."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

LONG = 2**16  # characters of a text that are looked through
EDGE = 3  # letters at the ends of a secret that what stands beside it may change
SHORT = 4 * EDGE  # letters of a secret, of which fewer are looked for whole
LAYERS = 3  # of escapes around escapes
SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\))")
ESCAPE = re.compile(
    r"\\u00(?P<u>[0-9a-f]{2})|\\x(?P<x>[0-9a-f]{2})|%(?P<url>[0-9a-f]{2})|&#x0*(?P<hex>[0-9a-f]{1,2});"
    r"|&#0*(?P<ten>[0-9]{1,3});|&(?P<name>amp|lt|gt|quot|apos);|\\(?P<control>[abfnrtv0])|(?P<letter>.)",
    re.IGNORECASE,
)
NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


class Letters(NamedTuple):
    """The printable ASCII letters of a text, escapes for what they stand for, and where each of them is written."""

    text: str
    spans: list[tuple[int, int]]


class Redaction:
    """What takes secrets out of texts."""

    def __init__(self, hidden: Iterable[str]) -> None:
        forms = {form for secret in hidden for form in _forms(secret)}
        self._cores = {core: edge for form in forms for core, edge in _cores(form)}

    def __call__(self, text: str, most: int) -> str:
        """Return a text as one printable line of at most so many characters."""
        plain = self._without(text[:LONG])
        if len(text) > LONG:  # a secret may have been cut in two
            plain = plain[: -LONG // 16]
        line = "".join(c for c in " ".join(plain.split()) if c.isprintable())
        return self._without(line)[:most]

    def _without(self, text: str) -> str:
        found = sorted(span for letters in _readings(text) for span in self._within(letters)) if self._cores else []
        kept, at = [], 0
        for start, end in found:
            if start >= at:
                kept.append(text[at:start] + "…")
            at = max(at, end)
        return "".join([*kept, text[at:]])

    def _within(self, letters: Letters) -> Iterator[tuple[int, int]]:
        """Walk over the parts of a text that hold a secret."""
        text, spans = letters
        for core, edge in self._cores.items():
            at = text.find(core)
            while at >= 0:
                last = min(at + len(core) + edge, len(text)) - 1
                yield spans[max(0, at - edge)][0], spans[last][1]
                at = text.find(core, at + 1)


def _readings(text: str) -> Iterator[Letters]:
    """Read a text in every way in which a secret may lie in it: with a terminal's sequences and without, unescaped."""
    yield _printed(text, [(at, at + 1) for at in range(len(text))])
    bounds = [0, *(edge for found in SEQUENCE.finditer(text) for edge in found.span()), len(text)]
    outside = [at for start, end in list(pairwise(bounds))[::2] for at in range(start, end)]
    letters = _printed("".join(text[at] for at in outside), [(at, at + 1) for at in outside])
    for _ in range(LAYERS):
        yield letters
        letters = _unescaped(letters)
    yield letters


def _printed(text: str, spans: list[tuple[int, int]]) -> Letters:
    there = [at for at, letter in enumerate(text) if "\x21" <= letter <= "\x7e"]
    return Letters("".join(text[at] for at in there).lower(), [spans[at] for at in there])


def _unescaped(letters: Letters) -> Letters:
    """Read one layer of escapes; those of control characters and blanks stand for nothing."""
    text, spans = [], []
    for found in ESCAPE.finditer(letters.text):
        letter = _meant(found)
        if "\x21" <= letter <= "\x7e":
            text.append(letter.lower())
            spans.append((letters.spans[found.start()][0], letters.spans[found.end() - 1][1]))
    return Letters("".join(text), spans)


def _meant(found: re.Match[str]) -> str:
    parts = found.groupdict()
    if parts["letter"]:
        return parts["letter"]
    if parts["name"]:
        return NAMED[parts["name"].lower()]
    code = parts["u"] or parts["x"] or parts["url"] or parts["hex"]
    return " " if parts["control"] else chr(int(code, 16) if code else int(parts["ten"]))


def _forms(secret: str) -> Iterator[str]:
    """Return a secret as it is, and within what is written in hexadecimal digits or in base64."""
    yield secret
    if len(secret) <= EDGE:
        return
    yield secret.encode().hex()
    for before, first in enumerate((0, 2, 3)):  # letters that hold what comes before it, too
        given = bytes(before) + secret.encode()
        whole = base64.b64encode(given).decode()[first : len(given) * 8 // 6]
        yield whole
        yield whole.translate(str.maketrans("+/", "-_"))


def _cores(form: str) -> Iterator[tuple[str, int]]:
    """Return what to look for, in every reading, and how many letters on both sides belong to it."""
    letters = _printed(form, [(0, 0)] * len(form))
    for _ in range(LAYERS + 1):
        text = letters.text
        if text:
            yield (text[EDGE:-EDGE], EDGE) if len(text) >= SHORT else (text, 0)
        letters = _unescaped(letters)
