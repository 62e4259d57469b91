"""A policy is asked of a record that verifies, and one exit code comes out."""

import json
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from command_line import call
from gate_records import RECORDS, SMOKE, aside, distillable, on, several, undistillable, written
from gate_situations import TODAY
from shipped import DEMO

from audit.analysis.derive import derived
from audit.plan.suite import Suite
from audit.policy.file import read
from audit.policy.gate import baseline, foresee, gate
from audit.policy.rules import findings, ruled
from audit.statistics.verdict import DELTA
from reports.record import PackedArray, RecordError, load, save
from teachers.errors import RefusedInput, UsageError

pytestmark = pytest.mark.usefixtures("gates", "figures_once")


def policy(folder: Path, text: str = "") -> Path:
    path = folder / "policy.toml"
    path.write_text(f"version = 1\n{text}")
    return path


@pytest.mark.parametrize(("meaning", "code"), [("fail", 1), ("warn", 0), ("pass", 0), ("separate", 3)])
def test_the_policy_says_what_inconclusive_means(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, meaning: str, code: int
) -> None:
    asked = policy(tmp_path, f'inconclusive = "{meaning}"\n')
    got, out, err = call(capsys, "gate", str(DEMO), "--policy", str(asked), "--json")
    told = json.loads(out)
    assert (got, err) == (code, "")
    assert (told["exit_code"], told["passes"], told["word"]) == (code, code == 0, "INCONCLUSIVE")
    assert [(f["rule"], f["outcome"]) for f in told["findings"]] == [("record", "pass"), ("verdict", meaning)]
    assert "What would settle it: use --effort standard" in told["findings"][-1]["sentence"]


def test_it_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from audit.cli import _main\n"
        f"sys.argv = ['audit', 'gate', {str(DEMO)!r}, '--policy', {str(policy(tmp_path))!r}]\n"
        "assert _main() == 1\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_person_reads_a_line_for_each_rule(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.policy.gate.today", lambda: date(2027, 1, 1))
    asked = policy(tmp_path, 'max_age_days = 30\nsurfaces = ["probs"]\n')
    code, out, _ = call(capsys, "gate", str(DEMO / "record.json"), "--policy", str(asked))
    head, *lines = out.splitlines()
    assert (code, head) == (1, "demo: the policy fails")
    assert [line.split()[:2] for line in lines] == [
        ["pass", "record"],
        ["pass", "surfaces"],
        ["fail", "age"],
        ["fail", "verdict"],
    ]


def test_ruling_again_without_waivers_gives_the_audits_own_word() -> None:
    for make in RECORDS.values():
        record = make()
        again = ruled(record, (), record.verdict.delta)
        assert (again.word, again.reasons, again.settle) == (
            record.verdict.word,
            record.verdict.reasons,
            record.verdict.settle,
        )


def test_a_word_is_ruled_without_what_is_waived_and_never_by_a_larger_tolerance(tmp_path: Path) -> None:
    record = distillable()
    assert ruled(record, {"soft-kd"}, DELTA).word == "UNDISTILLABLE"
    biting = {row.attack for row in record.comparisons if row.passes}
    assert biting == {"soft-kd", "knockoff"}
    nothing_passes = ruled(record, biting, DELTA)
    assert nothing_passes.word == "INCONCLUSIVE"
    assert "none of the judged attacks passes the positive control" in nothing_passes.reasons[0]
    loose = read(policy(tmp_path, "tolerance = 50\n"))
    (word,) = [f for f in findings([RECORDS["INCONCLUSIVE"]()], loose, TODAY) if f.rule == "verdict"]
    assert word.outcome == "fail"


def test_a_flag_that_a_waived_attack_raised_goes_with_it() -> None:
    crashed = aside(undistillable(), "failed", "avg")
    assert crashed.verdict.word == "INCONCLUSIVE"
    assert ruled(crashed, {"avg"}, DELTA).word == "UNDISTILLABLE"


def test_a_suite_that_only_has_the_name_fails(tmp_path: Path) -> None:
    file = read(policy(tmp_path, '[suite]\nname = "smoke-1"\n'))
    record = undistillable()
    suite = record.suite.model_copy(update={"name": SMOKE.name, "digest": SMOKE.digest})
    record = record.model_copy(update={"suite": suite})
    forged = record.model_copy(update={"suite": record.suite.model_copy(update={"digest": "0"})})
    short = record.model_copy(update={"comparisons": record.comparisons[1:]})
    for changed, sentence in ((forged, "differs from the suite of that name"), (short, "ran without soft-kd")):
        (found,) = [f for f in findings([changed], file, TODAY) if f.rule == "suite"]
        assert found.outcome == "fail"
        assert sentence in found.sentence


@pytest.mark.parametrize(
    ("text", "attacks", "surfaces", "sentence"),
    [
        ('[suite]\nname = "standard-4"', "all", ("probs",), "suite.name is .*this audit runs smoke-1; see --effort"),
        (
            '[suite]\nname = "smoke-1"',
            "soft-kd,avg",
            ("probs",),
            "suite.complete is true, but --attacks soft-kd,avg is only a pa",
        ),
        (
            'surfaces = ["label"]',
            "all",
            ("probs", "top:5"),
            "which this audit does not run; give --surface probs,top:5,label",
        ),
        ('[baseline]\nrecord = "none"', "all", ("probs",), "cannot read .*none"),
    ],
)
def test_what_an_audit_can_never_meet_stops_it_before_it_begins(
    tmp_path: Path, text: str, attacks: str, surfaces: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises((UsageError, RecordError), match=sentence):
        foresee(read(policy(tmp_path, f"{text}\n")), SMOKE, attacks, surfaces)


def test_what_it_can_meet_does_not_stop_it(tmp_path: Path) -> None:
    file = read(policy(tmp_path, 'surfaces = ["probs"]\n[suite]\nname = "smoke-1"\n'))
    for attacks in ("all", "soft-kd,avg,label-mixup,knockoff:paper,dkd"):
        foresee(file, SMOKE, attacks, ("probs", "label"))
    partial = read(policy(tmp_path, '[suite]\nname = "smoke-1"\ncomplete = false\n'))
    foresee(partial, SMOKE, "avg", ("probs",))


def test_a_baseline_of_several_surfaces_is_compared_surface_by_surface(tmp_path: Path) -> None:
    several({"probs": distillable(), "uint8": undistillable()}, tmp_path / "before")
    file = read(policy(tmp_path, '[baseline]\nrecord = "before/record.json"\n'))
    rounded = derived(on(undistillable(), "uint8"))
    found = list(findings([distillable(), rounded], file, TODAY, baseline(file)))
    assert [f.outcome for f in found if f.rule == "regression"] == ["pass", "pass"]
    with pytest.raises(UsageError, match="names an audit without the surface top:5"):
        list(findings([on(rounded, "top:5")], file, TODAY, baseline(file)))


def test_a_baseline_that_is_no_audit_of_ours_is_refused(tmp_path: Path) -> None:
    record = undistillable()
    broken = record.trials[0].model_copy(update={"test_correct": PackedArray(dtype="bool", shape=(9,), data="AAAA")})
    cell = record.comparisons[0].knockoff.students[0]
    trials = [broken.model_copy(update={"key": cell}), *(t for t in record.trials if t.key != cell)]
    save(record.model_copy(update={"trials": tuple(trials)}), tmp_path / "before" / "record.json")
    file = read(policy(tmp_path, '[baseline]\nrecord = "before"\n'))
    with pytest.raises(RefusedInput, match="cannot be unpacked"):
        list(findings([record], file, TODAY, baseline(file)))
    save(record.model_copy(update={"schema_version": 2}), tmp_path / "before" / "record.json")
    with pytest.raises(RecordError, match="has schema version 2"):
        baseline(file)


def test_a_run_ends_with_the_code_of_its_policy_after_the_reports_are_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kept: Path, tiny: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    out = tmp_path / "out"
    asked = policy(tmp_path, f'max_age_days = 1\n[suite]\nname = "{tiny.name}"\n')
    argv = ["run", "--teacher", "demo", "--data", "digits", "--effort", "smoke", "--cache", str(kept), "--jobs", "1"]
    code, told, err = call(capsys, *argv, "--out", str(out), "--policy", str(asked))
    assert (code, "demo: the policy fails" in told) == (1, True), err
    assert (out / "badge.svg").is_file()
    word = load(out).verdict.word
    assert f"verdict={word}\npasses=false\n" in (tmp_path / "output").read_text()
    monkeypatch.setattr("audit.policy.gate.today", lambda: TODAY)
    again, told, _ = call(capsys, *argv, "--out", str(out), "--policy", str(asked), "--json")
    assert (again, json.loads(told)["word"]) == (1, word), "nothing but the audit's own JSON is printed"
    asked.write_text(f'version = 1\ninconclusive = "warn"\n[baseline]\nrecord = "{out}"\n')
    assert call(capsys, *argv, "--out", str(out), "--policy", str(asked))[0] == 2, "nothing regresses against itself"
    shutil.copytree(out, tmp_path / "before")
    asked.write_text('version = 1\ninconclusive = "warn"\n[baseline]\nrecord = "before"\n')
    assert call(capsys, *argv, "--out", str(out), "--policy", str(asked))[0] == 0


def test_only_a_folder_of_an_audit_or_its_record_is_judged(tmp_path: Path) -> None:
    written(undistillable(), tmp_path / "good")
    file = read(policy(tmp_path, ""))
    assert gate(tmp_path / "good", file).code == gate(tmp_path / "good" / "record.json", file).code == 0
    for other in ("nothing", "summary.md", "good.json"):
        with pytest.raises(RecordError, match="is not a folder; give the one that `audit run` wrote"):
            gate(tmp_path / "good" / other, file)


def test_a_waiver_that_is_over_stops_an_audit_before_it_trains(tmp_path: Path) -> None:
    text = '[[waive]]\nattack = "soft-kd"\nreason = "metered"\nuntil = 2020-01-31\n'
    with pytest.raises(UsageError, match=r"waive\.until is 2020-01-31, which is past; renew it or remove it"):
        foresee(read(policy(tmp_path, text)), SMOKE, "all", ("probs",))
