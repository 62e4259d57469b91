"""The probe sees what is wrong with a network, on real small ones: least-squares classifiers of digits."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audits import request
from small_teachers import HALF, fragile
from torch import Tensor, nn

from audit import pipeline
from audit.analysis import flags
from audit.analysis import teacher_flags as teacher_checks
from audit.cache.store import Cache
from audit.finished.verify import verify
from audit.plan.suite import Suite
from audit.recording.teacher import probe_info
from reports.record import Probe
from teachers.data.datasets import load
from teachers.guards import SurfaceGuard, behind
from teachers.intake import NORMALISATIONS, Teacher
from teachers.networks import PreprocessedNetwork
from teachers.oracle import Box, top_classes
from teachers.surface import FULL
from teachers.targets.probe import candidates, normalisations, probe
from teachers.targets.runtime import Runtime
from teachers.targets.target import Target
from teachers.targets.teaching import ordinary_teacher
from teachers.task import Pool, Task

pytestmark = pytest.mark.usefixtures("figures_once")

NONE = ((0.0,), (1.0,))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return load("digits", tmp_path_factory.mktemp("digits"))


def target(network: nn.Module, mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.5,)) -> Target:
    teacher = Teacher("t", "0" * 64, network, "linear", "unknown", mean, std)
    boxes = [Box(network) for _ in range(3)]
    return Target("audited", teacher, FULL, "f", *boxes)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def probed(network: nn.Module, task: Task, given: tuple[tuple[float, ...], tuple[float, ...]] = HALF) -> Probe:
    whole = PreprocessedNetwork(network, *given) if not isinstance(network, PreprocessedNetwork) else network
    of = target(whole, *given)
    return probe_info(probe(of, task, top_classes(of.full, task.validation)))


def raised(found: Probe) -> list[str]:
    return [flag.id for flag in flags.of_answers(found)]


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Dropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.02, training=True)


def test_a_sound_network_raises_nothing_and_every_query_is_counted(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    of = target(PreprocessedNetwork(fragile(task, *HALF), *HALF))
    top, sent, real = top_classes(of.full, task.validation), Counter[str](), Box.__call__

    def counted(self: Box, images: Tensor):  # type: ignore[no-untyped-def]
        sent["all"] += len(images)
        return real(self, images)

    monkeypatch.setattr(Box, "__call__", counted)
    found = probe_info(probe(of, task, top))
    assert raised(found) == []
    assert found.queries == sent["all"]
    assert not found.repeated.array().any()
    assert found.correct.array().mean() > 0.9
    assert not found.duplicated.array().any()


def test_a_network_that_answers_with_noise_is_noisy_and_not_dependent_on_the_batch(task: Task) -> None:
    found = probed(nn.Sequential(fragile(task, *HALF), Noisy()), task)
    assert raised(found) == ["noisy-answers"]


def test_batch_norm_in_training_mode_depends_on_the_batch(task: Task) -> None:
    norm = nn.BatchNorm1d(10, track_running_stats=False)
    found = probed(nn.Sequential(fragile(task, *HALF), norm), task)
    assert "batch-dependent" in raised(found)
    assert "noisy-answers" not in raised(found)
    sound = nn.BatchNorm1d(10)
    assert "batch-dependent" not in raised(probed(nn.Sequential(fragile(task, *HALF), sound), task))


def test_batch_norm_and_dropout_in_training_mode_are_told_apart(task: Task) -> None:
    norm = nn.BatchNorm1d(10, track_running_stats=False)
    both = raised(probed(nn.Sequential(Dropping(), fragile(task, *HALF), norm), task))
    assert {"noisy-answers", "batch-dependent"} <= set(both)
    alone = raised(probed(nn.Sequential(Dropping(), fragile(task, *HALF)), task))
    assert "noisy-answers" in alone
    assert "batch-dependent" not in alone


def test_a_softmax_at_the_end_is_seen_before_ours_and_through_a_guard(task: Task) -> None:
    network = nn.Sequential(fragile(task, *HALF), nn.Softmax(-1))
    assert "softmaxed-twice" in raised(probed(network, task))
    guarded = behind(PreprocessedNetwork(network, *HALF), SurfaceGuard("round:3"))
    assert "softmaxed-twice" in raised(probed(guarded, task))
    logs = nn.Sequential(fragile(task, *HALF), nn.LogSoftmax(-1))
    assert "softmaxed-twice" not in raised(probed(logs, task))
    nearly = fragile(task, *HALF, scale=1.0)  # rows that sum to one, but are not in [0, 1]
    assert "softmaxed-twice" not in raised(probed(nearly, task))


def test_answers_of_huge_logits_are_saturated(task: Task) -> None:
    assert "saturated" in raised(probed(fragile(task, *HALF, scale=300), task))


@pytest.mark.parametrize(
    ("taught", "given", "named"),
    [
        (HALF, NONE, "half"),
        (((0.0,), (1 / 255,)), HALF, "0/0.00392156862745098"),
        (((0.3,), (0.37,)), NONE, ""),
    ],
)
def test_a_network_behind_another_normalisation_is_more_accurate_behind_its_own(
    task: Task, taught: tuple[tuple[float, ...], tuple[float, ...]], given: tuple[tuple[float, ...], ...], named: str
) -> None:
    network = fragile(task, *taught)
    flag = flags.of_answers(probed(network, task, given))[0]  # type: ignore[arg-type]
    assert (flag.id, flag.caps) == ("other-normalisation", "inconclusive")
    assert named in flag.do
    assert "other-normalisation" not in raised(probed(network, task, taught))


def test_the_chosen_normalisation_and_those_of_other_channels_are_not_tried(task: Task) -> None:
    of = target(PreprocessedNetwork(fragile(task, *HALF), *HALF))
    texts = candidates(of.teacher, task)
    assert texts[:2] == ["none", "0/0.00392156862745098"]
    mean, std = texts[2].split("/")
    pixels = task.train.images / 255
    assert (float(mean), float(std)) == pytest.approx((pixels.mean(), pixels.std()), abs=1e-4)


def test_a_normalisation_that_a_network_answers_with_nan_is_wrong_about_every_image(task: Task) -> None:
    found = probed(fragile(task, *HALF), task)
    right = {other.normalize: other.correct.array() for other in found.normalised}
    assert not right["0/0.00392156862745098"].any()
    assert right["none"].any()


def test_test_images_that_are_training_images_are_found(task: Task) -> None:
    images = task.test.images.copy()
    images[:7] = task.train.images[5:12]
    leaking = replace(task, test=replace(task.test, images=images))
    found = probed(fragile(task, *HALF), leaking)
    assert np.flatnonzero(found.duplicated.array()).tolist() == list(range(7))


def test_few_duplicates_are_told_and_many_rule_out_undistillable() -> None:
    assert teacher_checks.duplicates(0, 1_000) is None
    few, many = teacher_checks.duplicates(9, 1_000), teacher_checks.duplicates(10, 1_000)
    assert few is not None
    assert many is not None
    assert (few.caps, many.caps) == ("nothing", "undistillable")


def test_a_teacher_that_is_no_network_of_ours_is_asked_all_the_same(task: Task, tmp_path: Path) -> None:
    from teachers.targets.target import smoothed_truth

    truth = smoothed_truth(task.train, len(task.classes), 1, "cpu")
    found = probe_info(probe(truth, task, top_classes(truth.full, task.validation)))
    assert found.normalised == ()
    assert raised(found) == []


def test_what_the_probe_finds_is_told_early_and_stands_in_the_record(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tiny: Suite
) -> None:
    """A checkpoint of ours, audited behind another normalisation than it was taught behind."""
    task = load("digits", kept)
    teacher = ordinary_teacher(task, Runtime(Cache(kept), "cpu", lambda line: None))
    assert isinstance(teacher.network, PreprocessedNetwork)
    torch.save(teacher.network.network.state_dict(), tmp_path / "bare.pt")
    monkeypatch.setitem(NORMALISATIONS, "ours", (teacher.mean, teacher.std))
    named = {"teacher": str(tmp_path / "bare.pt"), "arch": teacher.architecture, "normalize": "0.5/0.1"}
    record = pipeline.run(request(kept, tmp_path / "out", quiet=False, **named)).record
    assert record.probe is not None
    assert [row.sent for row in record.ledger if row.purpose == "probe"] == [record.probe.queries]
    flag = next(f for f in record.flags if f.id == "other-normalisation")
    assert "--normalize ours" in flag.do
    assert "flag other-normalisation: with the normalisation ours" in capfd.readouterr().err
    assert record.verdict.word == "INCONCLUSIVE"
    assert list(verify(tmp_path / "out")) == []


def coloured_task(task: Task) -> Task:
    """Give a gray task three channels, of which blue is darker."""

    def tinted(pool: Pool) -> Pool:
        return replace(pool, images=np.concatenate([pool.images, pool.images, pool.images // 2], 1))

    return replace(task, train=tinted(task.train), validation=tinted(task.validation), test=tinted(task.test))


def test_colours_are_tried_in_the_other_order_and_gray_images_are_not(task: Task) -> None:
    colour = coloured_task(task)
    texts = list(normalisations(colour))
    assert {"imagenet", "imagenet/bgr", "none/bgr", "half/bgr", "cifar/bgr"} <= set(texts)
    assert len(texts) == 12
    gray = replace(colour, validation=replace(task.validation, images=task.validation.images.repeat(3, 1)))
    assert len(normalisations(gray)) == 6
    assert len(normalisations(task)) == 4
    own = Teacher("t", "0" * 64, nn.Identity(), "linear", "unknown", (0.5,) * 3, (0.5,) * 3, bgr=True)
    assert set(texts) - set(candidates(own, colour)) == {"half/bgr"}


def test_a_network_that_takes_blue_first_is_found_out(task: Task) -> None:
    colour = coloured_task(task)
    turned = replace(colour, train=replace(colour.train, images=colour.train.images[:, ::-1].copy()))
    network = fragile(turned, *HALF)
    whole = PreprocessedNetwork(network, (0.5,) * 3, (0.5,) * 3)
    of = target(whole, (0.5,) * 3, (0.5,) * 3)
    found = probe_info(probe(of, colour, top_classes(of.full, colour.validation)))
    flag = next(flag for flag in flags.of_answers(found) if flag.id == "other-normalisation")
    assert "--normalize half/bgr" in flag.do
