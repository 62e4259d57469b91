"""What a policy said stands on the page, and is asked again by whoever verifies it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import call
from pages import Page
from shipped import DEMO

import audit
from reports import html, policy_outcome
from reports.record import load

pytestmark = pytest.mark.usefixtures("figures_once")

POLICY = 'version = 1\ninconclusive = "{}"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the shipped audit."""
    return Path(shutil.copytree(DEMO, tmp_path / "audit"))


def asked(capsys: pytest.CaptureFixture[str], folder: Path, meaning: str, *more: str) -> int:
    """Ask a policy of a folder; return the exit code."""
    (folder.parent / "policy.toml").write_text(POLICY.format(meaning))
    return call(capsys, "gate", str(folder), "--policy", str(folder.parent / "policy.toml"), *more)[0]


@pytest.mark.parametrize(
    ("meaning", "code", "word"), [("fail", 1, "FAIL"), ("warn", 0, "PASS"), ("separate", 3, "UNDECIDED")]
)
def test_the_page_says_what_the_policy_said(
    capsys: pytest.CaptureFixture[str], folder: Path, meaning: str, code: int, word: str
) -> None:
    before = (folder / "report.html").read_bytes()
    assert asked(capsys, folder, meaning) == code
    assert (folder / "report.html").read_bytes() == before
    assert asked(capsys, folder, meaning, "--page") == code
    said = "".join(Page((folder / "report.html").read_text(encoding="utf-8")).said)
    assert f"policy {word}" in said
    assert f"Policy policy.toml: {word}" in said
    code, out, _ = call(capsys, "verify", str(folder))
    assert (code, "not checked" in out) == (0, False)
    assert asked(capsys, folder, meaning) == {"FAIL": 1, "PASS": 0, "UNDECIDED": 3}[word]  # and once more, as before


def test_a_forged_outcome_does_not_verify(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    asked(capsys, folder, "fail", "--page")
    path = folder / policy_outcome.FILE
    kept = json.loads(path.read_text())
    forged = [*kept["findings"][:-1], {**kept["findings"][-1], "outcome": "pass", "sentence": "it is undistillable"}]
    for change in ({"code": 0}, {"code": 0, "findings": forged}, {"findings": []}, {"text": "version = 2\n"}):
        path.write_text(json.dumps({**kept, **change}))
        call(capsys, "report", str(folder))
        code, said, _ = call(capsys, "verify", str(folder))
        assert (code, said.partition(":")[0]) == (1, policy_outcome.FILE), change


@pytest.mark.parametrize("text", ["", "{}", "[]", "\x00", '{"record": 1}'])
def test_a_file_that_is_none_is_not_shown(capsys: pytest.CaptureFixture[str], folder: Path, text: str) -> None:
    (folder / policy_outcome.FILE).write_text(text)
    assert policy_outcome.of(load(folder), folder) is None
    code, out, _ = call(capsys, "verify", str(folder))
    assert code == 0
    assert "not checked, because no audit writes them or they describe several audits: policy.json" in out


def test_an_outcome_of_another_record_is_not_shown(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    asked(capsys, folder, "warn", "--page")
    record = load(folder)
    other = record.model_copy(update={"command": "another"})
    assert policy_outcome.of(record, folder) is not None
    assert policy_outcome.of(other, folder) is None
    assert "policy PASS" not in "".join(Page(html.render(other)).said)


def test_a_policy_with_a_baseline_is_shown_and_not_asked_again(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    shutil.copytree(DEMO, before)
    path = tmp_path / "policy.toml"
    path.write_text('version = 1\n[baseline]\nrecord = "before"\n')
    code, _, err = call(capsys, "gate", str(folder), "--policy", str(path), "--page")
    assert (code, err) == (0, "")
    shutil.rmtree(before)
    assert audit.verify(folder) == ()
