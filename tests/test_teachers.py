"""Synthetic teachers, and that teaching is repeatable."""

import numpy as np
import pytest
import torch
from small_teachers import tiny_task
from torch.nn import functional as F

from teachers import methods
from teachers.errors import UsageError
from teachers.oracle import Box
from teachers.synthetic import LabelMemory, SmoothedTruth
from teachers.task import few_labels, few_shot, known
from teachers.views import Viewer, ViewSet


def test_smoothed_truth_answers_training_views_and_nothing_else() -> None:
    held = tiny_task()
    box = Box(SmoothedTruth(LabelMemory(held.train, 3), 3, smoothing=0.3))
    index = torch.arange(90)
    for view in range(3):
        told = box(Viewer(held.train, ViewSet("crop", 3))(index, torch.full_like(index, view)))
        labels = torch.from_numpy(known(held.train))
        expected = F.one_hot(labels, 3) * 0.7 + 0.1
        torch.testing.assert_close(told.values.exp(), expected.float())
    elsewhere = box(torch.rand(4, 1, 8, 8))
    torch.testing.assert_close(elsewhere.values.exp(), torch.full((4, 3), 1 / 3))


def test_a_teacher_is_taught_and_the_same_lesson_gives_the_same_one() -> None:
    held = tiny_task()
    teacher_recipe = methods.TeacherRecipe(
        methods.method("plain"), methods.default_recipe(held, "strided-4-8", steps=30)
    )
    first, again = methods.teach(teacher_recipe, held), methods.teach(teacher_recipe, held)
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(first.network(x), again.network(x))


def test_an_unknown_method_suggests_near_ones() -> None:
    with pytest.raises(UsageError, match="did you mean nasty"):
        methods.method("nasti")


def test_few_shots_keep_images_and_labels_and_few_labels_keep_all_images() -> None:
    held = tiny_task().train
    shots, labels = few_shot(held, 0.1), few_labels(held, 0.1)
    assert len(shots) == 9
    assert len(shots.labelled) == 9
    assert len(labels) == 90
    assert len(labels.labelled) == 9
    assert np.bincount(known(shots)).tolist() == [3, 3, 3]
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        few_shot(held, 1.5)
    with pytest.raises(ValueError, match="unlabelled"):
        known(labels)
