"""What a process sends is a message within limits, or fails one student by a sentence: the audit goes on."""

import json
import math
import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

import hostile_messages
import numpy as np
import pytest
import torch
from hostile_messages import HALVES, MESSAGES, RECIPE, REFUSED, REPORT, failed, pixels, recipe, whole

from attacks.contract import CLASSES, tiny_lab
from attacks.controls.ls import LS
from attacks.logits.soft_kd import SoftKD
from audit.execution import processes, worker_loop, worker_messages
from audit.execution.metering import CachedTeacher, MeteredOracle
from audit.execution.processes import _Worker
from audit.execution.worker import Job
from audit.plan.cells import ENGINE, Cell, Failure, Result
from teachers.errors import BudgetExceeded, RefusedInput
from teachers.processes import frames, messages, pipes
from teachers.storage.entries import Entries
from teachers.storage.mapped import AnswerFiles, Form
from teachers.storage.store import AnswerStore
from teachers.surface import FULL
from teachers.training import Recipe, build_student
from teachers.views import ViewSet

LAB = tiny_lab(FULL, 0)
CELL = Cell(
    engine=ENGINE,
    technique=SoftKD.name,
    version="1",
    parameters=SoftKD().parameters,
    recipe=asdict(LAB.recipe),
    seed=0,
    pool="p" * 64,
    task="t" * 64,
    teacher="f" * 64,
    surface="probs",
)
EXAMS = {"validation": LAB.pool, "test": LAB.pool}


@pytest.fixture
def hear(tmp_path: Path) -> Callable[[bytes], processes.Outcome | Result]:
    """Return what the judging process makes of what a worker sends."""
    theirs: list[Connection] = []

    def heard(sent: bytes, cell: Cell = CELL) -> processes.Outcome | Result:
        worker = _Worker(None)
        worker.pipe, there = frames.pair()
        theirs.append(there)  # as of a worker that waits for an answer
        worker.job = Job(cell=cell, pool=tmp_path, surrogate=None, classes=CLASSES)
        teacher, files = CachedTeacher(AnswerStore(tmp_path), LAB.oracle.ask), AnswerFiles(Entries(tmp_path))
        worker._door = MeteredOracle(teacher, FULL, {"p" * 64: LAB.pool}, 2_000, files)
        threading.Thread(target=write, args=(there, sent), daemon=True).start()
        outcome = worker.listen(0.0, True, LAB.pool.shape)
        return outcome.measured(EXAMS) if isinstance(outcome, processes.Trained) else outcome

    heard.theirs = theirs  # type: ignore[attr-defined]
    return heard


def write(pipe: Connection, content: bytes) -> None:
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(pipe.fileno(), view) :]
    except OSError:
        """Nobody reads on."""


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_no_message_fails_one_student_by_a_sentence(hear: Callable[[bytes], object], name: str) -> None:
    outcome = hear(MESSAGES[name])
    assert isinstance(outcome, Failure)
    assert outcome.sentence.startswith("its process sent an invalid message ("), outcome.sentence
    assert len(outcome.sentence) < 400
    assert (outcome.code, outcome.trace) == (70, "")


@pytest.mark.parametrize("name", HALVES)
def test_a_message_that_stops_in_the_middle_is_waited_for_no_longer_than_it_may_take(
    hear: Callable[[bytes], object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "GRACE", 0.3)
    outcome = hear(HALVES[name])
    assert isinstance(outcome, Failure)
    assert "an invalid message (it stopped in the middle of" in outcome.sentence


@pytest.mark.parametrize("name", REFUSED)
def test_a_question_that_may_not_be_asked_is_refused(hear: Callable[[bytes], object], name: str) -> None:
    sent, sentence = REFUSED[name]
    assert hear(sent) is None
    header, _ = pipes.receive(hear.theirs[0])  # type: ignore[attr-defined]
    with pytest.raises((ValueError, PermissionError, BudgetExceeded), match=sentence):
        messages.raise_refusal(header)


def test_what_may_be_asked_is_answered(hear: Callable[[bytes], object]) -> None:
    assert hear(whole(hostile_messages.IMAGES, images=pixels(3, 1, 8, 8))) is None
    answers = messages.heard(*pipes.receive(hear.theirs[0]), 3)  # type: ignore[attr-defined]
    assert answers.values.shape == (3, CLASSES)
    assert hear(whole(hostile_messages.VIEWS, index=np.array([1, 5]))) is None
    form = messages.parse(Form, pipes.receive(hear.theirs[1])[0])  # type: ignore[attr-defined]
    file = pipes.accept(hear.theirs[1])  # type: ignore[attr-defined]
    assert form.answers(file).values.shape == (4, CLASSES)
    os.close(file)
    assert hear(whole({"say": "step"})) is None


def weights(architecture: str = "strided-4-4", wrap: str | None = None) -> dict[str, np.ndarray]:
    network = build_student(Recipe(architecture, 6, wrap=wrap), CLASSES, LAB.pool.shape)
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def student(held: dict[str, np.ndarray], **changes: object) -> bytes:
    header = {"say": "trained", "report": REPORT | {"recipe": RECIPE | changes}}
    return whole(header, **held)


def changed(name: str, array: np.ndarray | None) -> dict[str, np.ndarray]:
    held = weights()
    if array is None:
        del held[name]
    else:
        held[name] = array
    return held


WEIGHT = "network.0.weight"
FORGED = {
    "another architecture": (student(weights("strided-8-8"), architecture="strided-8-8"), "keep the architecture"),
    "a larger network under the name of the small one": (student(weights("strided-8-8")), "network.0.weight: float32"),
    "a network of 8 GB": (student(weights(), architecture="timm:vit_giant_patch14_224"), "keep the architecture"),
    "an architecture that is code": (student(weights(), architecture="os:system"), "keep the architecture"),
    "weights of float64": (student(changed(WEIGHT, weights()[WEIGHT].astype("f8"))), "float64"),
    "a weight of another shape": (student(changed(WEIGHT, weights()[WEIGHT].reshape(-1))), "in place of float32"),
    "a weight is missing": (student(changed(WEIGHT, None)), "by name"),
    "a weight too many": (student(changed("extra", np.zeros(3, "f4"))), "by name"),
    "a weight of labels": (student(changed("labels", np.zeros(300, "i8"))), "by name"),
    "another's wrapping": (student(weights(), wrap="os:system"), "which belongs to no attack"),
    "a wrapping by a path": (
        student(weights(), wrap="attacks.data_free.disguide:copy.os.system"),
        "which belongs to no attack",
    ),
    "a helper of ours as a wrapping": (
        student(weights(), wrap="attacks.resistant.skeptical:_places"),
        "which belongs to no attack",
    ),
    "a library's function of a file of ours": (
        student(weights(), wrap="attacks.resistant.skeptical:nn"),
        "which belongs to no attack",
    ),
    "a wrapping of no name": (student(weights(), wrap=""), "which belongs to no attack"),
    "heads that are not there": (student(weights(), wrap="attacks.resistant.skeptical:with_heads"), "by name"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_student_that_was_not_asked_for_fails(hear: Callable[[bytes], object], name: str) -> None:
    sent, sentence = FORGED[name]
    outcome = hear(sent)
    assert isinstance(outcome, Failure)
    assert sentence in outcome.sentence
    assert outcome.trace == ""


def test_a_student_that_was_asked_for_is_measured_whatever_it_says_of_itself(hear: Callable[[bytes], object]) -> None:
    outcome = hear(student(weights()))
    assert isinstance(outcome, Result)
    assert outcome.network_parameters == sum(
        w.size for n, w in weights().items() if "running" not in n and "num_" not in n
    )
    assert not outcome.diverged
    held = changed(WEIGHT, np.full_like(weights()[WEIGHT], math.nan))
    lost = hear(student(held))
    assert isinstance(lost, Result)
    assert lost.diverged
    wrapped = "attacks.resistant.skeptical:with_heads"
    assert isinstance(hear(student(weights(wrap=wrapped), wrap=wrapped)), Result)


@pytest.mark.parametrize("code", [2, 4, 5, 70])
def test_a_failure_is_told_with_its_code(hear: Callable[[bytes], object], code: int) -> None:
    outcome = hear(failed(code=code))
    assert isinstance(outcome, Failure)
    assert outcome.code == code


def test_a_control_is_answered_nothing(hear: Callable[[bytes], object], tmp_path: Path) -> None:
    worker = _Worker(None)
    worker.pipe, there = frames.pair()
    cell = CELL.model_copy(update={"technique": LS.name, "teacher": None, "surface": None})
    worker.job = Job(cell=cell, pool=tmp_path, surrogate=None, classes=CLASSES)
    write(there, whole(hostile_messages.IMAGES, images=pixels(1, 1, 8, 8)))
    assert worker.listen(0.0, True, LAB.pool.shape) is None
    with pytest.raises(PermissionError, match="may not query a teacher"):
        messages.raise_refusal(pipes.receive(there)[0])


def answer(**arrays: np.ndarray) -> bytes:
    return whole({"kind": "probs"}, **arrays)


def rows(shape: tuple[int, ...], dtype: str = "f4", value: float = -1.0) -> np.ndarray:
    return np.full(shape, value, dtype)


ANSWERS = {
    "no rows": answer(values=rows((0, 5))),
    "fewer rows": answer(values=rows((2, 5))),
    "more rows": answer(values=rows((4, 5))),
    "one class": answer(values=rows((3, 1))),
    "no classes": answer(values=rows((3, 0))),
    "a column": answer(values=rows((3,))),
    "three dimensions": answer(values=rows((3, 5, 1))),
    "float64": answer(values=rows((3, 5), "f8")),
    "whole numbers": answer(values=rows((3, 5), "i8")),
    "NaN": answer(values=rows((3, 5), value=math.nan)),
    "plus infinity": answer(values=rows((3, 5), value=math.inf)),
    "nothing": answer(),
    "another name": answer(logits=rows((3, 5))),
    "gradients nobody asked for": answer(values=rows((3, 5)), gradients=rows((3, 1, 8, 8))),
    "an explanation without gradients": whole({"kind": "gradients"}, values=rows((3, 5))),
    "gradients of another shape": whole({"kind": "gradients"}, values=rows((3, 5)), gradients=rows((3, 1, 8, 9))),
    "an unknown kind": whole({"kind": "logits"}, values=rows((3, 5))),
    "a kind that is a list": whole({"kind": ["probs"]}, values=rows((3, 5))),
    "no kind": whole({}, values=rows((3, 5))),
    "more words": whole({"kind": "probs", "labels": [1, 2]}, values=rows((3, 5))),
    "labels below none": whole({"kind": "label"}, values=rows((3,), "i8")),
    "labels beyond all": whole({"kind": "label"}, values=rows((3,), "i8", 1e12)),
    "labels of floats": whole({"kind": "label"}, values=rows((3,))),
    "labels of int32": whole({"kind": "label"}, values=rows((3,), "i4", 1)),
}


def from_teacher(sent: bytes) -> object:
    ours, theirs = frames.pair()
    threading.Thread(target=write, args=(theirs, sent), daemon=True).start()
    header, arrays = pipes.receive(ours, pipes.Limits(2, 2**20), 5.0)
    messages.raise_refusal(header)
    return messages.heard(header, arrays, 3, (1, 8, 8))


@pytest.mark.parametrize("name", [*ANSWERS, *hostile_messages.NO_FRAMES])
def test_what_is_no_answer_is_no_answer(name: str) -> None:
    with pytest.raises(pipes.PipeError):
        from_teacher(ANSWERS.get(name) or hostile_messages.NO_FRAMES[name])


@pytest.mark.parametrize(
    "header",
    [{"refused": "Oh", "sentence": 1}, {"refused": None, "sentence": "s"}, {"refused": "ValueError"}, {"refused": []}],
)
def test_a_refusal_that_is_none_is_no_message(header: dict[str, object]) -> None:
    with pytest.raises(pipes.PipeError):
        messages.raise_refusal(header)


@pytest.mark.parametrize("name", ["SystemExit", "AuditError", "os.system", ""])
def test_a_refusal_names_an_error_of_ours_or_is_told_as_one(name: str) -> None:
    with pytest.raises(RefusedInput, match="why"):
        messages.raise_refusal({"refused": name, "sentence": "why"})


def test_what_a_worker_says_is_what_is_heard() -> None:
    ours, theirs = frames.pair()
    images = torch.rand(4, *LAB.pool.shape, dtype=torch.float64)
    asked: list[object] = []

    def reply() -> None:
        header, arrays = pipes.receive(ours)
        asked.append((worker_messages.word(header), arrays["images"].dtype))
        pipes.send(ours, *messages.told(LAB.oracle.ask(images.float())))

    thread = threading.Thread(target=reply)
    thread.start()
    answers = worker_loop._Line(theirs).images(images)
    thread.join()
    assert asked == [(worker_messages.AskImages(say="ask", estimate=False), np.float32)], (
        "doubles are asked about as floats"
    )
    assert torch.equal(answers.values, LAB.oracle.ask(images.float()).values)


def test_nothing_that_is_taken_makes_the_judging_process_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "GRACE", 0.2)
    monkeypatch.setattr(frames, "PACE", 1e9)
    ours, _theirs = frames.pair()
    with pytest.raises(pipes.Silence):
        pipes.send(ours, {}, {"values": np.zeros(10**6)}, seconds=0)
    with pytest.raises(pipes.Silence, match="nothing at all"):
        pipes.receive(ours, patience=0.1)


def test_a_long_error_is_told_in_so_many_characters_as_a_message_holds() -> None:
    told = worker_loop._told(Failure(cell=CELL, sentence="x" * 10**6 + "\udcff", trace="y" * 10**6))
    assert worker_messages.word({"say": "failed", "failure": told})
    assert json.dumps(told).encode("utf-8")


def test_views_may_be_asked_about_in_any_number_that_fits() -> None:
    assert ViewSet("crop", 3).count == 3
    with pytest.raises(ValueError, match="query in parts"):
        processes._refuse_too_many(10**12, 10, 2**40)
    processes._refuse_too_many(10**6, 10, 8 * 10**7)
    assert recipe(steps=5)
