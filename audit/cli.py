"""argv to exit code; heavy imports inside commands."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from audit import __version__
from audit.commands import BUG, COMMAND_LINE, INTERRUPTED, OK, attempting, auditing, caching, finished, listing
from audit.commands.groups import CONTEXT, Command, Group
from audit.commands.options import expanded
from reports import streams, terminal

app = typer.Typer(
    name="audit",
    help="If I put this model behind an API, how much better a copy can someone train by asking it?",
    cls=Group,
    context_settings=CONTEXT,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    *(auditing.run, auditing.plan, auditing.limit, auditing.cmi, auditing.inspect, auditing.teach),
    *(finished.report, finished.compare, finished.board, finished.gate, finished.verify, finished.repeat),
    *(attempting.attempt, auditing.selftest, listing.ls, listing.info, listing.schema),
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, or of what a user may write to it
ROOM = "make room, or give a path that you may use; finished students are kept: rerun the same command to resume"
OURS = ("attacks", "teachers", "reports")  # packages beside this one
PLATFORMS = "audits run on Linux and macOS; install distill-audit inside WSL (`wsl --install`), and run it there"
WINDOWS = ("win32", "cygwin", "msys")  # as `sys.platform` names it
EXAMPLES = {
    auditing.run: (
        "audit run --teacher demo --effort smoke",
        "audit run --teacher model.pt --data DIR",
        "audit run --teacher model.pt --data DIR --surface top:5,label --policy policy.toml",
        "audit run --teacher https://HOST/v2/models/NAME --data DIR --budget 50000 --price 1.50",
    ),
    auditing.plan: ("audit plan --teacher model.pt --data DIR --effort full",),
    auditing.limit: (
        "audit limit --teacher model.pt --data DIR",
        "audit limit --teacher model.pt --data DIR --surfaces probs,top:5+round:2,label --hold 1,0.1",
    ),
    attempting.attempt: (
        "audit attempt dkd --set beta=2.0 --seeds 5",
        "audit attempt my_attack:MyAttack --data digits --effort smoke",
        "audit attempt my_attack:MyAttack --surface top:1",
    ),
    auditing.inspect: ("audit inspect model.pt", "audit inspect model.pt --data DIR"),
}
for command in COMMANDS:
    app.command(cls=Command, epilog="\n".join(EXAMPLES.get(command, ())))(command)
for typed in (app, caching.cache_app):
    for entry in typed.registered_commands:
        assert entry.callback is not None
        entry.callback = terminal.alone(expanded(entry.callback))
app.add_typer(caching.cache_app)

# Some releases of typer carry their own copy of click: its exceptions are reached through typer's.
CommandLineError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _tell_version(asked: bool) -> None:
    if asked:
        terminal.say(f"distill-audit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> NoReturn:
    """Run the command line and exit with its code: a user's mistake prints one line, a bug a traceback."""
    if sys.platform in WINDOWS:
        sys.exit(_say(f"this system is Windows ({sys.platform}); {PLATFORMS}", COMMAND_LINE))
    # Read when torch is imported: on shared cores, threads that spin while they wait make a teacher far slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    streams.prepare()
    sys.exit(_main())


def _main() -> int:
    shadowed = _shadowed()
    if shadowed:
        return _say(
            f"the package {shadowed} is not that of this tool; install distill-audit in an environment of its own", BUG
        )
    try:
        result = app(standalone_mode=False)
    except CommandLineError as e:
        return _say(e.format_message(), COMMAND_LINE)  # type: ignore[attr-defined]  # every ClickException has it
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except Exception as e:
        return _mistake(e)
    if result == INTERRUPTED:
        return _say("interrupted: finished students are kept; rerun the same command to resume", INTERRUPTED)
    return result if isinstance(result, int) else OK


def _mistake(error: Exception) -> int:
    from reports.record import RecordError
    from teachers.errors import AuditError, RefusedInput
    from teachers.processes.limits import starved

    if isinstance(error, AuditError):
        return _say(str(error), error.exit_code)
    if isinstance(error, OSError) and error.strerror and error.errno in FULL:
        return _say(f"{_place(error)}{error.strerror.lower()}; {ROOM}", RefusedInput.exit_code)
    if isinstance(error, OSError) and error.strerror and _users(error.filename):
        said = f"{_place(error)}{error.strerror.lower()}; give a path that you may use"
        return _say(said, RefusedInput.exit_code)
    if isinstance(error, RecordError):
        return _say(str(error), RefusedInput.exit_code)
    if said := starved(error):
        return _say(said, RefusedInput.exit_code)
    if isinstance(error, RuntimeError) and (said := _lost(error)):
        return _say(said, RefusedInput.exit_code)
    terminal.trace(error)
    return BUG


def _lost(error: RuntimeError) -> str:
    """Return what became of a card, if that is what went wrong."""
    from audit.execution.cards import lost

    return lost(error) if "torch" in sys.modules else ""


def _place(error: OSError) -> str:
    return "" if error.filename is None else f"{os.fsdecode(error.filename)}: "


def _users(name: object) -> bool:
    """Whether a file is the user's: one of Python's, of a package or of ours that is missing is a bug."""
    from sysconfig import get_path

    if not isinstance(name, str | bytes | Path) or not name:
        return False
    path, home = Path(os.path.abspath(os.fsdecode(name))), Path(__file__).resolve().parent.parent
    packages = [home / ours for ours in ("audit", *OURS)] + [
        Path(get_path(k)) for k in ("stdlib", "purelib", "platlib")
    ]
    return not any(path.is_relative_to(package) for package in packages)


def _say(sentence: str, code: int) -> int:
    terminal.note(f"audit: {' '.join(sentence.split())}")
    return code


def _shadowed() -> str | None:
    """Name a package of ours that Python would take from somewhere else: that would audit with a stranger's code."""
    from importlib.util import find_spec

    home = Path(__file__).resolve().parent.parent
    for name in OURS:
        spec = find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parent.parent != home:
            return name
    return None


if __name__ == "__main__":  # `python -m audit.cli`
    from audit.__main__ import refuse

    refuse()
