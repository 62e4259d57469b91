"""Commands that tell what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from reports import terminal


def ls(what: Annotated[str, typer.Argument(help="attacks, students, data, teachers or suites.")]) -> None:
    """List what there is."""
    from audit.commands.catalogue import listing

    for line in listing(what).splitlines():
        terminal.say(line, whole=True)


def info(name: Annotated[str, typer.Argument(help="An attack, a control or a way to train a teacher.")]) -> None:
    """Tell about an attack or a way to teach: paper, threat model, settings, what we measured."""
    from audit.commands.catalogue import about

    for line in about(name).splitlines():
        terminal.say(line, whole=True)


def schema() -> None:
    """Print the JSON schema of record.json."""
    from reports.record import json_schema

    terminal.data(json_schema())
