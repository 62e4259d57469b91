"""argv to exit code; heavy imports inside commands."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from audit.caching.commands import cache_app
from audit.execution import ahead

if TYPE_CHECKING:
    from audit.gate.policy import PolicyFile
    from audit.subjects import Opening

app = typer.Typer(
    name="audit",
    help="If I put this model behind an API, how much better a copy can someone train by asking it?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(cache_app)

# Some releases of typer carry their own copy of click: its exceptions are reached through typer's.
CommandLineError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

OK, BUG, INTERRUPTED, COMMAND_LINE = 0, 70, 130, 2
EXIT = {"UNDISTILLABLE": 0, "DISTILLABLE": 1, "INCONCLUSIVE": 3}

Teacher = Annotated[
    str,
    typer.Option(
        help="Checkpoint (docs/formats.md says which), a URL (https://HOST/v2/models/NAME), or a built-in one (`audit "
        "ls teachers`)."
    ),
]
Data = Annotated[str | None, typer.Option(help="glyphs, digits, an image folder, or torchvision:NAME:ROOT.")]
Cache = Annotated[Path | None, typer.Option(help="Where students and answers are kept between audits.")]
Size = Annotated[int | None, typer.Option(help="Resize and crop the images of a folder to this many pixels.")]

Arch = Annotated[str | None, typer.Option(help="Architecture of a checkpoint, where its tensors fit more than one.")]
Trust = Annotated[bool, typer.Option("--trust-model-code", help="Run the code of a checkpoint that is a program.")]
Normalize = Annotated[
    str | None,
    typer.Option(help="none, half, imagenet, cifar or MEAN/STD, with /bgr where blue is first; found if not given."),
]
Classes = Annotated[
    Path | None,
    typer.Option(help="One class name a line, in the order of the network's outputs; the data's if not given."),
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Jobs = Annotated[int | None, typer.Option(help="Local processes; all cores if not given.")]
Price = Annotated[float | None, typer.Option(help="What 1,000 queries cost.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON on standard output.")]

Attacks = Annotated[
    str, typer.Option(help="Names with commas (NAME:PRESET), or `all`: the suite and installed plug-ins.")
]
Student = Annotated[str | None, typer.Option(help="Architectures of the students, with commas (`audit ls students`).")]
Seeds = Annotated[int | None, typer.Option(help="Most judged seeds, up to 20; the effort's number if not given.")]
Shots = Annotated[float, typer.Option(help="Fraction of images and labels that the attacker holds.")]
Labels = Annotated[float, typer.Option(help="Fraction of labels that the attacker knows, of all images.")]
DropClasses = Annotated[str, typer.Option(help="Classes that the attacker never saw, with commas.")]
Surface = Annotated[
    str,
    typer.Option(
        help="What the API shows: probs, logits, label, gradients, or top:K, round:D… with +, after uint8+ or not; "
        "several with commas."
    ),
]
Budget = Annotated[int | None, typer.Option(help="Most queries one student may rest on.")]
Surrogate = Annotated[str | None, typer.Option(help="Folder of surrogate images for Knockoff Nets.")]
Isolate = Annotated[
    bool | None,
    typer.Option(
        "--isolate/--no-isolate",
        help="Keep the teacher in a process of its own; on by itself where plug-ins take part.",
        show_default=False,
    ),
]
Effort = Annotated[
    str,
    typer.Option(
        help="smoke, standard or full: `audit plan` says what each can see; bag: as the reference bag; selftest: as "
        "`audit selftest`."
    ),
]


@app.command()
def run(
    teacher: Teacher,
    attacks: Attacks = "all",
    arch: Arch = None,
    data: Data = None,
    normalize: Normalize = None,
    classes: Classes = None,
    size: Size = None,
    trust_model_code: Trust = False,
    student: Student = None,
    seeds: Seeds = None,
    shots: Shots = 1.0,
    labels: Labels = 1.0,
    drop_classes: DropClasses = "",
    surface: Surface = "probs",
    budget: Budget = None,
    surrogate: Surrogate = None,
    effort: Effort = "standard",
    isolate: Isolate = None,
    jobs: Jobs = None,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder of this audit; audit-out/… if not given.")] = None,
    cache: Cache = None,
    price: Price = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy file (docs/gate.md): exit with its code, as `audit gate`.")
    ] = None,
    json: Json = False,
) -> None:
    """Audit a teacher: attack it, compare with LS students, and give a verdict."""
    ahead()
    from audit.plan import Request
    from audit.surfaces import audit

    asked = None if policy is None else _foreseen(policy, effort, attacks, surface)
    done = audit(
        Request(
            opening=_opening(teacher, data, arch, normalize, size, trust_model_code, classes),
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
            jobs=_processes(jobs),
            device=device,
            out=out,
            cache=cache,
            price=price,
            command=_command(),
            quiet=json,
        )
    )
    from audit.telling import tell, tell_json

    (tell_json if json else tell)(done.record, done.folder)
    if asked is not None:
        raise typer.Exit(_gate(done.folder, asked, quiet=json))
    from audit.gate import github
    from reports.wording import worst

    word = worst(done.record)
    github.tell(done.record, done.folder, word, EXIT[word] == OK)
    raise typer.Exit(EXIT[word])


@app.command()
def plan(
    teacher: Teacher,
    attacks: Attacks = "all",
    arch: Arch = None,
    data: Data = None,
    normalize: Normalize = None,
    classes: Classes = None,
    size: Size = None,
    trust_model_code: Trust = False,
    student: Student = None,
    seeds: Seeds = None,
    shots: Shots = 1.0,
    labels: Labels = 1.0,
    drop_classes: DropClasses = "",
    surface: Surface = "probs",
    budget: Budget = None,
    surrogate: Surrogate = None,
    effort: Effort = "standard",
    isolate: Isolate = None,
    jobs: Jobs = None,
    device: Device = "cpu",
    cache: Cache = None,
    price: Price = None,
    like: Annotated[
        Path | None, typer.Option(help="Folder of an earlier audit, whose margins scatter as these will.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what an audit would take and what it could see, before anything is trained: about half a minute."""
    ahead()
    from audit.forecasting.forecast import forecast
    from audit.plan import Request
    from audit.telling import tell_plan, tell_plan_json

    found = forecast(
        Request(
            opening=_opening(teacher, data, arch, normalize, size, trust_model_code, classes),
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
            jobs=_processes(jobs),
            device=device,
            cache=cache,
            quiet=json,
        ),
        price=price,
        like=like,
    )
    (tell_plan_json if json else tell_plan)(found)


@app.command()
def cmi(
    teacher: Teacher,
    arch: Arch = None,
    data: Data = None,
    normalize: Normalize = None,
    classes: Classes = None,
    size: Size = None,
    trust_model_code: Trust = False,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder to write; audit-out/TEACHER-cmi if not given.")] = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Measure how concentrated a teacher's answers are, in seconds and without students."""
    from audit.diagnose import diagnose
    from audit.telling import tell_cmi, tell_cmi_json

    opening = _opening(teacher, data, arch, normalize, size, trust_model_code, classes)
    done = diagnose(opening, device=device, out=out, cache=cache, command=_command(), quiet=json)
    (tell_cmi_json if json else tell_cmi)(done.diagnosis, done.folder)


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="Checkpoint.")],
    data: Data = None,
    arch: Arch = None,
    normalize: Normalize = None,
    classes: Classes = None,
    size: Size = None,
    trust_model_code: Trust = False,
    device: Device = "cpu",
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Say what a checkpoint is, and how it is to be used where --data is given: nothing is trained."""
    from audit.inspecting.inspected import tell, tell_json
    from audit.inspecting.inspection import inspect as look

    found = look(_opening(file, data, arch, normalize, size, trust_model_code, classes), device=device, cache=cache)
    (tell_json if json else tell)(found)


@app.command()
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
    from audit.teaching import teach as make

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


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder that `audit run` wrote.")],
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="html, md, junit, attestation, csv, parquet… with commas; what `audit run` writes if not given.",
        ),
    ] = None,
) -> None:
    """Write reports again from record.json: as `audit run` does, or in the formats that are named."""
    from audit.finished.reporting import report as write

    for written in write(folder, formats):
        typer.echo(written)


@app.command()
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
    from audit.finished.compared import tell, tell_json

    (tell_json if json else tell)(*look(folders, out, formats))


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="Folder that `audit run` wrote.")]) -> None:
    """Recompute every number, figure and word from the stored results of the students; exit 1 where one disagrees."""
    from audit.finished.verify import verify as look

    for disagreement in look(folder):
        typer.echo(disagreement)
        raise typer.Exit(1)
    typer.echo(f"{folder}: everything follows from what was measured")


@app.command()
def gate(
    folder: Annotated[Path, typer.Argument(help="Folder that `audit run` wrote.")],
    policy: Annotated[Path, typer.Option(help="Policy file (docs/gate.md).")],
    json: Json = False,
) -> None:
    """Hold an audit against a policy file: 0 passes, 1 fails, 3 undecided, 5 nothing was audited."""
    from audit.gate.policy import read

    raise typer.Exit(_gate(folder, read(policy), json=json))


@app.command()
def repeat(
    folder: Annotated[Path, typer.Argument(help="Folder that `audit run` wrote.")],
    cells: Annotated[int, typer.Option(help="Students to train again.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    trust_model_code: Trust = False,
    cache: Cache = None,
) -> None:
    """Train some students again from the record alone and compare them; exit 1 where one differs."""
    ahead()
    from audit.finished.repeat import repeat as again

    agree = True
    for one in again(folder, cells, seed, cache, trust_model_code):
        name = f"{one.trial.name}, seed {one.trial.seed}"
        typer.echo(f"{name}: {one.before:.2%} before, {one.now:.2%} now, {one.differs} test images differ")
        agree &= one.agrees
    raise typer.Exit(0 if agree else 1)


@app.command()
def selftest(
    only: Annotated[str | None, typer.Option(help="Teachers with commas; all five if not given.")] = None,
    jobs: Jobs = None,
    out: Annotated[Path | None, typer.Option(help="Folder of a folder for each audit; audit-out if not given.")] = None,
    cache: Cache = None,
) -> None:
    """Audit teachers whose distillability is known by construction; exit 1 where an audit says otherwise."""
    ahead()
    from audit.selftest import selftest as test
    from audit.telling import tell_selftest

    found = []
    for one in test(only, jobs=_processes(jobs), cache=cache, out=out, command=_command()):
        typer.echo(f"{one.teacher}: {one.found}", err=True)
        found.append(one)
    tell_selftest(found)
    raise typer.Exit(0 if all(one.holds for one in found) else 1)


@app.command("ls")
def ls(what: Annotated[str, typer.Argument(help="attacks, students, data or teachers.")]) -> None:
    """List what there is."""
    from audit.telling import listing

    typer.echo(listing(what))


@app.command()
def info(name: Annotated[str, typer.Argument(help="An attack, a control or a way to train a teacher.")]) -> None:
    """Tell about an attack or a way to teach: paper, threat model, settings, what we measured."""
    from audit.telling import about

    typer.echo(about(name))


@app.command()
def schema() -> None:
    """Print the JSON schema of record.json."""
    import json

    from reports.record import json_schema

    typer.echo(json.dumps(json_schema(), indent=1))


def _opening(
    teacher: str,
    data: str | None,
    arch: str | None,
    normalize: str | None,
    size: int | None,
    trust: bool,
    classes: Path | None,
) -> Opening:
    from audit.subjects import Opening
    from teachers.intake import class_names

    names = () if classes is None else class_names(classes)
    return Opening(teacher, data, arch, normalize, size, trust, names)


def _foreseen(policy: Path, effort: str, attacks: str, surface: str) -> PolicyFile:
    """Read a policy, and stop before anything is trained where the audit could never meet it."""
    from audit.gate import foresee
    from audit.gate.policy import read
    from audit.suite import suite
    from audit.surfaces import surfaces

    file = read(policy)
    foresee(file, suite(effort), attacks, surfaces(surface))
    return file


def _gate(folder: Path, policy: PolicyFile, *, json: bool = False, quiet: bool = False) -> int:
    """Ask a policy, say what it says here and to GitHub, and return the exit code."""
    from audit.gate import gate as ask
    from audit.gate import github
    from audit.gate import telling as gate_telling
    from reports.wording import worst

    done = ask(folder, policy)
    if not quiet:
        (gate_telling.tell_json if json else gate_telling.tell)(done)
    github.tell(done.record, done.folder, worst(done.record), done.passes, done.findings)
    return done.code


def _processes(jobs: int | None) -> int:
    return (os.cpu_count() or 1) if jobs is None else jobs


def _command() -> str:
    import shlex

    return shlex.join(["audit", *sys.argv[1:]])


def main() -> NoReturn:
    """Run the command line and exit with its code: a user's mistake prints one line, a bug a traceback."""
    sys.exit(_main())


def _main() -> int:
    shadowed = _shadowed()
    if shadowed:
        return _say(f"the package {shadowed} is not this tool's; install it in an environment of its own", BUG)
    try:
        result = app(standalone_mode=False)
    except CommandLineError as e:
        return _say(e.format_message(), COMMAND_LINE)  # type: ignore[attr-defined]  # every ClickException has it
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except Exception as e:
        return _mistake(e)
    if result == INTERRUPTED:
        return _say("interrupted: finished students are kept; the same command goes on from there", INTERRUPTED)
    return result if isinstance(result, int) else OK


def _mistake(error: Exception) -> int:
    from reports.record import RecordError
    from teachers.errors import AuditError, RefusedInput

    if isinstance(error, AuditError):
        return _say(str(error), error.exit_code)
    if isinstance(error, PermissionError) and error.filename:
        return _say(f"{error.filename}: permission denied; give a place that you may use", RefusedInput.exit_code)
    if isinstance(error, RecordError):
        return _say(str(error), RefusedInput.exit_code)
    traceback.print_exception(error)
    return BUG


def _say(sentence: str, code: int) -> int:
    print(f"audit: {' '.join(sentence.split())}", file=sys.stderr)
    return code


def _shadowed() -> str | None:
    """Name a package of ours that Python would take from somewhere else: that would audit with a stranger's code."""
    from importlib.util import find_spec

    home = Path(__file__).resolve().parent.parent
    for name in ("attacks", "teachers", "reports"):
        spec = find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parent.parent != home:
            return name
    return None
