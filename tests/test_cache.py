"""The cache is listed, pruned and carried; a hostile archive is refused, and a release trains knockoffs alone."""

import io
import json
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from counted import trained

from attacks.base import Attack
from audit import cli, protocol, run, teaching
from audit.bench import Bench
from audit.caching import archive, checking
from audit.caching.archive import export, load
from audit.caching.entries import contents, kind_of
from audit.caching.listing import inventory, plain
from audit.caching.pruning import prune, size_of
from audit.caching.warming import warm
from audit.cells import Cell, Result, cell_of
from audit.folder import looked, remember_looks
from audit.plan import Request
from audit.protocol import Attacks, Setup
from audit.repeat import repeat
from audit.store import Cache
from audit.subjects import Opening, Subject, truth_digest
from audit.verify import verify
from reports.record import Packed, Regime
from teachers.datasets import load as load_task
from teachers.errors import RefusedInput, UsageError
from teachers.surface import Answers
from teachers.task import known

MOST = 10**9
DAY = 86_400


def cell(seed: int, **more: object) -> Cell:
    base = Cell(
        technique="ls", version="1", parameters={}, recipe={"views": 2}, seed=seed, pool="p" * 64, task="t" * 64
    )
    return base.model_copy(update=more)


def result(of: Cell) -> Result:
    return Result(
        cell=of,
        regime=Regime(recipe={}, view="crop", source="original"),
        validation=Packed.of(np.arange(3, dtype=np.uint16)),
        test=Packed.of(np.full(5, of.seed, np.uint16)),
        charged=0,
        asked=(),
        repeats=None,
        diverged=False,
        network_parameters=1,
        seconds=1.0,
        step_seconds=1.0,
    )


def filled(root: Path) -> Cache:
    """Return a cache of two controls, a knockoff, a block of answers and a look."""
    cache = Cache(root)
    for each in (cell(0), cell(1, teacher=truth_digest("p" * 64, 2), surface="probs"), cell(2, teacher="f" * 64)):
        cache.finish(result(each))
    answers = Answers("label", torch.arange(4))
    cache.answers("f" * 64, "top:5+label").add("x-00", 6, np.arange(4), answers)
    remember_looks(cache, "a" * 64, (5, 8))
    return cache


def named(root: Path) -> set[str]:
    return {entry.name for entry in contents(root).entries}


def put(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as f:
        for info, content in members:
            info.size = len(content)
            f.addfile(info, io.BytesIO(content))
    return file


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def member(name: str, content: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for field, value in more.items():
        setattr(info, field, value)
    return info, content


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
        "cells": "is no student's result",
        "teachers": "is no checkpoint that can be opened",
    }


def test_a_students_file_under_anothers_name_is_not_believed(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    os.replace(cache._cell(cell(0).key), cache._cell(cell(2, teacher="f" * 64).key))
    assert cache.result(cell(2, teacher="f" * 64)) is None
    (why,) = inventory(contents(tmp_path)).broken.values()
    assert "not the one it is named after" in why


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


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="is no size"):
        size_of("large")


def test_the_same_content_gives_the_same_bytes_and_comes_back_whole(tmp_path: Path) -> None:
    filled(tmp_path / "one")
    export(tmp_path / "one", tmp_path / "a.tar.gz", "all")
    taken = load(tmp_path / "a.tar.gz", tmp_path / "two", MOST)
    assert (taken.taken, taken.kept) == ({"students": 3, "answers": 1, "looks": 1}, 0)
    export(tmp_path / "two", tmp_path / "b.tar.gz", "all")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    again = load(tmp_path / "a.tar.gz", tmp_path / "two", MOST)
    assert (again.taken, again.kept) == ({}, 5)
    assert not list((tmp_path / "two").glob(".import-*"))


def test_controls_alone_are_exported_where_nothing_else_is_said(tmp_path: Path) -> None:
    cache = filled(tmp_path / "one")
    export(tmp_path / "one", tmp_path / "a.tar", "controls")
    load(tmp_path / "a.tar", tmp_path / "two", MOST)
    assert {kind_of(name) for name in named(tmp_path / "two")} == {"students", "looks"}
    assert Cache(tmp_path / "two").result(cell(0)) == cache.result(cell(0))
    assert Cache(tmp_path / "two").result(cell(2, teacher="f" * 64)) is None


def test_an_import_merges_looks_and_answers_and_mends_what_is_broken(tmp_path: Path) -> None:
    filled(tmp_path / "one")
    here = filled(tmp_path / "two")
    remember_looks(here, "a" * 64, (10,))
    store = here.answers("f" * 64, "top:5+label")
    store.add("x-00", 6, np.array([5]), Answers("label", torch.tensor([9])))
    here._cell(cell(0).key).write_bytes(b"{")
    mine = result(cell(2, teacher="f" * 64)).model_copy(update={"seconds": 2.0})
    here.finish(mine)
    theirs = Cache(tmp_path / "one").answers("f" * 64, "top:5+label")
    theirs.add("x-00", 6, np.array([4]), Answers("label", torch.tensor([7])))
    export(tmp_path / "one", tmp_path / "a.tar", "all")
    assert load(tmp_path / "a.tar", tmp_path / "two", MOST).taken == {"students": 1, "answers": 1}
    assert looked(here, "a" * 64) == (5, 8, 10)
    found, missing = store.load("x-00", np.arange(6))
    assert found is not None
    assert (found.values.tolist(), missing.tolist()) == ([0, 1, 2, 3, 7, 9], [])
    assert here.result(cell(0)) == result(cell(0))
    assert here.result(mine.cell) == mine, "what was here stays"


GOOD = f"cells/{cell(0).key[:2]}/{cell(0).key}.json"
BOMB = result(cell(0)).model_copy(
    update={"test": Packed.of(np.zeros(10**6, np.uint16)).model_copy(update={"shape": (5,)})}
)
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "above": (lambda f: put(f, member("../evil.json", b"1")), "no entry of a cache"),
    "absolute": (lambda f: put(f, member("/etc/evil", b"1")), "no entry of a cache"),
    "inside": (lambda f: put(f, member(f"cells/../{GOOD}", b"1")), "no entry of a cache"),
    "pool": (lambda f: put(f, member(f"pools/{'0' * 64}.npz", b"1")), "no entry of a cache"),
    "lock": (lambda f: put(f, member("teachers/.lock", b"1")), "no entry of a cache"),
    "newline": (lambda f: put(f, member(f"{GOOD}\n", b"1")), "no entry of a cache"),
    "link": (lambda f: put(f, member(GOOD, type=tarfile.SYMTYPE, linkname="/etc/passwd")), "is a link"),
    "hard link": (lambda f: put(f, member(GOOD, type=tarfile.LNKTYPE, linkname="/etc/passwd")), "is a link"),
    "device": (lambda f: put(f, member(GOOD, type=tarfile.CHRTYPE)), "is a link, a folder, a device"),
    "fifo": (lambda f: put(f, member(GOOD, type=tarfile.FIFOTYPE)), "is a link, a folder, a device"),
    "folder": (lambda f: put(f, member("cells", type=tarfile.DIRTYPE)), "is a link, a folder"),
    "long name": (lambda f: put(f, member("cells/" + "a" * 300, b"1")), "or an extension"),
    "not json": (lambda f: put(f, member(GOOD, b"{")), "is no student's result"),
    "deep": (lambda f: put(f, member(GOOD, b"[" * 10**5)), "is no student's result"),
    "another": (lambda f: put(f, member(GOOD, result(cell(1)).model_dump_json().encode())), "not the one it is named"),
    "bomb": (lambda f: put(f, member(GOOD, BOMB.model_dump_json().encode())), "of another size than it says"),
    "looks": (lambda f: put(f, member(f"looks/{'0' * 64}.json", b'["5"]')), "no list of looks"),
    "teacher": (lambda f: put(f, member(f"teachers/{'0' * 32}.safetensors", b"\x80\x04.")), "no checkpoint"),
    "answers": (lambda f: put(f, member(f"answers/{'0' * 32}/probs/x-1.npz", b"PK")), "no block of answers"),
    "output": (lambda f: put(f, member(f"answers/{'0' * 32}/probs/output", b"magic")), "no kind of output"),
    "twice": (lambda f: put(f, *[member(f"looks/{'0' * 64}.json", b"[5]")] * 2), "twice"),
    "no tar": (lambda f: written(f, b"x" * 2_000), "no tar archive"),
    "empty": (lambda f: written(f, b""), "cut off or no archive"),
    "cut": (lambda f: written(f, put(f, member(GOOD, b"1" * 5_000)).read_bytes()[:60]), "cut off"),
    "garbled": (lambda f: written(f, b"\x1f\x8b" + b"x" * 100), "cut off or no archive"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_archive_is_refused_whole(tmp_path: Path, how: str) -> None:
    make, sentence = HOSTILE[how]
    file = make(tmp_path / "a.tar.gz")
    with pytest.raises(RefusedInput, match=sentence) as refused:
        load(file, tmp_path / "cache", MOST)
    assert len(str(refused.value).splitlines()) == 1
    assert named(tmp_path / "cache") == set()
    assert {p.name for p in tmp_path.iterdir()} == {"a.tar.gz", "cache"}


def test_a_sound_entry_beside_a_hostile_one_is_not_taken(tmp_path: Path) -> None:
    file = put(tmp_path / "a.tar.gz", member(GOOD, result(cell(0)).model_dump_json().encode()), member("x", b"1"))
    with pytest.raises(RefusedInput, match="no entry of a cache"):
        load(file, tmp_path / "cache", MOST)
    assert named(tmp_path / "cache") == set()


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    filled(tmp_path / "one")
    export(tmp_path / "one", tmp_path / "a.tar.gz", "all")
    with pytest.raises(RefusedInput, match="--max-size"):
        load(tmp_path / "a.tar.gz", tmp_path / "two", 1_000)
    info = tarfile.TarInfo(GOOD)
    info.size = 10**12
    (tmp_path / "b.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(RefusedInput, match=r"2\.0 GB an entry"):
        load(tmp_path / "b.tar", tmp_path / "two", 10**13)


def test_an_import_that_is_interrupted_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "one")
    export(tmp_path / "one", tmp_path / "a.tar", "all")
    calls: list[str] = []
    real = archive._merge

    def stopped(cache: Cache, kind: archive.Kind, name: str, staged: Path) -> bool:
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(cache, kind, name, staged)

    monkeypatch.setattr(archive, "_merge", stopped)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path / "a.tar", tmp_path / "two", MOST)
    assert named(tmp_path / "two") == set(calls[:2])
    assert inventory(contents(tmp_path / "two")).broken == {}
    monkeypatch.setattr(archive, "_merge", real)
    assert load(tmp_path / "a.tar", tmp_path / "two", MOST).kept == 2
    assert named(tmp_path / "two") == named(tmp_path / "one")


def test_what_a_killed_import_leaves_is_pruned(tmp_path: Path) -> None:
    filled(tmp_path)
    staged = tmp_path / ".import-abc" / GOOD
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"half")
    assert [entry.kind for entry in prune(tmp_path).removed] == ["leftovers"]
    assert not (tmp_path / ".import-abc").exists()


def test_a_teacher_of_any_size_in_name_takes_no_memory(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    card = {"architecture": "strided-99999999-99999999", "classes": ["a", "b"], "shape": [1, 8, 8], "mean": [0.5]}
    card |= {"std": [0.25], "data": "x", "task_digest": "x", "method": "plain"}
    path = tmp_path / f"{'0' * 32}.safetensors"
    save_file({"0.weight": torch.zeros(1)}, path, metadata={"distill_audit": json.dumps(card)})
    with pytest.raises(checking.Broken, match="does not fit the network"):
        checking.teacher(path)


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["audit", "cache", *argv])
        code = cli._main()
    out, err = capsys.readouterr()
    return code, out, err


def test_the_commands_say_what_they_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path / "one")
    (tmp_path / "one" / "notes.txt").write_text("mine")
    at, other = ("--cache", str(tmp_path / "one")), ("--cache", str(tmp_path / "two"))
    code, out, _ = call(capsys, "ls", *at)
    assert (code, "smoothed labels" in out, "not ours, left alone: notes.txt" in out) == (0, True, True)
    assert json.loads(call(capsys, "ls", "--json", *at)[1])["foreign"] == ["notes.txt"]
    file = str(tmp_path / "a.tar.gz")
    assert "1 looks, 2 students" in call(capsys, "export", file, *at)[1]
    assert "1 looks, 2 students; 0 were here already" in call(capsys, "import", file, *other)[1]
    assert "nothing new; 3 were here already" in call(capsys, "import", file, *other)[1]
    assert "would remove 2 students" in call(capsys, "prune", "--max-size", "0", "--dry-run", *other)[1]
    assert call(capsys, "prune", "--max-size", "0", *other)[1].startswith("removed 2 students")


@pytest.mark.parametrize(
    ("argv", "code", "sentence"),
    [
        (["ls", "--cache", "nowhere"], 4, "there is no cache at nowhere"),
        (["import", "nowhere.tar"], 4, "there is no file nowhere.tar"),
        (["export", "a.zip"], 2, "must end in .tar"),
        (["export", "a.tar", "--what", "some"], 2, "neither controls nor all"),
        (["prune", "--max-size", "much", "--cache", "."], 2, "is no size"),
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
    got, out, err = call(capsys, *argv)
    assert (got, out) == (code, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, kept: Path) -> list[Path]:
    """Return two releases of a model, taught shortly, beside the ordinary teacher."""
    folder = tmp_path_factory.mktemp("releases")
    teaching.teach("plain", folder / "v0.pt", data="digits", cache=kept)
    for seed in (1, 2):
        teaching.teach("plain", folder / f"v{seed}.pt", data="digits", seed=seed, steps=100, cache=kept)
    return [folder / "v1.pt", folder / "v2.pt"]


@pytest.fixture
def cache(releases: list[Path], kept: Path, tmp_path: Path) -> Path:
    """Return a cache that holds teachers and nothing else."""
    shutil.copytree(kept / "teachers", tmp_path / "cache" / "teachers")
    return tmp_path / "cache"


def request(teacher: Path, cache: Path, out: Path, **more: object) -> Request:
    base = Request(Opening(str(teacher)), effort="smoke", cache=cache, out=out, quiet=True)
    return replace(base, **more)  # type: ignore[arg-type]


def turn_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attack on an audited checkpoint be best with another setting than it is."""
    real = protocol.best_settings

    def turned(setup: Setup, bench: Bench, subject: Subject, attacks: Attacks) -> list[Attack]:
        best = real(setup, bench, subject, attacks)
        if subject.role == "ordinary":
            return best
        return [next((s for s in protocol.settings(setup, type(b)) if s != b), b) for b in best]

    monkeypatch.setattr(protocol, "best_settings", turned)


@pytest.mark.usefixtures("tiny")
def test_after_warming_a_release_trains_knockoffs_alone_whatever_setting_is_best(
    releases: list[Path], cache: Path, tmp_path: Path
) -> None:
    assert warm(request(releases[0], cache, tmp_path)).trained > 0
    export(cache, tmp_path / "controls.tar.gz", "controls")
    fresh = tmp_path / "fresh"
    load(tmp_path / "controls.tar.gz", fresh, MOST)
    with pytest.MonkeyPatch.context() as patch:
        turn_settings(patch)
        done = run.run(request(releases[1], fresh, tmp_path / "a"))
    assert {teacher for _, teacher in trained(done.folder, done.record)} == {"audited"}
    assert warm(request(releases[1], fresh, tmp_path)).trained == 0


@pytest.mark.usefixtures("tiny")
def test_without_warming_another_best_setting_trains_its_control(
    releases: list[Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run.run(request(releases[0], cache, tmp_path / "a"))
    turn_settings(monkeypatch)
    turned = run.run(request(releases[0], cache, tmp_path / "b"))
    assert {None, "ordinary"} < {teacher for _, teacher in trained(first.folder, first.record)}
    assert ("soft-kd", None) in trained(turned.folder, turned.record)
    assert "ordinary" not in {teacher for _, teacher in trained(turned.folder, turned.record)}


@pytest.mark.usefixtures("tiny")
def test_controls_are_warmed_up_to_the_most_seeds(releases: list[Path], cache: Path, tmp_path: Path) -> None:
    warm(request(releases[0], cache, tmp_path, seeds=4))
    done = run.run(request(releases[1], cache, tmp_path / "a", seeds=4))
    assert any(len(row.looks) > 1 for row in done.record.comparisons), "a second look was taken"
    assert {teacher for _, teacher in trained(done.folder, done.record)} == {"audited"}


@pytest.mark.usefixtures("tiny")
def test_a_forged_control_is_believed_and_found_by_repeating_students(
    releases: list[Path], cache: Path, tmp_path: Path
) -> None:
    """What docs/cache.md says of who may write a cache."""
    honest = run.run(request(releases[0], cache, tmp_path / "a"))
    held = Cache(cache)
    task = load_task("digits")
    for trial in honest.record.trials:
        if trial.name == "ls" and trial.role == "judge":
            found = held.result(cell_of(trial))
            assert found is not None
            held.finish(found.model_copy(update={"test": Packed.of(known(task.test).astype(np.uint16))}))
    export(cache, tmp_path / "forged.tar", "controls")
    load(tmp_path / "forged.tar", tmp_path / "fresh", MOST)
    misled = run.run(request(releases[0], tmp_path / "fresh", tmp_path / "b"))
    for row, was in zip(misled.record.comparisons, honest.record.comparisons, strict=True):
        if row.control == "ls" and row.margin is not None and was.margin is not None:
            assert row.margin.mean < was.margin.mean
    assert list(verify(misled.folder)) == []
    differ = {one.trial.name for one in repeat(misled.folder, 100, cache=tmp_path / "fresh") if one.differs}
    assert "ls" in differ
