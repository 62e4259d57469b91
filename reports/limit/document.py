"""How much an API may give: for every surface and attacker, the budgets of queries that are safe, and those that gain.

Plain versioned data, in `limit.json`; its page, figure and text are made from it alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from reports.base import Count, Data, Share
from reports.record import Interval, RecordError
from teachers.files import write_whole

SCHEMA_VERSION: Final = 1
FILE: Final = "limit.json"
Outcome = Literal["safe", "gains", "open"]
Hold = Annotated[str, Field(pattern=r"^(none|surrogate|0?\.\d+|1)$")]


class Cell(Data):
    """One budget of one attacker on one surface, and what is known of it."""

    budget: Count | None  # queries of one student; None: as many as its attacks ask
    outcome: Outcome | None = None  # None: nobody looked, and no other cell decides it
    why: str = ""  # reasons for the outcome, or which other cell decides it
    folder: str = ""  # of its audit, relative to the limit's own; empty for a cell that another one decides
    record: str = ""  # sha256 of that audit's record.json
    queries: Count = 0  # that a student used, at most
    attack: str = ""  # with the largest gain
    gain: Interval | None = None  # of that attack over what the attacker can do without the teacher
    copied: Share | None = None  # accuracy of its students
    without: Share | None = None  # accuracy without the teacher

    @property
    def audited(self) -> bool:
        """Whether it has an audit of its own."""
        return bool(self.folder)


class Panel(Data):
    """One kind of attacker on one surface: cells by increasing budget, the last one without a limit."""

    surface: str
    hold: Hold  # the fraction of the teacher's data that the attacker has, or surrogate images, or none
    images: Count  # that the attacker holds of the task
    attacks: tuple[str, ...]
    works: tuple[str, ...] = ()  # attacks that were seen to work, here or where an attacker sees or holds less
    looks: Count  # budgets that the search may look at, over which the error rate is shared
    alpha: float  # error rate of each of them
    cells: tuple[Cell, ...]

    @property
    def safe(self) -> Cell | None:
        """The cell of the largest budget that is safe; None where none was shown to be."""
        return next((cell for cell in reversed(self.cells) if cell.outcome == "safe"), None)

    @property
    def gains(self) -> Cell | None:
        """The cell of the smallest budget at which an attack gains; None where none was shown to."""
        return next((cell for cell in self.cells if cell.outcome == "gains"), None)


class Limit(Data):
    """What `audit limit` found."""

    schema_version: Literal[1] = SCHEMA_VERSION
    command: str
    teacher: str
    sha256: str
    task: str
    student: str
    suite: str
    suite_digest: str
    delta: float  # tolerance, a fraction
    error: float  # rate of a false "safe" over all budgets of a panel
    grid: tuple[Count, ...]
    panels: tuple[Panel, ...]
    tool: str
    created: str


def save(limit: Limit, folder: Path) -> None:
    """Write the document whole."""
    write_whole(folder / FILE, limit.model_dump_json(indent=1).encode() + b"\n")


def load(folder: Path) -> Limit:
    """Read the document of a folder; raise RecordError where there is none that can be read."""
    path = folder / FILE
    try:
        return Limit.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as e:
        raise RecordError(f"cannot read {path} ({e.strerror}); give the folder that `audit limit` wrote") from e
    except (ValueError, ValidationError) as e:
        raise RecordError(f"{path} is no document of `audit limit`; give the folder that it wrote") from e
