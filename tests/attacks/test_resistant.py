"""Attacks made for teachers that resist: every formula against an independent reference."""

import copy
import math
import pickle
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.base import Attack
from attacks.contract import CLASSES, SHAPE, tiny_lab
from attacks.controls.ls import LS
from attacks.logits.soft_kd import SoftKD
from attacks.losses import kd
from attacks.resistant import inversion
from attacks.resistant.htc import HTC
from attacks.resistant.inversion import Inversion, Tail, fill, invert, unreverse
from attacks.resistant.mkd import MKD, Markov
from attacks.resistant.reopt import Reopt
from attacks.resistant.skeptical import Headed, Skeptical, with_deep_heads, with_heads
from attacks.resistant.view_ensemble import ViewEnsemble, ensemble
from teachers import networks
from teachers.surface import FULL, Answers, Surface
from teachers.task import UNLABELLED
from teachers.training import Batch, Outputs, Student

B, K = 7, 5


def logits(seed: int, rows: int = B, classes: int = K) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def batch(labels: list[int] | None = None, seed: int = 100) -> Batch:
    y = torch.tensor([0, 1, 2, 3, 4, 0, 1] if labels is None else labels)
    return Batch(torch.zeros(B, 1, 2, 2), y, Answers("probs", F.log_softmax(logits(seed), -1)))


def softmax(row: torch.Tensor, T: float = 1.0) -> list[float]:
    powers = [math.exp(float(z) / T) for z in row]
    return [power / sum(powers) for power in powers]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def weights(student: Student) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in student.network.parameters()])


# HTC


def test_htc_adds_distillation_to_the_full_cross_entropy() -> None:
    z, now, T = logits(0), batch(), 5.0
    total = 0.0
    for i, y in enumerate(now.labels.tolist()):
        total -= math.log(softmax(z[i])[y])
        total += 0.7 * T * T * divergence(softmax(logits(100)[i], T), softmax(z[i], T))
    assert float(HTC(temperature=T, weight=0.7).loss(Outputs(z), now, 0)) == pytest.approx(total / B, rel=1e-6)


def test_htc_at_an_infinite_temperature_matches_centred_logits() -> None:
    """T² KL tends to the mean squared difference of centred logits over 2 (Hinton et al. 2015, section 2.1)."""
    z, now = logits(0), batch()
    attack = HTC(temperature=3000.0)
    distilled = attack.loss(Outputs(z), now, 0) - F.cross_entropy(z, now.labels)
    centred = (z - z.mean(-1, keepdim=True)) - (logits(100) - logits(100).mean(-1, keepdim=True))
    assert float(distilled) == pytest.approx(float((centred**2).mean(-1).mean()) / 2, rel=1e-2)


# Re-optimised KD


def test_reopt_without_trust_is_soft_kd() -> None:
    z, now = logits(0), batch([0, UNLABELLED, 2, 3, UNLABELLED, 0, 1])
    expected = SoftKD(temperature=3.0, weight=0.6).loss(Outputs(z), now, 0)
    mine = Reopt(temperature=3.0, weight=0.6, trust=False).loss(Outputs(z), now, 0)
    torch.testing.assert_close(mine, expected, check_dtype=False)


def test_reopt_learns_the_label_alone_where_it_refutes_the_teacher() -> None:
    z, now, T = logits(0), batch(), 2.0
    told = now.answers.labels.tolist()
    labels = [told[0], (told[1] + 1) % K, told[2], (told[3] + 2) % K, UNLABELLED, told[5], (told[6] + 1) % K]
    total = {"labelled": 0.0, "distilled": 0.0}
    for i, y in enumerate(labels):
        weight = 0.6 if y in (told[i], UNLABELLED) else 0.0
        if y != UNLABELLED:
            total["labelled"] -= (1 - weight) * math.log(softmax(z[i])[y])
        total["distilled"] += weight * T * T * divergence(softmax(logits(100)[i], T), softmax(z[i], T))
    expected = total["labelled"] / 6 + total["distilled"] / B
    loss = Reopt(temperature=T, weight=0.6).loss(Outputs(z), batch(labels), 0)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


# View ensemble


@pytest.mark.parametrize("geometric", [True, False])
def test_every_view_gets_the_mean_answer_of_its_image(geometric: bool) -> None:
    views, images = 3, 4
    log_p = F.log_softmax(logits(1, views * images), -1)
    mean = ensemble(Answers("probs", log_p), views, geometric=geometric)[torch.arange(views * images)].values
    for view in range(views):
        for image in range(images):
            rows = [log_p[v * images + image] for v in range(views)]
            if geometric:
                product = [math.exp(sum(float(r[c]) for r in rows) / views) for c in range(K)]
                expected = [p / sum(product) for p in product]
            else:
                expected = [sum(math.exp(float(r[c])) for r in rows) / views for c in range(K)]
            assert mean[view * images + image].exp().tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("geometric", [True, False])
@pytest.mark.parametrize("surface", ["probs", "top:3", "round:1"])
def test_a_mean_answer_has_the_same_bits_whichever_rows_are_read(surface: str, geometric: bool) -> None:
    """A student that was trained on means of all answers at once is the one that reads them by the batch."""
    views, images = 3, 201
    shown = Surface(surface)(F.log_softmax(logits(1, views * images, 62).float(), -1))
    rows = shown.logits() if geometric else shown.log_probs().exp()
    mean = rows.reshape(views, -1, 62).mean(0)
    at_once = (mean if geometric else mean.log()).log_softmax(-1).repeat(views, 1)
    told = ensemble(shown, views, geometric=geometric)
    assert len(told) == views * images
    for part in torch.randperm(views * images, generator=torch.Generator().manual_seed(0)).split(127):
        assert torch.equal(told[part].values, at_once[part])
    assert torch.equal(told[5:300][torch.arange(9)].values, at_once[5:14])
    assert len(told[5:300][10:]) == 285


def test_an_ensemble_of_views_divides_noise_by_the_root_of_their_number() -> None:
    clean = F.log_softmax(logits(1, 50), -1).repeat(16, 1)
    noisy = Surface("noise:0.5")(clean + 1e-3 * torch.arange(16).repeat_interleave(50)[:, None]).values
    error = Answers("probs", noisy).logits() - Answers("probs", clean).logits()
    told = ensemble(Answers("probs", noisy), 16, geometric=True)[torch.arange(800)]
    mean = told.logits() - Answers("probs", clean).logits()
    assert float(mean.std() / error.std()) == pytest.approx(1 / 4, rel=0.05)


def test_an_ensemble_of_equal_views_is_soft_kd() -> None:
    rows = F.log_softmax(logits(5, 60, CLASSES), -1).float().repeat(2, 1)
    students = []
    for attack in (ViewEnsemble(), SoftKD()):
        lab = tiny_lab(FULL, seed=3)
        lab.told = lambda paid: Answers("probs", rows)  # type: ignore[method-assign]
        students.append(weights(attack.attempt(lab)))
    torch.testing.assert_close(students[0], students[1], rtol=1e-4, atol=1e-5)


# MKD


def markov(attack: MKD) -> Markov:
    lab = tiny_lab(FULL, seed=4)
    lab.classes = K
    objective = Markov(attack, lab)
    for parameter in objective.parameters():
        parameter.data = parameter.data.double()
    return objective


def learnt() -> Markov:
    """Kernels that have moved away from their start."""
    objective = markov(MKD(rate=10.0))
    optimiser = objective.optimiser()
    for _ in range(20):
        loss = objective(Outputs(logits(0)), batch(), 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return objective


def test_rows_of_a_kernel_sum_to_one_before_and_after_learning() -> None:
    """Summing over columns instead would not map distributions to distributions."""
    start, moved = markov(MKD()).kernel(torch.arange(K)), learnt().kernel(torch.arange(K))
    torch.testing.assert_close(start.sum(-1), torch.ones(K, K, dtype=start.dtype))
    torch.testing.assert_close(moved.sum(-1), torch.ones(K, K, dtype=start.dtype))
    assert not torch.allclose(moved.sum(-2), torch.ones(K, K, dtype=start.dtype), atol=1e-2)
    assert not torch.allclose(moved[0], moved[1], atol=1e-2)


def test_a_kernel_is_the_softmax_of_a_diagonal_and_a_product() -> None:
    objective = learnt()
    s, u, v = (parameter.detach() for parameter in objective.parameters())
    for y in range(K):
        for i in range(K):
            row = [float(s[y]) * (i == j) + sum(float(u[y, i, r] * v[y, j, r]) for r in range(3)) for j in range(K)]
            expected = softmax(torch.tensor(row, dtype=torch.float64))
            assert objective.kernel(torch.tensor([y]))[0, i].tolist() == pytest.approx(expected, rel=1e-6)


def test_a_target_is_the_teachers_answer_sent_through_the_kernel_of_the_label() -> None:
    objective, p, y = learnt(), F.softmax(logits(100), -1), batch().labels
    kernel = objective.kernel(torch.arange(K)).detach()
    for b in range(B):
        expected = [sum(float(p[b, i] * kernel[y[b], i, j]) for i in range(K)) for j in range(K)]
        assert objective.target(p, y)[b].tolist() == pytest.approx(expected, rel=1e-6)


def test_a_kernel_starts_with_the_mass_on_its_diagonal_that_it_is_told() -> None:
    kernel = markov(MKD(stays=0.7)).kernel(torch.arange(K))
    torch.testing.assert_close(kernel.diagonal(dim1=1, dim2=2), torch.full((K, K), 0.7, dtype=kernel.dtype))


def test_an_identity_kernel_is_soft_kd() -> None:
    now, T = batch(), 4.0
    mine, theirs = logits(0).requires_grad_(), logits(0).requires_grad_()
    loss = markov(MKD(stays=1 - 1e-12))(Outputs(mine), now, 0)
    expected = SoftKD().loss(Outputs(theirs), now, 0)
    loss.backward()
    expected.backward()
    assert mine.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-8)
    kernels = kd(logits(0), F.softmax(logits(100) / T, -1), T)
    torch.testing.assert_close(loss, expected + kernels, rtol=1e-6, atol=1e-8)


def test_kernels_learn_from_the_student_as_it_is_and_leave_it_alone() -> None:
    """The gradient of the scalar with respect to U is that of the divergence alone, by finite differences."""
    objective, now, z, T = learnt(), batch(), logits(0), 4.0
    u = objective.parameters()[1]
    u.grad = None
    objective(Outputs(z), now, 0).backward()
    kernels = u.grad
    assert kernels is not None
    p = F.softmax(logits(100) / T, -1)

    def value() -> float:
        return float(kd(z, objective.target(p, now.labels).detach(), T))

    for at in [(0, 1, 0), (1, 2, 2), (3, 0, 1)]:
        before = float(u.detach()[at])
        u.data[at] = before + 1e-5
        more = value()
        u.data[at] = before - 1e-5
        less = value()
        u.data[at] = before
        assert float(kernels[at]) == pytest.approx((more - less) / 2e-5, rel=1e-3, abs=1e-9)


# Skeptical student


def test_a_skeptical_loss_is_its_sum() -> None:
    z, shallow, deep, now, T = logits(0), logits(1), logits(2), batch(), 3.0
    total = 0.0
    for i, y in enumerate(now.labels.tolist()):
        hears = softmax(shallow[i], T)
        total -= math.log(softmax(z[i])[y])
        total += 0.8 * T * T * divergence(softmax(logits(100)[i], T), hears) - 0.2 * math.log(softmax(shallow[i])[y])
        total += 0.4 * divergence(softmax(z[i], T), softmax(deep[i], T)) - 0.6 * math.log(softmax(deep[i])[y])
    attack = Skeptical(temperature=T, weight=0.8, coupling=0.4)
    assert float(attack.loss(Outputs(z, (shallow, deep)), now)) == pytest.approx(total / B, rel=1e-6)


def test_the_teacher_of_a_skeptical_student_says_nothing_to_its_last_head() -> None:
    last, auxiliary = [], []
    for told in (100, 200):
        z, a, d = (logits(seed).requires_grad_() for seed in range(3))
        Skeptical().loss(Outputs(z, (a, d)), batch(seed=told)).backward()
        assert z.grad is not None
        assert a.grad is not None
        last.append(z.grad)
        auxiliary.append(a.grad)
    torch.testing.assert_close(last[0], last[1])
    assert not torch.allclose(auxiliary[0], auxiliary[1], atol=1e-3)


def test_a_skeptical_student_learns_from_labels_alone_before_the_delay_is_over() -> None:
    waits, never = Skeptical(delay=1.0).attempt(tiny_lab(FULL, 0)), Skeptical(delay=1.0, temperature=1.0)
    torch.testing.assert_close(weights(waits), weights(never.attempt(tiny_lab(FULL, 0))), rtol=0, atol=0)
    assert not torch.allclose(weights(waits), weights(Skeptical().attempt(tiny_lab(FULL, 0))), atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_of_the_authors_heads_the_teacher_speaks_to_the_second_from_the_end(count: int) -> None:
    heads = tuple(logits(seed).requires_grad_() for seed in range(1, count + 1))
    now, z = batch(), logits(0)
    paper = Skeptical.presets()["paper"]
    assert isinstance(paper, Skeptical)
    told, deaf = (replace(paper, coupling=0.0, weight=w).loss(Outputs(z, heads), now) for w in (1.0, 0.0))
    grads = torch.autograd.grad(told - deaf, heads, allow_unused=True)
    moved = [i for i, g in enumerate(grads) if g is not None and float(g.abs().max()) > 1e-6]
    assert moved == [max(0, count - 2)]
    T, hears = 20.0, heads[max(0, count - 2)].detach()
    expected = sum(
        T * T * divergence(softmax(logits(100)[i], T), softmax(hears[i], T)) + math.log(softmax(hears[i])[y])
        for i, y in enumerate(now.labels.tolist())
    )
    assert float((told - deaf).detach()) == pytest.approx(expected / B, rel=1e-5)


def test_the_authors_heads_have_attention_and_a_double_convolution_for_each_stage_left() -> None:
    network = networks.raw_pixels(networks.build("torchvision:resnet18", K, (3, 64, 64)), 3)
    wrapped = with_deep_heads(network, K, (3, 64, 64))
    assert isinstance(wrapped, Headed)
    assert [head.shape for head in wrapped(torch.rand(2, 3, 64, 64)).heads] == [(2, K)] * 4
    for head, doubled in zip(wrapped.heads, (3, 3, 2, 1), strict=True):
        attention, *rest = head
        strides = [m.stride[0] for m in rest if isinstance(m, nn.Conv2d) and m.groups > 1]
        assert strides == [2, 1] * doubled
        assert rest[-1].in_features == rest[0].in_channels * 2**doubled
        x = torch.rand(2, rest[0].in_channels, 5, 7) + 0.1
        ratio = attention(x).detach() / x
        assert ratio.shape == x.shape
        assert 0 < float(ratio.min()) < float(ratio.max()) < 1


def test_deep_heads_are_where_small_ones_are() -> None:
    for name, shape in (("strided-4-8-16", (1, 32, 32)), ("resnet-8", (3, 32, 32))):
        network = networks.raw_pixels(networks.build(name, K, shape), shape[0])
        small, deep = (wrap(network, K, shape) for wrap in (with_heads, with_deep_heads))
        assert small._places == deep._places
    assert with_deep_heads(Tokens(K), K, (1, 8, 8))(torch.rand(2, 1, 8, 8)).heads[0].shape == (2, K)


class Tokens(nn.Module):
    """A transformer in small: maps shrink once, then tokens keep their shape."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, 4)
        self.blocks = nn.Sequential(*(nn.Linear(6, 6) for _ in range(5)))
        self.head = nn.Linear(6, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.blocks(self.patches(x).flatten(2).mT).mean(1))
        return y


def headed(network: nn.Module, shape: tuple[int, int, int]) -> Headed:
    wrapped = with_heads(network, K, shape)
    assert isinstance(wrapped, Headed)
    given = wrapped(torch.rand(2, *shape))
    assert given.logits.shape == (2, K)
    assert all(head.shape == (2, K) for head in given.heads)
    return wrapped


@pytest.mark.parametrize(
    ("name", "shape", "places"),
    [
        ("strided-4-8-16", (1, 32, 32), ["network.2", "network.5"]),
        ("cnn-4-8-16", (1, 32, 32), ["network.2", "network.6"]),
        ("resnet-8", (3, 32, 32), ["network.blocks.0", "network.blocks.1"]),
        ("torchvision:resnet18", (3, 64, 64), ["network.relu", "network.layer1", "network.layer2", "network.layer3"]),
    ],
)
def test_every_stage_but_the_last_gets_a_head(name: str, shape: tuple[int, int, int], places: list[str]) -> None:
    network = networks.raw_pixels(networks.build(name, K, shape), shape[0])
    assert headed(network, shape)._places == places


def test_a_network_that_gates_its_channels_keeps_its_early_stages() -> None:
    """Squeeze-and-excitation shrinks maps to one pixel half way; that is no stage."""
    network = networks.build("torchvision:mobilenet_v3_small", K, (3, 64, 64))
    assert len(headed(network, (3, 64, 64)).heads) >= 3


def test_networks_without_stages_get_one_head_half_way() -> None:
    assert headed(Tokens(K), (1, 8, 8))._places == ["blocks.2"]
    perceptron = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 9), nn.Linear(9, K))
    assert headed(perceptron, (1, 8, 8))._places == ["2"]


def test_a_module_that_is_called_twice_is_no_place_for_a_head() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.relu = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU()
            self.head = nn.Linear(4, K)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.head(self.relu(self.two(self.relu(self.one(x)))).mean((2, 3)))
            return y

    assert headed(Shared(), (1, 8, 8))._places == ["one"]


def test_heads_leave_the_network_as_it_was() -> None:
    network = networks.raw_pixels(networks.build("strided-4-8", K, SHAPE), 1)
    before, x = copy.deepcopy(network), torch.rand(3, *SHAPE)
    wrapped = with_heads(network, K, SHAPE)
    assert network.training
    for name, value in before.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)
    torch.testing.assert_close(wrapped.eval()(x).logits, before.eval()(x))
    again = pickle.loads(pickle.dumps(copy.deepcopy(wrapped)))
    torch.testing.assert_close(again(x).heads[0], wrapped(x).heads[0])


@pytest.mark.parametrize("deep", [False, True])
def test_the_control_of_a_skeptical_student_has_its_heads(deep: bool) -> None:
    lab = tiny_lab(FULL, 0)
    student = Skeptical(deep=deep).attempt(lab)
    lab.recipe = student.report.recipe
    control = LS().attempt(lab)
    assert control.report.parameters == student.report.parameters > LS().attempt(tiny_lab(FULL, 0)).report.parameters


# Inversion


def inverted(
    log_probs: torch.Tensor, steps: tuple[tuple[str, float], ...], labels: torch.Tensor, tail: Tail = "class"
) -> torch.Tensor:
    """Return all rows."""
    return invert(log_probs, steps, labels, tail)(torch.arange(len(log_probs)))


@pytest.mark.parametrize("tail", get_args(Tail))
@pytest.mark.parametrize("surface", ["probs", "temperature:4+top:3", "top:3+round:1", "round:2+temperature:0.5"])
def test_answers_that_are_restored_when_they_are_read_have_the_bits_of_those_restored_at_once(
    surface: str, tail: Tail, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = torch.Generator().manual_seed(0)
    log_p = F.log_softmax(3 * torch.randn(3001, 62, generator=chance), -1)
    shown, labels = Surface(surface)(log_p).values, torch.randint(62, (3001,), generator=chance)
    monkeypatch.setattr(inversion, "CHUNK", 4096)
    at_once = inverted(shown, Surface(surface).steps, labels, tail)
    monkeypatch.setattr(inversion, "FEW", 3001 * 62 - 1)
    for chunk in (127, 2048):
        monkeypatch.setattr(inversion, "CHUNK", chunk)
        read = invert(shown, Surface(surface).steps, labels, tail)
        for part in torch.randperm(3001, generator=chance).split(127):
            assert torch.equal(read(part), at_once[part])


def test_a_reverse_sigmoid_is_undone_alike_at_once_and_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sigmoid rounds by the place of a number among others, in its sixteenth digit."""
    surface = Surface("reverse-sigmoid:0.5+round:2")
    shown, labels = surface(F.log_softmax(logits(3, 300, 20), -1).float()).values, torch.arange(300) % 20
    for tail in get_args(Tail):
        at_once = inverted(shown, surface.steps, labels, tail)
        monkeypatch.setattr(inversion, "FEW", 0)
        read = invert(shown, surface.steps, labels, tail)
        monkeypatch.undo()
        for part in torch.arange(300).split(7):
            torch.testing.assert_close(read(part), at_once[part], rtol=1e-6, atol=0)


def test_a_temperature_is_undone_exactly() -> None:
    log_p = F.log_softmax(logits(1), -1)
    shown = Surface("temperature:4+temperature:0.5")
    torch.testing.assert_close(inverted(shown(log_p).values, shown.steps, batch().labels), log_p)


def test_the_steps_of_a_surface_are_undone_last_first() -> None:
    """What is cut after a temperature is filled before the temperature is undone."""
    log_p, labels = F.log_softmax(logits(1), -1), batch().labels
    surface = Surface("temperature:4+top:2")
    every = torch.arange(B)
    filled = fill(surface(log_p).values.__getitem__, labels, K, 0.0, cut=True, prior=True)(every)
    torch.testing.assert_close(
        inverted(surface(log_p).values, surface.steps, labels), F.log_softmax(4 * filled, -1), check_dtype=False
    )


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_a_reverse_sigmoid_is_undone_for_confident_answers(beta: float) -> None:
    tail = torch.tensor([0.9, 0.97, 0.99, 0.999])
    rows = torch.stack([torch.cat([t[None], (1 - t) * F.softmax(logits(9, 1, 60)[0] / 6, -1)]) for t in tail]).double()
    shown = Surface(f"reverse-sigmoid:{beta}")(rows.log()).values
    restored = unreverse(shown, beta).exp()
    turn = _turning_point(beta)
    sure = rows[:, 1:].amax(-1) < turn  # every class but the top one lies where the defence's curve falls
    assert sure.sum() >= 2
    torch.testing.assert_close(restored[sure], rows[sure], rtol=2e-3, atol=1e-5, check_dtype=False)
    assert float((shown.exp() - rows).abs().sum(-1).min()) > 0.3


def _turning_point(beta: float, gamma: float = 0.2) -> float:
    """Bisect for the probability at which p − β (σ(γ logit p) − 1/2) is least."""
    low, high = 1e-7, 0.5
    for _ in range(100):
        p = (low + high) / 2
        s = 1 / (1 + math.exp(-gamma * math.log(p / (1 - p))))
        low, high = (p, high) if 1 - beta * gamma * s * (1 - s) / (p * (1 - p)) < 0 else (low, p)
    return low


def test_what_is_restored_of_confident_answers_would_be_shown_as_it_was() -> None:
    z = logits(3, 40, 20)
    z[torch.arange(40), torch.arange(40) % 20] += 12
    surface = Surface("reverse-sigmoid:0.5")
    shown = surface(F.log_softmax(z, -1)).values
    again = surface(unreverse(shown, 0.5).double()).values
    assert ((again.exp() - shown.exp()).abs().sum(-1) < 3e-3).double().mean() > 0.8


def test_what_is_cut_gets_the_missing_mass_and_stays_below_what_is_shown() -> None:
    log_p = F.log_softmax(logits(1, 40, 8), -1)
    labels = torch.arange(40) % 8
    shown = Surface("top:3")(log_p).values
    filled = inverted(shown, (("top", 3.0),), labels).exp()
    torch.testing.assert_close(filled.sum(-1), torch.ones(40))
    hidden = ~torch.isfinite(shown)
    smallest = torch.where(hidden, 1.0, shown.exp()).amin(-1)
    ratio = filled[~hidden] / shown.exp()[~hidden]  # above one only by what the caps on hidden entries left over
    assert (ratio >= 1 - 1e-5).all()
    assert (torch.where(hidden, filled, 0).amax(-1) <= smallest * ratio.reshape(40, 3)[:, 0] * (1 + 1e-5)).all()
    exact = (ratio.reshape(40, 3)[:, 0] - 1).abs() < 1e-5
    assert exact.double().mean() > 0.5


def test_what_was_rounded_away_stays_below_half_a_unit() -> None:
    shown = Surface("round:1")(F.log_softmax(logits(1, 40, 8), -1)).values
    filled = inverted(shown, (("round", 1.0),), torch.arange(40) % 8).exp()
    assert (filled[~torch.isfinite(shown)] > 0).all()
    assert (filled[~torch.isfinite(shown)] <= 0.05 / shown.exp().sum(-1).min() + 1e-6).all()


def test_hidden_entries_share_as_their_class_shows_by_brute_force() -> None:
    """Expectation maximisation in plain loops."""
    log_p, labels = F.log_softmax(logits(2, 12, 4), -1), torch.arange(12) % 3
    shown = Surface("top:2")(log_p).values.exp().tolist()
    shares = [[1 / 4] * 4 for _ in range(4)]
    for _ in range(10):
        rows = []
        for row, y in zip(shown, labels.tolist(), strict=True):
            hidden = [c for c in range(4) if row[c] == 0]
            smallest = min(v for v in row if v > 0)
            missing = max(1 - sum(row), 1e-7)
            total = sum(shares[y][c] for c in hidden)
            full = [row[c] or min(missing * shares[y][c] / total, smallest) for c in range(4)]
            rows.append([v / sum(full) for v in full])
        for y in range(4):
            mine = [r for r, of in zip(rows, labels.tolist(), strict=True) if of == y]
            shares[y] = [(sum(r[c] for r in mine) + 1 / 4) / (len(mine) + 1) for c in range(4)]
    filled = inverted(torch.tensor(shown).log(), (("top", 2.0),), labels).exp()
    torch.testing.assert_close(filled, torch.tensor(rows), rtol=1e-4, atol=1e-6)


def test_filling_from_the_class_is_nearer_to_the_truth_than_filling_evenly() -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 8
    log_p = F.log_softmax(2 * torch.randn(8, 8, generator=g)[labels] + torch.randn(400, 8, generator=g), -1)
    error = {
        tail: float(
            (inverted(Surface("top:2")(log_p).values, (("top", 2.0),), labels, tail).exp() - log_p.exp()).abs().sum()
        )
        for tail in get_args(Tail)
    }
    assert error["class"] < 0.8 * error["even"] < error["hidden"]


def test_inversion_of_a_plain_surface_is_soft_kd() -> None:
    mine, theirs = Inversion().attempt(tiny_lab(FULL, 2)), SoftKD().attempt(tiny_lab(FULL, 2))
    torch.testing.assert_close(weights(mine), weights(theirs), rtol=0, atol=0)


@pytest.mark.parametrize("tail", get_args(Tail))
def test_inversion_takes_answers_that_rounding_left_empty(tail: Tail) -> None:
    surface = Surface("reverse-sigmoid:0.5+round:1")
    flat = F.log_softmax(torch.randn(50, 62, generator=torch.Generator().manual_seed(0)), -1)
    shown = surface(flat).values
    assert not torch.isfinite(shown).any(-1).all()
    found = inverted(shown, surface.steps, torch.arange(50) % 62, tail)
    assert not torch.isnan(found).any()
    assert found.shape == flat.shape


def test_inversion_that_leaves_the_tail_hidden_is_soft_kd_of_what_is_shown() -> None:
    surface = Surface("top:2+round:1")
    mine, theirs = Inversion(tail="hidden").attempt(tiny_lab(surface, 2)), SoftKD().attempt(tiny_lab(surface, 2))
    torch.testing.assert_close(weights(mine), weights(theirs), rtol=0, atol=0)


def test_inversion_of_a_temperature_is_soft_kd_of_the_plain_answers() -> None:
    mine, theirs = Inversion().attempt(tiny_lab(Surface("temperature:4"), 2)), SoftKD().attempt(tiny_lab(FULL, 2))
    torch.testing.assert_close(weights(mine), weights(theirs), rtol=1e-3, atol=1e-4)


# All of them

ALL = (HTC(), Reopt(), ViewEnsemble(), MKD(), Skeptical(), Inversion())


@pytest.mark.parametrize("attack", ALL, ids=lambda a: a.name)
def test_the_ledger_holds_every_view_once_and_a_smaller_budget_what_it_pays_for(attack: Attack) -> None:
    lab = tiny_lab(FULL, 0)
    attack.attempt(lab)
    assert lab.oracle.charged == 60 * lab.recipe.views
    tight = tiny_lab(FULL, 0, budget=60)
    attack.attempt(tight)
    assert tight.oracle.charged == 60


@pytest.mark.parametrize(
    ("attack", "field", "value"),
    [
        (HTC(), "temperature", 4.0),
        (HTC(), "weight", 0.2),
        (Reopt(), "temperature", 1.0),
        (Reopt(), "weight", 0.2),
        (Reopt(), "trust", False),
        (ViewEnsemble(), "temperature", 1.0),
        (ViewEnsemble(), "weight", 0.5),
        (ViewEnsemble(), "geometric", False),
        (MKD(), "temperature", 1.0),
        (MKD(), "weight", 0.5),
        (MKD(rate=1.0), "rank", 1),
        (MKD(), "rate", 1.0),
        (MKD(), "stays", 0.99),
        (Skeptical(), "temperature", 1.0),
        (Skeptical(), "weight", 0.5),
        (Skeptical(), "shallow", 1),
        (Skeptical(), "coupling", 0.9),
        (Skeptical(), "delay", 0.5),
        (Inversion(), "temperature", 1.0),
        (Inversion(), "weight", 0.5),
        (Inversion(), "tail", "even"),
    ],
    ids=lambda part: getattr(part, "name", str(part)),
)
def test_every_option_changes_the_student(attack: Attack, field: str, value: float) -> None:
    def train(setting: Attack) -> torch.Tensor:
        lab = tiny_lab(Surface("top:1"), 0)
        lab.recipe = replace(lab.recipe, architecture="resnet-8")  # two auxiliary heads
        return weights(setting.attempt(lab))

    assert not torch.allclose(train(attack), train(replace(attack, **{field: value})), atol=1e-6)
    assert np.isfinite(train(attack).numpy()).all()
