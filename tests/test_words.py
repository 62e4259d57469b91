"""That words, places and files of strangers and of systems are taken for what they are."""

from __future__ import annotations

import errno
import io
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hostile_words import NAMES, POLICIES, WORDS
from sample_record import sample_record
from shipped import DEMO

import audit
from audit import cli, folder
from audit.cache.store import Cache
from audit.commands.options import expanded
from audit.finished import verify
from audit.policy import file
from reports import attestation, frames, html, junit, markdown, tables
from reports.base import encodable
from reports.record import Record, RecordError, dumped, load
from reports.tables.table import DTYPES, harmless, text
from teachers.errors import RefusedInput, UsageError
from teachers.files import write_whole
from teachers.places import place

pytestmark = pytest.mark.usefixtures("figures_once")


@pytest.mark.parametrize("word", WORDS)
def test_a_word_survives_tables(word: str) -> None:
    record = sample_record(hostile=word)
    kept = frames.frame(tables.ATTACKS, record)
    assert kept.attack[0] == word
    assert pd.read_parquet(io.BytesIO(frames.parquet(tables.ATTACKS, record))).attack[0] == word
    # as docs/tables.md says
    types = {c.name: DTYPES[c.kind] for c in tables.ATTACKS.columns if c.kind == "text"}
    back = pd.read_csv(
        io.BytesIO(tables.ATTACKS.csv(record)), keep_default_na=False, na_values=[""], dtype={**types, "attack": "str"}
    )
    assert text(back.attack[0]) == word
    assert back.margin.dtype == "float64"


@pytest.mark.parametrize("word", WORDS)
def test_an_apostrophe_against_formulas_can_be_taken_off(word: str) -> None:
    written = harmless(word)
    assert isinstance(written, str)
    assert text(written) == word


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_name_can_be_written_in_every_report(name: str) -> None:
    record = encodable(sample_record(hostile=name))
    assert Record.model_validate_json(dumped(record)) == record
    for render in (html.render, junit.render, markdown.render, attestation.render):
        render(record).encode()
    for table in tables.EVERY:
        table.csv(record)


def test_summaries_show_nothing_that_is_not_seen() -> None:
    name = "a\u202eb\u200bc\x1b[31m"
    said = markdown.render(sample_record(hostile=name)) + junit.render(sample_record(hostile=name))
    assert not set(said) & {"\u202e", "\u200b", "\x1b"}


@pytest.mark.parametrize("given", POLICIES.values(), ids=POLICIES.keys())
def test_a_policy_is_read_or_refused_with_a_sentence(given: tuple[bytes, str | None], tmp_path: Path) -> None:
    content, sentence = given
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    if sentence is None:
        assert file.read(path).policy.version == 1
    else:
        with pytest.raises(UsageError) as refused:
            file.read(path)
        assert sentence in str(refused.value)


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device", "none"])
def test_a_policy_or_a_record_that_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "it"
    if kind == "a folder":
        (path / "record.json").mkdir(parents=True)
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    with pytest.raises(UsageError):
        file.read(path)
    with pytest.raises(RecordError):
        load(path)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"schema_version":' * 5_000, b"\xff\xfe{\x00}\x00", b"\x00", b"1" * 10_000, b"[]"]
)
def test_a_record_of_nonsense_gets_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(RecordError, match="is not a record"):
        load(tmp_path)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(DEMO, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("name", ["record.json", "report.html", "junit.xml", "journal.jsonl"])
@pytest.mark.parametrize("how", ["CRLF", "a mark"])
def test_changed_line_ends_are_called_so(name: str, how: str, copy: Path) -> None:
    content = (copy / name).read_bytes()
    changed = content.replace(b"\n", b"\r\n") if how == "CRLF" else b"\xef\xbb\xbf" + content
    (copy / name).write_bytes(changed)
    assert str(next(verify.verify(copy))).startswith(f"{name}: line ends were changed")


def test_a_changed_number_beside_changed_line_ends_is_no_change_of_line_ends(copy: Path) -> None:
    content = (copy / "junit.xml").read_bytes()
    (copy / "junit.xml").write_bytes(content.replace(b"\n", b"\r\n").replace(b"tests=", b"tastes=", 1))
    assert "line ends" not in str(next(verify.verify(copy)))


@pytest.mark.parametrize(
    ("name", "way"),
    [("report.html", "`audit report"), ("badge.svg", "`audit report"), ("journal.jsonl", "copy it, too")],
)
def test_what_is_missing_is_called_so(name: str, way: str, copy: Path) -> None:
    (copy / name).unlink()
    said = str(next(verify.verify(copy)))
    assert said.startswith(f"{name} is missing: ")
    assert way in said


def test_home_is_expanded_in_whatever_names_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given: dict[str, object] = {}
    command = expanded(lambda **values: given.update(values))
    command(
        out=Path("~/out"),
        teacher="~/m.pt",
        data="torchvision:A:~/b",
        folders=[Path("~/a"), Path("b")],
        drop_classes="~a",
    )
    assert given == {
        "out": tmp_path / "out",
        "teacher": f"{tmp_path}/m.pt",
        "data": "torchvision:A:~/b",
        "folders": [tmp_path / "a", Path("b")],
        "drop_classes": "~a",
    }
    shutil.copytree(DEMO, tmp_path / "audit")
    assert audit.load("~/audit").record.teacher.name == "demo"
    (tmp_path / "p.toml").write_text('version = 1\n[baseline]\nrecord = "~/audit"\n')
    assert file.read(tmp_path / "p.toml").baseline == tmp_path / "audit"


def test_every_path_of_every_command_is_expanded() -> None:
    for typed in (cli.app, cli.caching.cache_app):
        for entry in typed.registered_commands:
            assert getattr(entry.callback, "__wrapped__", None) is not None


def test_a_home_that_nobody_has_gets_a_sentence_and_a_file_so_named_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="~nosuchuser is not a known home"):
        place("~nosuchuser/x")
    Path("~nosuchuser").touch()
    assert place("~nosuchuser") == Path("~nosuchuser")


def in_the_way(out: Path) -> Path:
    (out / "record.json").mkdir(parents=True)
    return out


def below_a_file(out: Path) -> Path:
    out.write_text("")
    return out / "out"


def too_long(out: Path) -> Path:
    return out / ("a" * 300)


def too_long_a_path(out: Path) -> Path:
    return out.joinpath(*["a" * 200] * 30)


def no_disk(out: Path) -> Path:
    return Path("/proc/audit-out")


def no_name(out: Path) -> Path:
    return out / "a\x00b"


@pytest.mark.parametrize("made", [in_the_way, below_a_file, too_long, too_long_a_path, no_disk, no_name])
def test_an_out_that_cannot_be_written_is_refused_before_anything_is_trained(made: object, tmp_path: Path) -> None:
    assert callable(made)
    with pytest.raises(RefusedInput, match=r"give another with --out|remove it"):
        folder.prepare(made(tmp_path / "out"), folder.AUDIT)


def test_what_was_tried_leaves_nothing(tmp_path: Path) -> None:
    folder.prepare(tmp_path / "out", folder.AUDIT)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_files_of_an_audit_are_those_that_reports_write() -> None:
    from reports.outputs import FILES, files

    assert set(FILES) == files(sample_record(), Path("out")).keys()


def test_a_full_disk_names_the_file_leaves_nothing_of_it_and_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"record\.json") as raised:
        write_whole(tmp_path / "record.json", b"{}")
    assert list(tmp_path.iterdir()) == []
    assert cli._mistake(raised.value) == 4
    assert cli._mistake(OSError(errno.EFBIG, "File too large")) == 4, "though no file is named"
    assert "make room" in capsys.readouterr().err


def test_a_cache_whose_name_is_no_utf_8_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="is not UTF-8"):
        Cache(tmp_path / os.fsdecode(b"caf\xe9"))


def test_cells_of_tuned_students_are_told_what_they_are() -> None:
    found = audit.load(DEMO)
    with pytest.raises(KeyError, match="never saw the test images; take keys of `pairs`"):
        found.correct(found.students.key)
    measured = found.students.key[found.students.test_accuracy.notna()]
    assert len(found.correct(measured)) == len(measured)
    with pytest.raises(KeyError, match="has no student 'none'"):
        found.correct(["none"])
