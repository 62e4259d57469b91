"""A cache and a tiny suite that audits in tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from audit.plan.suite import EFFORTS, Suite

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
    steps=25,
    epochs=0,
    views=2,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell nothing to a GitHub job that these tests may run in."""
    for variable in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that lives as long as the tests, so that the ordinary teacher is trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[Suite]:
    """Let `--effort smoke` mean a suite of seconds."""
    monkeypatch.setitem(EFFORTS, "smoke", TINY)
    return TINY


@pytest.fixture
def gates() -> Iterator[None]:
    """Let the suite of the audits in gate_records be known by its name."""
    from gate_records import registered

    with registered():
        yield
