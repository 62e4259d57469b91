"""Every flag is told on its page, is raised where it must be, and is not raised where it must not."""

import ast
from pathlib import Path

import numpy as np

from audit import checks, flags
from audit.compare import paired

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_says_what_the_code_says() -> None:
    """Where this fails: python -c "from audit.flags import page; print(page(), end='')" > docs/flags.md."""
    assert (ROOT / "docs" / "flags.md").read_text(encoding="utf-8") == flags.page()


def test_a_flag_is_raised_by_a_doubt_of_the_page_and_its_id_is_its_own() -> None:
    known = [doubt.id for of in flags.doubts().values() for doubt in of]
    assert len(known) == len(set(known))
    files, made = {file.__name__.removeprefix("audit.") for file in flags.PARTS.values()}, []
    for path in (ROOT / "audit").glob("*.py"):
        calls = [n.func for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        names = [c.id for c in calls if isinstance(c, ast.Name)]
        assert "Doubt" not in names or path.stem in files, "a part of the page is missing"
        made += [path.name] * names.count("Flag")
    assert made == ["checks.py"], "a flag is made by Doubt.raised alone"


def students(seeds: int, images: int, accuracy: float, seed: int = 0) -> np.ndarray:
    """Return what students got right, (S, N)."""
    return np.random.default_rng(seed).random((seeds, images)) < accuracy


def ids(*found: object) -> list[str]:
    return [flag.id for flag in found if flag is not None]  # type: ignore[attr-defined]


def test_doubts_about_splits_and_tuning() -> None:
    assert ids(checks.small_validation(2_999), checks.small_validation(3_000)) == ["small-validation"]
    assert ids(checks.light_tuning("smoke-0", 1), checks.light_tuning("standard-0", 2)) == ["light-tuning"]
    assert ids(checks.few_labels(0.1), checks.few_labels(1.0)) == ["few-labels"]
    assert ids(checks.dropped_classes(("7",)), checks.dropped_classes(())) == ["dropped-classes"]


def test_doubts_about_teacher_and_controls() -> None:
    assert ids(checks.weak_teacher(0.7, 0.7), checks.weak_teacher(0.8, 0.7)) == ["weak-teacher"]
    assert ids(checks.weak_control(0, 0.1, 0.1), checks.weak_control(0, 0.2, 0.1)) == ["weak-control"]
    assert ids(checks.weak_control(1, 0.9, 0.1)) == ["weak-control"]
    same, other, worse = (students(5, 2_000, a, s) for a, s in ((0.8, 0), (0.8, 1), (0.7, 1)))
    assert ids(checks.null_control(paired(other, same)), checks.null_control(paired(worse, same))) == ["null-control"]
    assert ids(checks.synthetic("x")) == ["synthetic-teacher"]


def test_an_attack_that_failed_is_named_in_what_to_do() -> None:
    flag = checks.failed("mine", "a student diverged (NaN)")
    assert (flag.id, flag.caps) == ("attack-failed", "undistillable")
    assert "repair mine" in flag.do
    assert checks.identical("mine", "so").id == "identical-to-control"
