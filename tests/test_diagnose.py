"""`audit cmi`: what it writes, on a real tiny teacher, and what it says where something is missing."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import call
from pages import HOSTILE, Page
from torch import nn

from audit.cache.store import Cache
from audit.diagnosis import cams
from audit.diagnosis.diagnose import POOLS, diagnose
from audit.plan.options import Options
from audit.statistics import cmi
from reports import diagnosis_html
from reports.diagnosis import Diagnosis
from reports.wording import within
from teachers import networks, oracle
from teachers.data import datasets
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import FULL, open_target
from teachers.task import known


@pytest.fixture(scope="module")
def written(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the diagnosis of the ordinary digits teacher, made without pytorch-grad-cam."""
    out = tmp_path_factory.mktemp("cmi") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_grad_cam", None)
        diagnose(
            Options(teacher="demo", data="digits", device="cpu", out=out, cache=kept, quiet=True), command="audit cmi"
        )
    return out


@pytest.fixture(scope="module")
def found(written: Path) -> Diagnosis:
    return Diagnosis.model_validate_json((written / "cmi.json").read_text(encoding="utf-8"))


def test_the_numbers_are_those_of_the_teachers_answers_held_in_memory(found: Diagnosis, kept: Path) -> None:
    task = datasets.load("digits")
    teacher = open_target(
        TeacherSpec("demo", "digits"), task, task.train, None, FULL, 1, Runtime(Cache(kept), "cpu", print)
    )
    assert tuple(pool.name for pool in found.pools) == POOLS
    for pool, images in ((found.pools[0], task.train), (found.pools[2], task.validation)):
        answers = oracle.log_probs(teacher.full, images)
        whole = cmi.curve(answers, known(images), 10)
        assert pool.cmi == pytest.approx(whole.cmi)
        assert pool.se == pytest.approx(whole.se)
        assert pool.per_class == pytest.approx(whole.per_class[cmi.TEMPERATURES.index(1.0)])
        assert pool.images == len(images)
        assert pool.accuracy == pytest.approx((answers.argmax(1) == known(images)).mean())


def test_augmented_images_are_less_concentrated_than_training_images(found: Diagnosis) -> None:
    one = cmi.TEMPERATURES.index(1.0)
    train, augmented, _ = (pool.cmi[one] for pool in found.pools)
    assert augmented > train


def test_the_pictures_are_of_the_most_spread_classes_the_furthest_image_first(found: Diagnosis) -> None:
    held_out = found.pools[-1]
    largest = sorted((v for v in held_out.per_class if v is not None), reverse=True)
    assert [shown.cmi for shown in found.spread] == largest[: len(found.spread)]
    for shown in found.spread:
        distances = [picture.divergence for picture in shown.pictures]
        assert distances == sorted(distances, reverse=True)
        assert all(picture.png.startswith("data:image/png;base64,") for picture in shown.pictures)


def test_the_triangle_holds_images_of_its_classes_alone(found: Diagnosis) -> None:
    assert found.triangle is not None
    for points in found.triangle.maps:
        assert set(points.classes) == set(found.triangle.classes)
        x, y = np.array(points.x), np.array(points.y)
        assert (y >= 0).all()
        assert (y <= np.sqrt(3) * np.minimum(x, 1 - x) + 1e-3).all()


def test_without_grad_cam_there_are_no_panels_and_the_page_says_why(found: Diagnosis, written: Path) -> None:
    assert not found.cams
    assert "pip install '.[cam]' in the folder of the tool's source" in found.no_cams
    assert found.no_cams in "".join(Page((written / "cmi.html").read_text(encoding="utf-8")).said)


def test_the_page_loads_nothing_and_has_a_text_for_every_picture(written: Path) -> None:
    text = (written / "cmi.html").read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", text)
    tags = Page(text).tags
    assert all(a["alt"] and (a["src"] or "").startswith("data:image/png") for tag, a in tags if tag == "img")
    assert all(a["role"] == "img" and a["aria-label"] for tag, a in tags if tag == "svg")
    assert sum(tag == "svg" for tag, _ in tags) == sum(tag == "figcaption" for tag, _ in tags) == 4
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for _, a in tags if (a.get("href") or "").startswith("#")} <= set(ids)


def test_names_stay_text_on_the_page(found: Diagnosis) -> None:
    names = (*list(HOSTILE.values())[:9], " ".join(HOSTILE.values()))
    pictured = tuple(shown.model_copy(update={"name": names[0]}) for shown in found.spread)
    hostile = found.model_copy(update={"classes": names, "teacher": names[-1], "task": names[2], "spread": pictured})
    text = diagnosis_html.render(hostile)
    read = Page(text)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in read.tags}
    assert sum(tag == "style" for tag, _ in read.tags) == 1
    assert not [key for _, attributes in read.tags for key in attributes if key.startswith("on")]
    assert text == diagnosis_html.render(hostile)


def test_two_classes_have_no_triangle(found: Diagnosis) -> None:
    text = diagnosis_html.render(found.model_copy(update={"triangle": None}))
    assert "in a triangle" not in text


def test_the_command_prints_a_table_or_json(
    capsys: pytest.CaptureFixture[str], kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_AUDIT_CACHE", str(kept))
    code, out, _ = call(capsys, "cmi", "--teacher", "demo", "--data", "digits")
    assert code == 0
    assert "validation" in out
    assert re.search("audit-out/demo-cmi-[0-9a-f]{8}/cmi.html", out)
    code, out, err = call(capsys, "cmi", "--teacher", "demo", "--data", "digits", "--out", "here", "--json")
    assert (code, err) == (0, "")
    told: dict[str, Any] = json.loads(out)
    assert told["folder"] == "here"
    assert len(told["pools"][0]["cmi"]) == len(cmi.TEMPERATURES)
    assert not {"spread", "projection", "cams"} & told.keys()
    assert {path.name for path in (tmp_path / "here").iterdir()} >= {"cmi.json", "cmi.html"}


def test_a_teacher_that_knows_nothing_of_other_images_is_measured_too(kept: Path, tmp_path: Path) -> None:
    told = diagnose(
        Options(teacher="smoothed-truth", data="digits", device="cpu", out=tmp_path, cache=kept, quiet=True), command=""
    ).diagnosis
    assert [max(pool.cmi) for pool in told.pools] == pytest.approx([0, 0, 0], abs=1e-5)
    assert told.no_cams


def test_an_interval_of_what_cannot_be_negative_starts_at_zero_at_least() -> None:
    assert within(0.5, 0.1) == "[0.304, 0.696]"
    assert within(0.01, 0.1) == "[0.000, 0.206]"
    assert within(None, None) == "–"


def test_eigen_cam_takes_the_deepest_convolution_with_maps_to_look_at() -> None:
    network = networks.build("cnn-4-8-16", 3, (1, 32, 32)).eval()
    image = torch.rand(1, 1, 32, 32)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert cams.deepest_map(network, image) is layers[-1]  # 8×8
    small = networks.build("cnn-4-8-16", 3, (1, 8, 8)).eval()
    second = [module for module in small.modules() if isinstance(module, nn.Conv2d)][1]
    assert cams.deepest_map(small, torch.rand(1, 1, 8, 8)) is second  # 4×4, the third sees 2×2
    with pytest.raises(cams.NoPanels, match="4×4"):
        cams.deepest_map(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.rand(1, 1, 8, 8))
    with pytest.raises(cams.NoPanels, match="after the first"):
        cams.deepest_map(
            nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.Flatten(), nn.Linear(256, 3)), torch.rand(1, 1, 32, 32)
        )


@pytest.mark.parametrize("corner", [0, 4])
def test_eigen_cam_lights_up_where_the_maps_do(corner: int) -> None:
    """Whichever sign the decomposition gives: a bright blob in the corner or in the middle is what stands out."""
    rng = torch.Generator().manual_seed(corner)
    weights, noise = torch.rand(20, 16, 1, 1, generator=rng), 0.05 * torch.rand(20, 16, 12, 12, generator=rng)
    blob = torch.zeros(1, 1, 12, 12)
    blob[..., corner : corner + 4, corner : corner + 4] = 1
    maps = cams.eigen_maps(weights * blob + noise)
    inside = blob[0, 0] == 1
    assert (maps[:, inside].amin(1) > maps[:, ~inside].amax(1)).all()


def test_eigen_maps_are_the_first_principal_component() -> None:
    points = torch.rand(3, 5, 7, 6, generator=torch.Generator().manual_seed(0)).double()
    for image, found in zip(points, cams.eigen_maps(points), strict=True):
        flat = image.flatten(1).numpy()
        values, vectors = np.linalg.eigh(np.cov(flat))
        expected = vectors[:, -1] @ (flat - flat.mean(1, keepdims=True))
        np.testing.assert_allclose(np.abs(found.flatten().numpy()), np.abs(expected), atol=1e-9)
        assert values[-1] == pytest.approx(found.numpy().var(ddof=1))


@pytest.mark.parametrize("channels", [1, 3])
def test_eigen_cam_covers_every_image(channels: int) -> None:
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    network = networks.raw_pixels(networks.build("cnn-4-8-16", 3, (channels, 16, 16)), channels).eval()
    over = cams.overlays(network, torch.rand(5, channels, 16, 16))
    assert over.shape == (5, 16, 16, 3)
    assert over.dtype == np.uint8
