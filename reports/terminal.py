"""The only module that prints: results to standard output, everything else to standard error.

Untrusted text never contains a CI command. Failures to print (closed pipe, full disk, closed stream) do not change the
exit code.
"""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Final, Literal, ParamSpec, TextIO, TypeVar

from reports.printable import IN_JSON, printable, printable_line
from reports.streams import Strangers, Stream, given_back, taken

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")
Name = Literal["stdout", "stderr"]

WIDTH: Final = 140  # characters of a table's line where there is no terminal

_real: dict[Name, TextIO | None] = {}  # the user's streams while a command works; `sys` then has streams for other code
_consoles: dict[Name, tuple[TextIO | None, Console]] = {}


def say(text: str, *, lead: str = "", whole: bool = False) -> None:
    """Print one line on standard output; a `whole` line is not wrapped, because it has a path or columns."""
    _print("stdout", printable_line(text), lead, whole)


def note(text: str) -> None:
    """Print one line on standard error."""
    _print("stderr", printable_line(text), whole=True)


def command(line: str) -> None:
    """Print a workflow command, which must be escaped already, on standard error; GitHub reads this, too."""
    _print("stderr", line, whole=True)


def trace(error: BaseException) -> None:
    """Print the traceback of a bug on standard error."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        note(line)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str] = ()) -> None:
    """Print a table on standard output; the first column and those in `words` are aligned left, the others right."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False)
    for number, head in enumerate(heads):
        drawn.add_column(Text(printable(head)), justify="left" if number == 0 or head in words else "right")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    console("stdout").print(drawn)


def data(value: object) -> None:
    """Print JSON on standard output; nan and infinity become null, because JSON cannot express them."""
    text = json.dumps(_finite(value), indent=1, default=str, allow_nan=False)
    text = IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    stream = Stream(_stream("stdout"))
    stream.write(text + "\n")
    stream.flush()


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    return [_finite(held) for held in value] if isinstance(value, list | tuple) else value


def console(name: Name) -> Console:
    """Return the console of a stream, for progress bars; their texts must be `printable`."""
    from rich.console import Console

    stream = _stream(name)
    known = _consoles.get(name)
    if known is None or known[0] is not stream:
        to = Stream(stream)
        # rich expects a file; `Stream` has all methods that it uses
        made = Console(file=to, highlight=False, width=None if to.isatty() else WIDTH)  # type: ignore[arg-type]
        _consoles[name] = known = stream, made
    return known[1]


def _print(name: Name, line: str, lead: str = "", whole: bool = False) -> None:
    """Print a line; wrap it only on a terminal."""
    from rich.text import Text

    to = console(name)
    text = Text.assemble((f"{lead}  ", "bold"), line) if lead else Text(line)
    to.print(text, soft_wrap=whole or not to.is_terminal)


def _stream(name: Name) -> TextIO | None:
    return _real[name] if _real else getattr(sys, name)


def alone(work: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command so that only this module prints on the user's streams while it works."""

    @wraps(work)
    def working(*args: P.args, **kwargs: P.kwargs) -> R:
        with _apart():
            return work(*args, **kwargs)

    return working


@contextmanager
def _apart() -> Iterator[None]:
    """Replace both streams in `sys`, and hide standard output's descriptor from libraries and child processes."""
    if _real:  # an outer command has done it already
        yield
        return
    out, err = sys.stdout, sys.stderr
    kept = taken(out)
    _real.update({"stdout": kept or out, "stderr": err})
    sys.stdout = sys.stderr = strangers = Strangers.stream(note)
    try:
        yield
    finally:
        strangers.write("\n")  # completes an unfinished line
        sys.stdout, sys.stderr = out, err
        if kept is not None:
            given_back(kept)
        _real.clear()
