"""A cache in one file: the same content gives the same bytes; what is hostile is refused whole."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_cache import cell, filled, named, result

from audit.cache import archive, checking
from audit.cache.archive import export, load
from audit.cache.entries import contents, kind_of
from audit.cache.listing import inventory
from audit.cache.looks import looked, remember_looks
from audit.cache.pruning import prune
from audit.cache.store import Cache
from reports.record import PackedArray
from teachers.errors import RefusedInput
from teachers.surface import Answers

MOST = 10**9


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


@pytest.mark.parametrize("name", ["file/a.tar", "folder.tar", f"{'n' * 300}.tar"])
def test_an_archive_that_cannot_be_written_gets_a_sentence(name: str, tmp_path: Path) -> None:
    filled(tmp_path / "cache")
    (tmp_path / "file").touch()
    (tmp_path / "folder.tar").mkdir()
    with pytest.raises(RefusedInput, match=r"cannot be written .*give a file in a folder that you may use"):
        export(tmp_path / "cache", tmp_path / name, "all")


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
    update={"test": PackedArray.of(np.zeros(10**6, np.uint16)).model_copy(update={"shape": (5,)})}
)
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "above": (lambda f: put(f, member("../evil.json", b"1")), "is not an entry of a cache"),
    "absolute": (lambda f: put(f, member("/etc/evil", b"1")), "is not an entry of a cache"),
    "inside": (lambda f: put(f, member(f"cells/../{GOOD}", b"1")), "is not an entry of a cache"),
    "pool": (lambda f: put(f, member(f"pools/{'0' * 64}.npz", b"1")), "is not an entry of a cache"),
    "lock": (lambda f: put(f, member("teachers/.lock", b"1")), "is not an entry of a cache"),
    "newline": (lambda f: put(f, member(f"{GOOD}\n", b"1")), "is not an entry of a cache"),
    "link": (lambda f: put(f, member(GOOD, type=tarfile.SYMTYPE, linkname="/etc/passwd")), "is a link"),
    "hard link": (lambda f: put(f, member(GOOD, type=tarfile.LNKTYPE, linkname="/etc/passwd")), "is a link"),
    "device": (lambda f: put(f, member(GOOD, type=tarfile.CHRTYPE)), "is a link, a folder, a device"),
    "fifo": (lambda f: put(f, member(GOOD, type=tarfile.FIFOTYPE)), "is a link, a folder, a device"),
    "folder": (lambda f: put(f, member("cells", type=tarfile.DIRTYPE)), "is a link, a folder"),
    "long name": (lambda f: put(f, member("cells/" + "a" * 300, b"1")), "or an extension"),
    "not json": (lambda f: put(f, member(GOOD, b"{")), "is not a student's result"),
    "deep": (lambda f: put(f, member(GOOD, b"[" * 10**5)), "is not a student's result"),
    "another": (lambda f: put(f, member(GOOD, result(cell(1)).model_dump_json().encode())), "not the one it is named"),
    "bomb": (lambda f: put(f, member(GOOD, BOMB.model_dump_json().encode())), "size differs from its stated shape"),
    "looks": (lambda f: put(f, member(f"looks/{'0' * 64}.json", b'["5"]')), "not a list of looks"),
    "teacher": (lambda f: put(f, member(f"teachers/{'0' * 32}.safetensors", b"\x80\x04.")), "not a checkpoint"),
    "answers": (lambda f: put(f, member(f"answers/{'0' * 32}/probs/x-1.npz", b"PK")), "not a block of answers"),
    "output": (lambda f: put(f, member(f"answers/{'0' * 32}/probs/output", b"magic")), "unknown kind of output"),
    "twice": (lambda f: put(f, *[member(f"looks/{'0' * 64}.json", b"[5]")] * 2), "twice"),
    "no tar": (lambda f: written(f, b"x" * 2_000), "is not a tar archive"),
    "empty": (lambda f: written(f, b""), "is not an archive"),
    "cut": (lambda f: written(f, put(f, member(GOOD, b"1" * 5_000)).read_bytes()[:60]), "cut off"),
    "garbled": (lambda f: written(f, b"\x1f\x8b" + b"x" * 100), "is not an archive"),
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
    with pytest.raises(RefusedInput, match="is not an entry of a cache"):
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
    with pytest.raises(RefusedInput, match=r"1\.9 GiB an entry"):
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
    with pytest.raises(checking.DamagedEntry, match="does not fit the network"):
        checking.teacher(path)
