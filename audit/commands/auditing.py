"""Commands that ask a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.commands import EXIT, OK
from audit.commands.finished import ask_policy
from audit.commands.options import (
    RESULTS,
    RUN,
    Arch,
    Attacks,
    Budget,
    Cache,
    CellTimeout,
    Classes,
    Config,
    Data,
    Device,
    DropClasses,
    Effort,
    Header,
    Input,
    Isolate,
    Jobs,
    Json,
    Labels,
    Normalize,
    Output,
    PlainHttp,
    Price,
    Seeds,
    Shots,
    Size,
    Student,
    Surface,
    Surrogate,
    Teacher,
    Trust,
    Weights,
    command_line,
    data_set,
    processes,
    service,
    teacher_spec,
)
from audit.execution import ahead
from reports import terminal

if TYPE_CHECKING:
    from audit.policy.file import PolicyFile


def run(
    teacher: Teacher,
    data: Data = None,
    arch: Arch = None,
    normalize: Normalize = None,
    classes: Classes = None,
    weights: Weights = None,
    size: Size = None,
    trust_model_code: Trust = False,
    attacks: Attacks = "all",
    effort: Effort = "standard",
    surface: Surface = "probs",
    budget: Budget = None,
    student: Student = None,
    seeds: Seeds = None,
    shots: Shots = 1.0,
    labels: Labels = 1.0,
    drop_classes: DropClasses = "",
    surrogate: Surrogate = None,
    out: Annotated[
        Path | None, typer.Option(rich_help_panel=RESULTS, help="Folder of this audit; audit-out/… if not given.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(rich_help_panel=RESULTS, help="Policy file (docs/gate.md): exit with its code, as `audit gate`."),
    ] = None,
    json: Json = False,
    price: Price = None,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails/--no-thumbnails",
            rich_help_panel=RESULTS,
            help="Keep small pictures of some validation images.",
        ),
    ] = True,
    jobs: Jobs = None,
    device: Device = "cpu",
    cache: Cache = None,
    config: Config = None,
    isolate: Isolate = None,
    cell_timeout: CellTimeout = None,
    input_: Input = "",
    output: Output = "",
    header: Header = None,
    plain_http: PlainHttp = False,
) -> None:
    """Audit a teacher: attack it, compare with LS students, and give a verdict."""
    served = service(input_, output, header, plain_http)
    ahead()
    from audit.plan.request import Request
    from audit.surfaces import audit

    asked = None if policy is None else _foreseen(policy, effort, attacks, surface)
    done = audit(
        Request(
            spec=teacher_spec(teacher, data, arch, normalize, size, trust_model_code, classes, weights, served),
            attacks=attacks,
            student=student,
            seeds=seeds,
            shots=shots,
            labels=labels,
            drop_classes=drop_classes,
            surface=surface,
            budget=budget,
            effort=effort,
            surrogate=surrogate,
            isolate=isolate,
            jobs=processes(jobs),
            cell_timeout=cell_timeout,
            device=device,
            out=out,
            cache=cache,
            price=price,
            thumbnails=thumbnails,
            command=command_line(),
            quiet=json,
        )
    )
    from reports.verdict import print_verdict, print_verdict_json

    (print_verdict_json if json else print_verdict)(done.record, done.folder)
    if asked is not None:
        raise typer.Exit(ask_policy(done.folder, asked, quiet=json))
    from audit.policy import github
    from reports.wording import worst

    word = worst(done.record)
    github.annotate(done.record, done.folder, word, EXIT[word] == OK)
    raise typer.Exit(EXIT[word])


def _foreseen(policy: Path, effort: str, attacks: str, surface: str) -> PolicyFile:
    """Read a policy, and stop before anything is trained where the audit could never meet it."""
    from audit.plan.suite import suite
    from audit.policy import foresee
    from audit.policy.file import read
    from audit.surfaces import surfaces

    file = read(policy)
    foresee(file, suite(effort), attacks, surfaces(surface))
    return file


def plan(
    teacher: Teacher,
    data: Data = None,
    arch: Arch = None,
    normalize: Normalize = None,
    classes: Classes = None,
    weights: Weights = None,
    size: Size = None,
    trust_model_code: Trust = False,
    attacks: Attacks = "all",
    effort: Effort = "standard",
    surface: Surface = "probs",
    budget: Budget = None,
    student: Student = None,
    seeds: Seeds = None,
    shots: Shots = 1.0,
    labels: Labels = 1.0,
    drop_classes: DropClasses = "",
    surrogate: Surrogate = None,
    json: Json = False,
    price: Price = None,
    jobs: Jobs = None,
    device: Device = "cpu",
    cache: Cache = None,
    config: Config = None,
    isolate: Isolate = None,
    input_: Input = "",
    output: Output = "",
    header: Header = None,
    plain_http: PlainHttp = False,
    like: Annotated[
        Path | None,
        typer.Option(rich_help_panel=RUN, help="Folder of an earlier audit, whose margins scatter as these will."),
    ] = None,
) -> None:
    """Say what an audit would take and what it could see, before anything is trained: about half a minute."""
    served = service(input_, output, header, plain_http)
    ahead()
    from audit.forecast.forecast import forecast
    from audit.forecast.terminal import print_forecasts, print_forecasts_json
    from audit.plan.request import Request
    from audit.surfaces import surfaces

    request = Request(
        spec=teacher_spec(teacher, data, arch, normalize, size, trust_model_code, classes, weights, served),
        attacks=attacks,
        student=student,
        seeds=seeds,
        shots=shots,
        labels=labels,
        drop_classes=drop_classes,
        surface=surface,
        budget=budget,
        effort=effort,
        surrogate=surrogate,
        isolate=isolate,
        jobs=processes(jobs),
        device=device,
        cache=cache,
        quiet=json,
    )
    found = [forecast(replace(request, surface=one), price=price, like=like) for one in surfaces(surface)]
    (print_forecasts_json if json else print_forecasts)(found)


def cmi(
    teacher: Teacher,
    arch: Arch = None,
    data: Data = None,
    normalize: Normalize = None,
    classes: Classes = None,
    weights: Weights = None,
    size: Size = None,
    trust_model_code: Trust = False,
    input_: Input = "",
    output: Output = "",
    header: Header = None,
    plain_http: PlainHttp = False,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder to write; audit-out/TEACHER-cmi if not given.")] = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Measure how concentrated a teacher's answers are, in seconds and without students."""
    from audit.diagnosis.diagnose import diagnose
    from audit.diagnosis.terminal import print_diagnosis, print_diagnosis_json

    served = service(input_, output, header, plain_http)
    asked = teacher_spec(teacher, data, arch, normalize, size, trust_model_code, classes, weights, served)
    done = diagnose(asked, device=device, out=out, cache=cache, command=command_line(), quiet=json)
    (print_diagnosis_json if json else print_diagnosis)(done.diagnosis, done.folder)


def inspect(
    file: Annotated[str, typer.Argument(help="Checkpoint.")],
    data: Data = None,
    arch: Arch = None,
    normalize: Normalize = None,
    classes: Classes = None,
    weights: Weights = None,
    size: Size = None,
    trust_model_code: Trust = False,
    output: Output = "",
    device: Device = "cpu",
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Say what a checkpoint is, and how it is to be used where --data is given: nothing is trained."""
    from audit.inspection.inspection import inspect as look
    from audit.inspection.terminal import print_inspection, print_inspection_json

    found = look(
        teacher_spec(
            file, data, arch, normalize, size, trust_model_code, classes, weights, service("", output, None, False)
        ),
        device=device,
        cache=cache,
    )
    (print_inspection_json if json else print_inspection)(found)


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
    size: Size = None,
    device: Device = "cpu",
    cache: Cache = None,
) -> None:
    """Train a teacher and write a checkpoint that `audit run` needs no other flag for; an interrupted one goes on."""
    from audit.teach import teach as make

    make(
        method,
        out,
        data=data_set(data),
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
    for one in test(only, jobs=processes(jobs), cache=cache, out=out, command=command_line()):
        terminal.note(f"{one.teacher}: {one.found}")
        found.append(one)
    print_selftest(found)
    raise typer.Exit(0 if all(one.holds for one in found) else 1)
