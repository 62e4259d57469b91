"""Show the progress of an audit: a bar on a terminal, plain lines elsewhere, and no silence longer than ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from reports import terminal
from reports.printable import printable
from reports.wording import duration

SILENT = 9.0  # seconds without a line, at most; with those until the next look they are ten
LOOK = 0.5  # seconds between two looks at how long it was silent
THREAD = "progress"
BAR = 16  # characters of a bar: the text beside it must fit a terminal of 80


class Left(NamedTuple):
    """What is trained yet, at most."""

    students: int = 0
    teachers: int = 0
    worth: float = 0.0  # number of students of the usual length that take as long as all of them


class Outlook(NamedTuple):
    """What is trained yet, at most: until this group of attacks is judged, and until the audit ends."""

    group: Left = Left()
    end: Left = Left()


@dataclass
class Activity:
    """Something that takes time, and how far it is."""

    name: str
    began: float
    total: int | None = None  # students; None where nothing is counted
    outlook: Outlook | None = None
    done: int = 0
    task: TaskID | None = None


@dataclass(eq=False)
class ProgressReporter:
    """Prints to standard error, so that standard output stays free for --json."""

    quiet: bool = False
    clock: Callable[[], float] = time.monotonic
    _stack: list[Activity] = field(default_factory=list)
    _told: float = 0.0  # when the last line was printed
    _trained: int = 0  # students so far
    _spent: float = 0.0  # seconds until they were there
    _bar: Progress | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def note(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            self._told = self.clock()
            terminal.note(text)

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Show that something goes on, for as long as it does."""
        with self._shown(Activity(name, self.clock())):
            yield

    @contextmanager
    def training(self, phase: str, students: int, outlook: Outlook) -> Iterator[Callable[[], None]]:
        """Show how many students of a phase are trained; yield the function that counts one.

        `outlook`: what may be trained yet, these students included.
        """
        activity = Activity(phase, self.clock(), students, outlook)

        def step() -> None:
            activity.done += 1
            self._trained += 1
            self._update(activity)

        with self._shown(activity):
            yield step
        self._spent += self.clock() - activity.began

    @contextmanager
    def _shown(self, activity: Activity) -> Iterator[None]:
        outer = self._stack[-1] if self._stack else None
        self._stack.append(activity)
        try:
            with nullcontext() if outer or self.quiet else self._display():
                self._draw(outer, activity)
                yield
        finally:
            self._stack.pop()
            self._draw(activity, outer)

    @contextmanager
    def _display(self) -> Iterator[None]:
        """Draw on a terminal; elsewhere let a thread print a line where it was silent for long."""
        console = terminal.console("stderr")
        self._told = self.clock()
        if not console.is_terminal:
            self._ended.clear()
            thread = threading.Thread(target=self._tell, name=THREAD, daemon=True)
            thread.start()
            try:
                yield
            finally:
                self._ended.set()
                thread.join()
            return
        columns = TextColumn("{task.description}", markup=False), BarColumn(BAR), _Place(self)
        moving = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
        with moving as self._bar:
            try:
                yield
            finally:
                self._bar = None

    def _draw(self, before: Activity | None, now: Activity | None) -> None:
        """Draw one activity in the place of another."""
        if self._bar is None:
            return
        if before is not None and before.task is not None:
            self._bar.remove_task(before.task)
        if now is not None:
            now.task = self._bar.add_task(printable(now.name), total=now.total, completed=now.done, activity=now)

    def refresh(self) -> None:
        """Draw again now, where there is a bar."""
        if self._bar is not None:
            self._bar.refresh()

    def _update(self, activity: Activity) -> None:
        if self._bar is not None and activity.task is not None:
            self._bar.update(activity.task, completed=activity.done)

    def _tell(self) -> None:
        while not self._ended.wait(LOOK):
            self.look()

    def look(self) -> None:
        """Print where the audit is, if it was silent for long."""
        if self._stack and self.clock() - self._told >= SILENT:
            self.note(self._line(self._stack[-1]))

    def _line(self, activity: Activity) -> str:
        if activity.outlook is None:
            return f"{activity.name}: {duration(self.clock() - activity.began)} so far"
        group, end = ((self._number(left, activity), self._time(left, activity)) for left in activity.outlook)
        word = "" if group == end else f"at most {group[0]} more until a word may be sure{group[1]}; "
        return f"{activity.name}: {activity.done} of {activity.total}; {word}at most {end[0]} more in all{end[1]}"

    def short(self, activity: Activity) -> str:
        """Return what stands beside a bar."""
        if activity.outlook is None:
            return duration(self.clock() - activity.began)
        group, end = (f"{_students(left, activity):,}" for left in activity.outlook)
        time = self._time(activity.outlook.group, activity).replace("about ", "")
        told = f"{end} more{time}" if group == end else f"{group} to a word{time}, {end} in all"
        return f"{activity.done}/{activity.total}; ≤ {told}"

    def _number(self, left: Left, activity: Activity) -> str:
        students = _students(left, activity)
        text = f"{students:,} student{'s' * (students != 1)}"
        return text + f" and {left.teachers:,} teacher{'s' * (left.teachers != 1)}" * (left.teachers > 0)

    def _time(self, left: Left, activity: Activity) -> str:
        if not self._trained:
            return ""
        one = (self._spent + self.clock() - activity.began) / self._trained
        return f" (about {duration(one * max(0.0, left.worth - activity.done))})"


def _students(left: Left, activity: Activity) -> int:
    return max(0, left.students - activity.done)


class _Place(ProgressColumn):
    """What stands beside a bar."""

    def __init__(self, reporter: ProgressReporter) -> None:
        super().__init__()
        self._reporter = reporter

    def render(self, task: Task) -> Text:
        return Text(printable(self._reporter.short(task.fields["activity"])))
