"""Remove our secrets from a server's texts, whether it echoes them plainly, escaped, encoded or interrupted."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

LONG = 2**16  # characters of a text that are searched; the rest is dropped
EDGE = 3  # letters at each end of a secret that neighbouring letters may change, as in base64
SHORT = 4 * EDGE  # a secret with fewer letters is searched for whole, not without its ends
LAYERS = 3  # of nested escapes
SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\))")
ESCAPE = re.compile(
    r"\\u00(?P<u>[0-9a-f]{2})|\\x(?P<x>[0-9a-f]{2})|%(?P<url>[0-9a-f]{2})|&#x0*(?P<hex>[0-9a-f]{1,2});"
    r"|&#0*(?P<ten>[0-9]{1,3});|&(?P<name>amp|lt|gt|quot|apos);|\\(?P<control>[abfnrtv0])|(?P<letter>.)",
    re.IGNORECASE,
)
NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


class Letters(NamedTuple):
    """The printable ASCII letters of a text after unescaping, and the span of the text where each is written."""

    text: str
    spans: list[tuple[int, int]]


class Place(NamedTuple):
    """The place of a secret in a text."""

    start: int
    end: int
    whole: bool  # the ends match, too; they may differ because neighbouring letters change them


class Redaction:
    """Remove secrets from texts."""

    def __init__(self, hidden: Iterable[str]) -> None:
        forms = {form for secret in hidden for form in _forms(secret)}
        # For each text to search for, a secret without its ends: the whole secrets that it may come from.
        self._cores: dict[str, set[str]] = {}
        for whole in (reading for form in forms for reading in _read(form)):
            core = whole[EDGE:-EDGE] if len(whole) >= SHORT else whole
            self._cores.setdefault(core, set()).add(whole)

    def __call__(self, text: str, most: int) -> str:
        """Return a text without secrets, as one printable line of at most `most` characters."""
        plain = self._without(text[:LONG])
        if len(text) > LONG:  # a secret may have been cut in two
            plain = plain[: -LONG // 16]
        line = "".join(c for c in " ".join(plain.split()) if c.isprintable())
        return self._without(line)[:most]

    def _without(self, text: str) -> str:
        places = [place for letters in _readings(text) for place in self._within(letters)] if self._cores else []
        whole, found = bytearray(len(text)), []
        for place in sorted(places, key=lambda place: not place.whole):
            if place.whole or not any(whole[place.start : place.end]):
                found.append(place)
            if place.whole:
                whole[place.start : place.end] = b"\1" * (place.end - place.start)
        kept, at = [], 0
        for place in sorted(found):
            if place.start >= at:
                kept.append(text[at : place.start] + "…")
            at = max(at, place.end)
        return "".join([*kept, text[at:]])

    def _within(self, letters: Letters) -> Iterator[Place]:
        """Yield the places in a text that hold a secret, or a secret except for its ends."""
        text, spans = letters
        for core, forms in self._cores.items():
            edge = EDGE if forms - {core} else 0
            at = text.find(core)
            while at >= 0:
                start, end = max(0, at - edge), min(at + len(core) + edge, len(text))
                yield Place(spans[start][0], spans[end - 1][1], text[start:end] in forms)
                at = text.find(core, at + 1)


def _readings(text: str) -> Iterator[Letters]:
    """Yield every reading of a text in which a secret may hide: with and without terminal sequences, and unescaped."""
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
    """Undo one layer of escapes; escaped control characters and blanks are dropped."""
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
    """Yield a secret as it is, in hexadecimal digits, and in base64 at each alignment."""
    yield secret
    if len(secret) <= EDGE:
        return
    yield secret.encode().hex()
    for before, first in enumerate((0, 2, 3)):  # leading letters that also encode the bytes before the secret
        given = bytes(before) + secret.encode()
        whole = base64.b64encode(given).decode()[first : len(given) * 8 // 6]
        yield whole
        yield whole.translate(str.maketrans("+/", "-_"))


def _read(form: str) -> Iterator[str]:
    """Yield a secret in the same readings as a text (see `_readings`)."""
    letters = _printed(form, [(0, 0)] * len(form))
    for _ in range(LAYERS + 1):
        if letters.text:
            yield letters.text
        letters = _unescaped(letters)
