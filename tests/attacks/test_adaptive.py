"""The adaptive attack: its losses are those of the methods that they are named after, and it says what it decoded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from audits import request
from small_batches import batch, logits
from torch import Tensor, nn

from attacks.adaptive import adaptive
from attacks.adaptive.adaptive import Adaptive, decode
from attacks.base import Lab
from attacks.logits.dist import DIST
from attacks.logits.dkd import DKD
from attacks.logits.soft_kd import SoftKD
from attacks.losses import supervised
from audit import pipeline
from audit.finished.verify import verify
from teachers.data.datasets import load
from teachers.oracle import Oracle
from teachers.surface import Answers, Surface
from teachers.task import UNLABELLED
from teachers.training import Outputs, Recipe

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
    pool = load("digits").train.take(np.arange(200))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, K))

    def ask(x: Tensor) -> Answers:
        with torch.no_grad():
            return Answers("probs", network(x).log_softmax(-1))

    oracle = Oracle(ask, surface=Surface("probs"), shape=pool.shape, budget=400)
    recipe = Recipe("strided-4-4", 4, views=2)
    lab = Lab(oracle=oracle, pool=pool, surrogate=pool.take(np.arange(0)), classes=K, recipe=recipe, seed=0)
    seen: list[Tensor] = []

    def spied(log_probs: Tensor, labels: Tensor, reference: Tensor | None, *, rescaled: bool) -> adaptive.Decoding:
        assert reference is not None
        assert (log_probs.shape, labels.shape, reference.shape) == ((400, K), (200,), (400, K))
        seen.append(log_probs)
        return adaptive.Decoding(log_probs[:200], "the first view alone")

    monkeypatch.setattr(adaptive, "decode", spied)
    student = Adaptive().attempt(lab)
    assert len(seen) == 1
    assert lab.decoded == "the first view alone"
    assert oracle.charged == 400
    assert student.report.recipe == recipe


def test_the_record_and_the_page_say_what_was_decoded(tiny: object, kept: Path, tmp_path: Path) -> None:
    run = pipeline.run(request(kept, tmp_path / "out", attacks="adaptive", surface="temperature:16"))
    (row,) = run.record.comparisons
    said = run.record.decoded(row)
    assert said
    assert all("scale" in one for one in said)
    assert said[0] in (run.folder / "report.html").read_text(encoding="utf-8")
    assert {t.decoded for t in run.record.trials if t.cell.technique == "ls"} == {""}
    assert list(verify(run.folder)) == []


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
