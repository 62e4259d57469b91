"""What a teacher's numbers are is told by one rule, whether a file or a URL gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_server import FakeServer
from small_teachers import linear
from torch import nn
from torch.nn import functional as F

from audit.cache.store import Cache
from audit.diagnosis.diagnose import diagnose
from audit.inspection.inspection import inspect
from audit.plan.options import Options
from audit.statistics.cmi import TEMPERATURES
from teachers import intake, networks
from teachers.data.datasets import load
from teachers.errors import RefusedInput
from teachers.http.remote import Remote, RemoteBox
from teachers.intake import Teacher
from teachers.networks import PreprocessedNetwork
from teachers.numbers import ENOUGH, Numbers, Rows, numbers
from teachers.oracle import Box
from teachers.surface import FULL
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import fingerprint, open_target
from teachers.task import Task

SHAPE = (1, 8, 8)


def softmax(z: Rows) -> Rows:
    e = np.exp(z - z.max(1, keepdims=True))
    shares: Rows = e / e.sum(1, keepdims=True)
    return shares


def drawn(classes: int, scale: float, images: int = 64) -> Rows:
    return np.random.default_rng(0).standard_normal((images, classes)) * scale


def half(p: Rows) -> Rows:
    return p.astype(np.float16).astype(np.float64)


def bfloat(p: Rows) -> Rows:
    rows: Rows = torch.from_numpy(p).bfloat16().double().numpy()
    return rows


def digits(p: Rows, many: int) -> Rows:
    return np.vectorize(lambda v: float(f"{v:.{many}g}"))(p)


def cut(p: Rows, k: int) -> Rows:
    return np.where(p >= np.sort(p, 1)[:, -k, None], p, 0)


def hard(p: Rows) -> Rows:
    return np.eye(p.shape[1])[p.argmax(1)]


SHARES: dict[str, tuple[Callable[[Rows], Rows], str, str]] = {  # of probabilities: the numbers, and what they are
    "double": (lambda p: p, "probabilities", ""),
    "single": (lambda p: p.astype(np.float32).astype(np.float64), "probabilities", ""),
    "half": (half, "probabilities", ""),
    "bfloat": (bfloat, "probabilities", ""),
    "percent": (lambda p: 100 * p, "percentages", ""),
    "percent in half precision": (lambda p: half(100 * p), "percentages", ""),
    "percent in bfloat": (lambda p: bfloat(100 * p), "percentages", ""),
    "percent with a decimal": (lambda p: (100 * p).round(1), "percentages", "round:3"),
    "whole percent": (lambda p: (100 * p).round(), "percentages", "round:2"),
    "two decimals": (lambda p: p.round(2), "probabilities", "round:2"),
    "three decimals": (lambda p: p.round(3), "probabilities", "round:3"),
    "three decimals in single precision": (lambda p: p.astype(np.float32).round(3).astype(float), "probabilities", ""),
    "two significant digits": (lambda p: digits(p, 2), "probabilities", ""),
    "bytes": (lambda p: (p * 255).round() / 255, "probabilities", "in steps of 1/255"),
    "eight bits": (lambda p: (p * 256).round() / 256, "probabilities", "in steps of 1/256"),
    "the two largest": (lambda p: cut(p, 2), "probabilities", "top:2"),
    "the two largest, rounded": (lambda p: cut(p, 2).round(2), "probabilities", ""),
    "the two largest in percent": (lambda p: 100 * cut(p, 2), "percentages", "top:2"),
    "the top class": (hard, "probabilities", "label"),
    "the top class as 100": (lambda p: 100 * hard(p), "percentages", "label"),
    "logarithms": (np.log, "log-probabilities", ""),
}


@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("classes", [3, 10, 200])
@pytest.mark.parametrize("name", SHARES)
def test_probabilities_are_known_in_every_precision(name: str, classes: int, scale: float) -> None:
    given, output, shown = SHARES[name]
    p = softmax(drawn(classes, scale))
    rows = given(p)
    if (rows.sum(1) == 0).any():  # nothing of many even classes is left by two decimals
        with pytest.raises(RefusedInput, match="nothing but zeros"):
            numbers(rows, "it")
        return
    found = numbers(rows, "it")
    assert found.output == output
    if shown:
        assert found.shown == shown
    back = found.log_probs(torch.from_numpy(rows), "it").double().exp().numpy()
    if shown == "label":
        assert (back == hard(p)).all()
        return
    there = rows > 0 if output != "log-probabilities" else rows > -99
    assert np.abs(back - p)[there].max() < 0.06  # two significant digits at worst


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_logits_stay_logits(classes: int) -> None:
    for scale in (0.3, 1.0, 5.0, 100.0):
        z = drawn(classes, scale)
        assert numbers(z, "it") == Numbers("logits")
        assert numbers(z + 50, "it").output == "logits"  # all above 0, and no common sum
        assert numbers(z - 1000, "it").output == "logits"
        assert numbers(3 * np.maximum(z, 0) + 2, "it").output == "logits"
    assert numbers(np.zeros((64, classes)) - 1, "it").output == "logits"


@pytest.mark.parametrize("classes", [2, 10, 200])
@pytest.mark.parametrize(
    ("scaled", "total"),
    [
        (lambda p: 1000 * p, 1000),
        (lambda p: 7 * p.astype("f4").astype(float), 7),
        (lambda p: np.round(1e5 * p), 1e5),
        (lambda p: np.round(1e4 * p, 1), 1e4),
    ],
)
def test_shares_of_another_whole_are_refused_with_it(
    classes: int, scaled: Callable[[Rows], Rows], total: float
) -> None:
    with pytest.raises(RefusedInput, match=r"numbers that sum to \S+ on every image; .* divide them by (\S+),") as told:
        numbers(scaled(softmax(drawn(classes, 2.0))), "it")
    assert float(str(told.value).split("divide them by ")[1].split(",")[0]) == pytest.approx(total, rel=1e-2)


def test_bytes_and_votes_are_shares_of_another_whole() -> None:
    p = softmax(drawn(10, 2.0))
    votes = np.random.default_rng(0).multinomial(300, p)
    for rows in (np.round(255 * p), votes.astype(float)):
        with pytest.raises(RefusedInput, match="on every image"):
            numbers(rows, "it")


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("bias", [0.0, 3.0, 7.0])
@pytest.mark.parametrize("turned", [lambda s: s, lambda s: s.round(2), half, lambda s: s.round(1)])
def test_scores_of_one_class_each_are_refused_with_two_ways_out(
    classes: int, bias: float, turned: Callable[[Rows], Rows]
) -> None:
    scores = turned(1 / (1 + np.exp(bias - drawn(classes, 2.0))))
    with pytest.raises(RefusedInput, match=r"export the logits, from before the sigmoid|nothing but zeros"):
        numbers(scores, "it")


def test_rows_are_judged_together_and_never_alone() -> None:
    p = softmax(drawn(10, 2.0))
    p[5] *= 0.9
    with pytest.raises(RefusedInput, match="export the logits"):
        numbers(p, "it")
    z = drawn(10, 3.0)
    z[7] = softmax(z[7:8])
    assert numbers(z, "it").output == "logits"


def test_a_later_batch_that_is_something_else_stops() -> None:
    z = drawn(10, 3.0)
    for first, then in [(softmax(z), z), (100 * softmax(z), softmax(z)), (softmax(z), 100 * softmax(z))]:
        told = numbers(first, "it")
        told.log_probs(torch.from_numpy(first[:1]), "it")
        with pytest.raises(RefusedInput, match=f"its first answers were {told.output}"):
            told.log_probs(torch.from_numpy(then), "it")
    told = numbers(z, "it")
    with pytest.raises(RefusedInput, match="answered probabilities; its first answers were logits"):
        told.log_probs(torch.from_numpy(softmax(z)), "it")
    few = softmax(z)[:1]  # which may be chance
    torch.testing.assert_close(
        told.log_probs(torch.from_numpy(few), "it"), F.log_softmax(torch.tensor(few).float(), -1)
    )
    alike = np.tile(np.linspace(0.1, 0.6, 10), (ENOUGH, 1))  # logits of like images, in [0, 1]
    assert len(told.log_probs(torch.from_numpy(alike), "it")) == ENOUGH
    logs = np.log(softmax(z))
    assert numbers(logs, "it").log_probs(torch.from_numpy(logs.round(1)), "it").shape == logs.shape
    rounded = softmax(z).round(2)
    told = numbers(rounded, "it")
    for row in rounded:
        assert told.log_probs(torch.from_numpy(row[None]), "it").isfinite().any()


def test_what_is_not_shown_has_no_slope_and_all_else_has_one() -> None:
    p = torch.tensor([[0.75, 0.25, 0.0], [1.0, 0.0, 1e-45]], requires_grad=True)
    Numbers("probabilities").log_probs(p, "it").amax(-1).sum().backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    torch.testing.assert_close(p.grad, torch.tensor([[1 / 0.75, 0, 0], [1, 0, 0]]))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load("digits", tmp_path_factory.mktemp("digits"))


class Percent(nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return 100 * z.softmax(-1)


ENDS: dict[str, tuple[nn.Module, str]] = {
    "softmax": (nn.Softmax(-1), "probabilities"),
    "percent": (Percent(), "percentages"),
    "logarithms": (nn.LogSoftmax(-1), "log-probabilities"),
}


def traced(task: Task, end: nn.Module, path: Path) -> Path:
    network = nn.Sequential(linear(task), end)
    torch.jit.trace(network, torch.zeros(1, *SHAPE)).save(str(path))  # type: ignore[no-untyped-call]
    return path


@pytest.mark.parametrize("name", ENDS)
def test_a_network_with_a_softmax_answers_as_its_logits_do(name: str, task: Task) -> None:
    end, output = ENDS[name]
    plain = linear(task)
    bare = Teacher(
        "t", "0", PreprocessedNetwork(nn.Sequential(plain, end), (0.0,), (1.0,)), "a", "unknown", (0.0,), (1.0,)
    )
    x = torch.from_numpy(task.validation.images[:ENOUGH]).float() / 255
    found = intake.as_logits(bare, intake.outputs(bare, x))
    assert found.output == output
    torch.testing.assert_close(Box(found.here)(x).values, Box(plain)(x).values, rtol=0, atol=1e-4)
    same = fingerprint(replace(bare, program=True)) == fingerprint(replace(found, program=True))
    assert same == (output == "log-probabilities")  # answers that were taken for others are asked anew


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("name", ENDS)
def test_a_file_and_a_url_of_one_network_have_the_cmi_of_its_logits(name: str, task: Task, tmp_path: Path) -> None:
    end, output = ENDS[name]
    path = traced(task, end, tmp_path / "net.pt")
    asked = {"device": "cpu", "cache": tmp_path / "cache", "quiet": True}
    file = diagnose(
        Options(teacher=str(path), data="digits", trust_model_code=True, out=tmp_path / "file", **asked)
    ).diagnosis  # type: ignore[arg-type]
    network = nn.Sequential(linear(task), end)
    with FakeServer(network, SHAPE, 10).serving() as server:
        url = diagnose(Options(teacher=server.url, data="digits", out=tmp_path / "url", **asked)).diagnosis  # type: ignore[arg-type]
    for one, other in zip(file.pools, url.pools, strict=True):
        assert one.cmi == pytest.approx(other.cmi, abs=1e-4)
    assert file.pools[0].cmi[TEMPERATURES.index(1.0)] == pytest.approx(0.211, abs=0.002)
    assert (
        inspect(Options(teacher=str(path), data="digits", trust_model_code=True, cache=tmp_path / "cache")).outputs
        == output
    )


def test_a_network_of_scores_is_refused_and_the_ways_out_are_told(task: Task) -> None:
    network = PreprocessedNetwork(nn.Sequential(linear(task), nn.Sigmoid()), (0.0,), (1.0,))
    teacher = Teacher("t", "0", network, "a", "unknown", (0.0,), (1.0,))
    x = torch.from_numpy(task.validation.images[:ENOUGH]).float() / 255
    with pytest.raises(RefusedInput, match="or put a softmax in its place"):
        intake.outputs(teacher, x)


def remote(server: FakeServer, notes: list[str]) -> Remote:
    return Remote(server.url, SHAPE, 10, note=notes.append)


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        (lambda p: (p * 100).round() / 100, "probabilities as --surface round:2 shows them"),
        (lambda p: (p * 1000).round() / 10, "percentages as --surface round:3 shows them"),
        (lambda p: torch.from_numpy(cut(p.numpy(), 5)), "probabilities as --surface top:5 shows them"),
        (lambda p: torch.from_numpy(hard(p.numpy())), "the top class, as --surface label shows it"),
    ],
)
def test_an_api_that_rounds_or_cuts_is_audited_behind_what_it_shows(
    shown: Callable[[torch.Tensor], torch.Tensor], written: str, task: Task
) -> None:
    network, notes = linear(task), list[str]()
    x = torch.from_numpy(task.validation.images[:100]).float() / 255
    with FakeServer(lambda images: shown(network(images).softmax(-1).double()), SHAPE, 10).serving() as server:
        found = RemoteBox(remote(server, notes), FULL)(x).values
    assert written in notes[0]
    whole = network(x).log_softmax(-1)
    assert (found.exp() - whole.exp())[found.isfinite()].abs().max() <= 0.006 or "label" in written
    assert (found.argmax(-1) == whole.argmax(-1)).float().mean() > 0.95  # rounding makes ties


def test_what_numbers_are_is_told_by_many_images_where_requests_hold_few(task: Task) -> None:
    """The first row alone looks like scores; together they are logits."""
    network = linear(task)
    x = torch.from_numpy(task.validation.images[:50]).float() / 255

    def logits(images: torch.Tensor) -> torch.Tensor:
        z: torch.Tensor = network(images)
        return torch.where((images == x[0]).all().reshape(1, 1), z.sigmoid(), z)

    notes: list[str] = []
    with FakeServer(logits, SHAPE, 10, batch=1).serving() as server:
        asked = RemoteBox(remote(server, notes))
        parts = asked.batches(x)
        next(parts)
        assert server.images == ENOUGH
        assert len(list(parts)) == 49
    assert notes == [f"{server.url} answers with logits"]


def test_a_checkpoint_without_a_card_is_looked_at_and_what_it_was_shown_is_counted(task: Task, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(networks.build("strided-4-8", 10, SHAPE).state_dict(), tmp_path / "bare.pt")
    spec = TeacherSpec(str(tmp_path / "bare.pt"), "digits", "strided-4-8", "none", tried=7)
    place = Runtime(Cache(tmp_path / "cache"), "cpu", lambda line: None)
    weights = intake.open_weights(tmp_path / "bare.pt")
    found = open_target(spec, task, task.train, weights, FULL, 1, place)
    assert (found.teacher.output, found.tried) == ("logits", 7 + ENOUGH)
