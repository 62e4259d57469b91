"""Everything in a folder follows from what was measured, and a change of one byte is noticed."""

import json
import shutil
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
from gate_records import distillable, several, undistillable
from record_changes import Change, of_look, of_row, of_suite, rewritten, updated, without
from shipped import DEMO, SHIPPED, STUDENT

from audit.analysis.derive import derived
from audit.finished.verify import Disagreement, follows, verify
from reports.record import Comparison, ControlResult, KnockoffResult, PackedArray, Record, load, save

pytestmark = pytest.mark.usefixtures("figures_once")

FILES = (
    "record.json",
    "report.html",
    "junit.xml",
    "summary.md",
    "attestation.json",
    "badge.svg",
    "badge.json",
    "journal.jsonl",
)


@pytest.fixture
def folder(finished: Path, tmp_path: Path, tiny: object) -> Path:
    """Return a copy of an audit whose suite is known by its name."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def first(folder: Path) -> Disagreement:
    found = next(verify(folder), None)
    assert found is not None
    return found


def test_records_are_shipped() -> None:
    assert SHIPPED


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_every_shipped_record_verifies(folder: Path) -> None:
    """After a change of a report, `audit report FOLDER` writes it again."""
    assert list(verify(folder)) == []


def test_a_finished_audit_verifies(folder: Path) -> None:
    assert list(verify(folder)) == []


@pytest.mark.parametrize("name", FILES)
def test_a_byte_of_any_file_is_noticed(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    at = len(content) // 2
    while not chr(content[at]).isdigit():
        at += 1
    content[at] = ord("1") if content[at] != ord("1") else ord("2")
    (folder / name).write_bytes(bytes(content))
    assert list(verify(folder))


def test_every_digit_of_the_record_is_bound(folder: Path) -> None:
    text = (folder / "record.json").read_text()
    (folder / "record.json").write_text(text.replace('"wall_seconds": ', '"wall_seconds": 1', 1))
    assert {d.where for d in verify(folder)} >= {"attestation.json"}


def test_an_array_that_cannot_be_unpacked_is_a_disagreement(folder: Path) -> None:
    record = load(folder)
    trial = record.trials[0].model_copy(
        update={"validation_correct": PackedArray(dtype="bool", shape=(9,), data="AAAA")}
    )
    found = list(verify(rewritten(folder, record.model_copy(update={"trials": (trial, *record.trials[1:])}))))
    assert [d.where for d in found] == ["record.json"]
    assert "cannot be unpacked" in found[0].stored


def test_a_missing_file_is_noticed(folder: Path) -> None:
    (folder / "junit.xml").unlink()
    assert str(first(folder)).startswith("junit.xml is missing: `audit report ")


def test_a_verdict_that_does_not_follow_is_noticed_however_well_it_is_written(folder: Path) -> None:
    record = load(folder)
    other = "UNDISTILLABLE" if record.verdict.word != "UNDISTILLABLE" else "DISTILLABLE"
    verdict = record.verdict.model_copy(update={"word": other})
    found = first(rewritten(folder, record.model_copy(update={"verdict": verdict})))
    assert found == Disagreement("record.verdict.word", repr(other), repr(record.verdict.word))


def test_a_margin_that_does_not_follow_is_noticed(folder: Path) -> None:
    record = load(folder)
    row = record.comparisons[0]
    assert row.margin is not None
    row = row.model_copy(update={"margin": row.margin.model_copy(update={"mean": row.margin.mean - 0.001})})
    found = first(rewritten(folder, record.model_copy(update={"comparisons": (row, *record.comparisons[1:])})))
    assert found.where == "record.comparisons[0].margin.mean"


def test_a_student_that_got_one_more_image_right_is_noticed(folder: Path) -> None:
    record = load(folder)
    at, trial = next((i, t) for i, t in enumerate(record.trials) if t.test_correct is not None)
    bits = trial.test_correct.array()
    bits[0] = not bits[0]
    trials = list(record.trials)
    trials[at] = trial.model_copy(update={"test_correct": PackedArray.of(bits)})
    assert "record." in first(rewritten(folder, record.model_copy(update={"trials": tuple(trials)}))).where


def test_a_setting_that_validation_did_not_choose_is_noticed(folder: Path) -> None:
    record = load(folder)
    tuned = [t for t in record.trials if t.role == "tune" and t.cell.technique == "soft-kd"]
    worst = min(tuned, key=lambda t: t.validation_accuracy)
    rows = tuple(
        updated(c, {"knockoff.parameters": worst.cell.parameters}) if c.attack == "soft-kd" else c
        for c in record.comparisons
    )
    found = [d.where for d in verify(rewritten(folder, record.model_copy(update={"comparisons": rows})))]
    assert "settings of soft-kd" in found


def test_a_ledger_that_charges_too_little_is_noticed(folder: Path) -> None:
    record = load(folder)
    rows = tuple(r.model_copy(update={"charged": max(0, r.charged - 1)}) for r in record.ledger)
    found = [d.where for d in verify(rewritten(folder, record.model_copy(update={"ledger": rows})))]
    assert any(where.startswith("ledger, soft-kd") for where in found)


@pytest.mark.parametrize("changed", ["triangle", "projection", "spread"])
def test_a_point_or_a_picture_that_does_not_follow_is_noticed(folder: Path, changed: str) -> None:
    record = load(folder)
    clusters = record.clusters
    assert clusters is not None
    assert clusters.triangle is not None
    assert clusters.projection is not None
    held_out, points = clusters.triangle.maps[-1], clusters.projection.points
    shown = clusters.spread[0]
    other = shown.pictures[0].model_copy(update={"divergence": shown.pictures[0].divergence + 0.01})
    moved = {
        "triangle": clusters.triangle.model_copy(
            update={"maps": (clusters.triangle.maps[0], held_out.model_copy(update={"y": _nudged(held_out.y)}))}
        ),
        "projection": clusters.projection.model_copy(
            update={"points": points.model_copy(update={"x": _nudged(points.x)})}
        ),
        "spread": (
            shown.model_copy(update={"pictures": (other, *shown.pictures[1:])}),
            *clusters.spread[1:],
        ),
    }
    forged = clusters.model_copy(update={changed: moved[changed]})
    found = first(rewritten(folder, record.model_copy(update={"clusters": forged})))
    assert found.where.startswith(f"record.clusters.{changed}")


def _nudged(values: tuple[float, ...]) -> tuple[float, ...]:
    return (values[0] + 0.001, *values[1:])


def test_the_command_needs_no_torch_and_exits_1_at_the_first_disagreement(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEMO, tmp_path / "copy"))
    code = (
        "import sys; from audit.cli import main; sys.argv[1:] = ['verify', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit as e: code = e.code or 0\n"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)

    assert run().returncode == 0
    told = json.loads((folder / "attestation.json").read_text())
    told["predicate"]["result"] = "PASSED" if told["predicate"]["result"] != "PASSED" else "FAILED"
    (folder / "attestation.json").write_text(json.dumps(told, indent=1) + "\n")
    done = run()
    assert done.returncode == 1
    assert done.stdout.startswith("attestation.json: stored ")
    assert done.stdout.count("\n") == 1


def test_the_attestation_is_a_valid_statement(folder: Path) -> None:
    pb = pytest.importorskip("in_toto_attestation.predicates.test_result.v0.test_result_pb2")
    from google.protobuf import json_format
    from in_toto_attestation.v1.statement import Statement

    told = json.loads((folder / "attestation.json").read_text())
    record = load(folder)
    statement = Statement([], "", {})
    json_format.ParseDict(told, statement.pb)
    statement.validate()
    assert statement.pb.subject[0].digest["sha256"] == record.teacher.sha256
    json_format.ParseDict(told["predicate"], pb.TestResult())


def aside(record: Record, row: Comparison) -> dict[str, object]:
    """Set an attack aside that was judged."""
    control = ControlResult(name=row.control.name, parameters=row.control.parameters)
    empty = {
        "knockoff": KnockoffResult(parameters=row.knockoff.parameters),
        "control": control,
        "looks": (),
        "curve": (),
    }
    return {"status": "not applicable", **empty, **dict.fromkeys(("baseline", "margin", "p_holm", "corrected_lower"))}


def others(record: Record, row: Comparison) -> dict[str, object]:
    return {"knockoff.students": next(r.knockoff.students for r in record.comparisons if r.attack == "label-mixup")}


def exchanged(record: Record, row: Comparison) -> dict[str, object]:
    return {"control.students": row.control.students[::-1]}


def fewer(record: Record, row: Comparison) -> dict[str, object]:
    return {"knockoff.students": row.knockoff.students[:1], "control.students": row.control.students[:1]}


def apart(record: Record, row: Comparison) -> dict[str, object]:
    return {"looks": (1, 2)}


def null(record: Record, row: Comparison) -> dict[str, object]:
    return {"control.students": record.controls[0].knockoff.students}


FORGED: dict[str, tuple[Change, str]] = {
    "attacks of a suite": (of_suite(attacks=("avg", "label-mixup", "knockoff")), "suite.attacks of smoke-1"),
    "tuning seeds of a suite": (of_suite(tuning_seeds=2), "suite.tuning_seeds of smoke-1"),
    "baselines of a suite": (of_suite(controls=("ce",)), "suite.controls of smoke-1"),
    "a digest of another suite": (of_suite(digest="0"), "suite.digest of smoke-1"),
    "more seeds than error is spent over": (of_suite(seeds=21), "suite.seeds"),
    "an attack that is left out": (without("soft-kd"), f"comparisons, soft-kd on {STUDENT}"),
    "a null control that is left out": (
        lambda record: record.model_copy(update={"controls": ()}),
        f"controls, ls (null) on {STUDENT}",
    ),
    "a nearer horizon": (of_look(horizon=2), "look.horizon"),
    "no horizon": (of_look(horizon=0), "look.horizon"),
    "a larger error": (of_look(alpha=0.2), "look.alpha"),
    "looks that were not due": (of_row("soft-kd", apart), "looks of soft-kd"),
    "another attack's students": (of_row("soft-kd", others), "students of soft-kd"),
    "fewer students than were judged": (of_row("soft-kd", fewer), "students of soft-kd"),
    "controls of other seeds": (of_row("soft-kd", exchanged), "controls of soft-kd"),
    "controls of the null control": (of_row("soft-kd", null), "controls of soft-kd"),
    "an attack that was judged, set aside": (of_row("soft-kd", aside), "status of soft-kd"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_design_that_is_not_the_one_it_names_is_noticed(name: str) -> None:
    """All numbers and digests are made to follow from what was forged."""
    change, where = FORGED[name]
    assert where in [d.where for d in follows(derived(change(load(DEMO))))]


@pytest.mark.parametrize("number", ["knockoff.accuracy", "margin", "curve", "knockoff.queries"])
def test_a_row_without_students_has_no_numbers(number: str) -> None:
    record = load(DEMO)
    kept = attrgetter(number)(record.comparisons[-1])
    forged = of_row("knockoff", lambda record, row: {number: kept})(derived(of_row("knockoff", aside)(record)))
    assert f"record.comparisons[{len(record.comparisons) - 1}].{number}" in [d.where for d in follows(forged)]


def test_an_honest_part_of_a_suite_verifies(tmp_path: Path) -> None:
    record = derived(of_suite(complete=False)(without("soft-kd")(load(DEMO))))
    folder = Path(shutil.copytree(DEMO, tmp_path / "copy"))
    assert list(verify(rewritten(folder, record))) == []


@pytest.mark.slow
def test_an_audit_of_surfaces_that_is_one_of_its_own_surfaces_has_an_end(tmp_path: Path, gates: None) -> None:
    folder = several({"probs": distillable(), "uint8": undistillable()}, tmp_path / "audit")
    record = load(folder)
    itself = record.surfaces[1].model_copy(update={"folder": "."})
    save(record.model_copy(update={"surfaces": (record.surfaces[0], itself)}), folder / "record.json")
    assert [d.found for d in verify(folder) if d.where == "surface uint8"] == ["an audit of one surface"]


def test_an_audit_of_surfaces_is_that_of_the_first(tmp_path: Path, gates: None) -> None:
    folder = several({"probs": distillable(), "uint8": undistillable()}, tmp_path / "audit")
    assert list(verify(folder)) == []
    other = load(folder / "surfaces" / "uint8").model_copy(update={"surfaces": load(folder).surfaces})
    found = [d.where for d in verify(rewritten(folder, other))]
    assert "record beside surfaces/probs.settings.surface" in found
