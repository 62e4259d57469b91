"""Commands that ask a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.commands import EXIT, OK
from audit.commands.finished import ask_policy
from audit.commands.options import (
    ATTACKER_FIELDS,
    CHECKPOINT_FIELDS,
    SERVICE_FIELDS,
    Cache,
    Config,
    Jobs,
    Json,
    command_line,
    taken,
    takes,
)
from audit.execution import ahead
from audit.plan.options import Options
from reports import terminal
from reports.settings import ATTACKER, AUDITED, RESULTS, RUN, about

if TYPE_CHECKING:
    from audit.policy.file import PolicyFile


@takes(
    *("teacher", *CHECKPOINT_FIELDS, *ATTACKER_FIELDS, "groups", "out", "price", "thumbnails"),
    *("jobs", "engine", "device", "precision", "cache", "isolate", "cell_timeout", "stop", *SERVICE_FIELDS),
)
def run(
    options: Options,
    policy: Annotated[
        Path | None,
        typer.Option(rich_help_panel=RESULTS, help="Policy file (docs/gate.md): exit with its code, as `audit gate`."),
    ] = None,
    json: Json = False,
    config: Config = None,
) -> None:
    """Audit a teacher: attack it, compare with LS students, and give a verdict."""
    asked = None if policy is None else foreseen(policy, options)
    ahead()
    from audit.surfaces import audit

    if options.stop is not None and asked is not None and asked.policy.whole:
        terminal.note("--stop does not end this audit: the policy's baseline or waivers ask about all attacks")
        options = replace(options, stop=None)
    done = audit(replace(options, quiet=json), command=command_line())
    from reports.verdict import print_verdict, print_verdict_json

    (print_verdict_json if json else print_verdict)(done.record, done.folder, again=done.again)
    if asked is not None:
        raise typer.Exit(ask_policy(done.folder, asked, page=True, quiet=json))
    from audit.policy import github
    from reports.wording import worst

    word = worst(done.record)
    github.annotate(done.record, done.folder, word, EXIT[word] == OK)
    raise typer.Exit(EXIT[word])


def foreseen(policy: Path, options: Options) -> PolicyFile:
    """Read a policy, and stop before anything is trained where the audit could never meet it."""
    from audit.plan.names import surfaces
    from audit.plan.suite import suite
    from audit.policy.file import read

    file = read(policy)
    from audit.policy.gate import foresee

    asked = suite(options.effort)
    foresee(file, asked, options.attacks, surfaces(options.surface))
    if asked.tuning_seeds < 2 and file.policy.inconclusive == "fail" and file.policy.baseline is None:
        terminal.note(f"{asked.name} never says UNDISTILLABLE (flag light-tuning), and this policy passes nothing else")
    return file


@takes(
    *("teacher", *CHECKPOINT_FIELDS, "attacks", "effort", "student", "seeds", "delta", "surrogate", "groups", "out"),
    *("thumbnails", "jobs", "engine", "device", "precision", "cache", "isolate", "cell_timeout", *SERVICE_FIELDS),
)
def limit(
    options: Options,
    surfaces: Annotated[
        str, typer.Option(rich_help_panel=AUDITED, help="What the API may show, with commas, as --surface of run.")
    ] = "probs",
    budgets: Annotated[
        str, typer.Option(rich_help_panel=ATTACKER, help="auto, or numbers of queries to search, with commas.")
    ] = "auto",
    hold: Annotated[
        str,
        typer.Option(
            rich_help_panel=ATTACKER,
            help="What attackers hold, with commas: fractions of the teacher's data, surrogate images, or none.",
        ),
    ] = "1,0.1,surrogate,none",
    json: Json = False,
    config: Config = None,
) -> None:
    """Say how much an API may answer: for every surface and attacker, the most queries at which no attack gains."""
    ahead()
    from audit.limits.limit import limit as search
    from audit.limits.terminal import print_limit, print_limit_json

    done = search(replace(options, quiet=json), surfaces, budgets, hold, command=command_line())
    (print_limit_json if json else print_limit)(done.limit, done.folder)


@takes(
    *("teacher", *CHECKPOINT_FIELDS, *ATTACKER_FIELDS, "groups"),
    *("price", "jobs", "engine", "device", "precision", "cache", "isolate", *SERVICE_FIELDS),
)
def plan(
    options: Options,
    json: Json = False,
    config: Config = None,
    like: Annotated[
        Path | None,
        typer.Option(rich_help_panel=RUN, help="Folder of an earlier audit, whose margins scatter as these will."),
    ] = None,
) -> None:
    """Say what an audit would take and what it could see, before anything is trained: about half a minute."""
    ahead()
    from audit.forecast.forecast import forecast
    from audit.forecast.terminal import print_forecasts, print_forecasts_json
    from audit.plan.names import surfaces

    asked = [replace(options, surface=surface, quiet=json) for surface in surfaces(options.surface)]
    found = [forecast(one, like=like) for one in asked]
    (print_forecasts_json if json else print_forecasts)(found)


@takes(
    *("teacher", *CHECKPOINT_FIELDS, "device", "cache", *SERVICE_FIELDS),
    out=taken(
        Annotated[
            Path | None,
            typer.Option(rich_help_panel=RESULTS, help="Folder to write; audit-out/TEACHER-cmi if not given."),
        ],
        None,
    ),
)
def cmi(options: Options, json: Json = False) -> None:
    """Measure how concentrated a teacher's answers are, in seconds and without students."""
    from audit.diagnosis.diagnose import diagnose
    from audit.diagnosis.terminal import print_diagnosis, print_diagnosis_json

    done = diagnose(replace(options, quiet=json), command=command_line())
    (print_diagnosis_json if json else print_diagnosis)(done.diagnosis, done.folder)


@takes(
    *(*CHECKPOINT_FIELDS, "output", "device", "cache"),
    teacher=taken(Annotated[str, typer.Argument(metavar="FILE", help="Checkpoint.")]),
)
def inspect(options: Options, json: Json = False) -> None:
    """Say what a checkpoint is, and how it is to be used where --data is given: nothing is trained."""
    from audit.inspection.inspection import inspect as look
    from audit.inspection.terminal import print_inspection, print_inspection_json

    (print_inspection_json if json else print_inspection)(look(options))


def teach(
    method: Annotated[str, typer.Argument(help="How: plain, nasty, cmim… (`audit ls teachers`).")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write: .pt or .safetensors.")],
    data: Annotated[str, typer.Option(help="glyphs, digits, an image folder, or torchvision:NAME:ROOT.")] = "glyphs",
    arch: Annotated[str | None, typer.Option(help="Architecture (`audit ls students`).")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of 128 images.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Training seed.", min=0, max=2**31 - 1)] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the method, NAME=VALUE; may be repeated.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Teacher to start from, avoid or copy, in place of an ordinary one.")
    ] = None,
    size: Annotated[int | None, typer.Option(help=about(Options)["size"].help)] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    cache: Cache = None,
) -> None:
    """Train a teacher and write a checkpoint that `audit run` needs no other flag for; an interrupted one goes on."""
    from audit.plan.early import known_device
    from audit.plan.embedded import meant
    from teachers import names
    from teachers.data import catalogue

    names.way_to_teach(method)
    known_device(device)
    data = meant(data, catalogue.EMBEDDED, "data set")
    catalogue.folder(data)
    from audit.teach import teach as make

    make(
        method,
        out,
        data=data,
        architecture=arch,
        steps=steps,
        seed=seed,
        settings=settings or (),
        init=init,
        size=size,
        device=device,
        cache=cache,
    )


def selftest(
    only: Annotated[str | None, typer.Option(help="Teachers with commas; all five if not given.")] = None,
    jobs: Jobs = None,
    out: Annotated[Path | None, typer.Option(help="Folder of a folder for each audit; audit-out if not given.")] = None,
    cache: Cache = None,
) -> None:
    """Audit teachers whose distillability is known by construction; exit 1 where an audit says otherwise."""
    ahead()
    from audit.selftest import print_selftest
    from audit.selftest import selftest as test

    found = []
    for one in test(only, jobs=jobs, cache=cache, out=out, command=command_line()):
        terminal.note(f"{one.teacher}: {one.found}")
        found.append(one)
    print_selftest(found)
    raise typer.Exit(0 if all(one.holds for one in found) else 1)
