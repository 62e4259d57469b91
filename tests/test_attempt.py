"""`audit attempt`: one attack on the ordinary teacher, for its author."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audits import TINY
from command_line import call

from attacks import registry
from attacks.base import Attack
from attacks.contract import check_attack
from attacks.labels.label_kd import LabelKD
from attacks.logits.soft_kd import SoftKD
from audit.analysis.derive import passes
from audit.attempt import local
from audit.attempt.attempt import Attempt, attempt, bed
from audit.attempt.settings import changed
from audit.attempt.terminal import sentence
from audit.plan.design import Arm
from audit.plan.options import Options
from audit.plan.suite import EFFORTS
from audit.statistics.compare import Margin, paired
from teachers import imports
from teachers.data.datasets import load
from teachers.errors import AuditError, NothingAudited, UsageError
from teachers.names import DEMO
from teachers.task import known

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = "my_attack:MyAttack"
CODE = next(
    code
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "contract.md").read_text(encoding="utf-8"), re.S)
    if "class MyAttack" in code
)
MISTAKES = """
from my_attack import MyAttack
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Broken(MyAttack):
    name = "broken"

    def run(self, lab):
        raise ZeroDivisionError("by the author")


@dataclass(frozen=True, kw_only=True)
class Taken(MyAttack):
    name = "soft-kd"


@dataclass(frozen=True, kw_only=True)
class Gridless(MyAttack):
    name = "gridless"

    @classmethod
    def grid(cls):
        raise LookupError("no grid")


class NoAttack:
    name = "no-attack"


def function():
    pass
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a working directory with the attack that docs/contract.md shows."""
    (tmp_path / "my_attack.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(EFFORTS, "smoke", replace(TINY, budgets=2))
    yield tmp_path
    for name in ("my_attack", "mistakes"):
        sys.modules.pop(name, None)


def asked(cache: Path, **more: object) -> Options:
    plain = Options(teacher=DEMO, data="digits", surface="", effort="smoke", cache=cache, quiet=True, jobs=1)
    return replace(plain, **more)  # type: ignore[arg-type]


def test_the_example_of_the_docs_keeps_the_contract_and_is_tried_from_its_folder(
    home: Path, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", "digits", "--effort", "smoke", "--jobs", "1", "--seeds", "2", "--cache", str(taught)]
    code, out, err = call(capsys, "attempt", EXAMPLE, *options)
    assert code == 0, err
    assert out.startswith("my-attack (temperature=2.0), strided-8-16-32 students, probs\n")
    assert re.search(r"margin [+−]?\d+\.\d\d points, 95 % interval \[.*\], n = 2 seeds × 300 validation images", out)
    assert re.search(r"\d,\d\d\d queries and \d+\.\d s a student", out)
    assert re.search(r"my-attack (passes|does not pass) the positive control: ", out)
    assert "my_attack" not in sys.modules, "the author's code runs in workers alone"
    assert not list(home.glob("__pycache__"))
    wanted = {name.partition(".")[0] for name in re.findall(r"^from (\S+)", CODE, re.M)}
    assert wanted == {"dataclasses", "torch", "attacks", "teachers"}
    written = imports.found(EXAMPLE)
    assert isinstance(written, type)
    assert issubclass(written, Attack)
    check_attack(written)


def test_margins_follow_from_validation_images_alone(home: Path, taught: Path) -> None:
    found = attempt(asked(taught), SoftKD.name, seeds=3)
    assert found.accuracy.shape == found.control.shape == (3,)
    assert found.margin.mean == pytest.approx((found.accuracy - found.control).mean())
    assert (found.margin.seeds, found.margin.images, found.surface) == (3, 300, "probs")
    assert found.passes == passes(found.margin)
    with bed(asked(taught, attacks=SoftKD.name, surface="probs"), 3) as trials:
        arm = Arm(SoftKD(), trials.experiment.recipe, range(1_000, 1_003), target="audited")
        trials.train("again", [arm])
        assert not trials.runner.trained, "the cache holds them"
        assert all(trials.runner.results[key].test is None for key in trials.keys(arm))
        assert np.allclose(trials.arrays.tuning(trials.keys(arm)).mean(1), found.accuracy)


def test_a_label_only_attack_has_a_tenth_of_the_labels_as_in_an_audit(home: Path, taught: Path) -> None:
    found = attempt(asked(taught), LabelKD.name, seeds=2)
    assert found.against.endswith("on 10% of the labels")


def test_an_attack_without_original_images_must_beat_the_largest_class(home: Path, taught: Path) -> None:
    found = attempt(asked(taught, budget=2_000), "noise", seeds=2)
    labels = known(load("digits", taught).validation)
    assert found.against == "always naming the largest class"
    assert found.control == pytest.approx(np.full(2, np.bincount(labels).max() / len(labels)))


def test_an_attack_that_needs_gradients_gets_them(home: Path, taught: Path) -> None:
    assert attempt(asked(taught), "kdiga", seeds=2).surface == "gradients"


def test_students_of_an_attack_are_trained_anew_and_its_controls_are_not(
    home: Path, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audit.execution.runner import TrialRunner

    trained: list[str] = []
    usual = TrialRunner.train

    def train(self: TrialRunner, name: str, *args: object, **more: object) -> None:
        before = len(self.trained)
        usual(self, name, *args, **more)  # type: ignore[arg-type]
        trained.extend([name] * (len(self.trained) - before))

    monkeypatch.setattr(TrialRunner, "train", train)
    attempt(asked(taught), LabelKD.name, seeds=2)
    trained.clear()
    attempt(asked(taught), LabelKD.name, seeds=2)
    assert trained == [LabelKD.name] * 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing:Mine", r"no module nothing: the working directory \S+ and the installed packages were searched"),
        ("my_attack:MyAtack", r"my_attack has no MyAtack \(\S+my_attack.py\); did you mean MyAttack\?"),
        ("mistakes:NoAttack", r"^mistakes:NoAttack is not a named subclass of attacks.base.Attack"),
        ("mistakes:function", r"^mistakes:function is not a named subclass of attacks.base.Attack"),
        ("mistakes:Attack", r"mistakes has no Attack"),
        ("mistakes:Taken", r"'soft-kd', which is taken"),
        ("mistakes:Gridless", r"mistakes:Gridless cannot say what it is \(.*no grid.*\); repair it"),
        ("syntax:Mine", r"syntax does not import \(SyntaxError: .*\); repair it"),
        ("my_attack.py:MyAttack", r"give my_attack, without .py"),
        ("./my_attack.py:MyAttack", r"names no code; give a module and a name in it, such as my_attack:MyAttack"),
        ("sfot-kd", r"unknown attack 'sfot-kd'; did you mean soft-kd"),
        ("ls", r"ls is a control, not an attack"),
        ("soft-kd,avg", r"names 2 attacks; give one"),
        ("all", r"all names 3 attacks; give one"),
    ],
)
def test_a_mistake_in_the_name_gets_a_sentence(home: Path, taught: Path, name: str, sentence: str) -> None:
    (home / "mistakes.py").write_text(MISTAKES)
    (home / "syntax.py").write_text("class Mine")
    with pytest.raises(UsageError, match=sentence):
        attempt(asked(taught), name)


def test_an_error_of_the_attack_is_shown_with_its_traceback(
    home: Path, taught: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "mistakes.py").write_text(MISTAKES)
    options = ["--data", "digits", "--effort", "smoke", "--jobs", "1", "--cache", str(taught), "--json"]
    code, out, err = call(capsys, "attempt", "mistakes:Broken", *options)
    assert (code, out) == (NothingAudited.exit_code, "")
    assert 'mistakes.py", line' in err
    assert err.endswith("audit: broken failed: ZeroDivisionError: by the author\n")


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("temperature=warm", "it is no number"),
        ("temperature=True", "it is a bool, not a float"),
        ("temperature='2'", "it is a str, not a float"),
        ("temperature", r"has no such setting; there is temperature=4.0, weight=0.9"),
        ("heat=2", "has no such setting"),
        ("temperature=__import__('os')", "it is no number"),
    ],
)
def test_a_setting_that_does_not_fit_gets_a_sentence(assignment: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        changed(SoftKD(), [assignment])


def test_settings_are_read_by_their_types() -> None:
    assert changed(SoftKD(), ["temperature=2", "weight=0.5"]) == SoftKD(temperature=2.0, weight=0.5)


@pytest.mark.parametrize(("seeds", "surface"), [(1, ""), (21, ""), (2, "label")])
def test_what_cannot_be_tried_is_refused_before_anything_is_trained(
    home: Path, tmp_path: Path, seeds: int, surface: str
) -> None:
    with pytest.raises(UsageError, match=r"--seeds|--surface label does not show"):
        attempt(asked(tmp_path / "cache", surface=surface), SoftKD.name, seeds=seeds)
    assert not (tmp_path / "cache").exists()


def test_json_holds_what_a_person_reads(home: Path, taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "digits", "--effort", "smoke", "--jobs", "1", "--cache", str(taught), "--surface", "top:2"]
    code, out, err = call(capsys, "attempt", SoftKD.name, *options, "--set", "temperature=2", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["parameters"]["temperature"] == 2.0
    assert set(found["margin"]) == {"mean", "low", "high", "seeds", "images"}
    assert "the positive control is on probs: leave --surface out" in found["sentence"]


def test_the_sentence_names_what_was_seen() -> None:
    margin = paired(np.ones((3, 40), bool), np.arange(120).reshape(3, 40) % 3 > 0)
    seen = Attempt(SoftKD(), "d", "s", "probs", np.ones(3), np.ones(3), "ls", margin, True, 1, 1.0)
    assert sentence(seen).startswith("soft-kd passes the positive control")
    assert "does not pass the positive control" in sentence(replace(seen, passes=False))
    assert "was not seen to gain on top:1; the positive" in sentence(replace(seen, passes=False, surface="top:1"))


def test_the_class_of_the_working_directory_comes_before_an_installed_one_of_its_name(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "mine-1.dist-info").mkdir(parents=True)
    (site / "mine-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    points = "[distill_audit.attacks]\nmy-attack = mine:MyAttack\n"
    (site / "mine-1.dist-info" / "entry_points.txt").write_text(points)
    (site / "mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(site))
    assert registry.owner("my-attack") == "mine"
    with local.known(EXAMPLE) as name:
        assert (name, registry.owner(name)) == ("my-attack", "working-directory")
        before = registry.origin(registry.find(name))
    (home / "my_attack.py").write_text(CODE.replace("= 2.0", "= 3.0"))
    with local.known(EXAMPLE) as name:
        assert registry.origin(registry.find(name)) != before
    assert registry.owner("my-attack") == "mine"


def test_passing_takes_a_certain_gain_that_grows_with_the_budget() -> None:
    def margin(mean: float) -> Margin:
        return Margin(
            mean=mean, seeds=3, images=90, discordant=9, between_seeds=1e-4, between_images=1e-4, residual=1e-4
        )

    assert passes(margin(0.1))
    assert passes(margin(0.1), margin(0.1))
    assert not passes(margin(0.1), margin(0.0))
    assert not passes(margin(0.0))
    assert issubclass(NothingAudited, AuditError)
