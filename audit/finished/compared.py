"""`audit compare A B …`: read the records, compare them, write and print what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from audit.finished.reporting import formats
from audit.finished.side_by_side import Given, side_by_side
from audit.folder import refuse_file
from reports.leaderboard import html, markdown
from reports.leaderboard import wording as telling
from reports.leaderboard.board import Leaderboard
from reports.printable import printable
from reports.record import load, write_whole
from reports.svg import plain
from reports.wording import number, percent, points, probability, span
from teachers.errors import RefusedInput, UsageError

FORMATS: Final[Mapping[str, tuple[str, Callable[[Leaderboard], str]]]] = {
    "html": ("compare.html", html.render),
    "md": ("compare.md", markdown.render),
}
TEXT: Final = ("teacher", "attack", "verdict", "strongest", "judged")  # columns; the others hold numbers


def compare(
    places: Sequence[Path], out: Path | None = None, asked: str | None = None
) -> tuple[Leaderboard, list[Path]]:
    """Compare the records of folders, and write the pages where a folder for them is given; return their paths.

    Raises UsageError where they cannot be compared, or a format has no folder; RecordError for no record,
    RefusedInput for a folder that cannot be written.
    """
    if asked is not None and out is None:
        raise UsageError(f"--format {asked} needs a folder; give it with --out")
    names = tuple(FORMATS) if asked is None else formats(asked, FORMATS)
    refuse_file(out)
    board = side_by_side([Given(str(place), load(place)) for place in places])
    if out is None:
        return board, []
    written = {out / file: render(board) for file, render in (FORMATS[name] for name in names)}
    try:
        for path, text in written.items():
            write_whole(path, text.encode())
    except OSError as e:
        raise RefusedInput(f"{out} cannot be written ({e.strerror}); give another folder with --out") from e
    return board, list(written)


def tell(board: Leaderboard, written: Sequence[Path]) -> None:
    """Print a leaderboard for a person."""
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=140)
    console.print(_plain(telling.title(board)))
    console.print(_places(board))
    if board.pair is not None:
        console.print(f"Margins of {_plain(board.pair[1])} less those of {_plain(board.pair[0])}:")
        console.print(_differences(board))
    for line in (*telling.remarks(board), *map(str, written)):
        console.print(escape(printable(line)), soft_wrap=True)


def tell_json(board: Leaderboard, written: Sequence[Path]) -> None:
    """Print the same for a script; margins as fractions."""
    print(json.dumps({**board.model_dump(mode="json"), "files": [str(path) for path in written]}, indent=1))


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left")
    return table


def _places(board: Leaderboard) -> Table:
    heads = ("teacher", "verdict", "largest margin, points (95 %)", "floor", "strongest", "over the place before")
    table = _table(*heads, "accuracy", "CMI", "judged")
    for e in board.entries:
        margin = points(None) if e.margin is None else f"{points(e.margin.mean)} {span(e.margin)}"
        told = (percent(e.accuracy, 1), number(e.cmi), telling.judged(e))
        table.add_row(*map(_plain, (e.name, e.word, margin, points(e.floor), e.strongest, telling.gap(e.above), *told)))
    return table


def _differences(board: Leaderboard) -> Table:
    table = _table("attack", "difference, points (95 %)", "Holm p", "seeds")
    for d in board.differences:
        seeds = f"{d.seeds[0]}, {d.seeds[1]}"
        table.add_row(*map(_plain, (d.attack, telling.gap(d), probability(d.p_holm), seeds)))
    return table


def _plain(text: str) -> str:
    """Leave nothing in a name that rich or the terminal would act on."""
    return escape(plain(printable(text), 60))
