"""Commands about audits that are finished."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.commands.options import (
    Arch,
    Cache,
    Json,
    Trust,
)
from audit.execution import ahead
from reports import terminal

if TYPE_CHECKING:
    from audit.policy.file import PolicyFile


def report(
    folder: Annotated[Path, typer.Argument(help="Folder that `audit run` wrote.")],
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="html, md, junit, attestation, badge, card, csv, parquet; what `audit run` writes if not given.",
        ),
    ] = None,
) -> None:
    """Write reports again from record.json: as `audit run` does, or in the formats that are named."""
    from audit.finished.reporting import report as write
    from reports.limit import document, outputs

    if (folder / document.FILE).exists() and formats is None:
        outputs.write(document.load(folder), folder)
        for name in outputs.FILES[1:]:
            terminal.say(str(folder / name), whole=True)
        return
    for written in write(folder, formats):
        terminal.say(str(written), whole=True)


def compare(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `audit run` wrote, or records: two or more.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write compare.html and compare.md into.")] = None,
    formats: Annotated[
        str | None, typer.Option("--format", help="html, md with commas; both if not given. Needs --out.")
    ] = None,
    json: Json = False,
) -> None:
    """Put audits of one question side by side: releases of a model, or a zoo as a leaderboard."""
    from audit.finished.compared import compare as look
    from audit.finished.terminal import print_comparison, print_comparison_json

    (print_comparison_json if json else print_comparison)(*look(folders, out, formats))


def board(
    folder: Annotated[Path, typer.Argument(help="Folder with the folders that `audit run` wrote, at any depth.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write board.html and board.md into; FOLDER if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Rank teachers of many defences, for every task and attacker, by what every attack surely gains less than."""
    from audit.board.files import board_of
    from audit.board.terminal import print_board, print_board_json

    (print_board_json if json else print_board)(*board_of(folder, out))


def verify(folder: Annotated[Path, typer.Argument(help="Folder that `audit run` wrote.")]) -> None:
    """Recompute every number, figure and word from the stored results of the students; exit 1 where one disagrees."""
    from audit.finished.tables import beside
    from audit.finished.verify import verify as look
    from audit.policy.outcome import asked_again
    from reports.limit.document import FILE
    from reports.record import load

    if (folder / FILE).exists():
        from audit.limits.checking import check

        for disagreement in check(folder):
            terminal.say(str(disagreement), whole=True)
            raise typer.Exit(1)
        terminal.say(f"{folder}: every budget follows from its audit, and every audit from its students", whole=True)
        return
    record = load(folder)
    for disagreement in chain(look(folder), asked_again(record, folder)):
        terminal.say(str(disagreement), whole=True)
        raise typer.Exit(1)
    terminal.say(f"{folder}: every number, flag and report follows from the stored results", whole=True)
    if left := beside(record, folder):
        terminal.say(
            f"not checked, because no audit writes them or they describe several audits: {', '.join(left)}", whole=True
        )


def gate(
    folder: Annotated[Path, typer.Argument(help="Folder that `audit run` wrote.")],
    policy: Annotated[Path, typer.Option(help="Policy file (docs/gate.md).")],
    page: Annotated[bool, typer.Option("--page", help="Write the outcome on the audit's page.")] = False,
    json: Json = False,
) -> None:
    """Hold an audit against a policy file: 0 passes, 1 fails, 3 undecided, 5 nothing was audited."""
    from audit.policy.file import read

    raise typer.Exit(ask_policy(folder, read(policy), page=page, json=json))


def ask_policy(folder: Path, policy: PolicyFile, *, page: bool = False, json: bool = False, quiet: bool = False) -> int:
    """Ask a policy, say what it says here, to GitHub and, with `page`, on the audit's page; return the exit code."""
    from audit.policy import github
    from audit.policy import terminal as gate_terminal
    from audit.policy.gate import gate as ask
    from audit.policy.outcome import keep
    from reports.svg import plain
    from reports.wording import worst

    done = ask(folder, policy)
    if page:
        keep(done, policy)
    if quiet:
        for found in done.findings:
            terminal.note(plain(f"{found.outcome}: {found.rule}: {found.sentence}", 1000))
    else:
        (gate_terminal.print_gate_json if json else gate_terminal.print_gate)(done)
    github.annotate(done.record, done.folder, worst(done.record), done.passes, done.findings)
    return done.code


def repeat(
    folder: Annotated[Path, typer.Argument(help="Folder that `audit run` wrote.")],
    cells: Annotated[int, typer.Option(help="Students to train again.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    arch: Arch = None,
    trust_model_code: Trust = False,
    cache: Cache = None,
) -> None:
    """Train some students again from the record alone and compare them; exit 1 where one differs."""
    ahead()
    from audit.finished.repeat import repeat as again

    agree = True
    for one in again(folder, cells, seed, cache, trust_model_code, arch):
        name = f"{one.trial.cell.technique}, seed {one.trial.cell.seed}"
        terminal.say(f"{name}: {one.before:.2%} before, {one.now:.2%} now, {one.differs} test images differ")
        agree &= one.agrees
    raise typer.Exit(0 if agree else 1)
