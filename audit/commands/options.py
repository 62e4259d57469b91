"""Options of the command line: the fields of `Options`, and what a few commands share beside them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec, TypeVar, get_args, get_type_hints

import typer

from audit.commands.configuration import configured
from audit.plan.options import Options, options_of
from reports.printable import readable
from reports.settings import RESULTS, RUN, about
from teachers.places import at_home, place

P = ParamSpec("P")
R = TypeVar("R")
PLACES: Final = ("teacher", "data", "surrogate", "file", "groups")  # texts that may name a place; any path does
CHECKPOINT_FIELDS: Final = ("data", "arch", "normalize", "classes", "weights", "size", "trust_model_code")
SERVICE_FIELDS: Final = ("input", "output", "header", "plain_http")
ATTACKER_FIELDS: Final = (
    *(
        "attacks",
        "effort",
        "surface",
        "budget",
        "student",
        "seeds",
        "delta",
        "shots",
        "labels",
        "drop_classes",
        "surrogate",
    ),
)
ABOUT: Final = about(Options)
TYPES: Final = get_type_hints(Options)
DEFAULTS: Final = {field.name: field.default for field in fields(Options)}
Json = Annotated[bool, typer.Option("--json", rich_help_panel=RESULTS, help="Print it as JSON on standard output.")]
Cache = Annotated[Path | None, typer.Option(rich_help_panel=RUN, help=ABOUT["cache"].help)]
Trust = Annotated[bool, typer.Option("--trust-model-code", help=ABOUT["trust_model_code"].help)]
Arch = Annotated[str | None, typer.Option(help=ABOUT["arch"].help)]
Jobs = Annotated[int | None, typer.Option(rich_help_panel=RUN, help=ABOUT["jobs"].help)]
Config = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=RUN,
        help="TOML file with options by name; [tool.distill-audit] of ./pyproject.toml if not given.",
        is_eager=True,
        expose_value=False,
        callback=configured,
    ),
]


def parameter(name: str) -> inspect.Parameter:
    """Return a field of `Options` as a parameter of a command."""
    shown, typed, default = ABOUT[name], TYPES[name], DEFAULTS[name]
    if shown.typed:
        typed, default = shown.typed, None
    flag = name.replace("_", "-")
    both = (typed is bool and default) or bool in get_args(typed)  # it can be set, and be set off
    option = typer.Option(
        f"--{flag}/--no-{flag}" if both else f"--{flag}",
        rich_help_panel=shown.panel,
        help=shown.help,
        min=shown.least,
        show_default=default not in (None, ""),
    )
    return taken(Annotated[typed, option], default)


def taken(annotation: Any, default: Any = MISSING) -> inspect.Parameter:
    """Return a parameter of a command."""
    return inspect.Parameter(
        "_",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=annotation,
        default=inspect.Parameter.empty if default is MISSING else default,
    )


def takes(*names: str, **instead: inspect.Parameter | str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command some fields of `Options` as options: it is called with `Options` made of them.

    `instead`: parameters that stand for fields in another way, and values of fields that are no options of the command.
    """

    def decorated(command: Callable[..., R]) -> Callable[..., R]:
        hints = get_type_hints(command, include_extras=True)
        _, *own = inspect.signature(command).parameters.values()
        others = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        shown = {name: p for name, p in instead.items() if isinstance(p, inspect.Parameter)}
        fixed = {name: value for name, value in instead.items() if name not in shown}
        options = {name: parameter(name) for name in names} | shown

        @wraps(command)
        def called(**given: Any) -> R:
            asked = {name: given.pop(name) for name in options}
            kept = {name: value for name, value in asked.items() if not (ABOUT[name].typed and value is None)}
            return command(options_of(fixed | kept), **given)

        parameters = [p.replace(name=name) for name, p in options.items()] + others
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        return called

    return decorated


def command_line() -> str:
    import shlex

    return readable(shlex.join(["audit", *sys.argv[1:]]))


def expanded(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command its places with ~ expanded, which a shell does not do in `--out=~/audit`."""

    @wraps(command)
    def given(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in kwargs.items():
            kwargs[name] = _expanded(name, value)
        return command(*args, **kwargs)

    return given


def _expanded(name: str, value: object) -> object:
    if isinstance(value, list):
        return [_expanded(name, held) for held in value]
    if isinstance(value, Path):
        return place(value)
    return at_home(value) if isinstance(value, str) and name in PLACES else value
