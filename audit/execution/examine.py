"""Run students whose network is plug-in code in a process of their own, which receives images but never labels."""

from __future__ import annotations

import math
from multiprocessing.connection import Connection
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from audit.execution import worker_messages
from teachers.processes import frames, limits, messages, pipes, trees
from teachers.processes.messages import Message
from teachers.processes.pipes import Arrays, Limits
from teachers.task import Pool
from teachers.training import PIXELS, Recipe, build_student, predict

SECONDS = 600.0  # time limit for the answers on one batch of images
ROOM = Limits(arrays=20_000)


class ExamPaper(Message):
    """Message that describes the network to run; its weights follow as arrays."""

    recipe: worker_messages.Recipe
    classes: int
    shape: list[int]
    device: str
    memory: int


class ExamFailure(Message):
    """Message that replaces an answer when the network fails."""

    failed: Annotated[str, Field(max_length=messages.SENTENCE)] = ""


def tops(
    weights: Arrays, recipe: Recipe, eval_splits: dict[str, Pool], classes: int, device: str
) -> dict[str, np.ndarray]:
    """Return the top class of every image of each pool, (N,) uint16, by pool name.

    Raises PipeError where the process sends no valid answer, EOFError where it ends.
    """
    ours, theirs = frames.pair()
    process = trees.start(_sit, theirs)
    theirs.close()
    try:
        shape = next(iter(eval_splits.values())).shape
        memory = 0 if device != "cpu" else limits.spare() // 2
        about = {"recipe": recipe.settings, "classes": classes, "shape": shape, "device": device, "memory": memory}
        pipes.send(ours, about, weights, seconds=SECONDS)
        return {name: _answered(ours, exam, classes) for name, exam in eval_splits.items()}
    finally:
        ours.close()
        trees.end(process)


def _answered(pipe: Connection, exam: Pool, classes: int) -> np.ndarray:
    size = max(16, min(512, PIXELS // math.prod(exam.shape)))  # the batch size of `predict`
    found = [np.zeros(0, np.uint16)]
    for at in range(0, len(exam), size):
        part = np.asarray(exam.images[at : at + size])
        pipes.send(pipe, {}, {"images": part}, seconds=SECONDS)
        header, arrays = pipes.receive(pipe, Limits(arrays=1, size=2 * size), SECONDS)
        if failed := messages.parse(ExamFailure, header).failed:
            raise pipes.PipeError(f"its network does not answer: {failed}")
        top = messages.one(arrays, "top", "uint16", (len(part),))
        if top.max() >= classes:
            raise pipes.PipeError("class numbers that are too large")
        found.append(top)
    return np.concatenate(found)


def _sit(pipe: Connection) -> None:
    """Worker process: classify batches of images until the pipe closes."""
    torch.set_num_threads(1)
    header, weights = pipes.receive(pipe, ROOM)
    about = messages.parse(ExamPaper, header)
    if about.memory:
        limits.hold_memory(about.memory)
    network: torch.nn.Module | None = None
    while True:
        _, arrays = pipes.receive(pipe, Limits(arrays=1))
        try:
            if network is None:
                recipe = Recipe(**about.recipe.model_dump())
                network = build_student(recipe, about.classes, (about.shape[0], about.shape[1], about.shape[2]))
                network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
            top = predict(network, Pool(arrays["images"], None), about.device)
        except (Exception, SystemExit) as e:  # plug-in code may raise anything
            pipes.send(pipe, {"failed": messages.plain(f"{type(e).__name__}: {e}")})
            return
        pipes.send(pipe, {}, {"top": top})
