"""What an import and an audit are given by strangers ends in one sentence, in little memory and time."""

import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile_caches import ARCHIVES, BLOCK, ENTRIES, GOOD, STUDENT, archive, member
from sample_cache import ANSWERED, bare, cell, every_kind, filled, named, result, told

from audit.cache.archive import export, load
from audit.cache.checking import DamagedEntry, check
from audit.cache.entries import contents, kind_of
from audit.cache.listing import inventory, plain
from audit.cache.store import Cache
from teachers.errors import RefusedInput, UsageError
from teachers.storage import entries

resource = pytest.importorskip("resource")
MOST = 10**9
MEMORY = 2**30  # bytes above what the process has
SECONDS = 20.0  # of the processor's time: a machine may be busy

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")


@pytest.fixture
def _little() -> Iterator[None]:
    """Give a test little memory and time of the processor."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    before, began = resource.getrlimit(resource.RLIMIT_AS), time.process_time()
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - began < SECONDS


def refused(file: Path, cache: Path, sentence: str) -> None:
    with pytest.raises(RefusedInput, match=sentence) as told:
        load(file, cache, MOST)
    assert len(str(told.value).splitlines()) == 1
    assert len(str(told.value)) < 1_000
    assert named(cache) == set()
    assert not list(cache.glob(".import-*"))


@pytest.mark.usefixtures("_little")
@pytest.mark.parametrize("how", ARCHIVES)
def test_a_hostile_archive_is_refused_with_a_sentence(how: str, tmp_path: Path) -> None:
    make, sentence = ARCHIVES[how]
    make(tmp_path / "a.tar.gz")
    refused(tmp_path / "a.tar.gz", tmp_path / "cache", sentence)


@pytest.mark.usefixtures("_little")
@pytest.mark.parametrize("how", ENTRIES)
def test_a_hostile_entry_is_refused_with_a_sentence_and_damage_where_it_lies(how: str, tmp_path: Path) -> None:
    name, content, sentence = ENTRIES[how]
    beside = () if name == STUDENT else (member(STUDENT, GOOD),)
    archive(*beside, member(name, content))(tmp_path / "a.tar")
    refused(tmp_path / "a.tar", tmp_path / "cache", sentence)
    path = tmp_path / "cache" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    kind = kind_of(name)
    assert kind is not None
    with pytest.raises(DamagedEntry, match=sentence):
        check(kind, path, name)
    plain(inventory(contents(tmp_path / "cache")))
    if kind == "answers" and name == BLOCK:
        store = Cache(tmp_path / "cache").answers("0" * 32, "probs")
        assert store.load("x-1", np.arange(6))[0] is None


def test_a_gigabyte_of_looks_in_the_cache_is_not_read(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    with cache.looks("a" * 64).open("wb") as f:
        f.truncate(10**11)  # sparse
    (why,) = inventory(contents(tmp_path)).broken.values()
    assert why == "is not a list of looks"


def test_an_archive_of_an_earlier_version_is_taken_and_sealed(tmp_path: Path) -> None:
    kinds = every_kind(tmp_path / "one")
    carried = [kinds[kind] for kind in ("students", "answers", "output", "looks", "teachers")]
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as f:
        for entry in carried:
            (tmp_path / "bare").write_bytes(bare(entry))
            f.add(tmp_path / "bare", entry.name)
    assert sum(load(tmp_path / "a.tar", tmp_path / "two", MOST).taken.values()) == 5
    for entry in carried:
        assert (tmp_path / "two" / entry.name).read_bytes() == entry.path.read_bytes()
        (tmp_path / "one" / entry.name).write_bytes(bare(entry))
    export(tmp_path / "one", tmp_path / "old.tar", "all")
    export(tmp_path / "two", tmp_path / "new.tar", "all")
    assert (tmp_path / "old.tar").read_bytes() == (tmp_path / "new.tar").read_bytes()


def test_what_says_something_else_here_stays_and_is_named(tmp_path: Path) -> None:
    here, there = filled(tmp_path / "one"), filled(tmp_path / "two")
    same = result(cell(1, teacher=cell(0).key))
    there.finish(same)
    here.finish(same.model_copy(update={"seconds": 9.0}))  # took another time
    mine = result(cell(0)).model_copy(update={"network_parameters": 7})
    here.finish(mine)
    here.answers(ANSWERED, "probs").add("x-1", 4, np.arange(4), told(4))
    there.answers(ANSWERED, "probs").add("x-1", 4, np.arange(4), told(5)[np.arange(4)])
    export(tmp_path / "two", tmp_path / "a.tar", "all")
    found = load(tmp_path / "a.tar", tmp_path / "one", MOST)
    assert found.taken == {}
    assert set(found.others) == {STUDENT, f"answers/{ANSWERED[:32]}/probs/x-1.npz"}
    assert here.result(cell(0)) == mine


def test_damage_here_makes_place_for_the_archives_entry_and_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kinds = every_kind(tmp_path / "one")
    export(tmp_path / "one", tmp_path / "a.tar", "all")
    Cache(tmp_path / "two")
    load(tmp_path / "a.tar", tmp_path / "two", MOST)
    lost = [kinds[kind].name for kind in ("students", "answers", "output", "teachers", "looks")]
    lost.append(kinds["looks"].name.replace("json", "copy"))
    for name in lost:
        raw = (tmp_path / "two" / name).read_bytes()
        (tmp_path / "two" / name).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert sum(load(tmp_path / "a.tar", tmp_path / "two", MOST).taken.values()) == 5
    assert capfd.readouterr().err.count("cache: ") == len(list((tmp_path / "two" / "damaged").iterdir())) == len(lost)
    assert all((tmp_path / "two" / n).read_bytes() == (tmp_path / "one" / n).read_bytes() for n in lost)


@pytest.mark.parametrize("name", ["a.tar", "answers/a.tar", "cells/../a.tar"])
def test_a_cache_is_not_exported_into_itself(name: str, tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(UsageError, match="lies in the cache itself"):
        export(tmp_path, tmp_path / name, "all")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is a device on Linux")
def test_a_full_disk_leaves_no_half_of_an_export_or_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "one")
    export(tmp_path / "one", tmp_path / "a.tar", "all")
    real = Path.open

    def full(self: Path, mode: str = "r", *args: object, **more: object) -> object:
        return real(Path("/dev/full") if mode in ("wb", "xb") else self, mode.replace("x", "w"), *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(RefusedInput, match=r"cannot be written .*No space left"):
        export(tmp_path / "one", tmp_path / "b.tar", "all")
    with pytest.raises(RefusedInput, match=r"cannot be unpacked .*No space left.*make room"):
        load(tmp_path / "a.tar", tmp_path / "two", MOST)
    monkeypatch.undo()
    assert named(tmp_path / "two") == set()
    assert not list(tmp_path.glob("*b.tar*"))


def test_an_entry_that_no_import_would_take_stays_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(tmp_path / "one")
    cache.answers(ANSWERED, "probs").add("x-" + "0" * 98, 4, np.arange(4), told(4))
    (broken,) = export(tmp_path / "one", tmp_path / "a.tar", "all").broken.values()
    assert "a name that is too long" in broken
    monkeypatch.setattr("audit.cache.archive.LARGEST", 400)
    assert any("is larger than" in why for why in export(tmp_path / "one", tmp_path / "a.tar", "all").broken.values())


def test_a_seal_tells_two_entries_of_equal_content_apart() -> None:
    assert entries.sealed("a", b"x") != entries.sealed("b", b"x")
