"""Seconds a training step with bfloat16 against float32: the table by which audits choose a student's precision.

The step is that of `fit` with soft KD, on one thread, as a worker has. Both precisions take turns in every round; what
is kept is the ratio of their median steps, round by round.

    python benchmarks/precision.py [--rounds 5] [--networks strided-16-32-64@3x32x32 …]

writes the rows of this processor and this version of torch to teachers/precision.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from attacks.logits.soft_kd import SoftKD
from teachers.precision import BFLOAT16, FLOAT32, Precision, processor, release
from teachers.surface import Answers
from teachers.task import Augment, Pool
from teachers.training import Batch, Recipe, StoredStream, fit
from teachers.views import ViewSet

TABLE = Path(__file__).parents[1] / "teachers" / "precision.json"
NETWORKS = (
    *("strided-8-16-32@1x16x16", "strided-8-16-32@3x16x16", "strided-16-32-64@1x28x28", "strided-16-32-64@3x32x32"),
    *("strided-16-32-64@3x64x64", "cnn-32-64-128@3x32x32", "resnet-8@3x32x32", "resnet-20@3x32x32"),
    *("resnet-56@3x32x32", "resnet18-small@3x32x32", "strided-16-32-64@3x224x224"),
    *("timm:mobilenetv3_small_050@3x224x224", "torchvision:resnet18@3x224x224"),
)


class Timed(StoredStream):
    """Batches of a pool, and when each was asked for."""

    times: list[float]

    def next(self, step: int, student: nn.Module) -> Batch:
        batch = super().next(step, student)
        self.times.append(time.perf_counter())
        return batch


def seconds(recipe: Recipe, pool: Pool, shape: tuple[int, int, int], classes: int) -> float:
    """Return the median seconds of a step, without waiting for data."""
    views = ViewSet("crop", 1)
    values = torch.randn(len(pool), classes, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    stream = Timed(pool, views, batch=recipe.batch, seed=0, answers=Answers("probs", values))
    stream.times = []
    ended: list[float] = []

    def done(step: int) -> None:
        ended.append(time.perf_counter())

    fit(recipe, stream, SoftKD().loss, 0, classes=classes, shape=shape, progress=done)
    return statistics.median([b - a for a, b in zip(stream.times, ended, strict=True)][1:])


def measured(named: str, rounds: int) -> dict[str, object]:
    """Return the row of a network."""
    network, _, size = named.partition("@")
    c, h, w = (int(n) for n in size.split("x"))
    shape, classes = (c, h, w), 10
    rng = np.random.default_rng(0)
    pool = Pool(rng.integers(0, 256, (256, *shape), np.uint8), np.arange(256) % classes, Augment(pad=h // 8))
    recipe = Recipe(network, 4, views=1)
    spent = seconds(recipe, pool, shape, classes)
    recipe = replace(recipe, steps=int(np.clip(round(2.0 / spent), 5, 60)))
    seconds(replace(recipe, steps=3, precision=BFLOAT16), pool, shape, classes)

    def step(precision: Precision) -> float:
        return seconds(replace(recipe, precision=precision), pool, shape, classes)

    pairs = [(step(FLOAT32), step(BFLOAT16)) for _ in range(rounds)]
    ratios = [round(plain / fast, 2) for plain, fast in pairs]
    middle = statistics.median(plain for plain, _ in pairs)
    print(f"{named}: float32 {1_000 * middle:.0f} ms, bfloat16 {min(ratios):.2f} to {max(ratios):.2f} times as fast")
    return {
        "processor": processor(),
        "torch": release(torch.__version__),
        "network": network,
        "shape": [*shape],
        "ratios": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NETWORK@CxHxW")
    args = parser.parse_args()
    torch.set_num_threads(1)
    place = ("processor", "torch", "network", "shape")
    rows = {str([row[name] for name in place]): row for row in json.loads(TABLE.read_text())}
    for named in args.networks:
        row = measured(named, args.rounds)
        rows[str([row[name] for name in place])] = row
        TABLE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows.values()) + "\n]\n")


if __name__ == "__main__":
    main()
