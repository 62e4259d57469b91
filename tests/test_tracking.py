"""The recipe for trackers logs what the record says; trackers are stood in for, as they are no dependency."""

from __future__ import annotations

import runpy
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from shipped import DEMO

from reports.record import load

SCRIPT = DEMO.parent / "tracking.py"


def logged(monkeypatch: pytest.MonkeyPatch, tracker: str, module: Any) -> None:
    """Run the recipe as a script, with a tracker in place."""
    monkeypatch.setitem(sys.modules, tracker, module)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), tracker, str(DEMO)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def checked(numbers: dict[str, float], words: dict[str, str]) -> None:
    """Compare what was logged with the record."""
    record = load(DEMO)
    assert numbers["teacher_accuracy"] == record.teacher.test_accuracy
    for row in record.comparisons:
        assert row.margin is not None
        assert row.corrected_lower is not None
        ends = row.margin.mean, row.corrected_lower, row.margin.upper
        names = "margin", "margin_at_least", "margin_at_most"
        assert [numbers[f"{name}/{row.attack}"] for name in names] == pytest.approx([100 * end for end in ends])
    assert words["distillability"] == record.verdict.word


def test_an_audit_is_logged_to_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = MagicMock()
    logged(monkeypatch, "mlflow", mlflow)
    checked(mlflow.log_metrics.call_args.args[0], mlflow.set_tags.call_args.args[0])
    mlflow.log_artifacts.assert_called_once_with(str(DEMO), artifact_path="distill-audit")


@pytest.mark.parametrize("active", [True, False], ids=["in a run", "without a run"])
def test_an_audit_is_logged_to_weights_and_biases(monkeypatch: pytest.MonkeyPatch, active: bool) -> None:
    summary: dict[str, Any] = {}
    run = SimpleNamespace(summary=summary, log=MagicMock())
    wandb = SimpleNamespace(run=run if active else None, init=MagicMock(return_value=run), Html=len)
    logged(monkeypatch, "wandb", wandb)
    checked(summary, summary)
    assert wandb.init.called != active
    assert run.log.call_args.args[0]["distill-audit"] > 10_000
