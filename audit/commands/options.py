"""The options that several commands share, and what is made of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, ParamSpec, TypeVar

import typer

from audit.commands.configuration import configured
from audit.commands.naming import meant
from reports.printable import readable
from teachers.places import at_home, place

P = ParamSpec("P")
R = TypeVar("R")
AUDITED: Final = "What is audited"  # groups of options in help, the most needed first
ATTACKER: Final = "The attacker, and how much is tried"
RESULTS: Final = "What is written"
RUN: Final = "How it runs"
SERVED: Final = "A teacher behind a URL, or a program with several outputs"
PANELS: Final = (AUDITED, ATTACKER, RESULTS, RUN, SERVED)
PLACES: Final = ("teacher", "data", "surrogate", "file")  # texts that may name a place; any path does
if TYPE_CHECKING:
    from teachers.http.address import Service
    from teachers.targets.target import TeacherSpec

Teacher = Annotated[
    str,
    typer.Option(
        rich_help_panel=AUDITED,
        help="Checkpoint (docs/formats.md says which), a URL (https://HOST/v2/models/NAME), or a built-in one (`audit "
        "ls teachers`).",
    ),
]
Data = Annotated[
    str | None, typer.Option(rich_help_panel=AUDITED, help="glyphs, digits, an image folder, or torchvision:NAME:ROOT.")
]
Cache = Annotated[
    Path | None, typer.Option(rich_help_panel=RUN, help="Where students and answers are kept between audits.")
]
Size = Annotated[
    int | None,
    typer.Option(rich_help_panel=AUDITED, help="Resize and crop the images of a folder to this many pixels."),
]

Arch = Annotated[
    str | None,
    typer.Option(rich_help_panel=AUDITED, help="Architecture of a checkpoint, where its tensors fit more than one."),
]
Trust = Annotated[
    bool,
    typer.Option("--trust-model-code", rich_help_panel=AUDITED, help="Run the code of a checkpoint that is a program."),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=AUDITED,
        help="none, half, imagenet, cifar or MEAN/STD, with /bgr where blue is first; found if not given.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=AUDITED,
        help="Which weights of a checkpoint, such as model_ema, where it holds those of several networks.",
    ),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=AUDITED,
        help="One class name a line, in the order of the network's outputs; the data's if not given.",
    ),
]
Input = Annotated[
    str,
    typer.Option(
        "--input",
        rich_help_panel=SERVED,
        help="Tensor for images of a teacher behind a URL: NAME, NAME:UINT8 or NAME:FP32:NHWC.",
    ),
]
Output = Annotated[
    str, typer.Option(rich_help_panel=SERVED, help="Which output of a program or URL has a number for every class.")
]
Header = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=SERVED,
        help="Header for a teacher behind a URL, NAME=VARIABLE of the environment; may be repeated.",
    ),
]
PlainHttp = Annotated[
    bool, typer.Option("--plain-http", rich_help_panel=SERVED, help="Ask an http URL beyond this machine, unencrypted.")
]
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
Device = Annotated[str, typer.Option(rich_help_panel=RUN, help="cpu or cuda.")]
Jobs = Annotated[int | None, typer.Option(rich_help_panel=RUN, help="Local processes; all cores if not given.")]
Price = Annotated[float | None, typer.Option(rich_help_panel=RESULTS, help="What 1,000 queries cost.", min=0)]
Json = Annotated[bool, typer.Option("--json", rich_help_panel=RESULTS, help="Print it as JSON on standard output.")]

Attacks = Annotated[
    str,
    typer.Option(
        rich_help_panel=ATTACKER, help="Names with commas (NAME:PRESET), or `all`: the suite and installed plug-ins."
    ),
]
Student = Annotated[
    str | None,
    typer.Option(rich_help_panel=ATTACKER, help="Architectures of the students, with commas (`audit ls students`)."),
]
Seeds = Annotated[
    int | None,
    typer.Option(rich_help_panel=ATTACKER, help="Most judged seeds, up to 20; the effort's number if not given."),
]
Shots = Annotated[
    float, typer.Option(rich_help_panel=ATTACKER, help="Fraction of images and labels that the attacker holds.")
]
Labels = Annotated[
    float, typer.Option(rich_help_panel=ATTACKER, help="Fraction of labels that the attacker knows, of all images.")
]
DropClasses = Annotated[
    str,
    typer.Option(
        rich_help_panel=ATTACKER, help="Classes that the attacker never saw, with commas; names may hold some."
    ),
]
Surface = Annotated[
    str,
    typer.Option(
        rich_help_panel=ATTACKER,
        help="What the API shows: probs, logits, label, gradients, or top:K, round:D… with +, after uint8+ or not; "
        "several with commas.",
    ),
]
Budget = Annotated[int | None, typer.Option(rich_help_panel=ATTACKER, help="Most queries one student may rest on.")]
Surrogate = Annotated[
    str | None, typer.Option(rich_help_panel=ATTACKER, help="Folder of surrogate images for Knockoff Nets.")
]
Isolate = Annotated[
    bool | None,
    typer.Option(
        "--isolate/--no-isolate",
        rich_help_panel=RUN,
        help="Keep the teacher in a process of its own; on by itself where plug-ins take part.",
        show_default=False,
    ),
]
CellTimeout = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=RUN,
        help="Seconds that a student's process may say nothing before it is ended; by its steps if not given.",
        show_default=False,
    ),
]
Effort = Annotated[
    str,
    typer.Option(
        rich_help_panel=ATTACKER,
        help="smoke, standard or full: `audit plan` says what each can see; bag: as the reference bag; selftest: as "
        "`audit selftest`.",
    ),
]


def teacher_spec(
    teacher: str,
    data: str | None,
    arch: str | None,
    normalize: str | None,
    size: int | None,
    trust: bool,
    classes: Path | None = None,
    weights: str | None = None,
    served: Service | None = None,
) -> TeacherSpec:
    from teachers.intake import class_names
    from teachers.names import BUILT_IN
    from teachers.targets.target import TeacherSpec

    names = () if classes is None else class_names(classes)
    who = meant(teacher, BUILT_IN, "teacher")
    found = TeacherSpec(who, data and data_set(data), arch, normalize, size, trust, names, weights)
    return found if served is None else replace(found, service=served)


def data_set(given: str) -> str:
    """Return the data set that --data names.

    Raises UsageError where it may be an embedded one or a folder.
    """
    from teachers.data.datasets import EMBEDDED

    return meant(given, EMBEDDED, "data set")


def service(input_: str, output: str, headers: list[str] | None, plain: bool) -> Service:
    """Return how a URL is asked; from now on no process of ours inherits what headers are made of."""
    from teachers.http.address import Service
    from teachers.http.credentials import split
    from teachers.processes.forks import withhold

    for _, variable in map(split, headers or ()):
        withhold(variable)
    return Service(input_, output, tuple(headers or ()), plain)


def processes(jobs: int | None) -> int:
    return (os.cpu_count() or 1) if jobs is None else jobs


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
