"""A cache of hand-made entries."""

from pathlib import Path

import numpy as np
import torch

from audit.cache.entries import Entry, contents
from audit.cache.looks import remember_looks
from audit.cache.store import Cache
from audit.plan.cells import ENGINE, Cell, Result
from reports.record import PackedArray, Regime
from teachers import networks
from teachers.intake import Card
from teachers.names import truth_digest
from teachers.networks import PreprocessedNetwork
from teachers.storage import parsers
from teachers.storage.entries import opened
from teachers.storage.store import TrainingCheckpoint
from teachers.surface import Answers
from teachers.task import Pool


def cell(seed: int, **more: object) -> Cell:
    base = Cell(
        engine=ENGINE,
        technique="ls",
        version="1",
        parameters={},
        recipe={"views": 2},
        seed=seed,
        pool="p" * 64,
        task="t" * 64,
    )
    return base.model_copy(update=more)


def result(of: Cell) -> Result:
    return Result(
        cell=of,
        regime=Regime(recipe={}, view="crop", source="original"),
        validation=PackedArray.of(np.arange(3, dtype=np.uint16)),
        test=PackedArray.of(np.full(5, of.seed, np.uint16)),
        charged=0,
        asked=(),
        repeats=None,
        diverged=False,
        network_parameters=1,
        seconds=1.0,
        step_seconds=1.0,
    )


def filled(root: Path) -> Cache:
    """Return a cache of two controls, a knockoff, a block of answers and a look."""
    cache = Cache(root)
    for each in (cell(0), cell(1, teacher=truth_digest("p" * 64, 2), surface="probs"), cell(2, teacher="f" * 64)):
        cache.finish(result(each))
    answers = Answers("label", torch.arange(4))
    cache.answers("f" * 64, "top:5+label").add("x-00", 6, np.arange(4), answers)
    remember_looks(cache, "a" * 64, (5, 8))
    return cache


def named(root: Path) -> set[str]:
    return {entry.name for entry in contents(root).entries}


POOL = Pool(np.arange(6 * 64, dtype=np.uint8).reshape(6, 1, 8, 8), np.arange(6) % 3)
QUESTION, ANSWERED, LESSON = "a" * 64, "f" * 64, "b" * 32
OUTPUT = f"answers/{'f' * 32}/probs/output"


def every_kind(root: Path) -> dict[str, Entry]:
    """Return a small cache with an entry of each kind that has a seal."""
    cache = Cache(root)
    cache.finish(result(cell(0)))
    cache.answers(ANSWERED, "probs").add("x-00", 6, np.arange(4), told(4))
    cache.entries.write(OUTPUT, b"logits")
    cache.pool(POOL)
    remember_looks(cache, QUESTION, (5, 8))
    TrainingCheckpoint(root / "teachers" / f"{LESSON}.part", entries=cache.entries).save(STATE)
    network = PreprocessedNetwork(networks.build("strided-2-4", 3, (1, 8, 8)), (0.5,), (0.25,))
    card = Card(
        architecture="strided-2-4",
        classes=("a", "b", "c"),
        shape=(1, 8, 8),
        mean=(0.5,),
        std=(0.25,),
        data="x",
        task_digest="x",
        method="plain",
    )
    cache.entries.write(f"teachers/{LESSON}.safetensors", parsers.written(network, card))
    found = {entry.kind if entry.name != OUTPUT else "output": entry for entry in contents(root).entries}
    return {str(kind): entry for kind, entry in found.items()}


STATE = {"step": 3, "network": {"w": torch.ones(2)}, "optimisers": [], "objective": {}, "chance": torch.get_rng_state()}


def told(images: int, classes: int = 3) -> Answers:
    logits = torch.randn(images, classes, generator=torch.Generator().manual_seed(images))
    return Answers("probs", logits.log_softmax(-1))


def bare(entry: Entry) -> bytes:
    """Return what an entry holds, as versions before seals wrote it."""
    with opened(entry.path, entry.name) as content:
        return content.file.read()
