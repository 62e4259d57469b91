"""Audits from Python: what `audit` exports, and teachers that are objects of this process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from command_line import call
from torch import Tensor, nn

import audit
from audit.plan.options import Keywords, Options, options_of, page
from audit.plan.suite import Suite
from reports.record import Record, load
from reports.settings import COMPARED, about
from teachers.errors import UsageError
from teachers.storage.store import Store
from teachers.targets.live import opened
from teachers.targets.runtime import Runtime
from teachers.targets.teaching import ordinary_teacher

pytestmark = pytest.mark.usefixtures("figures_once")

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def network(kept: Path) -> nn.Module:
    """The ordinary teacher on digits, which is in the cache, as a module that takes raw pixels."""
    from teachers.data.datasets import load

    return ordinary_teacher(load("digits", kept), Runtime(Store(kept), "cpu", lambda line: None)).here.eval()


def run(teacher: Any, cache: Path, out: Path, **more: Any) -> Record:
    asked = {"data": "digits", "effort": "smoke", "attacks": ["soft-kd"], "jobs": 1, "quiet": True, **more}
    return audit.run(teacher, cache=cache, out=out, **asked)


def test_exported_names() -> None:
    functions = ["compare", "gate", "limit", "load", "run", "verify"]
    assert audit.__all__ == ["AuditError", "RecordError", "__version__", *functions]
    assert all(getattr(audit, name).__doc__ for name in audit.__all__ if name != "__version__")
    with pytest.raises(audit.RecordError, match="cannot read nowhere"):
        audit.load("nowhere")


def test_importing_audit_is_light() -> None:
    code = "import sys, audit; assert not {'torch', 'pandas', 'pydantic', 'typer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(audit.__file__).parents[1])


def test_keywords_are_the_fields_of_options() -> None:
    assert {"teacher", "data", *get_type_hints(Keywords)} == set(about(Options))
    assert {f.name for f in fields(Options)} == {*about(Options), "live", "alpha", "outsiders"}


def test_the_page_lists_every_option() -> None:
    """Where this fails: python -c 'from audit.plan.options import page; print(page())'."""
    assert page() in (DOCS / "python.md").read_text(encoding="utf-8")


def test_every_option_stands_in_the_help_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    _, told, _ = call(capsys, "run", "--help")
    hidden = {"quiet"}  # --json prints no progress
    assert not [n for n in about(Options) if n not in hidden and f"--{n.replace('_', '-')}" not in told]


@pytest.mark.slow
def test_a_module_is_audited_like_its_checkpoint(network: nn.Module, kept: Path, tmp_path: Path, tiny: Suite) -> None:
    live, named = run(network, kept, tmp_path / "live"), run("demo", kept, tmp_path / "named")
    assert live.settings.teacher == live.teacher.name == "live:PreprocessedNetwork"
    assert live.teacher.test_accuracy == named.teacher.test_accuracy
    assert live.teacher.network_parameters == named.teacher.network_parameters
    (mine,), (other,) = ([t for t in r.trials if t.role == "judge" and t.kind == "attack"][:1] for r in (live, named))
    assert mine.test_correct == other.test_correct, "the same answers teach the same student"
    assert load(tmp_path / "live") == live
    assert audit.verify(tmp_path / "live") == ()
    assert audit.load(tmp_path / "live").record == live
    board = audit.compare(tmp_path / "live", tmp_path / "named")
    assert {entry.name for entry in board.entries} == {"live:PreprocessedNetwork", "demo"}
    (tmp_path / "policy.toml").write_text("version = 1\n")
    assert audit.gate(str(tmp_path / "live"), tmp_path / "policy.toml").record == live
    with pytest.raises(UsageError, match=r"was an object of a Python program; call audit\.run with"):
        run("live:PreprocessedNetwork", kept, tmp_path / "again")


def test_a_function_of_numpy_arrays_in_another_order_of_classes_is_audited(
    network: nn.Module, kept: Path, tmp_path: Path, tiny: Suite
) -> None:
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]

    def api(images: Tensor) -> np.ndarray:
        with torch.no_grad():
            return network(images).softmax(1).numpy()[:, order]

    record = run(api, kept, tmp_path / "out", classes=[str(c) for c in order])
    assert record.teacher.test_accuracy == run("demo", kept, tmp_path / "named").teacher.test_accuracy
    assert record.teacher.output == "probabilities"
    assert record.command.startswith("audit.run(teacher='live:api', data='digits'")


def test_an_object_keeps_its_mode_and_its_flags(network: nn.Module, kept: Path) -> None:
    from teachers.data.datasets import load

    network.requires_grad_(True)
    teacher = opened(network, load("digits", kept), None)
    teacher.here.train().requires_grad_(False)
    assert not network.training
    assert all(p.requires_grad for p in network.parameters())


def test_other_answers_or_weights_are_another_teacher(network: nn.Module, kept: Path) -> None:
    from teachers.data.datasets import load

    task = load("digits", kept)
    one, same = (opened(lambda x: network(x), task, None) for _ in range(2))
    other = opened(lambda x: 2 * network(x), task, None)
    assert one.sha256 == same.sha256 != other.sha256


@pytest.mark.parametrize(
    ("teacher", "more", "sentence"),
    [
        (nn.Flatten(), {}, "live:Flatten is in training mode, in which it would change while it answers; call .eval"),
        (nn.Flatten().eval(), {"data": None}, "live:Flatten does not say what it was trained on; give data"),
        (nn.Flatten().eval(), {}, "live:Flatten does not give one logit a class"),
        (nn.Linear(3, 3).eval(), {}, r"live:Linear does not take images of shape \(1, 8, 8\)"),
        (nn.Flatten().eval(), {"arch": "resnet-8"}, "arch is for a checkpoint"),
        (nn.Flatten().eval(), {"isolate": True}, "save it to a file, or give isolate=False"),
        ("demo", {"surfaces": "label"}, "there is no option 'surfaces'; did you mean surface?"),
        ("demo", {"seeds": "many"}, "seeds='many': input should be a valid integer"),
        ("demo", {"shots": 2}, "shots=2: give a fraction above 0 and at most 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    teacher: Any, more: dict[str, Any], sentence: str, kept: Path, tmp_path: Path
) -> None:
    with pytest.raises(audit.AuditError, match=sentence):
        run(teacher, kept, tmp_path / "out", **more)


def test_lists_and_texts_mean_the_same() -> None:
    listed = options_of(
        {"teacher": "demo", "attacks": ["soft-kd", "dkd"], "surface": ("probs", "label"), "drop_classes": ["a", "b"]}
    )
    text = options_of({"teacher": "demo", "attacks": "soft-kd,dkd", "surface": "probs,label", "drop_classes": "a,b"})
    assert (listed.attacks, listed.surface) == (text.attacks, text.surface) == ("soft-kd,dkd", "probs,label")
    assert (listed.drop_classes, text.drop_classes) == (("a", "b"), ("a,b",)), "read with the names of the task"


def test_what_makes_margins_comparable_is_stated_once() -> None:
    assert set(COMPARED) == {"surface", "budget", "student", "shots", "labels", "drop_classes", "surrogate"}
