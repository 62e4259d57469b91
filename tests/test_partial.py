"""The word before the table: an audit that has judged enough says so, and goes on or ends there."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from audits import TINY, request, smoke, timeless

from audit import pipeline
from audit.finished import carried
from audit.finished.verify import verify
from audit.forecast.forecast import forecast
from audit.plan.suite import Suite
from audit.policy import file, gate
from reports.record import PLANNED, Record, load, save
from teachers.errors import UsageError

SUITE = replace(
    TINY,
    name="tiny-stops",
    attacks=("knockoff", "noise", "knockoff-adaptive"),
    stops=(2,),
    seeds=4,
    query_seeds=4,
    steps=100,
)
WAIVED = '[[waive]]\nattack = "knockoff"\nreason = "known"\nuntil = 2999-01-01\n'
FEW = {"shots": 0.01}  # attacks that need no image of the task are better than what learns from so few


@pytest.fixture(scope="module")
def stopped(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of an audit that ended as soon as its word was sure."""
    with smoke(SUITE):
        yield pipeline.run(request(kept, tmp_path_factory.mktemp("stopped") / "out", stop="decided", **FEW)).folder


def test_a_sure_word_ends_the_audit_and_its_record_is_verified(stopped: Path) -> None:
    record = load(stopped)
    assert record.verdict.word == "DISTILLABLE"
    assert [row.status for row in record.comparisons] == ["judged", "judged", "planned"]
    assert [row.attack for row in record.planned] == ["knockoff-adaptive"]
    first = record.comparisons[0]
    assert first.margin is not None
    assert first.p_holm is not None
    assert first.p_holm == pytest.approx(min(1.0, 3 * first.margin.p), rel=1e-6, abs=0.0)
    assert record.ordinary is None
    assert record.probe.again is not None
    assert [row.attack for row in record.controls] == ["ls (null)"]
    assert {trial.cell.technique for trial in record.trials} == {"knockoff", "noise", "ls"}
    assert list(verify(stopped)) == []


def test_the_page_and_the_summary_say_how_much_has_run(stopped: Path) -> None:
    for name in ("report.html", "summary.md"):
        assert "2 of 3 attacks so far" in (stopped / name).read_text()
        assert "not run yet" in (stopped / name).read_text()


@pytest.mark.slow
def test_the_same_command_fills_the_table_as_if_it_had_never_ended(
    stopped: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(stopped, tmp_path / "out")
    with smoke(SUITE):
        again = pipeline.run(request(kept, tmp_path / "out", stop="decided", quiet=False, **FEW)).record
        assert "nothing to train" in capsys.readouterr().err
        assert timeless(again) == timeless(load(stopped))
        filled = pipeline.run(request(kept, tmp_path / "out", quiet=False, **FEW))
        told = capsys.readouterr().err
        at_once = pipeline.run(request(kept, tmp_path / "other", **FEW))
    assert "2 of 3 attacks so far" in " ".join(told.split())
    assert not filled.record.planned
    assert filled.record.ordinary is not None
    assert list(verify(filled.folder)) == []
    assert timeless(filled.record) == timeless(at_once.record)
    assert filled.record.audit == load(stopped).audit


def test_a_record_stays_where_an_audit_is_interrupted_after_its_word(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(run: pipeline.AuditRun) -> Record:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.AuditRun, "whole", interrupt)
    with smoke(SUITE), pytest.raises(KeyboardInterrupt):
        pipeline.run(request(kept, tmp_path / "out", **FEW))
    record = load(tmp_path / "out")
    assert record.verdict.word == "DISTILLABLE"
    assert record.planned
    assert record.probe.again is None  # the audit was to go on
    with smoke(SUITE):
        assert list(verify(tmp_path / "out")) == []


def test_the_journal_of_a_partial_record_may_go_on_and_not_begin_otherwise(tmp_path: Path) -> None:
    lines, path = [b'{"cell": "a"}\n', b'{"cell": "b"}\n'], tmp_path / "journal.jsonl"
    for end in range(3):
        digest = hashlib.sha256(b"".join(lines[:end])).hexdigest()
        path.write_bytes(b"".join(lines))
        assert carried.journal(path, digest, partial=True) is None
        assert (carried.journal(path, digest) is None) == (end == 2)
        path.write_bytes(b'{"cell": "other"}\n' + lines[1])
        assert (carried.journal(path, digest, partial=True) is None) == (end == 0)


@pytest.mark.slow
def test_where_the_word_is_open_every_attack_runs(kept: Path, tmp_path: Path) -> None:
    with smoke(replace(SUITE, steps=10)):
        done = pipeline.run(request(kept, tmp_path / "out", stop="decided"))
        assert list(verify(done.folder)) == []
    assert not done.record.planned
    assert done.record.verdict.word != "DISTILLABLE"


def forged(folder: Path, out: Path, record: Record) -> list[str]:
    """Return what is told of a folder with another record."""
    shutil.copytree(folder, out, dirs_exist_ok=True)
    save(record, out / "record.json")
    return [str(found) for found in verify(out)]


def test_no_attack_is_passed_over(stopped: Path, tmp_path: Path) -> None:
    record = load(stopped)
    first, second, last = record.comparisons
    rows = [first, second.model_copy(update={"status": "planned"}), last]
    told = forged(stopped, tmp_path / "out", record.model_copy(update={"comparisons": tuple(rows)}))
    assert any(line.startswith("planned attacks: ") for line in told), told
    other = record.planned[0].model_copy(update={"reason": "nobody asked for it"})
    rows = [other if row.attack == other.attack else row for row in record.comparisons]
    told = forged(stopped, tmp_path / "out", record.model_copy(update={"comparisons": tuple(rows)}))
    assert any(PLANNED in line for line in told), told


def test_a_planned_attack_counts_in_the_correction(stopped: Path, tmp_path: Path) -> None:
    record = load(stopped)
    left = record.model_copy(update={"comparisons": record.comparisons[:2]})
    assert any("p_holm" in line for line in forged(stopped, tmp_path / "out", left))


def policy(path: Path, text: str = "") -> file.PolicyFile:
    """Write and read a policy."""
    path.write_text(f'version = 1\ninconclusive = "pass"\n{text}')
    return file.read(path)


def test_a_gate_fails_a_partial_table_with_and_without_its_winner(stopped: Path, tmp_path: Path) -> None:
    found = gate.gate(stopped, policy(tmp_path / "policy.toml"))
    assert found.code == 1
    found = gate.gate(stopped, policy(tmp_path / "policy.toml", WAIVED))
    assert found.code == 1
    assert any("without --stop" in rule.sentence for rule in found.findings)


def test_baselines_and_waivers_ask_about_the_whole_table(tmp_path: Path) -> None:
    assert not policy(tmp_path / "policy.toml").policy.whole
    assert policy(tmp_path / "policy.toml", '[baseline]\nrecord = "before"\n').policy.whole
    assert policy(tmp_path / "policy.toml", WAIVED).policy.whole


def test_what_else_an_audit_may_stop_for_is_told(kept: Path, tmp_path: Path) -> None:
    with smoke(SUITE), pytest.raises(UsageError, match="--stop 'soon': give decided"):
        pipeline.run(request(kept, tmp_path / "out", stop="soon"))


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (("a", "b", "c", "d"), [("a",), ("b", "c"), ("d",)]),
        (("plug", "d", "b"), [("b",), ("d", "plug")]),
        (("plug",), [("plug",)]),
        (("a", "plug"), [("a",), ("plug",)]),
    ],
)
def test_attacks_are_divided_into_the_groups_of_their_suite(
    names: tuple[str, ...], groups: list[tuple[str, ...]]
) -> None:
    suite: Suite = replace(TINY, attacks=("a", "b", "c", "d"), stops=(1, 3))
    assert suite.groups(names) == groups
    assert replace(suite, stops=None).groups(names) == [tuple(n for group in groups for n in group)]


@pytest.mark.slow
def test_a_plan_says_what_the_word_takes(stopped: Path, tmp_path: Path) -> None:
    asked = request(tmp_path / "cache", **FEW)
    with smoke(SUITE):
        told = forecast(asked, clock=lambda: 0.0)
    with smoke(replace(SUITE, stops=None)):
        assert forecast(asked, clock=lambda: 0.0).words == ()
    (word,) = told.words
    assert word.name == "ordinary teacher (knockoff, noise)"
    assert word.students.least <= len(load(stopped).trials) <= word.students.most < told.trained.most
    with smoke(replace(SUITE, stops=(1, 2))):
        one, two = forecast(asked, clock=lambda: 0.0).words
    assert one.name == "ordinary teacher (knockoff)"
    assert two.name == "teacher that resists (noise)"
    assert two.students == word.students
    assert one.students.least < two.students.least
    assert one.students.most < two.students.most
