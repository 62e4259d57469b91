"""Show the progress of an audit: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from reports import terminal
from reports.printable import printable
from reports.wording import duration

PLAIN_EVERY = 10.0  # seconds between plain lines


class ProgressReporter:
    """Counts students; it prints to standard error, so that standard output stays free for --json."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._left = 0
        self._done = 0
        self._spent = 0.0
        self._told = 0.0
        self._bar: Progress | None = None

    def note(self, text: str) -> None:
        """Print one line."""
        if not self._quiet:
            terminal.note(text)

    @contextmanager
    def training(self, phase: str, students: int, workers: int, later: int) -> Iterator[Step]:
        """Show the progress of a phase; `later`: number of students that follow in other phases."""
        self._left = students + later
        step = Step(self, phase, students, workers)
        console = terminal.console("stderr")
        if self._quiet or not console.is_terminal:
            yield step
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}", markup=False),
        )
        moving = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        with moving as self._bar:
            step.task = self._bar.add_task(printable(phase), total=students, left="")
            yield step
        self._bar = None

    def tell(self, step: Step, seconds: float) -> None:
        """Count one student that took a worker `seconds` seconds."""
        self._done, self._left, self._spent = self._done + 1, max(0, self._left - 1), self._spent + seconds
        left = f"{self._left} students left, about {duration(self._spent / self._done * self._left / step.workers)}"
        if self._bar is not None and step.task is not None:
            self._bar.update(step.task, advance=1, left=left)
        elif time.monotonic() - self._told > PLAIN_EVERY:
            self._told = time.monotonic()
            self.note(f"{step.phase}: {step.done}/{step.students}; {left}")


class Step:
    """A phase in progress."""

    def __init__(self, teller: ProgressReporter, phase: str, students: int, workers: int) -> None:
        self._teller, self.phase, self.students, self.workers = teller, phase, students, max(1, workers)
        self.done = 0
        self.task: TaskID | None = None

    def advance(self, seconds: float) -> None:
        """Count one student."""
        self.done += 1
        self._teller.tell(self, seconds)
