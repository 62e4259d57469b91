"""No attack steps out of the black box: plug-ins that try fail by name, and isolated audits are the same audits."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from audits import request, timeless
from hostile_distribution import FAILS, installed
from torch import nn

from audit import pipeline
from audit.teach import teach
from reports.record import load
from teachers.errors import NothingAudited, RefusedInput, UsageError
from teachers.intake import Teacher
from teachers.oracle import Box
from teachers.processes.forks import TOKEN
from teachers.surface import FULL
from teachers.targets import isolation
from teachers.targets.target import Target

pytestmark = pytest.mark.usefixtures("tiny")

BUDGET = 40_000


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install all hostile attacks as one distribution; return where it lies."""
    return installed(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def markers(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the hostile attacks be installed; return where one that succeeds leaves a file."""
    folder = tmp_path / "markers"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(hostile))
    monkeypatch.setenv("HOSTILE_MARKERS", str(folder))
    monkeypatch.setenv(TOKEN, "secret-token")
    monkeypatch.setattr(sys, "argv", ["audit", "run", "--teacher", "model.pt"])
    return folder


@pytest.mark.slow
def test_plugins_that_try_to_step_out_fail_by_name(kept: Path, tmp_path: Path, markers: Path) -> None:
    names = tuple(FAILS)
    teacher = tmp_path / "model.pt"
    teach("plain", teacher, data="digits", steps=60, cache=kept)
    asked = request(kept, tmp_path / "out", teacher=str(teacher), data=None, attacks=",".join(["soft-kd", *names]))
    record = pipeline.run(asked).record
    assert not list(markers.iterdir())
    reasons = {row.attack: row.reason for row in record.comparisons if row.status == "failed"}
    assert {name: FAILS[name] in reasons.get(name, "") for name in names} == dict.fromkeys(names, True), reasons
    assert next(row for row in record.comparisons if row.attack == "soft-kd").status == "judged"
    assert record.settings.isolate
    assert sum(row.charged for row in record.ledger), "the ledger is the auditor's own"
    assert "hostile_plugin" not in sys.modules
    assert os.environ[TOKEN] == "secret-token"


@pytest.mark.slow
def test_an_audit_of_what_steps_out_ends_with_its_name(kept: Path, tmp_path: Path, markers: Path) -> None:
    with pytest.raises(NothingAudited, match="every attack failed; the first: Held: no network"):
        pipeline.run(request(kept, tmp_path / "alone", attacks="hostile-gc"))
    for greedy in ("hostile-budget", "hostile-ledger"):
        with pytest.raises(UsageError, match=f"{greedy}: 100000 more queries would make 100000, above the budget"):
            pipeline.run(request(kept, tmp_path / greedy, attacks=greedy, budget=BUDGET))
    assert not list(markers.iterdir())


def test_an_isolated_audit_is_the_same_audit(finished: Path, cold: Callable[[str], Path], tmp_path: Path) -> None:
    usual = load(finished)
    apart = pipeline.run(request(cold("cache"), tmp_path / "apart", isolate=True)).record
    assert apart.settings.isolate
    assert not usual.settings.isolate
    settings = replace(usual.settings, isolate=True)
    assert timeless(apart) == timeless(usual.model_copy(update={"settings": settings}))


def test_what_an_isolated_teacher_refuses_is_refused_in_one_sentence(kept: Path, tmp_path: Path) -> None:
    chance = tmp_path / "chance.pt"
    teach("plain", chance, data="digits", steps=60, cache=kept)
    content = torch.load(chance, weights_only=True)
    content["state_dict"] = {n: torch.zeros_like(t) for n, t in content["state_dict"].items()}
    torch.save(content, chance)
    asked = request(kept, tmp_path / "out", isolate=True)
    with pytest.raises(RefusedInput, match="no better than always naming the largest class"):
        pipeline.run(replace(asked, teacher=str(chance), data=None))
    for name, tensor in content["state_dict"].items():
        content["state_dict"][name] = torch.full_like(tensor, 3e38) if tensor.is_floating_point() else tensor
    torch.save(content, chance)
    with pytest.raises(RefusedInput, match="NaN or infinity"):
        pipeline.run(replace(asked, teacher=str(chance), data=None, out=tmp_path / "other"))


def test_all_that_a_record_keeps_of_an_isolated_teacher_is_told() -> None:
    network = nn.Linear(2, 2)
    teacher = Teacher("m", 64 * "a", network, "small", "plain", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), bgr=True)
    box = Box(network)
    target = Target("audited", teacher, FULL, 64 * "b", box, box, box, "stingy", tried=7)
    told = json.loads(json.dumps({"target": isolation.describe(target)}))
    heard = object.__new__(isolation.IsolatedTargets)._subject(told)
    assert heard.teacher == replace(teacher, network=None, apart=teacher.parameters)
    assert replace(heard, teacher=teacher, full=box, box=box, whole=box) == target
