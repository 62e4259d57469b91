"""A cache and a tiny suite that audits in tests share."""

import gc
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from audits import TINY, request, smoke
from drawings import drawn_once
from fake_server import FakeServer
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

from audit import pipeline
from audit.analysis import derive
from audit.cache.store import Cache
from audit.execution import forkserver
from audit.plan.suite import EFFORTS, Suite
from audit.statistics import sights
from audit.statistics.cmi import Curve, curve
from audit.trials import preparation
from reports.record import Clusters, CMIPool, PackedArray
from teachers.data.datasets import load as load_task
from teachers.intake import jail, weights
from teachers.methods.training import default_student
from teachers.surface import FULL
from teachers.targets.home import twin
from teachers.targets.runtime import Runtime
from teachers.targets.teaching import ordinary_teacher

# Examples are the same in every run, and a busy machine is no fault of the code.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
NO_SERVER = "TESTS_START_NO_SERVER"  # environment variable of runs of single tests, as in test_mutants.py


def allowed(item: pytest.Item) -> float:
    """Return the seconds that a test names as its limit; 0 where it has that of all others."""
    marker = item.get_closest_marker("timeout")
    return marker.args[0] if marker else 0.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that may take longest: one that begins last is waited for by a process that has no other."""
    items.sort(key=allowed, reverse=True)


def pytest_collection_finish() -> None:
    """Collect garbage rarely, and never look through what is imported and collected: it stays until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    if sys.version_info < (3, 12):  # there, two threads that start at once may fail to install coverage's function
        threading.settrace(None)  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def _server() -> None:
    """Let the fork server of all tests import what workers need, as that of an audit does: seconds of a processor.

    Where `NO_SERVER` is set, only a test that needs one starts it.
    """
    if NO_SERVER not in os.environ:
        forkserver.ahead()


@pytest.fixture(scope="session", autouse=True)
def _one_thread_of_blas() -> Iterator[None]:
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_sync() -> Iterator[None]:
    """Wait for no disk: no test pulls the plug, and what processes share they see before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _surrogates_once() -> Iterator[None]:
    """Draw the pictures of surrogate attacks once for all audits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "procedural", lru_cache(preparation.procedural))
        yield


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


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache of audits of the embedded task, whose teachers take long: all processes of the tests share it."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "drawn"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Let `--effort smoke` mean a suite of seconds."""
    monkeypatch.setitem(EFFORTS, "smoke", TINY)
    return TINY


@pytest.fixture(scope="session")
def taught(kept: Path) -> Path:
    """Return a cache with the ordinary teacher of the digits, the twins of two seeds, and whatever tests have added."""
    task, runtime = load_task("digits", kept), Runtime(Cache(kept), "cpu", lambda line: None)
    ordinary_teacher(task, runtime)
    for number in range(TINY.seeds):
        twin(task, task.train, default_student(task), number, FULL, runtime).full(torch.zeros(1, *task.shape))
    return kept


@pytest.fixture
def cold(taught: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return what makes a cache that holds teachers and nothing else, by its name."""

    def made(name: str) -> Path:
        shutil.copytree(taught / "teachers", tmp_path / name / "teachers")
        return tmp_path / name

    return made


@pytest.fixture(scope="session")
def finished(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an audit of the tiny suite that trained all its students, to be read and copied."""
    home = tmp_path_factory.mktemp("finished")
    shutil.copytree(taught / "teachers", home / "cache" / "teachers")
    with smoke():
        return pipeline.run(request(home / "cache", home / "out")).folder


@pytest.fixture
def server(taught: Path) -> Iterator[FakeServer]:
    """Serve the ordinary teacher of the digits."""
    task = load_task("digits", taught)
    network = ordinary_teacher(task, Runtime(Cache(taught), "cpu", lambda line: None)).here.eval()
    with FakeServer(network, task.shape, len(task.classes)).serving() as fake:
        yield fake


@lru_cache(maxsize=64)
def _curve(answers: PackedArray, labels: PackedArray, classes: int) -> Curve:
    return curve(answers.array(), labels.array().astype(np.int64), classes)


@lru_cache(maxsize=64)
def _clusters(pools: tuple[CMIPool, ...], classes: tuple[str, ...], held: Clusters | None) -> Clusters | None:
    record: Any = SimpleNamespace(cmi=pools, clusters=held, task=SimpleNamespace(classes=classes))
    return sights.seen(record, [_curve(pool.answers, pool.labels, len(classes)) for pool in pools])


@pytest.fixture
def curves_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure CMI and clusters of the same answers once, however many records hold them: most of deriving one."""
    again = SimpleNamespace(seen=lambda record, _: _clusters(record.cmi, record.task.classes, record.clusters))
    monkeypatch.setattr(derive, "measured", lambda pool, classes: _curve(pool.answers, pool.labels, classes))
    monkeypatch.setattr(derive, "sights", again)


@pytest.fixture
def figures_once() -> Iterator[None]:
    """Draw figures that show the same once."""
    with drawn_once():
        yield


@pytest.fixture
def gates() -> Iterator[None]:
    """Let the suite of the audits in gate_records be known by its name."""
    from gate_records import registered

    with registered():
        yield


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return by how much children grew; none may grow beyond what it was allowed."""
    found: list[int] = []

    def confined(work: jail.Work, folder: Path, path: Path, may: jail.Limits) -> Mapping[str, Any]:
        try:
            return jail.confined(work, folder, path, may)
        finally:
            if (folder / jail.REPORT).is_file():
                found.append(json.loads((folder / jail.REPORT).read_bytes())["grown"])
                assert found[-1] <= may.memory

    monkeypatch.setattr(weights, "confined", confined)
    return found
