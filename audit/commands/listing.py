"""Commands that tell what there is."""

from __future__ import annotations

from typing import Annotated

import typer


def ls(what: Annotated[str, typer.Argument(help="attacks, students, data or teachers.")]) -> None:
    """List what there is."""
    from audit.telling import listing

    typer.echo(listing(what))


def info(name: Annotated[str, typer.Argument(help="An attack, a control or a way to train a teacher.")]) -> None:
    """Tell about an attack or a way to teach: paper, threat model, settings, what we measured."""
    from audit.telling import about

    typer.echo(about(name))


def schema() -> None:
    """Print the JSON schema of record.json."""
    import json

    from reports.record import json_schema

    typer.echo(json.dumps(json_schema(), indent=1))
