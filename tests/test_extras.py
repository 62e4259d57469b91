"""A hint that names an extra names one that exists, from where this installation came, and never from an index."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from teachers import extras

ROOT = Path(__file__).parent.parent
TEXTS = [
    *(path for room in ("audit", "attacks", "reports", "teachers") for path in (ROOT / room).rglob("*.py")),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "action.yml", "examples/gitlab/.gitlab-ci.yml")),
    *(ROOT / "examples").glob("*/*.yml"),
]


def noted(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """Put text in the place of what pip noted."""
    there = SimpleNamespace(read_text=lambda name: {"direct_url.json": text}[name])
    monkeypatch.setattr(extras, "distribution", lambda name: there)


def test_every_extra_that_a_hint_or_a_page_names_exists() -> None:
    known = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    assert set(get_args(extras.Extra)) <= known
    named = {
        name
        for path in TEXTS
        for names in re.findall(r"pip install [^\n`]*?['\" ]\.\[([a-z, ]+)\]", path.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert named >= {"onnx", "hf", "cam", "parquet", "docs", "dev"}
    assert named <= known


def test_nothing_is_installed_by_its_name_from_an_index() -> None:
    found = [
        (path.name, line)
        for path in TEXTS
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install [^@]*\bdistill-audit(\[|==|['\"\s]|$)(?!.* @ )", line)
    ]
    assert found == []


def test_a_folder_is_installed_from_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "the source"
    place.mkdir()
    noted(monkeypatch, json.dumps({"url": place.as_uri(), "dir_info": {}}))
    assert extras.install("onnx") == f"pip install '{place}[onnx]'"
    noted(monkeypatch, json.dumps({"url": place.as_uri(), "dir_info": {"editable": True}}))
    assert extras.install("hf") == f"pip install -e '{place}[hf]'"


def test_a_commit_is_installed_from_again(monkeypatch: pytest.MonkeyPatch) -> None:
    came = {"url": "https://a.example/x.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}
    noted(monkeypatch, json.dumps(came))
    assert extras.install("onnx") == "pip install 'distill-audit[onnx] @ git+https://a.example/x.git@c0ffee'"
    noted(monkeypatch, json.dumps({"url": "https://a.example/x.whl", "archive_info": {}}))
    assert extras.install("onnx") == "pip install 'distill-audit[onnx] @ https://a.example/x.whl'"


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "no JSON"])
def test_without_a_note_it_is_the_command_of_the_readme(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    noted(monkeypatch, text)
    assert extras.install("onnx") == "pip install '.[onnx]' in the folder of the tool's source"


def test_a_tool_that_was_not_installed_has_the_command_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(extras, "distribution", none)
    assert extras.install("onnx").startswith("pip install '.[onnx]'")
