"""Somebody else's attack: installed as a real package, picked up by `all`, and never silently missing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attacks import registry
from attacks.base import Attack
from attacks.contract import check_attack, tiny_lab
from attacks.logits.soft_kd import SoftKD
from audit import pipeline
from audit.finished.verify import verify
from audit.plan.options import Options
from teachers.errors import UsageError
from teachers.surface import FULL

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "echo-attack"
version = "3.2.1"
[project.entry-points."distill_audit.attacks"]
echo = "echo_attack:{target}"
[tool.hatch.build.targets.wheel]
only-include = ["echo_attack.py"]
"""

MODULE = '''
"""An attack of a third party."""
from dataclasses import dataclass
from attacks.base import Attack
from attacks.logits.soft_kd import SoftKD


@dataclass(frozen=True, kw_only=True)
class Echo(SoftKD):
    name = "{name}"
    title = "Echo"
    paper = "nobody 2026"


class NoAttack:
    name = "no-attack"
'''


def install(folder: Path, *, target: str = "Echo", name: str = "echo", module: str = MODULE) -> Path:
    """Install the little package with pip, and return the folder it lies in."""
    (folder / "src").mkdir()
    (folder / "src" / "pyproject.toml").write_text(PROJECT.replace("{target}", target))
    (folder / "src" / "echo_attack.py").write_text(module.replace("{name}", name))
    place = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(place), str(folder / "src")], check=True)
    return place


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delitem(sys.modules, "echo_attack", raising=False)
    return monkeypatch


@pytest.mark.slow
def test_an_installed_attack_is_part_of_all_and_recorded_as_such(
    tmp_path: Path, clean: pytest.MonkeyPatch, kept: Path, tiny: object
) -> None:
    clean.syspath_prepend(str(install(tmp_path)))
    attack = registry.attacks()["echo"]
    assert attack.grid()[0].parameters == SoftKD().parameters
    with pytest.raises(TypeError, match="only in a worker"):
        attack().run(tiny_lab(FULL, 0))
    wanted = Options(
        teacher="demo",
        data="digits",
        effort="smoke",
        cache=kept,
        out=tmp_path / "out",
        quiet=True,
        jobs=2,
        attacks="all",
    )
    record = pipeline.run(wanted).record
    row = next(c for c in record.comparisons if c.attack == "echo")
    assert row.status == "judged"
    assert row.outside_suite
    assert record.suite.complete
    assert record.suite.plugins[0].startswith("echo: echo-attack 3.2.1 ")
    assert list(verify(tmp_path / "out")) == []
    alone = pipeline.run(replace(wanted, attacks="echo", out=tmp_path / "alone")).record
    assert not alone.suite.complete
    assert alone.verdict.word != "UNDISTILLABLE"
    assert "echo_attack" not in sys.modules, "a stranger's code must not run where the audit is judged"
    stranger = registry.runnable("echo")
    assert issubclass(stranger, Attack)
    check_attack(stranger)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"module": "import a_package_that_is_not_there"}, "does not import"),
        ({"target": "Nothing"}, "does not import"),
        ({"target": "NoAttack"}, "is not a named subclass"),
        ({"name": "soft-kd"}, "which is taken"),
    ],
)
def test_a_plugin_that_cannot_be_used_stops_the_audit(
    tmp_path: Path, clean: pytest.MonkeyPatch, options: dict[str, str], sentence: str
) -> None:
    clean.syspath_prepend(str(install(tmp_path, **options)))
    with pytest.raises(UsageError, match=sentence):
        pipeline.run(Options(teacher="demo", data="digits", effort="smoke", cache=tmp_path / "cache", quiet=True))
