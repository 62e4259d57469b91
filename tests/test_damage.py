"""The cache rots, and it is noticed: what is damaged is set aside, told in one line, and made again."""

import errno
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audits import request, smoke, timeless
from command_line import call
from fake_server import FakeServer
from sample_cache import ANSWERED, LESSON, OUTPUT, POOL, QUESTION, STATE, bare, cell, every_kind, result, told

from audit import pipeline
from audit.cache import results
from audit.cache.checking import DamagedEntry, check
from audit.cache.damage import damage, mended
from audit.cache.entries import Entry, contents
from audit.cache.listing import inventory, plain
from audit.cache.looks import looked, remember_looks
from audit.cache.pruning import prune
from audit.cache.store import Cache
from audit.plan.cells import BlockUse
from reports.record import PackedArray, Record
from teachers.data.stored import StoredImages
from teachers.errors import RefusedInput
from teachers.storage import entries as seals
from teachers.storage import parsers
from teachers.storage.entries import Entries
from teachers.storage.store import TrainingCheckpoint, read_pool
from teachers.task import Pool

KINDS = ("students", "answers", "output", "looks", "pools", "unfinished", "teachers")
FLIPS, CUTS = 40, 10  # an entry of each kind


def flipped(raw: bytes, chance: random.Random) -> bytes:
    changed = bytearray(raw)
    changed[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(raw: bytes, chance: random.Random) -> bytes:
    return raw[: chance.randrange(len(raw))]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    every_kind(root)
    return root


@pytest.fixture
def root(sample: Path, tmp_path: Path) -> Path:
    shutil.copytree(sample, tmp_path / "cache")
    return tmp_path / "cache"


def entries_of(root: Path) -> dict[str, Entry]:
    return {"output" if entry.name == OUTPUT else entry.kind: entry for entry in contents(root).entries}


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_and_every_cut_is_noticed(kind: str, root: Path) -> None:
    entry, chance = entries_of(root)[kind], random.Random(kind)
    check(entry.kind, entry.path, entry.name)
    raw = entry.path.read_bytes()
    for change in [flipped] * FLIPS + [cut] * CUTS:
        entry.path.write_bytes(change(raw, chance))
        with pytest.raises(DamagedEntry):
            check(entry.kind, entry.path, entry.name)


def test_every_byte_of_an_entry_matters(root: Path) -> None:
    entry = entries_of(root)["looks"]
    raw = entry.path.read_bytes()
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1 << at % 8
        entry.path.write_bytes(changed)
        with pytest.raises(DamagedEntry):
            check("looks", entry.path, entry.name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [flipped, cut])
def test_damage_of_what_has_no_seal_is_noticed_where_it_shows(
    kind: str, change: Callable[[bytes, random.Random], bytes], root: Path
) -> None:
    """Without a seal, a changed digit is another value; what is no value at all gets a sentence."""
    entry, chance = entries_of(root)[kind], random.Random(kind)
    raw = bare(entry)
    for _ in range(10):
        entry.path.write_bytes(change(raw, chance))
        with suppress(DamagedEntry):
            check(entry.kind, entry.path, entry.name)


Use = Callable[[Cache], object]  # what an audit does with an entry: what it finds, or None


def _pool(cache: Cache) -> object:
    return read_pool(cache.pool(POOL)).digest


USES: dict[str, tuple[Use, Use]] = {  # by kind: how it is read, and made again
    "students": (lambda c: c.result(cell(0)), lambda c: c.finish(result(cell(0)))),
    "answers": (
        lambda c: c.answers(ANSWERED, "probs", 3).load("x-00", np.arange(4))[0],
        lambda c: c.answers(ANSWERED, "probs", 3).add("x-00", 6, np.arange(4), told(4)),
    ),
    "output": (lambda c: c.entries.read(OUTPUT, parsers.output, "again"), lambda c: c.entries.write(OUTPUT, b"logits")),
    "unfinished": (
        lambda c: TrainingCheckpoint(c.root / "teachers" / f"{LESSON}.part", entries=c.entries).load(),
        lambda c: TrainingCheckpoint(c.root / "teachers" / f"{LESSON}.part", entries=c.entries).save(STATE),
    ),
    "teachers": (
        lambda c: c.entries.read(
            f"teachers/{LESSON}.safetensors", lambda f: parsers.teacher(f, "strided-2-4", 3, (1, 8, 8)), "again"
        ),
        lambda c: every_kind(c.root),
    ),
}


def folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)
    (path / "inside" / "file").write_text("somebody's")


PLACES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(5_000)),
    "folder": folder,
    "pipe": lambda path: os.mkfifo(path),
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "another entry": lambda path: path.write_bytes(seals.sealed("cells/00/another.json", b"{}")),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(3_000)),
    "a first line alone": lambda path: path.write_bytes(seals.sealed("x", b"")),
}


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", USES)
def test_whatever_is_in_the_place_of_an_entry_is_set_aside_told_once_and_made_again(
    kind: str, place: str, root: Path
) -> None:
    lines: list[str] = []
    entry, (read, make), cache = entries_of(root)[kind], USES[kind], Cache(root, lines.append)
    assert read(cache) is not None
    entry.path.unlink()
    PLACES[place](entry.path)
    assert read(cache) is None
    assert len(lines) == 1
    assert lines[0].startswith(f"cache: {entry.name} ")
    assert "kept as damaged/" in lines[0]
    assert len([p for p in (root / "damaged").iterdir() if p.name != ".lock"]) == 1
    make(cache)
    assert read(cache) is not None
    assert len(lines) == 1
    for command in (
        lambda: plain(inventory(contents(root))),
        lambda: prune(root, dry=True),
        lambda: damage(contents(root)),
    ):
        command()


@pytest.mark.parametrize("kind", USES)
def test_a_file_in_the_place_of_a_folder_is_set_aside(kind: str, root: Path) -> None:
    entry, (read, make), cache = entries_of(root)[kind], USES[kind], Cache(root)
    top = root / entry.name.split("/")[0]
    shutil.rmtree(top)
    top.write_text("somebody's")
    assert read(cache) is None
    make(cache)
    assert read(cache) is not None
    assert [p.read_text() for p in (root / "damaged").iterdir() if p.name != ".lock"] == ["somebody's"]


def test_a_pool_is_written_again_before_a_worker_reads_it(root: Path) -> None:
    path, chance, lines = entries_of(root)["pools"].path, random.Random(0), list[str]()
    raw = path.read_bytes()
    for change in (flipped, cut):
        path.write_bytes(change(raw, chance))
        assert _pool(Cache(root, lines.append)) == POOL.digest
        assert path.read_bytes() == raw
    assert len(lines) == 2
    path.write_bytes(flipped(raw, chance))  # while an audit runs
    with pytest.raises(RefusedInput, match="run the same command again"):
        read_pool(path)
    path.unlink()
    with pytest.raises(RefusedInput, match="is missing"):
        read_pool(path)


def test_a_pool_on_disk_follows_its_images_when_the_cache_is_moved(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        np.save(tmp_path / place / "images.npy", POOL.images)
    path = Cache(tmp_path / "cache").pool(Pool(StoredImages(tmp_path / "here" / "images.npy")))  # type: ignore[arg-type]
    (tmp_path / "here" / "images.npy").unlink()
    lines: list[str] = []
    pool = Pool(StoredImages(tmp_path / "there" / "images.npy"))  # type: ignore[arg-type]
    assert Cache(tmp_path / "cache", lines.append).pool(pool) == path
    assert read_pool(path).digest == pool.digest
    assert lines == []


@pytest.mark.parametrize("which", ["json", "copy"])
@pytest.mark.parametrize("place", [*PLACES, "missing", "flipped"])
def test_looks_outlive_the_damage_of_one_copy(which: str, place: str, root: Path) -> None:
    lines: list[str] = []
    cache = Cache(root, lines.append)
    path = cache.looks(QUESTION).with_suffix(f".{which}")
    raw = path.read_bytes()
    path.unlink()
    if place == "flipped":
        path.write_bytes(flipped(raw, random.Random(0)))
    elif place != "missing":
        PLACES[place](path)
    assert looked(cache, QUESTION) == (5, 8)
    assert path.read_bytes() == raw
    assert len(lines) == (place != "missing")
    remember_looks(cache, QUESTION, (10,))
    assert looked(cache, QUESTION) == (5, 8, 10)


def test_looks_of_which_one_copy_knows_more_are_not_forgotten(root: Path) -> None:
    """As after a process that was killed between the two."""
    cache = Cache(root)
    cache.entries.write(f"looks/{QUESTION}.json", b"[5, 8, 10]")
    assert looked(cache, QUESTION) == (5, 8, 10)
    (root / "looks" / f"{QUESTION}.json").unlink()
    assert looked(Cache(root), QUESTION) == (5, 8, 10)


def test_the_last_hundred_are_kept_and_what_goes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "MOST_ASIDE", 3)
    lines: list[str] = []
    entries = Entries(tmp_path, lines.append)
    for number in range(5):
        (tmp_path / "x").write_text(str(number))
        os.utime(tmp_path / "x", (number, number))
        assert entries.read("x", results.looks, "again") is None
    assert sorted(p.read_text() for p in (tmp_path / "damaged").iterdir()) == ["2", "3", "4"]
    assert sum("was removed" in line for line in lines) == 2


def packed(array: np.ndarray, **more: Any) -> PackedArray:
    return PackedArray.of(array).model_copy(update=more)


BAD_STUDENTS = {
    "a test split of another length": {"test": PackedArray.of(np.zeros(7, np.uint16))},
    "a class that there is not": {"test": PackedArray.of(np.full(5, 3, np.uint16))},
    "bits for classes": {"validation": PackedArray.of(np.zeros(3, bool))},
    "two dimensions": {"validation": PackedArray.of(np.zeros((3, 1), np.uint16))},
    "no test split": {"test": None},
    "less than it says": {"validation": packed(np.zeros(2, np.uint16), shape=(3,))},
    "a negative count": {"charged": -1},
    "seconds without end": {"seconds": float("nan")},
    "more repeats than images": {"repeats": 1.5},
    "rows of another block": {"asked": (BlockUse(block="x-0", images=4, rows=PackedArray.of(np.ones(9, bool))),)},
    "another cell": {"cell": cell(1)},
    "no number of views": {"cell": cell(0, recipe={"views": "many"})},
}


@pytest.mark.parametrize("how", BAD_STUDENTS)
@pytest.mark.parametrize("with_seal", [True, False])
def test_a_student_that_answers_something_else_is_trained_again(how: str, with_seal: bool, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    of = cell(0, recipe={"views": "many"}) if how == "no number of views" else cell(0)
    good = result(of)
    name, text = f"cells/{of.key[:2]}/{of.key}.json", good.model_copy(update=BAD_STUDENTS[how]).model_dump_json()
    cache.entries.write(name, text.encode())
    if not with_seal:
        (tmp_path / name).write_text(text)
    assert cache.result(of, {"validation": 3, "test": 5}, 3) is None
    assert not (tmp_path / name).exists()


def block(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


THERE, VALUES = np.arange(6) < 4, told(6).values.numpy()
BAD_BLOCKS = {
    "a mask of another length": block(there=THERE[:5], values=VALUES),
    "a mask of numbers": block(there=THERE.astype(np.int64), values=VALUES),
    "a mask of two dimensions": block(there=THERE[:, None], values=VALUES),
    "no mask": block(values=VALUES),
    "no values": block(there=THERE),
    "fewer images": block(there=THERE[:3], values=VALUES[:3]),
    "another number of classes": block(there=THERE, values=told(6, 4).values.numpy()),
    "labels in place of probabilities": block(there=THERE, values=np.zeros(6, np.int64)),
    "doubles": block(there=THERE, values=VALUES.astype(np.float64)),
    "three dimensions": block(there=THERE, values=VALUES[:, :, None]),
    "no number": block(there=THERE, values=np.where(np.arange(6)[:, None] == 2, np.nan, VALUES).astype(np.float32)),
    "above one": block(there=THERE, values=-VALUES),
    "infinite": block(there=THERE, values=np.full((6, 3), np.inf, np.float32)),
    "far above one together": block(there=THERE, values=np.zeros((6, 3), np.float32)),
    "nothing at all": block(there=THERE, values=np.full((6, 3), -np.inf, np.float32)),
    "logits": block(there=THERE, values=VALUES - 9),
    "pickles": block(there=THERE, values=VALUES, gradients=np.array([{}], object)),
    "an array that nobody knows": block(there=THERE, values=VALUES, more=VALUES),
    "something behind it": block(there=THERE, values=VALUES) + b"x",
    "something before it": b"x" + block(there=THERE, values=VALUES),
    "gradients of labels": block(
        there=THERE, values=np.zeros(6, np.int64), gradients=np.zeros((6, 1, 2, 2), np.float32)
    ),
    "gradients of fewer images": block(there=THERE, values=VALUES, gradients=np.zeros((5, 1, 2, 2), np.float32)),
    "gradients that are no numbers": block(
        there=THERE, values=VALUES, gradients=np.full((6, 1, 2, 2), np.nan, np.float32)
    ),
}


@pytest.mark.parametrize("how", BAD_BLOCKS)
def test_a_block_without_a_seal_that_holds_no_answers_is_set_aside(how: str, tmp_path: Path) -> None:
    lines: list[str] = []
    store = Cache(tmp_path, lines.append).answers(ANSWERED, "probs", 3)
    store.folder.mkdir(parents=True)
    (store.folder / "x-00.npz").write_bytes(BAD_BLOCKS[how])
    stored, missing = store.load("x-00", np.arange(6))
    assert stored is None
    assert missing.tolist() == list(range(6))
    assert "6 images are queried again" in lines[0]
    store.add("x-00", 6, np.arange(6), told(6))
    assert not len(store.load("x-00", np.arange(6))[1])
    assert len(lines) == 1


def test_answers_that_surfaces_rounded_or_cut_off_are_no_damage(tmp_path: Path) -> None:
    from teachers.surface import Surface

    for name in ("probs", "top:2", "round:1", "temperature:4+top:2", "noise:1", "sparse:1", "mad:0.5", "label"):
        given = Surface.parse(name)(told(200, 10).values)
        store = Cache(tmp_path).answers(ANSWERED, name, 10)
        store.folder.mkdir(parents=True)
        (store.folder / "x-00.npz").write_bytes(block(there=np.ones(200, bool), values=given.values.numpy()))
        stored, missing = store.load("x-00", np.arange(200))
        assert stored is not None, name
        assert not len(missing)
        assert torch.equal(stored.values, given.values)


def test_an_entry_of_an_earlier_version_is_taken_once_and_sealed(root: Path) -> None:
    found = entries_of(root)
    sealed = {kind: entry.path.read_bytes() for kind, entry in found.items()}
    for entry in found.values():
        entry.path.write_bytes(bare(entry))
    (root / "looks" / f"{QUESTION}.copy").unlink()
    lines: list[str] = []
    cache = Cache(root, lines.append)
    for read, _ in USES.values():
        assert read(cache) is not None
    assert _pool(cache) == POOL.digest
    assert looked(cache, QUESTION) == (5, 8)
    assert {kind: entry.path.read_bytes() for kind, entry in found.items()} == sealed
    assert lines == []


HELPER = """
import sys
import numpy as np
from pathlib import Path
from audit.cache.store import Cache
from audit.plan.cells import BlockUse
from sample_cache import ANSWERED, cell, told

cache = Cache(Path(sys.argv[1]))
store = cache.answers(ANSWERED, "probs", 3)
for row in map(int, sys.argv[2:]):
    store.load("x-00", np.arange(20))
    cache.result(cell(0))
    store.add("x-00", 20, np.array([row]), told(1))
"""


@pytest.mark.slow
def test_processes_that_seal_and_add_at_once_lose_no_answer(tmp_path: Path) -> None:
    store = Cache(tmp_path).answers(ANSWERED, "probs", 3)
    store.add("x-00", 20, np.arange(4), told(4))
    (entry,) = contents(tmp_path).entries
    entry.path.write_bytes(bare(entry))
    code = [sys.executable, "-c", HELPER, str(tmp_path)]
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    runs = [subprocess.Popen([*code, *map(str, rows)], env=where) for rows in (range(4, 12), range(12, 20))]
    assert [run.wait() for run in runs] == [0, 0]
    assert not len(store.load("x-00", np.arange(20))[1])
    assert not (tmp_path / "damaged").exists()


def test_threads_that_seal_and_add_at_once_lose_no_answer(tmp_path: Path) -> None:
    store = Cache(tmp_path).answers(ANSWERED, "probs", 3)
    store.add("x-00", 20, np.arange(4), told(4))
    (entry,) = contents(tmp_path).entries
    entry.path.write_bytes(bare(entry))

    def ask(rows: range) -> None:
        own = Cache(tmp_path).answers(ANSWERED, "probs", 3)
        for row in rows:
            own.load("x-00", np.arange(20))
            own.add("x-00", 20, np.array([row]), told(1))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, (range(4, 12), range(12, 20))))
    assert not len(store.load("x-00", np.arange(20))[1])
    assert not (tmp_path / "damaged").exists()


@pytest.mark.parametrize(("number", "damage"), [(errno.EACCES, True), (errno.EIO, True), (errno.EMFILE, False)])
def test_what_cannot_be_read_is_damaged_unless_it_is_this_process_that_lacks_something(
    number: int, damage: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, lines = Cache(root), list[str]()
    monkeypatch.setattr(cache, "entries", Entries(root, lines.append))

    def failing(path: Path) -> object:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(seals, "regular", failing)
    if not damage:
        with pytest.raises(OSError, match="Too many open files"):
            cache.result(cell(0))
        return
    assert cache.result(cell(0)) is None
    assert f"cannot be read ({os.strerror(number)})" in lines[0]


def test_what_was_set_aside_is_listed_and_ages_like_the_rest(root: Path) -> None:
    cache, entry = Cache(root, lambda line: None), entries_of(root)["students"]
    entry.path.write_bytes(b"{")
    assert cache.result(cell(0)) is None
    del cache
    (aside,) = (e for e in contents(root).entries if e.kind == "damaged")
    assert "damaged" in {kind["name"] for kind in plain(inventory(contents(root)))["kinds"]}
    os.utime(aside.path, (1, 1))
    assert [e.name for e in prune(root, older_than=30).removed] == [aside.name]


def test_what_another_process_has_just_mended_is_not_set_aside(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, cache = entries_of(root)["students"], Cache(root)
    raw = entry.path.read_bytes()
    entry.path.write_bytes(b"{")
    real = Entries.lock

    def late(self: Entries, folder: Path) -> object:
        entry.path.write_bytes(raw)
        return real(self, folder)

    monkeypatch.setattr(Entries, "lock", late)
    assert cache.result(cell(0)) == result(cell(0))
    assert not (root / "damaged").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is a device on Linux")
def test_a_full_disk_gets_a_sentence_and_loses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        with open("/dev/full", "wb") as f:
            f.write(content)

    monkeypatch.setattr(seals, "write_whole", full)
    cache = Cache(root)
    with pytest.raises(RefusedInput, match=r"cannot be written \(No space left on device\); make room"):
        cache.finish(result(cell(0)))
    assert cache.result(cell(0)) == result(cell(0))
    entry = entries_of(root)["students"]
    entry.path.write_bytes(bare(entry))
    assert cache.result(cell(0)) == result(cell(0)), "what cannot be sealed now is read all the same"


def test_check_names_damage_of_every_kind_and_sets_it_aside_where_it_is_told_to(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = "cache", "check", "--cache", str(root)
    assert call(capsys, *argv) == (0, "every entry is intact\n", "")
    found, chance = entries_of(root), random.Random(0)
    for entry in found.values():
        entry.path.write_bytes(flipped(entry.path.read_bytes(), chance))
    code, out, err = call(capsys, *argv)
    assert code == 4
    assert sorted(line.split()[1] for line in out.splitlines()) == sorted(entry.name for entry in found.values())
    assert "damaged entries: 7; --set-aside moves them" in err
    code, out, err = call(capsys, *argv, "--set-aside")
    assert (code, out) == (0, "every entry is intact\n")
    assert len(err.splitlines()) == 7
    assert call(capsys, *argv)[0] == 0
    assert looked(Cache(root), QUESTION) == (5, 8)


def test_looks_without_a_sound_copy_stay_where_they_are(root: Path) -> None:
    for path in (root / "looks").glob("a*"):
        path.write_bytes(b"[")
    assert set(mended(root)) == {f"looks/{QUESTION}.json", f"looks/{QUESTION}.copy"}
    with pytest.raises(RefusedInput, match="too narrow"):
        looked(Cache(root), QUESTION)


def test_names_and_times_that_nobody_expects_are_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / os.fsdecode(b"\xff\x1b[31m")).write_bytes(b"1")
    os.utime(entries_of(root)["students"].path, (2**40, 2**40))
    for command in ("ls", "check", "prune"):
        code, out, _ = call(capsys, "cache", command, "--cache", str(root))
        assert code == 0
        assert "\x1b" not in out
        assert "\udcff" not in out


@pytest.fixture(scope="module")
def whole(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """Return the cache of the smallest audit, and its record."""
    home = tmp_path_factory.mktemp("whole")
    shutil.copytree(taught / "teachers", home / "cache" / "teachers")
    with smoke():
        return home / "cache", pipeline.run(request(home / "cache", home / "out", attacks="soft-kd")).record


@pytest.mark.usefixtures("tiny")
def test_an_audit_on_a_damaged_cache_ends_as_on_a_whole_one(
    whole: tuple[Path, Record], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache, calm = tmp_path / "cache", whole[1]
    shutil.copytree(whole[0], cache)
    chance, damaged = random.Random(0), 0
    for kind, share in (("students", 3), ("answers", 2), ("pools", 9), ("looks", 1)):
        for entry in [e for e in contents(cache).entries if e.kind == kind][:share]:
            change = chance.choice([flipped, cut])
            entry.path.write_bytes(change(entry.path.read_bytes(), chance))
            damaged += 1
    record = pipeline.run(request(cache, tmp_path / "out", attacks="soft-kd", quiet=False)).record
    assert timeless(record) == timeless(calm)
    assert record.times.trained == 3
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("cache: ")]
    assert len(lines) == len(list((cache / "damaged").iterdir())) >= 3 + 2 + 1 + 1
    assert damage(contents(cache)).keys() <= {e.name for e in contents(cache).entries if e.kind == "pools"}
    again = pipeline.run(request(cache, tmp_path / "again", attacks="soft-kd", quiet=False)).record
    assert again.times.trained == 0
    assert "cache: " not in capfd.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_an_audit_on_a_cache_of_an_earlier_version_trains_nothing(whole: tuple[Path, Record], tmp_path: Path) -> None:
    cache, calm = tmp_path / "cache", whole[1]
    shutil.copytree(whole[0], cache)
    for entry in contents(cache).entries:
        entry.path.write_bytes(bare(entry))
    for copy in (cache / "looks").glob("*.copy"):
        copy.unlink()
    record = pipeline.run(request(cache, tmp_path / "out", attacks="soft-kd", quiet=False)).record
    assert timeless(record) == timeless(calm)
    assert record.times.trained == 0
    assert not (cache / "damaged").exists()


@pytest.mark.usefixtures("tiny")
@pytest.mark.slow
def test_answers_that_cost_are_told_before_they_are_asked_again(
    server: FakeServer, cold: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = cold("cache")
    calm = pipeline.run(request(cache, tmp_path / "a", server.url, attacks="soft-kd", price=5.0, quiet=False)).record
    sent = server.images
    chance = random.Random(0)
    kinds = {entry.name: entry for entry in contents(cache).entries if entry.kind == "answers"}
    output = next(entry for name, entry in kinds.items() if name.endswith("/output"))
    mark = output.name.split("/")[1]
    block = next(e for n, e in kinds.items() if mark in n and "/probs/" in n and "-crop-" in n)
    for entry in (output, block):
        entry.path.write_bytes(flipped(entry.path.read_bytes(), chance))
    capfd.readouterr()
    again = pipeline.run(request(cache, tmp_path / "b", server.url, attacks="soft-kd", price=5.0, quiet=False)).record
    assert again.probe.again is not None
    probed = again.probe.again.queries
    assert server.images - sent == 900 + probed, "the damaged block, and whoever asks asks again after training"
    err = capfd.readouterr().err
    (line,) = (line for line in err.splitlines() if block.name in line)
    assert "900 images are queried again, 4.50 to pay" in line
    assert err.index(line) < err.index(f"{900 + probed:,} images were sent")
    assert output.name in err
    assert timeless(again) == timeless(calm)


def test_a_folder_in_the_place_of_an_entry_is_named_before_an_audit_meets_it(tmp_path: Path) -> None:
    name = f"cells/aa/{'a' * 64}.json"
    (tmp_path / name).mkdir(parents=True)
    assert damage(contents(tmp_path)) == {name: "is not a regular file"}
