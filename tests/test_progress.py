"""What an audit says while it works: how far it is, what may come yet, and no silence longer than ten seconds."""

import itertools
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from attacks.logits.soft_kd import SoftKD
from audit import pipeline
from audit.context import open_context, workbench
from audit.forecast.outlook import Foresight
from audit.plan.suite import Suite
from audit.trials.protocol import trials
from reports import progress, terminal
from reports.progress import Left, Outlook, ProgressReporter
from reports.verdict import print_verdict, print_verdict_json
from tests.audits import TINY, request, smoke

IN_TWO = replace(TINY, stops=(1,), tuning_seeds=2, finalists=1)


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are printed; no thread prints any."""
    told: list[str] = []
    monkeypatch.setattr(terminal, "note", told.append)
    monkeypatch.setattr(progress, "LOOK", 1_000.0)
    return told


def test_whatever_goes_on_is_named_after_nine_silent_seconds(lines: list[str]) -> None:
    clock = Clock()
    reporter = ProgressReporter(clock=clock)
    with reporter.during("asking demo"):
        clock.now += 8.9
        reporter.look()
        assert lines == []
        clock.now += 0.1
        reporter.look()
        reporter.look()
        assert lines == ["asking demo: 9 s so far"]
        clock.now += 5
        reporter.note("a flag")
        with reporter.during("teaching a twin"):
            clock.now += 8
            reporter.look()
            assert lines[1:] == ["a flag"]
            clock.now += 2
            reporter.look()
        clock.now += 9
        reporter.look()
    assert lines[2:] == ["teaching a twin: 10 s so far", "asking demo: 33 s so far"]
    clock.now += 100
    reporter.look()
    assert len(lines) == 4


def test_what_is_left_counts_all_phases_and_teachers(lines: list[str]) -> None:
    clock = Clock()
    reporter = ProgressReporter(clock=clock)
    outlook = Outlook(Left(6, 1, 8.0), Left(1_002, 3, 1_010.0))
    with reporter.training("tuning", 4, outlook) as step:
        clock.now += 9
        reporter.look()
        step()
        step()
        clock.now += 9
        reporter.look()
    assert lines == [
        "tuning: 0 of 4; at most 6 students and 1 teacher more until a word may be sure; "
        "at most 1,002 students and 3 teachers more in all",
        "tuning: 2 of 4; at most 4 students and 1 teacher more until a word may be sure (about 54 s); "
        "at most 1,000 students and 3 teachers more in all (about 2 h 31 min)",
    ]
    whole = Left(1, 0, 1.0)
    with reporter.training("judging", 1, Outlook(whole, whole)):
        clock.now += 9
        reporter.look()
    assert lines[2:] == ["judging: 0 of 1; at most 1 student more in all (about 14 s)"]


def test_a_quiet_reporter_says_nothing(lines: list[str]) -> None:
    clock = Clock()
    reporter = ProgressReporter(quiet=True, clock=clock)
    with reporter.during("asking"), reporter.training("tuning", 1, Outlook()) as step:
        clock.now += 100
        reporter.look()
        step()
    assert lines == []


def test_a_terminal_of_eighty_characters_shows_one_bar_with_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = StringIO()
    console = Console(file=drawn, force_terminal=True, width=80, highlight=False)
    monkeypatch.setattr(terminal, "console", lambda name: console)
    clock = Clock()
    reporter = ProgressReporter(clock=clock)
    with reporter.during("comparing students"):
        with reporter.training("matching controls", 4, Outlook(Left(94, 5, 100.0), Left(2_106, 9, 3_000.0))) as step:
            clock.now += 10
            step()
            drawn.truncate(0)
            reporter.refresh()
            shown = Text.from_ansi(drawn.getvalue()).plain
        assert "comparing" not in shown
        assert "1/4; ≤ 93 to a word (17 min), 2,105 in all" in shown
        reporter.refresh()
        assert "comparing students" in drawn.getvalue()


def test_a_thread_looks_while_something_goes_on_and_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    monkeypatch.setattr(terminal, "note", lambda line: told.set())
    monkeypatch.setattr(progress, "LOOK", 0.001)
    monkeypatch.setattr(progress, "SILENT", 0.0)

    def running() -> bool:
        return progress.THREAD in [thread.name for thread in threading.enumerate()]

    with ProgressReporter().during("asking"):
        assert running()
        assert told.wait(60)
    assert not running()


@pytest.mark.parametrize(
    "suite", [TINY, pytest.param(IN_TWO, marks=pytest.mark.slow)], ids=["one group", "two groups that race"]
)
def test_an_audit_never_trains_more_than_it_says_is_left(
    suite: Suite, cold: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[int, Outlook]] = []
    looked = Foresight.__call__

    def looking(self: Foresight, *asked: object) -> Outlook:
        found = looked(self, *asked)  # type: ignore[arg-type]
        said.append((len(self.runner.trained), found))
        return found

    monkeypatch.setattr(Foresight, "__call__", looking)
    during, phases = ProgressReporter.during, list[str]()
    monkeypatch.setattr(ProgressReporter, "during", lambda self, name: (phases.append(name), during(self, name))[1])
    cache = cold("cache")
    with smoke(suite):
        record = pipeline.run(request(cache, cache / "out")).record
    trained = record.times.trained
    assert len(said) > 3
    for before, found in said:
        assert trained - before <= found.end.students
        assert found.group.students <= found.end.students
        assert found.end.worth > 0
    for (before, one), (later, next_) in itertools.pairwise(said):
        assert next_.end.students <= one.end.students - (later - before)  # it never grows
    asked = [name for name in phases if name.startswith("asking demo")]
    assert asked == ["asking demo", "asking demo again", "asking demo about the images of its CMI"], "in their order"


def test_teachers_that_are_not_trained_yet_are_left(taught: Path, tmp_path: Path) -> None:
    with smoke(), open_context(request(tmp_path)) as context:
        runner = workbench(context, tmp_path, [context.targets.audited])
        students = trials(context.experiment, runner, {"audited": context.targets.audited}, {"soft-kd": SoftKD})
        foresight = Foresight(context, runner)
        # The demo is trained: it is the audited teacher. Seeds of tuning ask the twins of the first judged ones.
        assert foresight([students]).group.teachers == TINY.seeds
        shutil.copytree(taught / "teachers", tmp_path / "teachers", dirs_exist_ok=True)
        assert foresight([students]).group.teachers == 0


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished audit (`out`) and of its cache."""
    return Path(shutil.copytree(finished.parent, tmp_path / "home"))


def test_what_is_there_already_is_not_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "out" / "record.json").unlink()
    monkeypatch.setattr(Foresight, "__call__", lambda *_: pytest.fail("a phase has something to train"))
    with smoke():
        done = pipeline.run(request(home / "cache", home / "out"))
    assert (done.again, done.record.times.trained) == (False, 0)


def test_a_finished_audit_says_that_nothing_was_trained(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with smoke():
        done = pipeline.run(request(home / "cache", home / "out"))
    assert done.again
    trained = done.record.times.trained
    assert trained > 10
    print_verdict(done.record, done.folder, again=done.again)
    print_verdict_json(done.record, done.folder, again=done.again)
    print_verdict(done.record, done.folder)
    told = capsys.readouterr().out
    assert f"0 students trained: this audit was finished before ({trained} trained then, 0 from the cache" in told
    assert '"trained": 0,' in told
    assert f"\n{trained} students trained, 0 from the cache" in told
