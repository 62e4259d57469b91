"""Whether the test images of glyphs need groups: by font, or by variant (a character in a font).

Two answers. From the reference bag: the design effect of the image part of every margin, if a font or a variant were
what was drawn independently. From the generator itself: five students that learn from a teacher and five that do not
are asked about fresh test splits, drawn anew as the shipped one was; the variance of their margin over these splits is
what an interval has to know, and is compared with what either way to count says of each split.

    python benchmarks/glyph_groups.py [--splits 100] [--out benchmarks/glyph_groups.json]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from audit.statistics.compare import paired
from reports.bag import shipped
from teachers.data import glyphs
from teachers.data.grouping import test_groups
from teachers.files import write_whole
from teachers.networks import build
from teachers.task import Pool, Task, known

STEPS, BATCH, RATE, SEEDS, TEMPERATURE = 400, 128, 3e-3, 5, 4.0
NAMES = ("image", "variant", "font")


def of_bag(task: Task) -> dict[str, dict[str, float]]:
    """Return what grouping does to the margins of the bag's teachers with all labels."""
    bag = shipped("bag-1")
    assert bag is not None
    pairs = [
        (row.correct.array(), bag.controls[row.control].correct.array())
        for teacher in bag.teachers
        if teacher.shots == 1
        for row in teacher.rows
    ]
    found: dict[str, dict[str, float]] = {}
    for name in NAMES:
        groups = None if name == "image" else test_groups(name, task)
        margins = [paired(*pair, groups) for pair in pairs]
        parts = np.array([m.image_variance / m.images for m in margins])
        half = np.array([m.interval()[1] - m.mean for m in margins])
        found[name] = {"margins": len(pairs), "image part": float(parts.mean()), "half width": float(half.mean())}
        sizes = np.ones(task.test.images.shape[0]) if groups is None else np.bincount(groups)
        effect = found[name]["image part"] / found["image"]["image part"]
        typical = float((sizes**2).sum() / sizes.sum())
        found[name] |= {
            "groups": len(sizes),
            "design effect": effect,
            "correlation": 0.0 if typical == 1 else (effect - 1) / (typical - 1),
            "wider": half.mean() / found["image"]["half width"],
        }
    return found


def trained(pool: Pool, architecture: str, seed: int, answers: Tensor | None, steps: int = STEPS) -> nn.Module:
    """Train a network on labels smoothed by 0.1, or beside them on a teacher's answers (N, K)."""
    torch.manual_seed(seed)
    network = build(architecture, len(glyphs.CLASSES), pool.shape)
    images, labels = torch.from_numpy(pool.images).float().div(255), torch.from_numpy(known(pool))
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        rows = torch.randint(len(images), (BATCH,))
        out = network(shifted(images[rows]))
        loss = F.cross_entropy(out, labels[rows], label_smoothing=0.1)
        if answers is not None:
            told = F.softmax(answers[rows] / TEMPERATURE, 1)
            loss = 0.1 * loss + 0.9 * TEMPERATURE**2 * F.kl_div(
                F.log_softmax(out / TEMPERATURE, 1), told, reduction="batchmean"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval()


def shifted(x: Tensor) -> Tensor:
    """Shift a batch by up to a pixel."""
    down, right = (int(n) for n in torch.randint(3, (2,)))
    return F.pad(x, (1, 1, 1, 1))[:, :, down : down + x.shape[2], right : right + x.shape[3]]


def right(networks: list[nn.Module], pool: Pool) -> NDArray[np.bool_]:
    """Return which images networks name correctly, (S, N)."""
    images = torch.from_numpy(pool.images).float().div(255)
    with torch.no_grad():
        tops = [torch.cat([n(part).argmax(1) for part in torch.split(images, 1_000)]).numpy() for n in networks]
    named: NDArray[np.bool_] = np.stack(tops) == known(pool)
    return named


def of_fresh_splits(task: Task, splits: int) -> dict[str, float]:
    """Compare the variance of a margin over fresh test splits with what each way to count says of it."""
    torch.set_num_threads(1)
    teacher = trained(task.train, "strided-32-64-128", 0, None, 4 * STEPS)
    with torch.no_grad():
        answers = teacher(torch.from_numpy(task.train.images).float().div(255))
    knockoffs = [trained(task.train, "strided-8-16-32", seed, answers) for seed in range(SEEDS)]
    controls = [trained(task.train, "strided-8-16-32", seed, None) for seed in range(SEEDS)]
    with np.load(glyphs.BITMAPS) as file:
        bitmaps = np.pad(file["bitmaps"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    means: list[float] = []
    said: dict[str, list[float]] = {name: [] for name in NAMES}
    for split in range(splits):
        pool, fonts = glyphs._pool(bitmaps, glyphs.TEST, glyphs.Draws(1_000_000 + split))
        sides = right(knockoffs, pool), right(controls, pool)
        grouped = {"image": None, "variant": known(pool) * bitmaps.shape[1] + fonts, "font": fonts}
        for name, groups in grouped.items():
            m = paired(*sides, groups)
            said[name].append(m.between_images / (m.seeds * m.images))  # of these students, whatever their seeds
        means.append(m.mean)
    over = float(np.var(means, ddof=1))
    return {
        "splits": splits,
        "margin": float(np.mean(means)),
        "sd over splits": over**0.5,
        "relative error of its square": (2 / (splits - 1)) ** 0.5,
        **{f"variance said by {name}, over the true": float(np.mean(v)) / over for name, v in said.items()},
    }


def main() -> None:
    """Print both answers, and write them."""
    parser = argparse.ArgumentParser(description="Find out whether the test images of glyphs need groups.")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("glyph_groups.json"))
    asked = parser.parse_args()
    task = glyphs.glyphs()
    found = {"bag": of_bag(task), "fresh splits": of_fresh_splits(task, asked.splits)}
    write_whole(asked.out, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
