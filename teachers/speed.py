"""Whether bfloat16 pays on this machine: measured, not assumed."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from teachers.networks import Shape
from teachers.plain import Plain
from teachers.task import Pool
from teachers.training import Recipe, StoredStream, fit
from teachers.views import ViewSet

STEPS, REPEATS = 12, 3
GAIN = 1.2  # bfloat16 must be this many times faster: a near tie must not change students


def autocast_pays(recipe: Recipe, classes: int, shape: Shape, device: str) -> bool:
    """Time a few steps of a recipe in float32 and in bfloat16, in turn, on one thread; compare the best of each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (recipe.batch, *shape), generator=generator, dtype=torch.uint8)
    pool = Pool(images.numpy(), torch.randint(0, classes, (recipe.batch,), generator=generator).numpy())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    best = {False: float("inf"), True: float("inf")}
    for _ in range(REPEATS):
        for autocast in best:
            stream = StoredStream(pool, ViewSet("raw", 1), batch=recipe.batch, seed=0, device=device)
            short = replace(recipe, steps=STEPS, autocast=autocast)
            began = time.perf_counter()
            fit(short, stream, Plain(), 0, classes=classes, shape=shape, device=device)
            if device == "cuda":
                torch.cuda.synchronize()
            best[autocast] = min(best[autocast], time.perf_counter() - began)
    torch.set_num_threads(threads)
    return best[False] > GAIN * best[True]
