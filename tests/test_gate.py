"""A policy is asked of a record that verifies, and one exit code comes out."""

import json
from pathlib import Path

import pytest
from test_cli import call

SHIPPED = Path(__file__).resolve().parent.parent / "examples" / "demo-smoke"


def policy(folder: Path, text: str = "") -> Path:
    path = folder / "policy.toml"
    path.write_text(f"version = 1\n{text}")
    return path


@pytest.mark.parametrize(("meaning", "code"), [("fail", 1), ("warn", 0), ("pass", 0), ("separate", 3)])
def test_the_policy_says_what_inconclusive_means(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, meaning: str, code: int
) -> None:
    asked = policy(tmp_path, f'inconclusive = "{meaning}"\n')
    got, out, err = call(capsys, "gate", str(SHIPPED), "--policy", str(asked), "--json")
    told = json.loads(out)
    assert (got, err) == (code, "")
    assert (told["exit_code"], told["passes"], told["word"]) == (code, code == 0, "INCONCLUSIVE")
    assert [(f["rule"], f["outcome"]) for f in told["findings"]] == [("record", "pass"), ("verdict", meaning)]
    assert "What would settle it: use --effort standard" in told["findings"][-1]["sentence"]
