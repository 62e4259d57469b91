"""An audit of a teacher behind a URL: the same students as of its checkpoint, and no image is paid for twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audits import request
from command_line import call
from fake_server import FakeServer, Fault

from audit import pipeline
from audit.commands import EXIT
from audit.diagnosis.diagnose import diagnose
from audit.finished.verify import verify
from audit.plan.options import Options
from reports.record import Record, load
from teachers.errors import RefusedInput, UsageError
from teachers.processes.forks import TOKEN

pytestmark = pytest.mark.usefixtures("tiny")


def students(record: Record) -> list[tuple[Any, ...]]:
    """Return what the students of an audit came to."""
    return [
        (t.cell.technique, t.role, t.cell.seed, t.cell.parameters, t.validation_correct, t.test_correct, t.queries)
        for t in record.trials
    ]


@pytest.mark.slow
@pytest.mark.parametrize("attacks", ["soft-kd", "all"])
def test_a_teacher_behind_a_url_is_audited_and_asked_once(
    attacks: str,
    server: FakeServer,
    cold: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(TOKEN, "s3cret.t0ken")
    cache, out = cold("cold"), tmp_path / "a"
    line = f"run --teacher {server.url} --data digits --effort smoke --attacks {attacks} --price 2 --jobs 1"
    code, printed, err = call(capsys, *line.split(), "--cache", str(cache), "--out", str(out))
    record = load(out)
    assert code == EXIT[record.verdict.word]
    assert record.teacher.name == "x"
    assert (record.teacher.network_parameters, record.teacher.output) == (None, "logits")
    assert list(verify(out)) == []
    assert server.images > 0
    assert set(server.tokens) == {"Bearer s3cret.t0ken"}
    assert record.distinct_answers == server.images
    cost = f"{2 * record.distinct_answers / 1000:,.2f} at 2.00 per 1,000"
    assert cost in (out / "summary.md").read_text()
    assert cost in (out / "report.html").read_text()
    assert cost in printed
    assert "images were sent to x in this run" in err
    assert "s3cret" not in printed + err

    server.closed = True
    dearer = pipeline.run(request(cache, out, server.url, attacks=attacks, price=4.0)).record
    assert dearer.settings.price == 4
    assert "at 4.00 per 1,000" in (out / "summary.md").read_text()
    assert list(verify(out)) == []
    copied = tmp_path / "copied"
    for part in ("teachers", "answers"):
        shutil.copytree(cache / part, copied / part)
    again = pipeline.run(request(copied, tmp_path / "b", server.url, attacks=attacks, price=2.0)).record
    assert again.times.trained == record.times.trained > 0
    assert students(again) == students(record)
    assert (again.audit, again.distinct_answers, again.teacher) == (
        record.audit,
        record.distinct_answers,
        record.teacher,
    )
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"s3cret" in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.parametrize("answered", [3, 58], ids=["an attack's views", "the auditor's own images"])
def test_an_interrupted_audit_pays_for_no_image_twice(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, answered: int
) -> None:
    cache = cold("cold")
    server.faults += [None] * answered + [Fault(500, "restarting")]
    with pytest.raises(RefusedInput, match="answered 500: restarting"):
        pipeline.run(request(cache, tmp_path / "b", server.url, attacks="soft-kd"))
    lost, mine = server.requests[-1], list((cache / "answers").rglob("a-*.npz"))
    assert bool(mine) == (answered > 3)
    resumed = pipeline.run(request(cache, tmp_path / "b", server.url, attacks="soft-kd")).record
    assert server.images == resumed.distinct_answers + lost


def test_cmi_of_a_teacher_behind_a_url_needs_no_network(server: FakeServer, kept: Path, tmp_path: Path) -> None:
    told = diagnose(
        Options(teacher=server.url, data="digits", device="cpu", out=tmp_path / "cmi", cache=kept, quiet=True),
        command="audit cmi",
    )
    assert "behind an API" in told.diagnosis.no_cams


@pytest.mark.parametrize(
    ("teacher", "named", "sentence"),
    [
        ("https://host/v2/models/x", {}, "give --data"),
        (
            "https://host/v2/models/x",
            {"data": "digits", "arch": "resnet-8"},
            "--arch names the network of a checkpoint",
        ),
        ("http://host/v2/models/x", {"data": "digits"}, "without encryption"),
        ("https://me:s3cret@host/v2/models/x", {"data": "digits"}, "holds a user"),
    ],
)
def test_what_a_url_cannot_be_audited_with_is_refused(
    teacher: str, named: dict[str, str], sentence: str, kept: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        pipeline.run(request(kept, tmp_path / "out", teacher, **{"data": None, **named}))
