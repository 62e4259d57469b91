"""A policy says what is wrong with it, where it stands, and what is allowed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from audit.plan.toml_files import line_of
from audit.policy.file import Baseline, Policy, Suite, Waiver, read
from teachers.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
FULL = """version = 1
inconclusive = "warn"   # until the autumn
surfaces = ["probs", "top:5+round:2"]
tolerance = 1
max_age_days = 30
checkpoint = "4F1C4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c"

[suite]
name = "standard-4"

[[waive]]
attack = "dkd"
reason = "because"
until = 2027-01-31

[[waive]]
attack = "dist"
surface = "label"
reason = "because"
until = 2027-02-28

[baseline]
record = "last/record.json"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_policy_is_read(tmp_path: Path) -> None:
    file = read(written(tmp_path, FULL))
    policy = file.policy
    assert (policy.tolerance, policy.suite, policy.inconclusive) == (1.0, Suite(name="standard-4"), "warn")
    assert [(w.attack, w.surface, w.until) for w in policy.waive] == [
        ("dkd", None, date(2027, 1, 31)),
        ("dist", "label", date(2027, 2, 28)),
    ]
    assert file.baseline == tmp_path / "last" / "record.json"
    assert policy.baseline == Baseline(record="last/record.json", undecided="warn")


def test_all_but_the_version_may_be_left_out_and_inconclusive_then_fails(tmp_path: Path) -> None:
    file = read(written(tmp_path, "version = 1\n"))
    assert file.policy == Policy(version=1, inconclusive="fail")
    assert file.baseline is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("version = 1\n", "", "line 1: version is missing; give 1"),
        ("version = 1", "version = 2", "line 1: version is 2; it must be 1"),
        ("version = 1", "version = true", "line 1: version is true; it must be 1"),
        ('"warn"', '"wran"', 'line 2: inconclusive is "wran"; it must be "fail", "warn", "pass" or "separate"'),
        ('["probs", "top:5+round:2"]', '"probs"', 'line 3: surfaces is "probs"; it must be a list of surfaces'),
        ('["probs", "top:5+round:2"]', "[5]", "line 3: surfaces is 5; it must be a list of surfaces"),
        ("tolerance = 1", "tolerance = 0", "line 4: tolerance is 0; it must be a number of points above 0"),
        ("tolerance = 1", "tolerance = nan", "line 4: tolerance is NaN; it must be a number of points"),
        ("tolerance = 1", "tolerance = true", "line 4: tolerance is true; it must be a number of points"),
        ("tolerance = 1", "tolerence = 1", "line 4: tolerence is not a key of this table; did you mean tolerance?"),
        ("tolerance = 1", "x = 1", "line 4: x is not a key of this table; there are version, inconclusive, surfaces"),
        ("= 30", "= 30.5", "line 5: max_age_days is 30.5; it must be a whole number of days"),
        ("= 30", "= -1", "line 5: max_age_days is -1;"),
        ("4F1C", "sha256:", 'line 6: checkpoint is "sha256:4f1c'),
        ("[suite]", "[siute]", "line 8: siute is not a key of this table; did you mean suite?"),
        ('[suite]\nname = "standard-4"', 'suite = "standard-4"', 'line 8: suite is "standard-4"; it must be a table'),
        ('name = "standard-4"', 'name = " "', 'line 9: suite.name is " "; it must be the name of a suite'),
        (
            'reason = "because"\nuntil = 2027-01-31',
            "until = 2027-01-31",
            "line 11: waive.reason is missing; give a sen",
        ),
        ("until = 2027-02-28", 'until = "2027-02-28"', 'line 20: waive.until is "2027-02-28"; it must be the last day'),
        ("until = 2027-02-28", "until = 2027-02-28T10:00:00", "line 20: waive.until is 2027-02-28 10:00:00; it must"),
        ("until = 2027-02-28\n", "", "line 16: waive.until is missing; give the last day on which it holds"),
        (
            "until = 2027-02-28",
            "untill = 2027-02-28",
            "line 20: waive.untill is not a key of this table; did you mean until?",
        ),
        ("[[waive]]", "[waive]", "is not valid TOML: Cannot declare ('waive',) twice (at line 16"),
        ("until = 2027-02-28", "until = 2027-02-30", "is not valid TOML: Invalid date or datetime (at line 20"),
        ("[baseline]", "[baseline]\nundecided = 3", "line 23: baseline.undecided is 3; it must be"),
        ('"last/record.json"', "'" + 99 * "x", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named_by_line_and_key(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in FULL
    path = written(tmp_path, FULL.replace(old, new))
    with pytest.raises(UsageError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}")
    assert sentence in str(caught.value)
    assert caught.value.exit_code == 2


def test_of_several_mistakes_an_unknown_key_is_told_and_the_rest_counted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 4: a is not a key of this table; .* \(and 2 more\)$"):
        read(written(tmp_path, FULL.replace('"warn"', "3").replace("= 30", "= 'x'").replace("tolerance = 1", "a = 1")))


def test_a_value_of_any_length_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(written(tmp_path, f'version = 1\ninconclusive = """a\n{"b" * 999}"""\n'))
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_what_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"the policy .*; give a TOML file with --policy"):
        read(path)


def test_lines_are_found_however_toml_is_written() -> None:
    text = 'a.b = 1\n"c" = { d = 2 }\n[ e . f ]\n g=3 # [x]\n[[h]]\n[[h]]\n[[h.i]]\nj = """\nk = 1\n"""\n'
    assert line_of(text, ("a", "b")) == 1
    assert line_of(text, ("c", "d")) == 2, "a key within a value has the line of the value"
    assert line_of(text, ("e", "f", "g")) == 4
    assert line_of(text, ("h", 1)) == 6
    assert line_of(text, ("h", 1, "missing")) == 6
    assert line_of(text, ("nothing",)) == 1


def keys(table: type[BaseModel], before: str = "") -> list[str]:
    """Return the names of all values of a table, as docs/gate.md writes them."""
    found = []
    for name, field in table.model_fields.items():
        own = inner(field)
        found += [f"{before}{name}"] if own is None else keys(own, f"{before}{name}.")
    return found


def inner(field: FieldInfo) -> type[BaseModel] | None:
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((k for k in kinds if get_origin(k) is None and isinstance(k, type) and issubclass(k, BaseModel)), None)


def test_every_key_is_told_on_the_page() -> None:
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    told = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and "`" in line[3:]]
    assert sorted(told[: len(keys(Policy))]) == sorted(keys(Policy))
    assert keys(Waiver) == ["attack", "surface", "reason", "until"]


@pytest.mark.parametrize("page", ["docs/gate.md", "README.md"])
def test_policies_of_the_pages_are_policies(tmp_path: Path, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    example = text.split("```toml\n")[1].split("```")[0]
    assert read(written(tmp_path, example)).policy.waive
