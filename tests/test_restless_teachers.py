"""A teacher that is quiet while it is tried and does harm when it is asked: ended in time, by a sentence, for good."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.cache.store import Cache
from teachers.errors import RefusedInput
from teachers.processes import limits, trees
from teachers.targets import isolation, process
from teachers.targets.isolation import IsolatedTargets
from teachers.targets.process import TargetSpec
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import open_task

onnx = pytest.importorskip("onnx")
CLASSES, SIDE = 10, 8


def graph(harm: str, darkest: float) -> object:
    """Return a linear ONNX model of digits that does harm to batches of less light, which no rehearsal has."""
    from onnx import TensorProto as T
    from onnx import helper as h
    from onnx import numpy_helper as n

    def number(name: str, value: object, kind: str = "int64") -> object:
        return n.from_array(np.array(value, kind), name)

    rng = np.random.default_rng(0)
    weight = rng.normal(size=(SIDE * SIDE, CLASSES)).astype("f4")
    constants = [
        n.from_array(weight, "w"),
        *(number("one", [1]), number("darkest", darkest, "float32"), number("far", [2**62]), number("none", [0])),
        *(number("flat", [0, -1]), number("wide", [2**21]), number("yes", True, "bool")),
    ]
    nodes = [
        h.make_node("Reshape", ["x", "flat"], ["f"]),
        h.make_node("MatMul", ["f", "w"], ["z"]),
        h.make_node("ReduceSum", ["x"], ["light"], keepdims=0),
        h.make_node("Less", ["light", "darkest"], ["dark"]),
    ]
    if harm == "loops":
        body = h.make_graph(
            [
                h.make_node("Identity", ["go"], ["go_on"]),
                h.make_node("Mul", ["v", "half"], ["u"]),
                h.make_node("Add", ["u", "half"], ["v_out"]),
            ],
            "body",
            [
                h.make_tensor_value_info("i", T.INT64, []),
                h.make_tensor_value_info("go", T.BOOL, []),
                h.make_tensor_value_info("v", T.FLOAT, ["n", CLASSES]),
            ],
            [h.make_tensor_value_info("go_on", T.BOOL, []), h.make_tensor_value_info("v_out", T.FLOAT, None)],
            [number("half", 0.5, "float32")],
        )
        nodes += [
            h.make_node("Where", ["dark", "far", "none"], ["trips"]),
            h.make_node("Loop", ["trips", "yes", "z"], ["y"], body=body),
        ]
    else:
        nodes += [
            h.make_node("Where", ["dark", "wide", "one"], ["wider"]),
            h.make_node("ReduceSum", ["z"], ["total"], keepdims=0),
            h.make_node("Concat", ["wider", "wide"], ["size"], axis=0),
            h.make_node("Where", ["dark", "size", "one"], ["shape"]),
            h.make_node("Expand", ["total", "shape"], ["swollen"]),
            h.make_node("Exp", ["swollen"], ["worked"]),
            h.make_node("ReduceMin", ["worked"], ["least_of"], keepdims=0),
            h.make_node("Mul", ["least_of", "naught"], ["nothing"]),
            h.make_node("Add", ["z", "nothing"], ["y"]),
        ]
        constants.append(number("naught", 0.0, "float32"))
    made = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("x", T.FLOAT, ["n", 1, SIDE, SIDE])],
        [h.make_tensor_value_info("y", T.FLOAT, ["n", CLASSES])],
        constants,
    )
    return h.make_model(made, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


def opened(cache: Path, teacher: str, normalize: str | None = "none") -> tuple[IsolatedTargets, Cache]:
    kept = Cache(cache)
    spec = TeacherSpec(teacher, "digits", None, normalize)
    task, _ = open_task(spec, kept)
    apart = IsolatedTargets(spec, kept.root, lambda line: None)
    try:
        return apart.open(TargetSpec(spec, "probs", 2, "cpu"), kept.pool(task.train)), kept
    except BaseException:
        apart.close()
        raise


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        pytest.param("loops", "did not finish", marks=pytest.mark.slow),
        ("swells", "needs more memory than the 8"),
    ],
)
def test_an_onnx_graph_that_is_quiet_in_rehearsal_is_ended(
    kept: Path, tmp_path: Path, harm: str, sentence: str
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(graph(harm, 1.0), path)
    with closing(opened(kept, str(path))[0]) as apart, pytest.raises(RefusedInput, match=sentence):
        apart.audited.full(torch.zeros(40, 1, SIDE, SIDE))


@pytest.fixture
def apart(kept: Path, tmp_path: Path) -> Iterator[IsolatedTargets]:
    path = tmp_path / "m.onnx"
    onnx.save(graph("loops", 0.0), path)
    found, _ = opened(kept, str(path))
    with closing(found):
        yield found


def inner(apart: IsolatedTargets) -> int:
    """Return the process inside its keeper, which may just be started again."""
    until = time.monotonic() + 60
    while not (found := trees.descendants(apart._process.pid or 0)) and time.monotonic() < until:
        time.sleep(0.001)
    return found[0]


def strike(apart: IsolatedTargets, sign: signal.Signals) -> None:
    """Signal the process inside its keeper; look again if that one just ended, as its keeper may answer late."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(ProcessLookupError):
            os.kill(inner(apart), sign)
            return


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_teacher_whose_process_is_killed_is_opened_again_and_asked_again(
    apart: IsolatedTargets, sign: signal.Signals
) -> None:
    images = torch.rand(40, 1, SIDE, SIDE)
    before = apart.audited.full(images)
    for victim in (inner, lambda apart: apart._process.pid or 0):
        os.kill(victim(apart), sign)
        assert torch.equal(apart.audited.full(images).values, before.values)
    thread = threading.Timer(0.02, strike, (apart, sign))
    thread.start()
    while thread.is_alive():
        assert torch.equal(apart.audited.full(images).values, before.values)
    assert torch.equal(apart.audited.full(images).values, before.values)


def test_a_teacher_whose_process_is_stopped_is_opened_again_and_asked_again(
    apart: IsolatedTargets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "LOOK", 0.2)
    images = torch.rand(40, 1, SIDE, SIDE)
    before = apart.audited.full(images)
    victim = inner(apart)
    os.kill(victim, signal.SIGSTOP)
    assert torch.equal(apart.audited.full(images).values, before.values)
    assert inner(apart) != victim


def test_a_teacher_that_somebody_lets_go_on_is_waited_for(
    apart: IsolatedTargets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "LOOK", 2.0)
    victim = inner(apart)
    os.kill(victim, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (victim, signal.SIGCONT)).start()
    apart.audited.full(torch.rand(40, 1, SIDE, SIDE))
    assert inner(apart) == victim


@pytest.mark.parametrize("sign", [signal.SIGSEGV, signal.SIGABRT])
def test_a_teacher_that_crashes_is_refused_with_what_it_was_asked(apart: IsolatedTargets, sign: signal.Signals) -> None:
    os.kill(inner(apart), sign)
    with pytest.raises(
        RefusedInput, match=rf"died on a query of 7 images \({sign.name}\); the answers so far are kept"
    ):
        apart.audited.full(torch.rand(7, 1, SIDE, SIDE))


def test_an_alarm_rings_for_what_is_inside_and_leaves_an_earlier_one_as_it_was() -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 50)
        with limits.within(5):
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 5
        assert 45 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
        with limits.within(500):
            assert 45 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
        signal.setitimer(signal.ITIMER_REAL, 0)
        with limits.within(5):
            pass
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_time_for_a_question_grows_with_its_images_and_their_size() -> None:
    small, large = limits.question((256, 1, 8, 8)), limits.question((16, 3, 224, 224))
    assert 60 < small < 70
    assert 300 < large < 400


def test_what_goes_wrong_inside_is_told_in_one_line() -> None:
    told = process._failed(RuntimeError("one\n two"), {"images": np.zeros((3, 1, 8, 8))})
    assert told == "the teacher failed on a query of 3 images: RuntimeError: one two"
    assert "8 GiB" in process._failed(MemoryError(), {})
