"""`audit verify` of a limit: every cell follows from the record of its audit, and every page from the cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audit.finished.design import Disagreement, unequal
from audit.finished.verify import verify
from audit.limits.panels import Asker, Panels, in_order, panel
from reports.limit import outputs
from reports.limit.document import Limit, Panel, load
from reports.record import Record, RecordError
from reports.record import load as read


def check(folder: Path) -> Iterator[Disagreement]:
    """Search again in the records that a limit names, and check these; raise RecordError where one cannot be read."""
    kept = load(folder)
    stored = {(one.surface, one.hold): one for one in kept.panels}
    done: dict[tuple[str, str], Panel] = {}
    for key in in_order([*dict.fromkeys(s for s, _ in stored)], [*dict.fromkeys(h for _, h in stored)]):
        if key in stored:
            done[key] = _again(folder, stored[key], done)
            yield from unequal(f"limit.json, {key[0]} {key[1]}", stored[key], done[key])
    for place in dict.fromkeys(cell.folder for one in kept.panels for cell in one.cells if cell.audited):
        yield from (Disagreement(f"{place}, {one.where}", one.stored, one.found) for one in verify(folder / place))
    yield from _of_one_teacher(kept, folder)
    for name, content in outputs.files(kept).items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            yield Disagreement(name, "another text, or none", "what follows from limit.json")


def _again(folder: Path, stored: Panel, done: Panels) -> Panel:
    asker = Asker(stored.surface, stored.hold, stored.attacks, stored.images, tuple(c.budget for c in stored.cells))

    def look(budget: int | None) -> Record:
        path = folder / asker.place(budget)
        found = read(path)
        asked = found.settings.surface, found.settings.budget, found.look.alpha
        if asked != (asker.surface, budget, asker.alpha):
            raise RecordError(f"{path} is another audit than that of its budget; run `audit limit` again")
        return found

    return panel(asker, done, look)


def _of_one_teacher(kept: Limit, folder: Path) -> Iterator[Disagreement]:
    for one in kept.panels:
        for cell in one.cells:
            if cell.audited:
                found = read(folder / cell.folder)
                told = found.teacher.name, found.teacher.sha256, found.suite.name, found.settings.student
                stated = kept.teacher, kept.sha256, kept.suite, kept.student
                yield from unequal(f"limit.json, the audit of {cell.folder}", stated, told)
