"""`audit cache`: what the cache holds, and how it is pruned, carried to another machine, and warmed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from audit.commands.auditing import foreseen
from audit.commands.groups import Command, Group
from audit.commands.options import ATTACKER_FIELDS, Cache, Config, Json, taken, takes
from audit.execution import ahead
from audit.plan.options import Options
from reports import terminal
from reports.settings import AUDITED

cache_app = typer.Typer(
    name="cache",
    help="Look into the cache of students, teachers and answers; prune it, carry it to another machine, warm it.",
    cls=Group,
    rich_markup_mode=None,
)


@cache_app.command("ls", cls=Command)
def ls(cache: Cache = None, json: Json = False) -> None:
    """List what the cache holds: by kind, by technique and by teacher; entries, bytes, last use."""
    from audit.cache.entries import contents
    from audit.cache.listing import inventory
    from audit.cache.terminal import print_inventory, print_inventory_json

    (print_inventory_json if json else print_inventory)(inventory(contents(_root(cache))))


@cache_app.command(cls=Command)
def check(
    set_aside: Annotated[bool, typer.Option("--set-aside", help="Move what is damaged to the folder damaged.")] = False,
    cache: Cache = None,
) -> None:
    """Read every entry whole and name what is damaged: exit code 4 where something is, and stays."""
    from audit.cache.damage import damage, mended
    from audit.cache.entries import contents
    from audit.cache.terminal import print_damaged
    from teachers.errors import RefusedInput

    root = _root(cache)
    found = contents(root)  # stops where there is no cache
    wrong = mended(root) if set_aside else damage(found)
    print_damaged(wrong)
    if wrong and set_aside:
        raise RefusedInput("looks cannot be recomputed; restore them from a copy of the cache")
    if wrong:
        raise RefusedInput(
            f"damaged entries: {len(wrong):,}; --set-aside moves them, and the next audit makes them again"
        )


@cache_app.command(cls=Command)
def prune(
    older_than: Annotated[float | None, typer.Option(help="Days since the last use.", min=0)] = None,
    max_size: Annotated[str | None, typer.Option(help="What may be left, such as 2GB: the oldest go first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    cache: Cache = None,
) -> None:
    """Remove what was not used for long, and what killed processes left; nothing while an audit runs."""
    from audit.cache.pruning import prune as remove
    from audit.cache.pruning import size_of
    from audit.cache.terminal import print_pruned

    most = None if max_size is None else size_of(max_size)
    print_pruned(remove(_root(cache), older_than, most, dry_run), dry_run)


@cache_app.command(cls=Command)
def export(
    file: Annotated[Path, typer.Argument(help="File to write: .tar.gz, .tgz or .tar.")],
    what: Annotated[str, typer.Option(help="controls (what audits of other teachers share), or all.")] = "controls",
    cache: Cache = None,
) -> None:
    """Write the cache to a file that `audit cache import` reads; the same content gives the same bytes."""
    from audit.cache.archive import export as write
    from audit.cache.terminal import print_exported
    from teachers.errors import UsageError

    if what not in ("controls", "all"):
        raise UsageError(f"--what {what!r} is not a choice; give controls or all")
    print_exported(write(_root(cache), file, cast(Literal["controls", "all"], what)), file)


@cache_app.command("import", cls=Command)
def load(
    file: Annotated[Path, typer.Argument(help="File that `audit cache export` wrote, on a machine that you trust.")],
    max_size: Annotated[str, typer.Option(help="The most it may unpack to.")] = "20GB",
    cache: Cache = None,
) -> None:
    """Merge an exported cache into this one; what is here already stays."""
    from audit.cache.archive import load as read
    from audit.cache.pruning import size_of
    from audit.cache.terminal import print_imported

    print_imported(read(file, _root(cache), size_of(max_size)), file)


@cache_app.command(cls=Command)
@takes(
    *(
        "data",
        "size",
        "trust_model_code",
        *(name for name in ATTACKER_FIELDS if name != "surface"),
        "jobs",
        "engine",
        "device",
        "precision",
        "cache",
    ),
    teacher=taken(
        Annotated[str, typer.Option(rich_help_panel=AUDITED, help="A teacher of the task, in place of --data.")],
        "embedded:demo",
    ),
)
def warm(
    options: Options,
    for_policy: Annotated[
        Path | None,
        typer.Option(help="Policy of the audits to come: stop where it is wrong, or where they could never meet it."),
    ] = None,
    config: Config = None,
) -> None:
    """Train every control that audits of this task may need, so that a release trains knockoffs alone."""
    if for_policy is not None:
        foreseen(for_policy, options)
    ahead()
    from audit.warm import warm as train

    done = train(options)
    terminal.say(f"{done.trained} students trained, {done.reused} from the cache")


def _root(cache: Path | None) -> Path:
    from teachers.storage.store import default_cache

    return cache or default_cache()
