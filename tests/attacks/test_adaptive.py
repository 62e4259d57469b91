"""The adaptive attack: its losses are those of the methods that they are named after, and it says what it decoded."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from audits import request
from small_batches import batch, logits
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.adaptive import adaptive, chain
from attacks.adaptive.adaptive import Adaptive, Loss
from attacks.adaptive.chain import DECODERS, Decodings, decode
from attacks.adaptive.decoders import evidence
from attacks.base import Lab
from attacks.controls.ls import LS
from attacks.logits.dist import DIST
from attacks.logits.dkd import DKD
from attacks.logits.kendall import agreement
from attacks.logits.rld import RLD
from attacks.logits.soft_kd import SoftKD
from attacks.losses import supervised
from audit import pipeline
from audit.commands.catalogue import about
from audit.finished.verify import verify
from teachers.data.datasets import load
from teachers.oracle import Oracle
from teachers.surface import Answers, Surface
from teachers.task import UNLABELLED
from teachers.training import Outputs, Recipe, Student
from teachers.views import Viewer

K = 10


def test_its_losses_are_those_of_dist_dkd_and_soft_kd() -> None:
    z, now = logits(0), batch()
    dist = DIST(temperature=4.0).distilled(z, now)
    assert float(Adaptive().distilled(z, now)) == pytest.approx(float(dist))
    dkd = DKD(temperature=2.0, beta=2.0).distilled(z, now)
    assert float(Adaptive(loss="decoupled", temperature=2.0, beta=2.0).distilled(z, now)) == pytest.approx(float(dkd))
    target = DKD(temperature=2.0, beta=0.0).distilled(z, now)
    tail = Adaptive(loss="tail", temperature=2.0, beta=2.0).distilled(z, now)
    assert float(tail + target) == pytest.approx(float(dkd)), "DKD is its target part and its tail"
    soft = SoftKD(temperature=2.0, weight=0.5).loss(Outputs(z), now, 0)
    ours = Adaptive(loss="soft", temperature=2.0).distilled(z, now) + supervised(Outputs(z), now)
    assert float(ours) == pytest.approx(2 * float(soft))


def test_decoders_are_applied_one_after_the_other_and_each_says_what_it_found() -> None:
    """The classes in reverse at a temperature of 8: honest answers come back, up to the scale that the labels say."""
    honest, labels, reference = answers(views=2)
    shown = (reversed_tail(honest) / 8).log_softmax(-1)
    found = decode(shown, labels, reference)
    assert "reversed" in found.told
    assert "scale" in found.told
    assert correlation(found.log_probs, honest) > 0.95
    assert decode(shown, labels, reference, rescaled=False).told == "order of the non-target classes reversed"


def test_answers_as_they_are_stay_so() -> None:
    honest, labels, reference = answers(views=2)
    found = decode(honest, labels, reference, rescaled=False)
    assert found.told == ""
    assert torch.equal(found.log_probs, honest)
    unlabelled = decode(honest, torch.full_like(labels, UNLABELLED), None)
    assert unlabelled.told == ""
    assert torch.equal(unlabelled.log_probs, honest)


def test_a_student_is_trained_on_the_decoded_answers_and_no_more_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, oracle = linear_lab(budget=400)
    seen: list[Tensor] = []

    def spied(log_probs: Tensor, labels: Tensor, reference: Tensor | None, **options: bool) -> adaptive.Decoding:
        assert reference is not None
        assert options == {"rescaled": True, "swaps": True, "cautious": False}
        assert (log_probs.shape, labels.shape, reference.shape) == ((400, K), (200,), (400, K))
        seen.append(log_probs)
        return adaptive.Decoding(log_probs[:200].repeat(2, 1), "the first view alone")

    monkeypatch.setattr(chain, "decode", spied)
    monkeypatch.setattr(adaptive, "DECODED", Decodings())
    student = Adaptive().attempt(lab)
    assert len(seen) == 1
    assert lab.decoded == "the first view alone"
    assert oracle.charged == 400
    assert student.report.recipe == lab.recipe


def test_what_was_decoded_is_not_decoded_again_unless_anything_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    answers, reference = (torch.randn(40, K, generator=draw).log_softmax(-1) for _ in range(2))
    labels, calls = torch.arange(20) % K, []

    def spied(*given: Tensor | None, rescaled: bool, swaps: bool) -> adaptive.Decoding:
        calls.append(rescaled)
        return adaptive.Decoding(answers + len(calls), str(len(calls)))

    monkeypatch.setattr(chain, "decode", spied)
    held = Decodings(entries=7)
    first = held.decode(answers, labels, reference, rescaled=True, swaps=True)
    first.log_probs.zero_()
    again = held.decode(answers.clone(), labels, reference, rescaled=True, swaps=True)
    assert (again.told, len(calls)) == ("1", 1)
    assert torch.equal(again.log_probs, answers + 1), "whoever changes what it got changes nothing that is held"
    others = [
        held.decode(answers, labels, reference, rescaled=False, swaps=True),
        held.decode(answers, labels, None, rescaled=True, swaps=True),
        held.decode(answers, labels.flip(0), reference, rescaled=True, swaps=True),
        held.decode(answers, labels, reference.flip(0), rescaled=True, swaps=True),
        held.decode(answers.flip(0), labels, reference, rescaled=True, swaps=True),
        held.decode(answers, labels, reference, rescaled=True, swaps=False),
    ]
    assert [one.told for one in others] == ["2", "3", "4", "5", "6", "7"]
    assert held.decode(answers, labels, reference, rescaled=True, swaps=True).told == "1"
    held.decode(answers.double(), labels, reference, rescaled=True, swaps=True)
    assert held.decode(answers, labels, reference, rescaled=True, swaps=True).told == "1", (
        "the one that was used last is kept"
    )
    assert held.decode(answers, labels, reference, rescaled=False, swaps=True).told == "9", "the oldest is not"
    small = Decodings(most=40 * K - 1)
    told = [small.decode(answers, labels, reference, rescaled=True, swaps=True).told for _ in range(2)]
    assert told == ["10", "11"], "what is large is not kept"


@pytest.mark.parametrize("setting", Adaptive.grid(), ids=lambda a: f"{a.loss} {a.beta:g}")
def test_answers_that_show_their_label_alone_have_no_distilled_part(setting: Adaptive) -> None:
    z, now = logits(0), batch()
    assert now.answers is not None
    alone = torch.where(F.one_hot(now.labels, 5).bool(), 0.0, -torch.inf)
    silent = replace(now, answers=Answers("probs", alone))
    assert float(setting.distilled(z, silent)) == 0
    some = torch.arange(7) < 4
    mixed = replace(now, answers=Answers("probs", torch.where(some[:, None], now.answers.values, alone)))
    part = replace(now, x=now.x[some], labels=now.labels[some], answers=now.answers[some])
    assert float(setting.distilled(z, mixed)) == pytest.approx(4 / 7 * float(setting.distilled(z[some], part)))
    z.requires_grad_(True)
    (setting.distilled(z, silent) + supervised(Outputs(z), silent)).backward()
    (expected,) = torch.autograd.grad(supervised(Outputs(z), silent), z)
    assert z.grad is not None
    assert torch.equal(z.grad, expected)


def test_its_order_is_kendalls_and_its_refined_loss_that_of_rld() -> None:
    z, now = logits(0), batch()
    assert now.answers is not None
    tau = agreement(z, now.answers.log_probs(), 0.25).mean()
    assert float(Adaptive(loss="order", beta=4.0).distilled(z, now)) == pytest.approx(4 * float(1 - tau))
    rld = RLD(temperature=2.0, beta=3.0, alpha=3.0).distilled(z, now)
    assert float(Adaptive(loss="refined", temperature=2.0, beta=3.0).distilled(z, now)) == pytest.approx(float(rld))


def test_the_last_setting_falls_back_to_the_labels() -> None:
    """Without weight no loss distils anything: the student is the one that no teacher taught, bit by bit."""
    z, now = logits(0), batch()
    for loss in get_args(Loss):
        assert float(Adaptive(loss=loss, beta=0.0).distilled(z, now)) == 0
    fallback = Adaptive.grid()[-1]
    lab, _ = linear_lab(budget=400)
    student = fallback.attempt(lab)
    alone, _ = linear_lab(budget=400)
    ce = LS(smoothing=0.0).attempt(alone)
    pairs = zip(student.network.state_dict().values(), ce.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "tells", [{"crop": 0.01, "strong": 0.5, "raw": 0.2}, {"crop": 0.01, "strong": 0.1, "raw": 0.6}]
)
def test_other_views_are_asked_where_crops_tell_nothing(
    tells: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, _ = linear_lab(budget=None)
    shown: dict[str, Tensor] = {}

    def seen(lab: Lab, kind: str, own: Student, rescaled: bool, cautious: bool = False) -> adaptive.Sight:
        shown[kind] = lab.answers(kind).log_probs()
        return adaptive.Sight(adaptive.Meaning(Answers("probs", shown[kind]), ""), tells[kind])

    monkeypatch.setattr(adaptive, "_seen", seen)
    found = adaptive._read(lab, rescaled=False)
    best = max(tells, key=lambda kind: tells[kind])
    assert found.told == f"crops tell nothing about the image, but {best} views do"
    views = shown[best].view(-1, 200, K)
    for image, label in enumerate(lab.pool.every_label.tolist()):
        named = [answer for answer in views[:, image] if int(answer.argmax()) == label]
        alone = torch.where(torch.arange(K) == label, 0.0, -torch.inf)
        expected = torch.stack(named).mean(0).log_softmax(-1) if named else alone
        for row in found.answers[torch.arange(400)].values.view(2, 200, K)[:, image]:
            torch.testing.assert_close(row, expected)


@pytest.mark.parametrize(
    ("tells", "budget", "asked"),
    [
        ({"crop": 0.3, "strong": 0.9, "raw": 0.9}, None, ["crop"]),  # crops tell enough
        ({"crop": 0.1, "strong": 0.15, "raw": 0.16}, None, ["crop", "strong", "raw"]),  # others tell little more
        ({"crop": 0.0, "strong": 0.9, "raw": 0.9}, 400, ["crop"]),  # no query is left
        ({"crop": 0.0, "strong": 0.9, "raw": 0.1}, 600, ["crop", "raw"]),  # one view an image is left
    ],
)
def test_crops_are_used_where_other_views_do_not_tell_clearly_more(
    tells: dict[str, float], budget: int | None, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, oracle = linear_lab(budget=budget)
    kinds: list[str] = []

    def seen(lab: Lab, kind: str, own: Student, rescaled: bool, cautious: bool = False) -> adaptive.Sight:
        kinds.append(kind)
        return adaptive.Sight(adaptive.Meaning(lab.answers(kind), "crops" * (kind == "crop")), tells[kind])

    monkeypatch.setattr(adaptive, "_seen", seen)
    assert adaptive._read(lab, rescaled=True).told == "crops"
    assert kinds == asked
    assert budget is None or oracle.charged <= budget


def test_a_cautious_decoding_asks_about_crops_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lab, oracle = linear_lab(budget=None)
    told: list[bool] = []

    def seen(lab: Lab, kind: str, own: Student, rescaled: bool, cautious: bool) -> adaptive.Sight:
        told.append(cautious)
        return adaptive.Sight(adaptive.Meaning(lab.answers(kind), kind), 0.0)

    monkeypatch.setattr(adaptive, "_seen", seen)
    assert adaptive._read(lab, rescaled=True, cautious=True).told == "crop"
    assert told == [True]
    assert oracle.charged == 400
    monkeypatch.setattr(adaptive, "_read", lambda lab, rescaled, cautious: told.append(cautious))
    for setting in (Adaptive(), Adaptive(cautious=True)):
        with pytest.raises(AttributeError):
            setting.run(lab)
    assert told == [True, False, True]


def test_what_answers_tell_is_measured_on_what_they_mean() -> None:
    lab, _ = linear_lab(budget=None)
    own = lab.fit(lab.stream("crop"), LS().loss)
    sight = adaptive._seen(lab, "crop", own, True)
    reference = adaptive._answers(own, Viewer(lab.pool, lab.view_set("crop")), 2, torch.arange(200), "cpu")
    labels, rows = torch.from_numpy(lab.pool.every_label), sight.meaning.answers[torch.arange(400)]
    expected = evidence(rows.values, labels, reference, alike=True).cosines().mean()
    assert sight.tells == pytest.approx(float(expected))
    assert adaptive._seen(lab, "crop", None, True).tells == 0


@pytest.mark.parametrize("kind", ["crop", "strong"])
def test_many_answers_are_decoded_in_shards_and_read_from_a_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row holds what its shard of the images says, and no file is left behind."""
    lab, _ = linear_lab(budget=None)
    lab._folder = tmp_path
    monkeypatch.setattr(chain, "WHOLE", 0)
    monkeypatch.setattr(chain, "SHARD", 2 * 90 * K)
    monkeypatch.setattr(chain, "EACH", 10)
    labels = torch.from_numpy(lab.pool.every_label)
    split = chain.shards(labels, 2 * K)
    assert len(split) == 3
    assert all(len(labels[shard].unique()) < K for shard in split), "no shard holds all classes"
    own = lab.fit(lab.stream("crop"), LS().loss)
    sight = adaptive._seen(lab, kind, own, True)
    found, shown = sight.meaning.answers[torch.arange(400)].values, lab.answers(kind).log_probs()
    assert len(sight.meaning.answers) == 400
    reference = adaptive._answers(own, Viewer(lab.pool, lab.view_set(kind)), 2, torch.arange(200), "cpu")
    cosines, told = [], []
    for shard in split:
        rows = torch.cat([shard, 200 + shard])
        one = decode(shown[rows], labels[shard], reference[rows], swaps=False)
        assert torch.equal(found[rows], one.log_probs)
        cosines.append(evidence(one.log_probs, labels[shard], reference[rows], alike=True).cosines())
        told.append(one.told)
    assert sight.tells == pytest.approx(float(torch.cat(cosines).mean()))
    several = [one for one in told if one]
    assert sight.meaning.told == f"{several[0]}; this or another thing in {len(several)} of 3 shards of the images"
    assert not list(tmp_path.iterdir())


def test_a_student_of_answers_in_shards_is_that_of_the_same_answers_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoders that change nothing make one student, whatever the shards, and whichever views are used."""
    monkeypatch.setattr(chain, "decode", lambda given, labels, reference, **options: chain.unchanged(given))
    students = []
    for whole in (chain.WHOLE, 0):
        monkeypatch.setattr(chain, "WHOLE", whole)
        monkeypatch.setattr(chain, "SHARD", 2 * 90 * K)
        monkeypatch.setattr(adaptive, "DECODED", Decodings())
        for enough, clearly in ((0.0, 2.0), (2.0, -9.0)):
            monkeypatch.setattr(adaptive, "ENOUGH", enough)
            monkeypatch.setattr(adaptive, "CLEARLY", clearly)
            lab, _ = linear_lab(budget=None)
            students.append(Adaptive(rescaled=False).attempt(lab).network.state_dict())
    for ours, theirs in zip(students[:2], students[2:], strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_info_tells_of_each_decoder_in_a_sentence() -> None:
    told = about("adaptive")
    for decoder in DECODERS:
        said = str(sys.modules[decoder.__module__].__doc__).splitlines()[0]
        assert f"- {said}" in told
        assert said.endswith(".")


@pytest.mark.slow
def test_the_record_and_the_page_say_what_was_decoded(tiny: object, kept: Path, tmp_path: Path) -> None:
    run = pipeline.run(request(kept, tmp_path / "out", attacks="adaptive", surface="temperature:16"))
    (row,) = run.record.comparisons
    said = run.record.decoded(row)
    assert said
    assert all("scale" in one for one in said)
    assert said[0] in (run.folder / "report.html").read_text(encoding="utf-8")
    assert {t.decoded for t in run.record.trials if t.cell.technique == "ls"} == {""}
    assert list(verify(run.folder)) == []


def linear_lab(budget: int | None) -> tuple[Lab, Oracle]:
    """Return a lab of 200 digits, two views each, whose teacher is linear and untrained."""
    pool = load("digits").train.take(np.arange(200))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, K))

    def ask(x: Tensor) -> Answers:
        with torch.no_grad():
            return Answers("probs", network(x).log_softmax(-1))

    oracle = Oracle(ask, surface=Surface("probs"), shape=pool.shape, budget=budget)
    recipe = Recipe("strided-4-4", 4, views=2)
    return Lab(oracle=oracle, pool=pool, surrogate=pool.take(np.arange(0)), classes=K, recipe=recipe, seed=0), oracle


def answers(views: int, images: int = 600) -> tuple[Tensor, Tensor, Tensor]:
    """Return the answers (V·N, K) of a teacher, labels (N,) and the answers of a student that knows less."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % K
    alike = torch.randn(K, K, generator=chance)
    alike = alike + alike.T + 6 * torch.eye(K)
    image = torch.randn(images, K, generator=chance)
    mean = (alike[labels] + image).repeat(views, 1)
    noise = [torch.randn(views * images, K, generator=chance) for _ in range(2)]
    return (mean + 0.3 * noise[0]).log_softmax(-1), labels, (mean + 0.9 * noise[1]).log_softmax(-1)


def reversed_tail(log_probs: Tensor) -> Tensor:
    """Return answers whose classes behind the top one are reflected at their mean."""
    top = log_probs.argmax(-1, keepdim=True)
    behind = torch.ones_like(log_probs).scatter(-1, top, 0.0)
    mean = (log_probs * behind).sum(-1, keepdim=True) / behind.sum(-1, keepdim=True)
    return torch.where(behind.bool(), 2 * mean - log_probs, log_probs)


def correlation(a: Tensor, b: Tensor) -> float:
    """Return the mean correlation of the classes behind the top one."""
    behind = torch.ones_like(b, dtype=torch.bool).scatter(-1, b.argmax(-1, keepdim=True), False)
    x, y = (z[behind].reshape(len(b), -1) for z in (a, b))
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    return float(torch.cosine_similarity(x, y, -1).mean())
