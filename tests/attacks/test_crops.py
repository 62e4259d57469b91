"""Crops of images that are in no pool: every shift, the edge repeated, each image on its own."""

import numpy as np
import pytest
import torch

from attacks.data_free.crops import cropped
from teachers.task import Augment, Pool
from teachers.views import Viewer, ViewSet


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_is_the_image_shifted_with_its_edge_repeated_and_all_shifts_come_equally_often(flip: bool) -> None:
    image = torch.arange(2 * 3 * 5).reshape(2, 3, 5).float()
    wide = np.pad(image.numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = {}
    for down in range(3):
        for right in range(3):
            shown = wide[:, down : down + 3, right : right + 5]
            expected |= {shown.tobytes(): 0}
            if flip:
                expected |= {shown[:, :, ::-1].tobytes(): 0}
    for crop in cropped(image.expand(3_600, -1, -1, -1), Augment(1, flip), chance()):
        expected[crop.numpy().tobytes()] += 1
    assert len(expected) == 9 * (1 + flip)
    assert min(expected.values()) > 0.7 * 3_600 / len(expected)


def test_a_crop_is_one_that_a_stored_view_may_show() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 1, 4, 4)).astype(np.uint8)
    viewer = Viewer(Pool(images, augment=Augment(2)), ViewSet("crop", 400))
    stored = {viewer(torch.tensor([0]), torch.tensor([v])).numpy().tobytes() for v in range(400)}
    crops = cropped(torch.from_numpy(images).float().div(255).expand(60, -1, -1, -1), Augment(2), chance())
    assert {crop[None].numpy().tobytes() for crop in crops} <= stored


def test_without_shift_and_mirror_nothing_changes() -> None:
    x = torch.rand(4, 3, 6, 6, generator=chance())
    assert torch.equal(cropped(x, Augment(), chance()), x)
