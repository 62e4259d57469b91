"""How much better a copy can someone train by asking a model: audits from Python, as from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from teachers.errors import AuditError

if TYPE_CHECKING:
    from audit.finished.design import Disagreement
    from audit.plan.options import Keywords, Options
    from audit.policy.gate import GateResult
    from reports.frames import Frames
    from reports.leaderboard.board import Leaderboard
    from reports.limit.document import Limit
    from reports.record import Record
    from reports.record import RecordError as RecordError

__all__ = ["AuditError", "RecordError", "__version__", "compare", "gate", "limit", "load", "run", "verify"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name == "RecordError":  # only when it is asked for: records need pydantic
        from reports.record import RecordError

        return RecordError
    raise AttributeError(f"module 'audit' has no attribute {name!r}")


def run(
    teacher: str | Path | Callable[..., Any], data: str | Path | None = None, **options: Unpack[Keywords]
) -> Record:
    """Audit a teacher as `audit run` does, write the audit's folder, and return its record.

    `teacher`: a checkpoint, a URL, the name of a built-in teacher, or an object of this process: a `torch.nn.Module`
    in evaluation mode, or a function. An object gets float images (N, C, H, W) in [0, 1], after `normalize` where that
    is given, and returns one row an image (N, K): logits, log-probabilities, probabilities or percentages. It needs
    `data`; `classes` are the names in the order of its outputs, where this is not the data's order.

    `options`: what `audit run --help` lists, with _ for -; names with commas may be lists (`attacks`, `student`,
    `surface`, `drop_classes`); docs/python.md has all of them. With several surfaces, the record is that of the first
    one, and has the table of all.

    Raises AuditError with one sentence for anything that cannot be audited as it is asked for.
    """
    from audit.surfaces import audit

    asked, command = _asked(teacher, {"data": data, **options})
    return audit(asked, command=f"audit.run({command})").record


def limit(
    teacher: str | Path | Callable[..., Any],
    data: str | Path | None = None,
    *,
    surfaces: str = "probs",
    budgets: str = "auto",
    hold: str = "1,0.1,surrogate,none",
    **options: Unpack[Keywords],
) -> Limit:
    """Search how much a teacher may answer, as `audit limit` does, and write its folder; return what was found.

    `teacher`, `data` and `options`: as of `run`; budget, shots and surface are what is searched. `surfaces`, `budgets`
    and `hold`: names and numbers with commas, as `audit limit --help` says. Raises AuditError as `run` does.
    """
    from audit.limits.limit import limit as search

    asked, command = _asked(teacher, {"data": data, **options})
    return search(asked, surfaces, budgets, hold, command=f"audit.limit({command})").limit


def _asked(teacher: str | Path | Callable[..., Any], given: dict[str, Any]) -> tuple[Options, str]:
    """Return the options that a caller gives, and the arguments of the call as text."""
    from audit.plan.options import options_of

    if isinstance(teacher, str | Path):
        asked = options_of({"teacher": teacher, **given})
    else:
        from teachers.targets.live import name_of

        asked = options_of({"teacher": name_of(teacher), **given}, live=teacher)
    return asked, ", ".join(f"{name}={value!r}" for name, value in {"teacher": asked.teacher, **given}.items())


def load(place: str | Path) -> Frames:
    """Return the tables of an audit as pandas data frames: of its folder, or of a record.json.

    Raises RecordError with one sentence where there is no record that can be read.
    """
    from reports.frames import read
    from teachers.places import place as expanded

    return read(expanded(place))


def verify(folder: str | Path) -> tuple[Disagreement, ...]:
    """Compute every number, figure and word of a folder again; return what disagrees, as `audit verify` says.

    `folder`: of an audit, or of a limit with all of its audits. An empty tuple: everything follows from what was
    measured. Raises RecordError as `load` does.
    """
    from audit.finished.verify import verify as look
    from audit.limits.checking import check
    from audit.policy.outcome import asked_again
    from reports.limit.document import FILE
    from reports.record import load as read
    from teachers.places import place

    path = place(folder)
    if (path / FILE).exists():
        return tuple(check(path))
    return (*look(path), *asked_again(read(path), path))


def compare(*places: str | Path) -> Leaderboard:
    """Put two or more audits of one question side by side, as `audit compare` does; folders, or records.

    Raises AuditError where they cannot be compared, RecordError as `load` does.
    """
    from audit.finished.compared import compare as look
    from teachers.places import place

    return look([place(one) for one in places])[0]


def gate(folder: str | Path, policy: str | Path) -> GateResult:
    """Hold an audit against a policy file, as `audit gate` does: the result has `passes`, `code` and `findings`.

    Raises AuditError where the policy is wrong or does not fit, RecordError as `load` does.
    """
    from audit.policy.file import read
    from audit.policy.gate import gate as ask
    from teachers.places import place

    return ask(place(folder), read(place(policy)))
