"""`audit limit`: for every surface and attacker, the most queries at which no attack gains; each budget is an audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from audit import __version__, folder
from audit.limits.attackers import AUTO, Attacker, attacker, attacks_of, budgets_of, holds_of
from audit.limits.judged import sure
from audit.limits.panels import in_order, panel
from audit.pipeline import run
from audit.plan.names import surfaces
from audit.plan.options import DECIDED, Options
from audit.plan.suite import suite
from reports.limit import outputs, wording
from reports.limit.document import Limit, Panel
from reports.progress import ProgressReporter
from reports.record import Record
from reports.settings import ALPHA
from teachers.errors import UsageError
from teachers.targets.target import slug

EVERYONE: Final = "1,0.1,surrogate,none"


@dataclass(frozen=True)
class WrittenLimit:
    """What was found, and where it lies."""

    limit: Limit
    folder: Path


def limit(
    options: Options, shown: str = "probs", budgets: str = AUTO, hold: str = EVERYONE, *, command: str = ""
) -> WrittenLimit:
    """Search the largest safe budget of every attacker on every surface; the same call goes on where it was ended.

    `shown`: surfaces; `budgets`: `auto`, or numbers; `hold`: fractions of the data, `surrogate`, `none`; each with
    commas. Raises UsageError for what is none of these, and what an audit raises.
    """
    names, kinds, grid, named = surfaces(shown), holds_of(hold), budgets_of(budgets), suite(options.effort)
    if not any(attacks_of(named, options.attacks, kind) for kind in kinds):
        raise UsageError(f"no attack of --attacks {options.attacks} is one of attackers who hold {hold}")
    folder.refuse_file(options.out)
    out = options.out or Path("audit-out") / f"{slug(Path(options.teacher).name)}-{named.name}-limit"
    search = Search(out, command, ProgressReporter(options.quiet))
    with folder.claimed(out, search.progress.note, outputs.FILES):
        for surface, kind in in_order(names, kinds):
            one = attacker(options, named, surface, kind, grid)
            if one is None:
                search.progress.note(f"{surface}, {wording.holder(kind)}: no attack of the suite can ask")
                continue
            search.panels[surface, kind] = panel(one.asker, search.panels, partial(search.look, one))
            wanted = [(name, held) for name in names for held in kinds]
            outputs.write(search.document(wanted, grid, options.tolerance), out)  # it stays, whatever happens to others
    if not search.panels:
        raise UsageError(f"no attack of {named.name} can ask through {shown}; give another surface, or other attackers")
    return WrittenLimit(search.document(wanted, grid, options.tolerance), out)


@dataclass(frozen=True)
class Search:
    """A search that goes on: its panels so far, and the records of the audits."""

    out: Path
    command: str
    progress: ProgressReporter
    panels: dict[tuple[str, str], Panel] = field(default_factory=dict)  # by surface and what the attacker holds
    records: list[Record] = field(default_factory=list)

    def look(self, one: Attacker, budget: int | None) -> Record:
        """Audit the teacher with a budget."""
        self.progress.note(f"{one.asker.name}: {'all' if budget is None else f'at most {budget:,}'} queries")
        own = self.out / one.asker.place(budget)
        asked = replace(one.options, budget=budget, out=own, alpha=one.asker.alpha, stop=DECIDED)
        record = run(asked, command=self.command).record
        if record.planned and not sure(record):  # it gains, but perhaps less than the tolerance: all others must run
            record = run(replace(asked, stop=None), command=self.command).record
        self.records.append(record)
        return record

    def document(self, order: Sequence[tuple[str, str]], grid: tuple[int, ...], delta: float) -> Limit:
        """Return what was found so far."""
        record = self.records[-1]
        return Limit(
            command=self.command,
            teacher=record.teacher.name,
            sha256=record.teacher.sha256,
            task=record.task.name,
            student=record.settings.student,
            suite=record.suite.name,
            suite_digest=record.suite.digest,
            delta=delta,
            error=ALPHA,
            grid=grid,
            panels=tuple(self.panels[key] for key in order if key in self.panels),
            tool=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
