"""Train students on answers that fill 3 GiB, and print what memory each process took: CACHE, numbers of workers."""

import json
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from attacks import registry
from audit import execution
from audit.cache.store import Cache
from audit.execution.processes import Processes
from audit.execution.runner import TrialRunner
from audit.plan.cells import ENGINE, Cell, Use
from reports.progress import ProgressReporter
from teachers.processes import trees
from teachers.surface import Surface
from teachers.targets.target import Target, smoothed_truths
from teachers.task import Augment, Pool
from teachers.training import Recipe

IMAGES, CLASSES, VIEWS = 200_000, 1_000, 4
SHARED = ("soft-kd", "dkd", "mse", "label-kd")  # which workers train side by side
ALONE = ("avg", "view-ensemble", "rolewise")  # ... and which one worker trains after these
SLOW = ("inversion", "adaptive")  # which read all answers many times
FEW = 17_000  # images for these: no fewer are restored batch by batch, and decoded shard by shard
SURFACE = Surface("top:5")  # hides what inversion restores
FIGURES = ("VmHWM", "RssAnon", "RssShmem")
Taken = dict[str, int]  # bytes, by name


def images(count: int, seed: int) -> Pool:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 1, 4, 4), np.uint8)
    return Pool(pixels, np.arange(count) % CLASSES, Augment(pad=1))


def taken(pid: int) -> Taken:
    """Return the highest memory of a process so far, and that which is no file's now."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return {}
    held = {name: 1024 * int(lines[name].split()[0]) for name in FIGURES if name in lines}
    return {"peak": held.get("VmHWM", 0), "own": held.get("RssAnon", 0) + held.get("RssShmem", 0)}


@contextmanager
def watched() -> Iterator[dict[int, Taken]]:
    """Follow what this process and all that it started take, by process."""
    found: dict[int, Taken] = defaultdict(dict)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for pid in (os.getpid(), *trees.descendants(os.getpid())):
                for name, size in taken(pid).items():
                    found[pid][name] = max(found[pid].get(name, 0), size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def trained(cache: Cache, pool: Pool, attacks: Sequence[str], workers: int, ask: bool) -> dict[str, object]:
    """Ask a teacher that knows the labels, if wanted, and train a student of every attack; return what it took."""
    teacher = smoothed_truths(pool, CLASSES, VIEWS, "cpu", [0.1], SURFACE)[0.1]
    exam = images(512, 1)
    runner = TrialRunner(
        cache=cache,
        executor=Processes(workers),
        workers=workers,
        pools={pool.digest: pool},
        eval_splits={"validation": exam, "test": exam},
        classes=CLASSES,
        targets={(teacher.fingerprint, teacher.surface.name): teacher},
        journal=cache.root / "journal.jsonl",
        progress=ProgressReporter(quiet=True),
    )
    cells = [cell(name, pool, teacher, seed=workers) for name in attacks]
    with watched() as found, closing(runner.executor):
        if ask:
            runner.ask(teacher, pool, "crop", VIEWS)
        runner.train("judging", [Use(one, "judge", "audited", "attack") for one in cells])
    return {
        "parent": found.pop(os.getpid()),
        "others": list(found.values()),
        "charged": [result.charged for result in runner.results.values()],
        "failed": [failure.sentence for failure in runner.failures.values()],
    }


def cell(name: str, pool: Pool, teacher: Target, seed: int) -> Cell:
    return Cell(
        engine=ENGINE,
        technique=name,
        version=str(registry.find(name).version),
        parameters=registry.find(name)().parameters,
        recipe=asdict(Recipe("strided-4-4", steps=8, batch=128, views=VIEWS)),
        seed=seed,
        pool=pool.digest,
        task="t" * 64,
        teacher=teacher.fingerprint,
        surface=teacher.surface.name,
        budget=VIEWS * len(pool) + 3 * 200,  # other views than crops could be tried, and not all asked about
    )


def main(folder: Path, crews: list[int]) -> None:
    os.fsync = lambda file: None  # nothing here needs to outlive the machine
    execution.ahead()
    cache, pool = Cache(folder), images(IMAGES, 0)
    told = [trained(cache, pool, SHARED if n > 1 else SHARED + ALONE, n, ask=n == crews[0]) for n in crews]
    print(json.dumps([*told, trained(cache, images(FEW, 2), SLOW, 1, ask=True)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(workers) for workers in sys.argv[2:]])
