"""Measurements that are written one by one, read again at the next start, and told in one table."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

Clock = Callable[[], float]


class NoTimeLeft(KeyboardInterrupt):
    """Raised when a measurement has had its time: an interruption, so that no one takes it for a failed student."""


@dataclass(frozen=True)
class Figure:
    """What was measured."""

    told: str  # for the table
    value: float | None = None  # which ratios are made of
    done: bool = True  # False: the next run goes on with it
    seconds: float = 0.0  # that it took so far, where a later run goes on
    run: str = ""  # when the run began that measured it


class NotMeasured(Exception):
    """Says why something is not measured here."""


@dataclass(frozen=True)
class Row:
    """One line of the table. `share` of the minutes is at least its own; what it leaves goes to those after it."""

    name: str
    share: float
    measure: Callable[[Figure | None, float], Figure]  # from what is there already, and the seconds it may take
    over: str = ""  # the row that its ratio is taken to
    needed: bool = False  # by all later rows: it may take all the time
    ready: Callable[[], object] = lambda: None  # opens what later rows use, too, which also may take all the time


@dataclass
class Ledger:
    """The file of all measurements."""

    path: Path
    setting: dict[str, str]  # machine, versions and sizes: measurements of another setting are not mixed in
    run: str
    figures: dict[str, Figure] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)  # by row: why it is not measured

    @classmethod
    def open(cls, path: Path, setting: dict[str, str], run: str) -> Ledger:
        """Read what is there; raise ValueError with a sentence where that was measured in another setting."""
        if not path.exists():
            return cls(path, setting, run)
        held = json.loads(path.read_text())
        for name, value in setting.items():
            if held["setting"].get(name) != value:
                was = held["setting"].get(name)
                raise ValueError(f"{path} was measured with {name} {was}, this is {value}; give another --out")
        return cls(path, setting, run, {name: Figure(**found) for name, found in held["figures"].items()})

    def keep(self, row: Row, figure: Figure) -> None:
        """Write a measurement, whole or not at all."""
        self.figures[row.name] = figure
        text = json.dumps(
            {"setting": self.setting, "figures": {n: asdict(f) for n, f in self.figures.items()}}, indent=1
        )
        draft = self.path.with_suffix(".draft")
        draft.write_text(text + "\n")
        os.replace(draft, self.path)

    def done(self, row: Row) -> bool:
        """Whether there is nothing left to measure."""
        return row.name in self.figures and self.figures[row.name].done

    def table(self, rows: Sequence[Row]) -> str:
        """Return all rows as Markdown, those without a measurement with the reason."""
        lines = [
            f"{', '.join(self.setting.values())}; {self.run}",
            "",
            "| what | measured | against |",
            "|---|---|---|",
        ]
        for row in rows:
            figure = self.figures.get(row.name)
            told = figure.told if figure else f"not measured: {self.why.get(row.name, NO_TIME)}"
            lines.append(f"| {row.name} | {told} | {self._ratio(row)} |")
        return "\n".join(lines) + "\n"

    def _ratio(self, row: Row) -> str:
        mine, base = self.figures.get(row.name), self.figures.get(row.over)
        if mine is None or base is None or not mine.value or not base.value:
            return ""
        return f"{mine.value / base.value:.2f} × {row.over}" + " (of two runs)" * (mine.run != base.run)


NO_TIME = "no time left"


def measure(rows: Sequence[Row], ledger: Ledger, seconds: float, clock: Clock = time.monotonic) -> None:
    """Measure what is missing, row by row, within so many seconds."""
    ends = clock() + seconds
    missing = [row for row in rows if not ledger.done(row)]
    for i, row in enumerate(missing):
        share = 1.0 if row.needed else row.share / sum(later.share for later in missing[i:])
        try:
            with limit(ends - clock()):
                row.ready()
            allowed = (ends - clock()) * share
            print(f"{row.name}: at most {allowed:.0f} s", flush=True)
            with limit(allowed):
                found = row.measure(ledger.figures.get(row.name), allowed)
            ledger.keep(row, Figure(**{**asdict(found), "run": ledger.run}))
            print(f"  {found.told}", flush=True)
        except NoTimeLeft:
            ledger.why[row.name] = NO_TIME
        except NotMeasured as e:
            ledger.why[row.name] = str(e)
        except Exception as e:  # what one measurement meets on a card must not cost the others
            traceback.print_exc()
            ledger.why[row.name] = f"it failed ({type(e).__name__}: {str(e).splitlines()[0][:100] if str(e) else ''})"


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise NoTimeLeft in here after so many seconds."""
    if seconds <= 0:
        raise NoTimeLeft

    def over(*_: object) -> None:
        raise NoTimeLeft

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
