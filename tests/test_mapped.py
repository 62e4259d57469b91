"""Stored answers reach students as mapped files: the same numbers, one copy for all, and nobody changes another's."""

import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.adaptive.adaptive import Adaptive
from attacks.base import Attack, Lab
from attacks.contract import tiny_lab
from attacks.logits.mlkd import MLKD
from attacks.logits.rolewise import RoleWise
from attacks.logits.soft_kd import SoftKD
from attacks.resistant.avg import AVG
from attacks.resistant.inversion import Inversion
from attacks.resistant.view_ensemble import ViewEnsemble
from audit.execution.metering import CachedTeacher, MeteredOracle
from teachers.errors import BudgetExceeded, RefusedInput
from teachers.processes import frames, pipes
from teachers.storage import mapped
from teachers.storage.entries import Entries
from teachers.storage.mapped import AnswerFiles, Form
from teachers.storage.store import AnswerStore
from teachers.surface import Answers, Surface
from teachers.views import ViewSet

EXPLAINED = Surface("gradients")
LAB = tiny_lab(EXPLAINED, 0)
CROPS, STRONG = ViewSet("crop", 2), ViewSet("strong", 3)


class Reads(AnswerStore):
    """A store that counts which blocks are read."""

    read = 0

    def load(self, block: str, rows: np.ndarray) -> tuple[Answers | None, np.ndarray]:
        self.read += 1
        return super().load(block, rows)


@pytest.fixture
def store(tmp_path: Path) -> Reads:
    return Reads(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> AnswerFiles:
    return AnswerFiles(Entries(tmp_path))


def door(store: Reads, files: AnswerFiles, lab: Lab = LAB, budget: int | None = None, owner: str = "") -> MeteredOracle:
    return MeteredOracle(
        CachedTeacher(store, lab.oracle.ask), lab.oracle.surface, {"held": lab.pool}, budget, files, owner
    )


def same(a: Answers, b: Answers) -> bool:
    """Whether answers are equal bit by bit."""
    assert (a.gradients is None) == (b.gradients is None)
    gradients = a.gradients is None or b.gradients is None or torch.equal(a.gradients, b.gradients)
    return a.kind == b.kind and torch.equal(a.values, b.values) and gradients


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("surface", ["probs", "top:2", "label", "gradients"])
def test_mapped_answers_are_those_that_the_teacher_gives_bit_by_bit(
    surface: str, store: Reads, files: AnswerFiles
) -> None:
    lab, some = tiny_lab(Surface.parse(surface), 0), np.array([1, 4, 5, 40])
    answers = door(store, files, lab).views("held", [CROPS, STRONG], some)
    in_memory = lab.answers("crop", only=some, views=2), lab.answers("strong", only=some, views=3)
    assert same(answers[: 2 * 4], in_memory[0])
    assert same(answers[2 * 4 :], in_memory[1])
    assert len(answers) == 5 * 4


ATTACKS = (SoftKD(), MLKD(), AVG(), ViewEnsemble(), RoleWise(), Inversion(), Adaptive())


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_students_of_mapped_answers_are_those_of_answers_in_memory(
    attack: Attack, store: Reads, files: AnswerFiles
) -> None:
    plain, other = tiny_lab(Surface("probs"), 0), tiny_lab(Surface("probs"), 0)
    other._library = lambda pool, sets, index: door(store, files, other).views("held", sets, index)
    ours, theirs = (attack.attempt(lab).network.state_dict() for lab in (plain, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_student_of_the_same_question_reads_no_block_again_and_is_charged_the_same(
    store: Reads, files: AnswerFiles
) -> None:
    one, other, index = door(store, files), door(store, files), np.arange(len(LAB.pool))
    one.views("held", [CROPS], index)
    read = store.read
    assert same(one.file("held", [CROPS], index).answers(), other.views("held", [CROPS], index))
    assert store.read == read
    assert (one.charged, other.charged) == (4 * len(index), 2 * len(index))
    assert one.rests == other.rests
    assert [use.images for use in other.rests] == 2 * [len(index)]
    other.views("held", [CROPS], index[:5])
    assert store.read > read


def test_a_query_beyond_the_budget_writes_no_file_and_uses_nothing(store: Reads, files: AnswerFiles) -> None:
    one, index = door(store, files, budget=2 * 5 + 1), np.arange(5)
    one.views("held", [CROPS], index)
    before = one.rests
    for sets in ([CROPS], [STRONG, CROPS]):
        with pytest.raises(BudgetExceeded):
            one.views("held", sets, index)
    with pytest.raises(ValueError, match="no images"):
        one.views("held", [CROPS], index[:0])
    assert (one.charged, one.rests, len(files._held)) == (10, before, 1)


def test_what_is_written_to_mapped_answers_stays_with_who_wrote_it(store: Reads, files: AnswerFiles) -> None:
    one, index = door(store, files), np.arange(5)
    first, second = (one.views("held", [CROPS], index) for _ in range(2))
    kept = second.values.clone()
    first.values.zero_()
    assert first.gradients is not None
    first.gradients.fill_(7)
    for answers in (second, one.views("held", [CROPS], index)):
        assert torch.equal(answers.values, kept)
        assert answers.gradients is not None
        assert not (answers.gradients == 7).any()


def test_a_process_gets_the_file_open_for_reading_and_no_name(store: Reads, files: AnswerFiles, tmp_path: Path) -> None:
    file = door(store, files).file("held", [CROPS], np.arange(5))
    ours, theirs = frames.pair()
    pipes.send(ours, file.form.model_dump(), seconds=0, file=file.handle)
    header, _ = pipes.receive(theirs)
    got = pipes.accept(theirs)
    assert got != file.handle
    assert not os.get_inheritable(got)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(got, b"x", 0)
    assert os.fstat(got).st_nlink == 0
    assert same(Form.model_validate(header).answers(got), file.answers())
    os.close(got)
    ours.close()
    with pytest.raises(EOFError):
        pipes.accept(theirs)
    assert not list(tmp_path.glob(".answers-*"))


def test_code_of_another_owner_gets_a_file_of_its_own(store: Reads, files: AnswerFiles) -> None:
    """Linux opens a file again for writing, by `/proc/self/fd`, for who owns it."""
    ours, theirs = door(store, files), door(store, files, owner="plugin")
    inodes = [os.fstat(one.file("held", [CROPS], np.arange(5)).handle).st_ino for one in (ours, theirs, ours)]
    assert inodes[0] == inodes[2] != inodes[1]


def test_files_are_bounded_and_close_when_nothing_reads_them(
    store: Reads, files: AnswerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "MOST", 2)
    one, before = door(store, files), descriptors()
    held = [one.views("held", [CROPS], np.arange(n)) for n in (1, 2, 3, 4)]
    assert [len(answers) for answers in held] == [2, 4, 6, 8]
    assert descriptors() == before + 2 + 4, "two files, and four mappings"
    del held
    assert descriptors() == before + 2
    monkeypatch.setattr(mapped, "ROOM", 1)
    one.views("held", [CROPS], np.arange(5))
    assert len(files._held) == 1
    files._held.clear()
    assert descriptors() == before


def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing_open(
    store: Reads, files: AnswerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = descriptors()
    monkeypatch.setattr(mapped, "_put", full)
    with pytest.raises(RefusedInput, match=r"cannot be written \(No space left on device\); make room there"):
        door(store, files).views("held", [CROPS], np.arange(5))
    assert descriptors() == before


def under_limit(code: str) -> str:
    """Run code in a process that may take 64 MiB, beside a file of 256 MiB."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(2**28)
        done = subprocess.run([sys.executable, "-c", code, file.name], capture_output=True, text=True, check=True)
    return done.stdout


HELD = """
import os, sys
from teachers.processes import limits
limits.hold_memory(2**26, mapping={mapping})
file = os.open(sys.argv[1], os.O_RDONLY)
def swollen():
    try:
        return not bytearray(2**27)
    except MemoryError:
        return True
try:
    for _ in range(3):
        held = limits.private(file, 2**28)
        held[5] = 1
        print(swollen())
        held.close()
        del held
    print(swollen())
except MemoryError as e:
    print(e)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces it")
def test_mapped_answers_do_not_count_against_a_limit_that_still_holds() -> None:
    assert under_limit(HELD.format(mapping=True)).split() == 4 * ["True"]
    assert "256.0 MiB of answers cannot be mapped" in under_limit(HELD.format(mapping=False))


def test_what_an_attack_stores_is_read_from_a_file_that_has_no_name(tmp_path: Path) -> None:
    lab = tiny_lab(Surface("probs"), 0)
    lab._folder = tmp_path
    parts = [Answers("probs", torch.randn(n, 3)) for n in (5, 1, 4)]
    stored = lab.stored(10, iter(parts))
    assert torch.equal(stored.values, torch.cat([part.values for part in parts]))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="10 answers in place of 11"):
        lab.stored(11, iter(parts))
    lab._folder = tmp_path / "file"
    lab._folder.write_text("in the way")
    with pytest.raises(RefusedInput, match="cannot be written"):
        lab.stored(10, iter(parts))


def test_mapping_changes_no_limit_of_a_process_that_has_none(store: Reads, files: AnswerFiles) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    held = door(store, files).views("held", [CROPS], np.arange(5))
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(held) == 10


GIB = 2**30


@pytest.mark.slow
@pytest.mark.timeout(3600)  # minutes of work, more where others use the machine
@pytest.mark.skipif(sys.platform != "linux", reason="/proc says what memory a process takes")
def test_three_gibibytes_of_answers_stay_on_disk_however_many_workers_read_them(tmp_path: Path) -> None:
    """200,000 images, 1,000 classes, 4 views; one worker first, which trains students of all attacks, then two.

    Two of them, which read all answers many times, are measured on 17,000 images.
    """
    if shutil.disk_usage(tmp_path).free < 10 * GIB:
        pytest.skip("the answers and their file take 6 GiB of disk")
    script = Path(__file__).parent / "large_table.py"
    try:
        done = subprocess.run([sys.executable, script, tmp_path, "1", "2"], capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    most = []
    for told in json.loads(done.stdout):
        everyone = [told["parent"], *told["others"]]
        assert told["failed"] == []
        assert max(one["peak"] for one in everyone) < 4 * GIB, everyone
        assert sum(one["own"] for one in everyone) < 3 * GIB, "one table would be more than all of them hold"
        most.append((told["parent"]["own"], max(one["own"] for one in told["others"]), sorted(told["charged"])))
    (parent, worker, of_all), (of_two, each, of_four), (_, slow, of_few) = most
    assert of_four == 4 * [800_000]
    assert of_all == [200_600, *6 * [800_000]], "role-wise asks about 200 images three times, then about raw ones"
    assert of_few == 2 * [68_000]
    assert of_two < parent + GIB // 8
    assert each < worker + GIB // 8 < GIB
    assert slow < GIB, "they hold a batch or a shard"
