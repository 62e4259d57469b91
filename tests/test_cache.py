"""The cache is listed and pruned; its commands say what they did."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from sample_cache import cell, filled, named

from audit.cache.entries import contents, kind_of
from audit.cache.listing import inventory, plain
from audit.cache.looks import looked, remember_looks
from audit.cache.pruning import prune, size_of
from teachers.errors import RefusedInput, UsageError

DAY = 86_400


def test_what_lies_in_a_cache_is_told_by_kind_technique_and_teacher(tmp_path: Path) -> None:
    filled(tmp_path)
    told = plain(inventory(contents(tmp_path)))
    kinds = {kind["name"]: kind for kind in told["kinds"]}
    assert {name: kind["entries"] for name, kind in kinds.items()} == {"students": 3, "answers": 1, "looks": 1}
    assert [(r["name"], r["entries"]) for r in kinds["students"]["techniques"]] == [("ls", 3)]
    assert [r["name"] for r in kinds["students"]["teachers"]] == ["f" * 12, "no teacher", "smoothed labels"]
    assert told["bytes"] == sum(kind["bytes"] for kind in told["kinds"])
    assert (told["broken"], told["foreign"]) == ([], [])


def test_broken_and_foreign_files_are_named(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers" / ("0" * 32 + ".safetensors")).write_bytes(b"cut")
    cut = cache._cell(cell(0).key)
    cut.write_bytes(cut.read_bytes()[:50])
    (tmp_path / "away").symlink_to("/etc")
    told = plain(inventory(contents(tmp_path)))
    assert told["foreign"] == ["away", "notes.txt"]
    assert {one["name"].split("/")[0]: one["why"] for one in told["broken"]} == {
        "cells": "is not a student's result",
        "teachers": "is not a checkpoint that can be opened",
    }


def test_a_students_file_under_anothers_name_is_not_believed(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    os.replace(cache._cell(cell(0).key), cache._cell(cell(2, teacher="f" * 64).key))
    (why,) = inventory(contents(tmp_path)).broken.values()
    assert "not the one it is named after" in why
    assert cache.result(cell(2, teacher="f" * 64)) is None


def test_the_oldest_go_first_and_looks_stay(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    old = cache._cell(cell(0).key)
    for path in (old, cache.looks("a" * 64)):
        os.utime(path, (1, 1))
    (tmp_path / ".record.json.1.tmp").write_bytes(b"of a killed process")
    del cache
    before = named(tmp_path)
    tried = prune(tmp_path, older_than=30, dry=True)
    assert named(tmp_path) == before
    done = prune(tmp_path, older_than=30)
    assert done == tried
    assert {entry.kind for entry in done.removed} == {"students", "leftovers"}
    assert before - named(tmp_path) == {f"cells/{old.parent.name}/{old.name}", ".record.json.1.tmp"}
    most = contents(tmp_path).bytes - 1
    assert len(prune(tmp_path, max_size=most).removed) == 1
    prune(tmp_path, max_size=0)
    assert {kind_of(name) for name in named(tmp_path)} == {"looks"}
    assert not (tmp_path / "cells").exists(), "empty folders go, too"


def test_an_entry_that_is_used_is_young_again(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    store = cache.answers("f" * 64, "top:5+label")
    for path in (cache._cell(cell(0).key), store._path("x-00")):
        os.utime(path, (1, 1))
    assert cache.result(cell(0)) is not None
    store.load("x-00", np.arange(6))
    del cache
    assert time.time() - min(e.used for e in contents(tmp_path).entries) < DAY
    assert prune(tmp_path, older_than=1).removed == ()


def test_nothing_is_pruned_while_an_audit_holds_the_cache(tmp_path: Path) -> None:
    held = filled(tmp_path)
    with pytest.raises(RefusedInput, match="in use by a running audit"):
        prune(tmp_path, max_size=0)
    assert len(named(tmp_path)) == 5
    del held
    assert len(prune(tmp_path, max_size=0).removed) == 4


@pytest.mark.parametrize(("text", "size"), [("500MB", 5e8), ("1.5 GiB", 1.5 * 2**30), ("7", 7), ("2gb", 2e9)])
def test_sizes_are_read(text: str, size: float) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["large", "9" * 400])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        size_of(text)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")
def test_a_pipe_is_never_waited_for(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "looks" / f"{'b' * 64}.json"
    os.mkfifo(path)
    assert inventory(contents(tmp_path)).contents.foreign == (path.relative_to(tmp_path).as_posix(),)


def test_a_cache_that_cannot_be_written_is_not_pruned(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / ".writable").unlink()
    (tmp_path / ".writable").mkdir()
    with pytest.raises(RefusedInput, match=r"cannot be written .*; nothing was removed"):
        prune(tmp_path, max_size=0)


@pytest.mark.parametrize("content", ["", "[5", "{}", '["5"]', "[[5]]"])
def test_looks_that_cannot_be_read_stop_an_audit(content: str, tmp_path: Path) -> None:
    cache = filled(tmp_path)
    for copy in ("json", "copy"):
        cache.looks("a" * 64).with_suffix(f".{copy}").write_text(content)
    for ask in (lambda: looked(cache, "a" * 64), lambda: remember_looks(cache, "a" * 64, [5])):
        with pytest.raises(RefusedInput, match=r"is not a list of looks.* too narrow; restore it"):
            ask()


def test_the_commands_say_what_they_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path / "one")
    (tmp_path / "one" / "notes.txt").write_text("mine")
    at, other = ("--cache", str(tmp_path / "one")), ("--cache", str(tmp_path / "two"))
    code, out, _ = call(capsys, "cache", "ls", *at)
    assert (code, "smoothed labels" in out, "not part of the cache, left as it is: notes.txt" in out) == (0, True, True)
    assert json.loads(call(capsys, "cache", "ls", "--json", *at)[1])["foreign"] == ["notes.txt"]
    file = str(tmp_path / "a.tar.gz")
    assert "1 looks, 2 students" in call(capsys, "cache", "export", file, *at)[1]
    assert "1 looks, 2 students; 0 were here already" in call(capsys, "cache", "import", file, *other)[1]
    assert "nothing new; 3 were here already" in call(capsys, "cache", "import", file, *other)[1]
    assert "would remove 2 students" in call(capsys, "cache", "prune", "--max-size", "0", "--dry-run", *other)[1]
    assert call(capsys, "cache", "prune", "--max-size", "0", *other)[1].startswith("removed 2 students")


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (["ls", "--cache", "nowhere"], 4, "there is no cache at nowhere"),
        (["import", "nowhere.tar"], 4, "there is no file nowhere.tar"),
        (["export", "a.zip"], 2, "must end in .tar"),
        (["export", "a.tar", "--what", "some"], 2, "give controls or all"),
        (["prune", "--max-size", "much", "--cache", "."], 2, "is not a size"),
        (["warm", "--effort", "heroic"], 2, "smoke, standard, full"),
    ],
)
def test_mistakes_get_a_sentence(
    argv: list[str],
    code: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISTILL_AUDIT_CACHE", str(tmp_path / "cache"))
    got, out, err = call(capsys, "cache", *argv)
    assert (got, out) == (code, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
