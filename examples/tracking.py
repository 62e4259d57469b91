"""Log an audit to MLflow or Weights & Biases: metrics of the teacher and of every attack, and the folder's files."""

from __future__ import annotations

import sys
from pathlib import Path

import audit


def metrics(folder: Path) -> dict[str, float]:
    """Return numbers by name: accuracies as fractions, margins in points, one margin for each attack."""
    found = audit.load(folder)
    judged = found.attacks[found.attacks.status == "judged"]
    numbers = {"teacher_accuracy": found.record.teacher.test_accuracy}
    for row in judged.itertuples():
        numbers[f"margin/{row.attack}"] = 100 * row.margin
        numbers[f"margin_at_least/{row.attack}"] = 100 * row.corrected_lower
        numbers[f"margin_at_most/{row.attack}"] = 100 * row.upper
    return numbers


def tags(folder: Path) -> dict[str, str]:
    """Return the word, and what it holds for."""
    record = audit.load(folder).record
    return {"distillability": record.verdict.word, "suite": record.suite.name, "teacher_sha256": record.teacher.sha256}


def to_mlflow(folder: Path) -> None:
    """Log to the active run of MLflow, or to a new one."""
    import mlflow

    mlflow.log_metrics(metrics(folder))
    mlflow.set_tags(tags(folder))
    mlflow.log_artifacts(str(folder), artifact_path="distill-audit")


def to_wandb(folder: Path) -> None:
    """Log to the active run of Weights & Biases, or to a new one."""
    import wandb

    run = wandb.run or wandb.init()
    run.summary.update({**metrics(folder), **tags(folder)})
    run.log({"distill-audit": wandb.Html((folder / "report.html").read_text(encoding="utf-8"))})


if __name__ == "__main__":
    {"mlflow": to_mlflow, "wandb": to_wandb}[sys.argv[1]](Path(sys.argv[2]))
