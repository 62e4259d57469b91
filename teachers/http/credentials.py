"""Secrets for the server alone: a token and headers, read from the environment."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from teachers.errors import UsageError
from teachers.processes import forks
from teachers.processes.forks import TOKEN

OURS = ("accept-encoding", "connection", "content-length", "content-type", "cookie", "expect", "transfer-encoding")
OPEN = ("host",)  # headers whose value is no secret
SHORT = 4  # a header value with fewer letters is not treated as a secret


def headers(stated: Sequence[str]) -> dict[str, str]:
    """Return the headers of every request: the token's, and those given on the command line as NAME=VARIABLE.

    Raises UsageError if one is malformed, or its variable is empty or holds characters that no header may hold.
    """
    token = os.environ.get(TOKEN, "").strip()
    found: dict[str, str] = {"Authorization": f"Bearer {_value(TOKEN, token)}"} if token else {}
    for name, variable in map(split, stated):
        forks.withhold(variable)
        value = os.environ.get(variable, "").strip()
        if not value:
            raise UsageError(f"--header {name}={variable}: the environment variable {variable} is not set, or empty")
        if name.lower() in map(str.lower, found):
            raise UsageError(f"--header {name}: given twice; ${TOKEN} sets an Authorization header, too")
        found["Host" if name.lower() in OPEN else name] = _value(variable, value)
    return found


def split(stated: str) -> tuple[str, str]:
    """Split NAME=VARIABLE.

    Raises UsageError; its message does not quote the value, which may be a secret.
    """
    name, _, variable = stated.partition("=")
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise UsageError("--header takes NAME=VARIABLE: a header's name, and the environment variable with its value")
    if name.lower() in OURS:
        raise UsageError(f"--header {name}: every request sets this header by itself; leave it out")
    return name, variable


def _value(variable: str, value: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e]*", value) or (variable == TOKEN and " " in value):
        raise UsageError(f"${variable} holds characters that no header may hold")
    return value


def secrets(sent: Mapping[str, str]) -> set[str]:
    """Return what must never be printed: header values, their parts, and proxy passwords."""
    found: set[str] = set()
    for name, value in sent.items():
        if name.lower() not in OPEN and len(value) >= SHORT:
            found |= {value, *_parts(value)}
    for proxy in getproxies().values():
        try:
            user, password = urlsplit(proxy).username, urlsplit(proxy).password
        except ValueError:
            user, password = None, proxy
        found |= {text for text in (password, password and unquote(password), user and password and user) if text}
    return found


def _parts(value: str) -> Iterator[str]:
    scheme, _, rest = value.partition(" ")
    if not rest:
        return
    yield rest
    if scheme.lower() == "basic":
        try:
            user = base64.b64decode(rest, validate=True).decode()
        except ValueError:
            return
        yield from filter(None, (user, user.partition(":")[2]))
