"""`audit compare A B …`: read records, compare them, and write and print the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from audit.finished.reporting import formats
from audit.finished.side_by_side import NamedRecord, side_by_side
from audit.folder import refuse_file
from reports import terminal
from reports.leaderboard import html, markdown
from reports.leaderboard import wording as telling
from reports.leaderboard.board import Leaderboard
from reports.record import load, write_whole
from reports.svg import plain
from reports.wording import number, percent, points, probability, span
from teachers.errors import RefusedInput, UsageError

FORMATS: Final[Mapping[str, tuple[str, Callable[[Leaderboard], str]]]] = {
    "html": ("compare.html", html.render),
    "md": ("compare.md", markdown.render),
}
LONGEST: Final = 60  # characters of a name


def compare(
    places: Sequence[Path], out: Path | None = None, asked: str | None = None
) -> tuple[Leaderboard, list[Path]]:
    """Compare the records of some folders; write the pages if `out` is given, and return their paths.

    Raises UsageError where the records cannot be compared, or a format is given without a folder; RecordError where a
    folder has no record, RefusedInput where `out` cannot be written.
    """
    if asked is not None and out is None:
        raise UsageError(f"--format {asked} needs a folder; give it with --out")
    names = tuple(FORMATS) if asked is None else formats(asked, FORMATS)
    refuse_file(out)
    board = side_by_side([NamedRecord(str(place), load(place)) for place in places])
    if out is None:
        return board, []
    written = {out / file: render(board) for file, render in (FORMATS[name] for name in names)}
    try:
        for path, text in written.items():
            write_whole(path, text.encode())
    except OSError as e:
        raise RefusedInput(f"{out} cannot be written ({e.strerror}); give another folder with --out") from e
    return board, list(written)


def print_comparison(board: Leaderboard, written: Sequence[Path]) -> None:
    """Print a leaderboard for a person."""
    terminal.say(telling.title(board))
    _print_places(board)
    if board.pair is not None:
        now, before = (plain(name, LONGEST) for name in board.pair[::-1])
        terminal.say(f"Margins of {now} minus those of {before}:")
        _print_differences(board)
    for line in (*telling.remarks(board), *map(str, written)):
        terminal.say(line, whole=True)


def print_comparison_json(board: Leaderboard, written: Sequence[Path]) -> None:
    """Print a leaderboard as JSON; margins are fractions."""
    terminal.data({**board.model_dump(mode="json"), "files": [str(path) for path in written]})


def _print_places(board: Leaderboard) -> None:
    rows = []
    for e in board.entries:
        margin = points(None) if e.margin is None else f"{points(e.margin.mean)} {span(e.margin)}"
        told = (percent(e.accuracy, 1), number(e.cmi), telling.judged(e))
        rows.append((e.name, e.word, margin, points(e.floor), e.strongest, telling.gap(e.above), *told))
    heads = ("teacher", "verdict", "largest margin, points (95 %)", "floor", "strongest", "over the previous place")
    _print_table((*heads, "accuracy", "CMI", "judged"), rows)


def _print_differences(board: Leaderboard) -> None:
    rows = [(d.attack, telling.gap(d), probability(d.p_holm), f"{d.seeds[0]}, {d.seeds[1]}") for d in board.differences]
    _print_table(("attack", "difference, points (95 %)", "Holm p", "seeds"), rows)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    terminal.table(heads, ([plain(cell, LONGEST) for cell in row] for row in rows))
