"""Files that mean harm, and broken ones: no code runs, one sentence, exit code 4, and no child above its limits."""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hostile
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audit import cli
from teachers import intake
from teachers.errors import RefusedInput
from teachers.intake import jail, weights

CASES = hostile.cases()


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


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_a_sentence_and_nothing_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], grown: list[int]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = CASES[name](tmp_path)
    arch = [] if path.suffix == ".onnx" else ["--arch", hostile.ARCH]
    monkeypatch.setattr(sys, "argv", ["audit", "cmi", "--teacher", str(path), *arch, "--data", "digits"])
    code = cli._main()
    out, err = capsys.readouterr()
    assert (code, out) == (4, ""), err
    assert err.startswith("audit: ")
    assert err.count("\n") == 1
    assert len(err) > 40
    assert "Traceback" not in err
    assert not (tmp_path / hostile.MARKER).exists()


GOOD = hostile.good()


@pytest.mark.parametrize("name", GOOD)
def test_the_good_ones_open(name: str, tmp_path: Path) -> None:
    path = hostile.put(GOOD[name])(tmp_path)
    assert intake.open_weights(path).kind == {"zip": "torch", "legacy": "torch-legacy"}.get(name, name)


Edit = tuple[int, int, bytes]  # where, how many bytes go, what comes
EDIT = st.tuples(st.integers(0, 2**20), st.integers(0, 64), st.binary(max_size=16))


@pytest.mark.parametrize("name", GOOD)
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
@example(edits=[(0, 0, b"\x00")])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_opens_or_is_refused(name: str, edits: list[Edit], grown: list[int]) -> None:
    mutate(name, edits)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
@given(edits=st.lists(EDIT, min_size=1, max_size=8))
@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_many_mutated_files_open_or_are_refused(name: str, edits: list[Edit], grown: list[int]) -> None:
    mutate(name, edits)


def mutate(name: str, edits: list[Edit]) -> None:
    content = bytearray(GOOD[name])
    for at, gone, new in edits:
        start = at % (len(content) + 1)
        content[start : start + gone] = new
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pt"
        path.write_bytes(content)
        try:
            assert intake.open_weights(path).sha256
        except RefusedInput as e:
            refusal = str(e)
        else:
            return
    assert "\n" not in refusal
    assert refusal.startswith(str(path))
