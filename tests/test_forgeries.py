"""Who changes a record and all that follows from it is found; what no record tells is in docs/verdict.md."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forgeries import FOUND
from gate_records import distillable, made, registered, several, undistillable
from record_changes import Change, of_part, of_record, of_trials, rewritten
from shipped import DEMO

from audit.analysis.derive import derived
from audit.finished import tables
from audit.finished.fields import FIELDS, told
from audit.finished.figures import same_figure
from audit.finished.verify import follows, verify
from audit.policy.file import read
from audit.policy.gate import gate
from reports.outputs import write_all
from reports.record import PackedArray, Record, RecordError, load, save
from teachers.errors import RefusedInput

pytestmark = pytest.mark.usefixtures("curves_once", "figures_once")

ROOT = Path(__file__).resolve().parent.parent


@cache
def shipped() -> Record:
    return load(DEMO)


@cache
def shipped_text() -> str:
    return shipped().model_dump_json()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "copy"))


def wrong(record: Record) -> list[str]:
    return [found.where for found in follows(record)]


@pytest.mark.parametrize("name", FOUND)
def test_a_forgery_is_found_that_all_else_follows_from(name: str) -> None:
    change, where = FOUND[name]
    forged = change(shipped())
    with contextlib.suppress(AssertionError, ValueError, KeyError, IndexError):  # else nothing follows from it
        forged = derived(forged)
    found = wrong(forged)
    assert any(one.startswith(where) for one in found), found


def _all_right(trial: Any) -> dict[str, Any]:
    return {"validation_correct": PackedArray.of(np.ones(trial.validation_correct.shape, bool))}


UNSEEN: dict[str, tuple[Change, str]] = {
    "another day": (of_part("times", created="2030-01-01T00:00:00+00:00"), "Times.created"),
    "another file": (of_part("teacher", sha256="0" * 64), "TeacherInfo.sha256"),
    "another name of the task": (of_part("task", name="imagenet"), "TaskInfo.name"),
    "a probe that heard no noise": (of_part("probe", saturated=0.0), "Probe.saturated"),
    "tuned students that are better": (of_trials(lambda t: t.role == "tune", _all_right), "Trial.validation_correct"),
    "another command": (of_record(command="audit run"), "Record.command"),
    "another machine": (of_part("environment", torch="9.9"), "Environment.torch"),
    "another price": (of_part("settings", price=3.0), "Settings.price"),
    "a guard that is none": (of_record(cmi_without_guard="behind a wall"), "Record.cmi_without_guard"),
    "less time": (of_part("times", wall_seconds=1.0), "Times.wall_seconds"),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_record_tells_is_listed(name: str) -> None:
    change, field = UNSEEN[name]
    record = change(shipped())
    if field == "TeacherInfo.sha256":
        record = record.model_copy(update={"ordinary": record.teacher})
    assert wrong(derived(record)) == []
    part, _, own = field.partition(".")
    assert told(part)[own] in ("repeat", "again", "text")
    (line,) = [
        one
        for listed in (ROOT / "docs" / "verdict.md").read_text(encoding="utf-8").splitlines()
        for one in listed.rstrip(".").split("; ")
        if one.startswith(f"{part}: ") and f"`{own}`" in one
    ]
    assert line


def test_an_unknown_suite_is_never_undistillable_and_passes_no_gate_that_names_it(tmp_path: Path) -> None:
    with registered():
        known = undistillable()
        assert known.verdict.word == "UNDISTILLABLE"
    unknown = derived(of_part("suite", complete=False)(known))
    assert unknown.verdict.word == "INCONCLUSIVE"
    policy = tmp_path / "policy.toml"
    for complete in ("true", "false"):
        policy.write_text(f'version = 1\ninconclusive = "pass"\n[suite]\nname = "gate-1"\ncomplete = {complete}\n')
        save(unknown, tmp_path / "audit" / "record.json")
        shutil.copyfile(DEMO / "journal.jsonl", tmp_path / "audit" / "journal.jsonl")
        write_all(unknown, tmp_path / "audit")
        done = gate(tmp_path / "audit", read(policy))
        assert done.code == 1
        assert [f.outcome for f in done.findings if f.rule == "suite"] == ["fail"]


def test_a_part_of_a_suite_may_be_distillable() -> None:
    with registered():
        part = derived(of_part("suite", complete=False, name="mine-1")(distillable()))
    assert part.verdict.word == "DISTILLABLE"


@pytest.mark.parametrize("name", ["attacks", "ledger", "flags", "students"])
def test_a_cell_of_a_table_is_found(folder: Path, name: str) -> None:
    write_all(load(folder), folder, ("csv",))
    assert list(verify(folder)) == []
    path = folder / "tables" / f"{name}.csv"
    path.write_bytes(path.read_bytes().replace(b"soft-kd", b"soft-kp").replace(b"light", b"heavy"))
    assert [found.where for found in verify(folder)] == [f"tables/{name}.csv"]


def test_a_cell_of_a_parquet_table_is_found(folder: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    write_all(load(folder), folder, ("parquet",))
    assert list(verify(folder)) == []
    path = folder / "tables" / "attacks.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "margin"] = 0.0
    frame.to_parquet(path, index=False)
    (folder / "tables" / "flags.parquet").write_bytes(b"PAR1 no table PAR1")
    assert {found.where for found in verify(folder)} == {"tables/attacks.parquet", "tables/flags.parquet"}


@pytest.mark.parametrize("text", ["0" * 64, "", "\n"])
def test_a_name_of_the_audit_that_is_not_its_own_is_found(folder: Path, text: str) -> None:
    (folder / "audit.id").write_text(text)
    assert [found.where for found in verify(folder)] == ["audit.id"]


def test_files_that_no_audit_writes_are_named(folder: Path) -> None:
    assert tables.beside(load(folder), folder) == []
    (folder / "compare.html").write_text("UNDISTILLABLE")
    (folder / "surfaces").mkdir()
    (folder / "surfaces" / "note").write_text("")
    assert tables.beside(load(folder), folder) == ["compare.html", "surfaces/note"]


OVERLAYS = {
    "a rectangle": ("</svg>", '<rect width="518" height="100"/></svg>'),
    "a text": ("</svg>", "<text>UNDISTILLABLE</text></svg>"),
    "an image": ("</svg>", '<image href="https://example.org/x.png"/></svg>'),
    "a script": ("</svg>", "<script>1</script></svg>"),
    "another page inside": ("</svg>", "<foreignObject>UNDISTILLABLE</foreignObject></svg>"),
    "another figure": ("</svg>", "</svg><svg><text>UNDISTILLABLE</text></svg>"),
    "another label": ("<text", '<text onclick="1"'),
    "a link": ('href="#', 'href="https://example.org/#'),
    "another style": ("style=", 'style="display: none" data-style='),
    "another place": ('viewBox="0 0 ', 'viewBox="0 9 '),
    "another word": ("LS student<", "LS students<"),
    "another description": ('role="img"', 'role="presentation"'),
    "a comment outside": ("</body>", "<!-- UNDISTILLABLE --></body>"),
    "another title": ("<title>", "<title>UNDISTILLABLE "),
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the shipped audit that another matplotlib is said to have drawn, and that verifies."""
    folder = shutil.copytree(DEMO, tmp_path_factory.mktemp("elsewhere") / "copy")
    packages = shipped().environment.packages | {"matplotlib": "3.9.0"}
    rewritten(folder, of_part("environment", packages=packages)(shipped()))
    assert list(verify(folder)) == []
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_found_also_where_another_matplotlib_is_said_to_have_drawn(
    elsewhere: Path, tmp_path: Path, name: str
) -> None:
    before, after = OVERLAYS[name]
    folder = shutil.copytree(elsewhere, tmp_path / "copy")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert before in page
    (folder / "report.html").write_text(page.replace(before, after, 1), encoding="utf-8")
    assert [found.where for found in verify(folder)] == ["report.html"]


def test_figures_that_another_matplotlib_rounds_otherwise_are_the_same(folder: Path) -> None:
    record = of_part("environment", packages={})(load(folder))
    page = (rewritten(folder, record) / "report.html").read_text(encoding="utf-8")
    (folder / "report.html").write_text(page.replace("font-size: 10px; ", "font: 10px; "), encoding="utf-8")
    assert list(verify(folder)) == []
    assert same_figure('<svg><path d="M 1.2 3"/></svg>', '<svg><path d="M 1.19 3.01"/></svg>')
    assert not same_figure('<svg><path d="M 1.2 3"/></svg>', '<svg><path d="M 9.2 3"/></svg>')


@pytest.mark.slow
def test_a_surface_of_another_teacher_or_question_is_found(tmp_path: Path) -> None:
    with registered():
        for part, field, value in (("teacher", "sha256", "0" * 64), ("settings", "price", 1.0), ("task", "name", "x")):
            other = made(of_part(part, **{field: value})(undistillable()))
            folder = several({"probs": distillable(), "uint8": other}, tmp_path / part)
            assert f"record in surfaces/uint8.{part}.{field}" in [found.where for found in verify(folder)]


@pytest.mark.parametrize("place", ["../outside", "/etc", "surfaces/../../x", "a\\b"])
def test_the_audit_of_a_surface_lies_in_its_folder(tmp_path: Path, place: str) -> None:
    with registered():
        folder = several({"probs": distillable(), "uint8": undistillable()}, tmp_path / "audit")
        first, other = load(folder).surfaces
        rows = (first, other.model_copy(update={"folder": place}))
        save(load(folder).model_copy(update={"surfaces": rows}), folder / "record.json")
        assert [found.where for found in verify(folder)] == ["surfaces"]


def test_a_baseline_that_does_not_verify_is_refused(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('version = 1\n[baseline]\nrecord = "before"\n')
    before = of_part("probe", images=10)(shipped())
    save(before, tmp_path / "before" / "record.json")
    with pytest.raises(RefusedInput, match=r"the baseline .* does not verify, see `audit verify`: probe.images"):
        gate(DEMO, read(policy))
    save(shipped(), tmp_path / "before" / "record.json")
    assert gate(DEMO, read(policy)).code == 0


HOSTILE: dict[str, bytes] = {
    "nested without end": b'{"schema_version": 3, "x": ' + b"[" * 100_000,
    "a key twice": b'{"schema_version": 3, "schema_version": 3}',
    "no UTF-8": b'{"schema_version": 3, "audit": "\xff\xfe"}',
    "a number of five thousand digits": b'{"schema_version": ' + b"9" * 5_000 + b"}",
    "a version that is true": b'{"schema_version": true}',
    "a version that is a list": b'{"schema_version": [3]}',
    "not a number": b'{"schema_version": NaN}',
    "a list": b"[3]",
    "nothing": b"",
    "half of a surrogate": b'{"schema_version": 3, "audit": "\\ud800"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_record_is_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "record.json").write_bytes(HOSTILE[name])
    with pytest.raises(RecordError):
        load(tmp_path)


def test_a_pipe_is_no_record(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(RecordError, match="it is not a regular file"):
        load(tmp_path)


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (-1,), (0, 10**30), (10**30,)])
def test_an_array_of_gigabytes_is_not_unpacked(shape: tuple[int, ...]) -> None:
    packed = PackedArray.of(np.zeros(8, bool)).model_copy(update={"shape": shape})
    with pytest.raises(RecordError, match="is damaged"):
        packed.array()


VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "\0",
    "a" * 70,
    [],
    {},
    [[]],
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of a record, of long lists the first and the last."""
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = [(i, value[i]) for i in dict.fromkeys((0, len(value) - 1)) if value]
    else:
        return [at]
    return [at, *(path for key, one in inside for path in paths(one, (*at, key)))]


def mutated(rng: np.random.Generator, places: list[tuple[Any, ...]]) -> tuple[tuple[Any, ...], str]:
    """Return a record in JSON with one place left out, doubled, or of another value."""
    record = json.loads(shipped_text())
    at = places[rng.integers(1, len(places))]
    inner = record
    for step in at[:-1]:
        inner = inner[step]
    how = rng.integers(3 + len(VALUES))
    if how == 0:
        del inner[at[-1]]
    elif how < 3 and isinstance(inner, list):
        inner.append(inner[at[-1]])
    else:
        inner[at[-1]] = VALUES[how % len(VALUES)]
    return at, json.dumps(record)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("seed", "count"), [(0, 100), pytest.param(1, 1_000, marks=pytest.mark.slow)])
def test_no_mutation_of_a_record_ends_in_a_traceback(tmp_path: Path, seed: int, count: int) -> None:
    """One that is read and agrees has changed nothing that its place says is looked at."""
    rng, places = np.random.default_rng(seed), paths(json.loads(shipped_text()))
    for _ in range(count):
        at, text = mutated(rng, places)
        (tmp_path / "record.json").write_text(text)
        try:
            record = load(tmp_path)
        except RecordError:
            continue
        if not wrong(record) and record != shipped():
            assert free(at), at


def free(at: tuple[Any, ...]) -> bool:
    """Whether nothing but a measurement, or a word beside the verdict, lies at a place."""
    names = [step for step in at if isinstance(step, str)]
    if names[-1] in ("dtype", "shape", "data") and names not in (
        ["task", "shape"],
        ["settings", "data"],
    ):  # of an array
        names.pop()
    if {"packages", "normalised"} & {*names} or names == ["journal"]:  # the last is held against its file
        return True
    last = names[-1]
    return any(told(part).get(last) in ("repeat", "again", "text") for part in FIELDS)


def test_clusters_cannot_be_left_out() -> None:
    assert any("clusters" in found.where for found in follows(derived(of_record(clusters=None)(load(DEMO)))))
