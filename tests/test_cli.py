"""What a user types: lists, help, mistakes that get a sentence, exit codes."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call
from sample_record import sample_record

from audit import cli
from audit.commands import EXIT, catalogue
from reports.record import save


def test_help_and_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--help")[0] == 0
    assert "soft-kd" in call(capsys, "ls", "attacks")[1]
    assert "timm" in call(capsys, "ls", "students")[1]
    assert "glyphs" in call(capsys, "ls", "data")[1]
    assert "cmim" in call(capsys, "ls", "teachers")[1]
    told = call(capsys, "info", "dkd")[1]
    assert "2203.08679" in told
    assert "training images" in told
    told = call(capsys, "info", "cmim")[1]
    assert "2507.00012" in told
    assert "powers=1" in told
    assert "uses an ordinary teacher" in call(capsys, "info", "nasty")[1]


@pytest.mark.parametrize(("given", "policy"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_do_not_spin_while_they_wait_unless_the_user_says_so(given: dict[str, str], policy: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_WAIT_POLICY", raising=False)
        for name, value in given.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["audit", "--help"])
        with pytest.raises(SystemExit):
            cli.main()
        assert os.environ.pop("OMP_WAIT_POLICY") == policy


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (["run", "--bogus"], 2, "No such option"),
        (["run"], 2, "--teacher"),
        (["ls", "nothing"], 2, "there are lists of attacks, students, data and teachers"),
        (["info", "sof-kd"], 2, "did you mean soft-kd"),
        (["run", "--teacher", "nope.pt"], 4, "there is no file nope.pt"),
        (["run", "--teacher", "demo", "--attacks", "sotf-kd"], 2, "did you mean soft-kd"),
        (["run", "--teacher", "demo", "--attacks", "ls"], 2, "is a control"),
        (["run", "--teacher", "demo", "--attacks", " , "], 5, "no attack was named"),
        (["run", "--teacher", "demo", "--attacks", "nosuch"], 2, "unknown attack 'nosuch'; see `audit ls attacks`"),
        (["run", "--teacher", "demo", "--effort", "heroic"], 2, "smoke, standard, full"),
        (["run", "--teacher", "demo", "--surface", "logit"], 2, "there are probs, logits, label"),
        (["run", "--teacher", "demo", "--data", "glyfs"], 2, "glyphs"),
        (["run", "--teacher", "demo", "--data", "digits", "--shots", "2"], 2, "above 0 and at most 1"),
        (["run", "--teacher", "demo", "--data", "digits", "--seeds", "1"], 2, "at least 2"),
        (["run", "--teacher", "demo", "--data", "digits", "--student", "resnet19x"], 2, "unknown architecture"),
        (["run", "--teacher", "demo", "--data", "digits", "--device", "tpu"], 2, "cpu, cuda"),
        (["run", "--teacher", "demo", "--data", "digits", "--jobs", "0"], 2, "jobs"),
        (["teach", "nasti", "--out", "x.pt"], 2, "did you mean nasty"),
        (["teach", "plain", "--out", "x.txt"], 2, "must end in .pt"),
        (["teach", "cmim", "--out", "x.pt", "--set", "weight"], 2, "is not NAME=VALUE"),
        (["teach", "cmim", "--out", "x.pt", "--set", "lambda=2"], 2, "has no setting 'lambda'"),
        (["teach", "mcmi", "--out", "x.pt", "--init", "nope.pt"], 4, "there is no file nope.pt"),
        (["teach", "plain", "--out", "x.pt", "--init", "nope.pt"], 2, "leave --init out"),
        (["cmi"], 2, "--teacher"),
        (["cmi", "--teacher", "nope.pt"], 4, "there is no file nope.pt"),
        (["cmi", "--teacher", "demo", "--data", "glyfs"], 2, "glyphs"),
        (["cmi", "--teacher", "demo", "--device", "tpu"], 2, "cpu, cuda"),
        (["cmi", "--teacher", "demo", "--out", "file"], 2, "--out file is a file; give a folder"),
        (["report", "nowhere"], 4, "give the folder that `audit run` wrote"),
    ],
)
def test_a_mistake_gets_one_sentence_and_its_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kept: Path,
    argv: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_AUDIT_CACHE", str(kept))
    (tmp_path / "file").touch()
    got, _, err = call(capsys, *argv)
    assert got == code
    assert sentence in err
    assert err.startswith("audit: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_bug_prints_a_traceback_and_exits_70(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(what: str) -> str:
        raise ZeroDivisionError(what)

    monkeypatch.setattr("audit.commands.catalogue.listing", broken)
    code, _, err = call(capsys, "ls", "attacks")
    assert code == 70
    assert "ZeroDivisionError" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/somewhere/record.json"), 4),
        (OSError(errno.EROFS, "Read-only file system", "out"), 4),
        (FileNotFoundError(errno.ENOENT, "No such file", catalogue.__file__ + ".css"), 70),
        (FileNotFoundError(errno.ENOENT, "No such file", pytest.__file__), 70),
        (OSError(errno.EIO, "Input/output error"), 70),
        (OSError("nothing is known"), 70),
    ],
)
def test_a_place_that_cannot_be_used_gets_a_sentence_and_a_file_of_ours_a_traceback(
    error: OSError, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(what: str) -> str:
        raise error

    monkeypatch.setattr("audit.commands.catalogue.listing", broken)
    got, _, err = call(capsys, "ls", "attacks")
    assert (got, "Traceback" in err, "give a path that you may use" in err) == (code, code == 70, code == 4)


def test_an_interrupt_exits_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(what: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("audit.commands.catalogue.listing", interrupted)
    code, _, err = call(capsys, "ls", "attacks")
    assert code == 130
    assert "rerun the same command to resume" in err


def test_report_rebuilds_every_file_without_torch(tmp_path: Path) -> None:
    save(sample_record(), tmp_path / "record.json")
    code = (
        "import sys; sys.argv = ['audit', 'report', sys.argv[1]]\n"
        "from audit.cli import _main\n"
        "assert _main() == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert {"report.html", "junit.xml", "summary.md"} <= {p.name for p in tmp_path.iterdir()}


def test_a_package_that_is_not_ours_stops_the_command(
    tmp_path: Path,
) -> None:
    (tmp_path / "attacks").mkdir()
    (tmp_path / "attacks" / "__init__.py").write_text("")
    code = (
        "import sys; sys.path.insert(1, sys.argv[1])\n"
        "import audit.cli\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "print(audit.cli._shadowed())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "attacks"


@pytest.mark.parametrize("word", ["DISTILLABLE", "UNDISTILLABLE", "INCONCLUSIVE"])
def test_the_verdict_is_the_exit_code(word: str) -> None:
    assert EXIT == {"UNDISTILLABLE": 0, "DISTILLABLE": 1, "INCONCLUSIVE": 3}
    assert word in EXIT


EARLY = {  # command lines that are wrong in a word or a name, their exit codes, and what is told
    "run --teacher plain": (4, "plain is a way to teach: teach it first, `audit teach plain --out plain.pt`"),
    "run --teacher google/vit": (4, "fetch it first, `hf download google/vit --local-dir vit`, and give vit"),
    "run --teacher nosuch": (4, "there is no file nosuch; give a checkpoint"),
    "run --teacher dem": (4, "did you mean demo?"),
    "plan --teacher there/teacher.safetensor": (4, "did you mean there/teacher.safetensors?"),
    "run --teacher demo --effort heroic": (2, "there are smoke, standard, full"),
    "run --teacher demo --surface top:0": (2, "top takes a whole number from 1 to 1e+06, as in top:2"),
    "run --teacher demo --surface probs,lable": (2, "there are probs, logits, label"),
    "cmi --teacher demo --device tpu": (2, "there are cpu, cuda"),
    "run --teacher demo --data nowhere": (2, "there are glyphs, digits"),
    "run --teacher demo --data there/nowhere": (4, "a data set is a folder"),
    "run --teacher demo --surrogate nowhere": (4, "there is no folder nowhere"),
    "run --teacher demo --classes nowhere.txt": (4, "nowhere.txt"),
    "run --teacher demo --groups nowhere.csv": (4, "there is no file nowhere.csv; give a CSV file of two columns"),
    "run --teacher demo --policy nowhere.toml": (2, "cannot read the policy nowhere.toml"),
    "inspect nowhere.pt": (4, "there is no file nowhere.pt"),
    "teach plian --out x.pt": (2, "did you mean plain?"),
    "teach mcmi --out x.pt --device tpu": (2, "there are cpu, cuda"),
    "attempt dkd --effort heroic": (2, "there are smoke, standard, full"),
    "cache warm --teacher demo --data nowhere": (2, "there are glyphs, digits"),
}
ASKED = """
import contextlib, io, json, sys
from audit.cli import main
for line in sys.argv[1:]:
    sys.argv = ["audit", *line.split()]
    with contextlib.redirect_stderr(io.StringIO()) as told:
        try:
            main()
        except SystemExit as e:
            print(json.dumps([e.code, told.getvalue(), "torch" in sys.modules]))
"""


def test_a_wrong_word_and_a_missing_file_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/teacher.safetensors").touch()
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "COLUMNS": "1000"}
    done = subprocess.run(
        [sys.executable, "-c", ASKED, *EARLY], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    for line, told in zip(EARLY, map(json.loads, done.stdout.splitlines()), strict=True):
        code, sentence = EARLY[line]
        assert told[0] == code, (line, told)
        assert sentence in told[1], (line, told)
        assert not told[2], line
