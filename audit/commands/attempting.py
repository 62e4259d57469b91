"""The command of an attack's author."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from audit.commands.options import Json, taken, takes
from audit.execution import ahead
from audit.plan.options import Options
from reports import terminal
from reports.settings import ATTACKER
from teachers.names import DEMO


@takes(
    *("data", "effort", "budget", "student", "jobs", "engine", "device", "precision", "cache"),
    teacher=DEMO,
    surface=taken(
        Annotated[
            str,
            typer.Option(
                rich_help_panel=ATTACKER, help="What the API shows; what the positive control shows if not given."
            ),
        ],
        "",
    ),
)
def attempt(
    options: Options,
    name: Annotated[
        str, typer.Argument(help="An attack (`audit ls attacks`), or MODULE:CLASS of the working directory.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", rich_help_panel=ATTACKER, help="A setting of the attack, NAME=VALUE; may be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option(rich_help_panel=ATTACKER, help="Students of the attack, 2 to 20.")] = 3,
    json: Json = False,
) -> None:
    """Try one attack on the ordinary teacher: margin over its control, queries, seconds; validation images alone."""
    ahead()
    from audit.attempt.attempt import attempt as tried
    from audit.attempt.terminal import print_attempt, print_attempt_json
    from teachers.errors import AuditError

    try:
        found = tried(replace(options, quiet=json), name, settings or (), seeds)
    except AuditError as e:  # for the author, the traceback of the attack's own code
        for line in "".join(getattr(e, "__notes__", ())).splitlines():
            terminal.note(line)
        raise
    (print_attempt_json if json else print_attempt)(found)
