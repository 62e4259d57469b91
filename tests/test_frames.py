"""An audit as data frames and files: what the record holds, typed, the same for every record."""

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
from sample_record import sample_record
from shipped import DEMO

import audit
from audit.analysis.derive import interval, results
from audit.finished import reporting
from audit.statistics.compare import paired
from reports import outputs, tables
from reports.frames import Frames, frame
from reports.record import Record, load
from reports.tables.page import page
from reports.tables.table import DTYPES, harmless
from teachers.errors import RefusedInput, UsageError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def shipped() -> Frames:
    return audit.load(DEMO)


def bare(record: Record) -> Record:
    nothing = {"comparisons": (), "controls": (), "cmi": (), "ledger": (), "flags": (), "trials": ()}
    return record.model_copy(update=nothing)


def test_every_table_is_a_frame_with_its_columns_and_types(shipped: Frames) -> None:
    assert {f.name for f in fields(Frames)} == {"record", *(table.name for table in tables.EVERY)}
    for found in (shipped, Frames.of(sample_record()), Frames.of(bare(sample_record()))):
        for table in tables.EVERY:
            got = getattr(found, table.name)
            assert list(got.columns) == [c.name for c in table.columns]
            assert [str(t) for t in got.dtypes] == [DTYPES[c.kind] for c in table.columns]


def test_the_page_of_columns_is_written_from_the_code() -> None:
    """Where this fails: python -c "from reports.tables.page import page; print(page(), end='')" > docs/tables.md."""
    assert (ROOT / "docs" / "tables.md").read_text(encoding="utf-8") == page()


def test_rows_are_those_of_the_record(shipped: Frames) -> None:
    record = shipped.record
    assert len(shipped.summary) == 1
    assert shipped.summary.word[0] == record.verdict.word
    for name, rows in {"attacks": record.comparisons, "controls": record.controls, "students": record.trials}.items():
        assert len(getattr(shipped, name)) == len(rows) > 0
    assert len(shipped.cmi) == sum(len(pool.temperatures) for pool in record.cmi) > 0
    assert len(shipped.classes) == len(record.cmi) * len(record.task.classes)
    assert int(shipped.ledger.charged.sum()) == sum(row.charged for row in record.ledger) > 0
    for row, kept in zip(shipped.attacks.itertuples(), record.comparisons, strict=True):
        assert kept.margin is not None
        assert kept.positive_control is not None
        same = ("se", "low", "high", "lower", "upper", "p", "seeds", "images", "discordant")
        assert [getattr(row, name) for name in same] == [getattr(kept.margin, name) for name in same]
        assert (row.attack, row.margin, row.p_holm) == (kept.attack, kept.margin.mean, kept.p_holm)
        assert (row.passes_positive_control, row.positive_control_margin, row.positive_control_low) == (
            kept.positive_control.passes,
            kept.positive_control.margin.mean,
            kept.positive_control.margin.low,
        )
        assert json.loads(str(row.parameters)) == kept.knockoff.parameters


def test_pairing_by_hand_gives_the_margin_of_the_record(shipped: Frames) -> None:
    for row in shipped.attacks.itertuples():
        pairs = shipped.pairs[shipped.pairs.attack == row.attack]
        knockoffs, controls = shipped.correct(pairs.key), shipped.correct(pairs.control_key)
        assert knockoffs.dtypes.eq(bool).all()
        assert list(knockoffs.index) == list(pairs.key)
        again = interval(results(shipped.record), paired(knockoffs.to_numpy(), controls.to_numpy()))
        assert (again.mean, again.low, again.high) == pytest.approx((row.margin, row.low, row.high))
    measured = shipped.students.set_index("key").test_accuracy.dropna()
    assert shipped.correct(measured.index).mean(axis=1).to_dict() == pytest.approx(measured.to_dict())
    assert shipped.labels().tolist() == results(shipped.record).labels.tolist()


def test_students_that_were_not_measured_are_named(shipped: Frames) -> None:
    tuned = shipped.students[shipped.students.role == "tune"].key.iloc[0]
    with pytest.raises(KeyError, match=f"{tuned}.*take keys of `pairs`"):
        shipped.correct([tuned])
    assert shipped.correct([]).empty


def test_importing_the_package_imports_no_pandas() -> None:
    code = (
        "import sys, audit; assert 'pandas' not in sys.modules; audit.load(sys.argv[1]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(DEMO)], check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_csv_files_hold_what_the_frames_hold(shipped: Frames, tmp_path: Path) -> None:
    outputs.write_all(shipped.record, tmp_path, ["csv"])
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == sorted(f"{t.name}.csv" for t in tables.EVERY)
    for table in tables.EVERY:
        path = tmp_path / "tables" / f"{table.name}.csv"
        types = {c.name: DTYPES[c.kind] for c in table.columns}
        back = pd.read_csv(
            path, dtype=types, keep_default_na=False, na_values={n: [""] for n, t in types.items() if t != "str"}
        )
        text = path.read_bytes()
        assert text.count(b"\r\n") == text.count(b"\n") == len(back) + 1
        kept = frame(table, shipped.record)
        for c in table.columns:
            want = kept[c.name].fillna("") if c.kind == "text" else kept[c.name]
            pd.testing.assert_series_equal(back[c.name], want, check_exact=True)


HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    " =1",
    "\n=1",
    "＝1",
    "\u200b=1",
    "\x00 \ufeff+1",
    "=cmd|' /C calc'!A0",
    'a"b,c\r\nd',
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_cell_of_a_csv_file_is_a_formula(name: str) -> None:
    record = sample_record(hostile=name)
    rows = list(csv.DictReader(io.StringIO(tables.ATTACKS.csv(record).decode(), newline="")))
    acts = name != HOSTILE[-1]
    assert rows[0]["attack"] == rows[0]["title"] == (f"'{name}" if acts else name)
    assert frame(tables.ATTACKS, record).attack[0] == name
    assert float(rows[-1]["margin"]) < 0, "a negative number is no text"
    assert harmless(-1.5) == -1.5


def test_numbers_that_are_not_finite_survive_csv() -> None:
    record = sample_record()
    first = record.comparisons[0]
    assert first.margin is not None
    odd = first.model_copy(update={"margin": first.margin.model_copy(update={"se": math.inf, "p": math.nan})})
    rows = list(
        csv.DictReader(io.StringIO(tables.ATTACKS.csv(record.model_copy(update={"comparisons": (odd,)})).decode()))
    )
    assert math.isinf(float(rows[0]["se"]))
    assert math.isnan(float(rows[0]["p"]))


def test_parquet_files_hold_the_frames_and_their_types(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    record = sample_record(hostile="=1+1")
    outputs.write_all(record, tmp_path, ["parquet"])
    for table in tables.EVERY:
        back = pd.read_parquet(tmp_path / "tables" / f"{table.name}.parquet")
        pd.testing.assert_frame_equal(back, frame(table, record))


def test_a_report_without_formats_is_what_an_audit_writes(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes((DEMO / "record.json").read_bytes())
    names = [p.name for p in reporting.report(tmp_path)]
    assert names == ["report.html", "junit.xml", "summary.md", "attestation.json", "badge.svg", "badge.json"]
    assert [p.name for p in reporting.report(path, "md, MD,junit")] == ["summary.md", "junit.xml"]
    for name in names:
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("htm", "unknown format 'htm'; did you mean html[?] there are html, "),
        ("csv,xlsx", "unknown format 'xlsx'; .*there are html, "),
        (" , ", "names no format; there are html, "),
    ],
)
def test_a_format_that_there_is_not_gets_a_sentence(asked: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        reporting.report(DEMO, asked)


def test_parquet_without_its_extra_gets_a_sentence_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "record.json").write_bytes((DEMO / "record.json").read_bytes())
    monkeypatch.setattr(reporting, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install .*\[parquet\]'"):
        reporting.report(tmp_path, "html,parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_folder_that_cannot_be_written_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes((DEMO / "record.json").read_bytes())
    (tmp_path / "tables").touch()
    with pytest.raises(RefusedInput, match=r"tables.* cannot be written"):
        reporting.report(tmp_path, "csv")


def test_the_example_runs_as_written_and_prints_what_its_page_shows(tmp_path: Path) -> None:
    script = ROOT / "examples" / "notebook.py"
    code = f"import runpy, matplotlib; matplotlib.use('Agg'); runpy.run_path({str(script)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert f"```\n{done.stdout}```\n" in page
    assert (tmp_path / "cmi.png").stat().st_size > 1_000


def test_an_older_record_without_architectures_in_its_rows_has_the_one_of_its_settings() -> None:
    record = sample_record()
    assert record.comparisons[0].student == ""
    assert set(Frames.of(record).attacks.student) == {record.settings.student}


def test_the_shipped_record_is_the_one_that_is_loaded(shipped: Frames) -> None:
    assert shipped.record == load(DEMO)
    assert repr(shipped) == "<audit of demo: INCONCLUSIVE, 4 attacks, 30 students>"
