"""Audits of seconds, as tests ask for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attacks import registry
from attacks.base import Attack
from audit.plan.options import Options
from audit.plan.suite import EFFORTS, Suite
from reports.record import Record

TINY = Suite(
    "tiny-0",
    ("soft-kd", "label-kd", "knockoff"),
    (),
    settings=2,
    tuning_seeds=1,
    seeds=2,
    bite_seeds=2,
    query_seeds=2,
    budgets=2,
    steps=10,
    epochs=0,
    views=2,
)


@contextmanager
def smoke(suite: Suite = TINY) -> Iterator[None]:
    """Let `--effort smoke` mean another suite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EFFORTS, "smoke", suite)
        yield


def request(
    cache: Path, out: Path | None = None, teacher: str = "demo", data: str | None = "digits", **more: Any
) -> Options:
    """Return the request for a silent audit of smoke effort; a checkpoint may name its own data."""
    return Options(
        **(
            {"teacher": teacher, "data": data, "effort": "smoke", "cache": cache, "out": out, "jobs": 1, "quiet": True}
            | more
        )
    )


def with_attack(monkeypatch: pytest.MonkeyPatch, attack: type[Attack]) -> None:
    """Register an attack of a test."""
    monkeypatch.setattr(registry, "OURS", (*registry.OURS, attack))


def timeless(record: Record) -> dict[str, object]:
    """Return a record without what may differ between two runs of one audit."""
    plain = record.model_dump(mode="json", exclude={"times", "journal"})
    for trial in plain["trials"]:
        del trial["seconds"], trial["step_seconds"]
    return plain
