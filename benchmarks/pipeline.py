"""Students per minute: this pipeline against the loop that the papers' repositories use.

The loop of mdistiller, RepDistiller, Nasty-Teacher and CMIM's scripts: a DataLoader with PIL transforms, the teacher
asked about every augmented batch, one process, float32. Same network, same steps, same batch, both from the same data,
turn by turn in one run; what is compared is the median of the ratios.

    python benchmarks/pipeline.py [--students 8] [--rounds 3]
    python benchmarks/pipeline.py --data FOLDER --shots 0.1 --teacher resnet-56 --student resnet-20 --steps 100

An audit's students share the answers: there are hundreds. So few as here spend much of their time on them, so that the
ratio is also told for answers that are there already.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from attacks.logits.soft_kd import SoftKD
from audit.cache.store import Cache
from audit.execution.execute import Executor, executor
from audit.execution.runner import TrialRunner
from audit.plan.cells import Use
from audit.plan.options import Options
from audit.plan.suite import STANDARD
from audit.trials.preparation import AttackSelection, prepare
from audit.trials.protocol import Experiment
from reports.progress import ProgressReporter
from teachers import networks
from teachers.data import datasets
from teachers.surface import FULL
from teachers.targets.runtime import Runtime
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import Target, open_target
from teachers.task import Pool, known


class Pictures(Dataset[tuple[Tensor, int]]):
    """Training images as the repositories hold them: PIL images and transforms, one at a time."""

    def __init__(self, pool: Pool) -> None:
        self.images = [
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)) for image in pool.images
        ]
        self.labels = known(pool).tolist()
        pad, side = pool.augment.pad, pool.shape[1]
        steps: list[Callable[[object], object]] = [transforms.RandomCrop(side, padding=pad, padding_mode="edge")]
        if pool.augment.flip:
            steps.append(transforms.RandomHorizontalFlip())
        self.transform = transforms.Compose([*steps, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def reference(setup: Setup, steps: int, workers: int) -> None:
    """Train one student as the papers' repositories do."""
    experiment, device = setup.experiment, setup.experiment.device
    teacher = setup.target.teacher.here.to(device)
    shape, classes = experiment.task.shape, len(experiment.task.classes)
    student = (
        networks.raw_pixels(networks.build(experiment.recipe.architecture, classes, shape), shape[0]).to(device).train()
    )
    optimiser = torch.optim.SGD(student.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    loader = DataLoader(Pictures(experiment.pool), 128, shuffle=True, drop_last=True, num_workers=workers)
    step = 0
    while step < steps:
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            with torch.no_grad():
                target = nn.functional.softmax(teacher(x) / 4, -1)
            z = student(x)
            distilled = nn.functional.kl_div(nn.functional.log_softmax(z / 4, -1), target, reduction="batchmean") * 16
            loss = 0.1 * nn.functional.cross_entropy(z, y) + 0.9 * distilled
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
            if step == steps:
                return


@dataclass(frozen=True)
class Setup:
    """What both loops train on."""

    experiment: Experiment
    target: Target
    cache: Cache
    jobs: int


def ours(setup: Setup, crew: Executor, first: int, students: int, steps: int) -> tuple[float, float, float]:
    """Train students through cells; return the seconds of asking, of training, and of the workers' training steps."""
    experiment, target, cache = setup.experiment, setup.target, setup.cache
    runner = TrialRunner(
        cache=cache,
        executor=crew,
        workers=setup.jobs,
        pools={experiment.pool.digest: experiment.pool},
        eval_splits={"validation": experiment.task.validation, "test": experiment.task.test},
        classes=len(experiment.task.classes),
        targets={(target.fingerprint, "probs"): target},
        journal=cache.root / "journal.jsonl",
        progress=ProgressReporter(quiet=True),
    )
    recipe = replace(experiment.recipe, steps=steps).settings
    cells = [experiment.cell(SoftKD(), first + i, target, recipe=recipe, splits="validation") for i in range(students)]
    began = time.perf_counter()
    runner.ask(target, experiment.pool, "crop", experiment.recipe.views)
    asked = time.perf_counter()
    runner.train("benchmark", [Use(cell, "judge", "audited", "attack") for cell in cells])
    trained = time.perf_counter()
    return asked - began, trained - asked, sum(runner.results[cell.key].step_seconds for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--teacher", default="", help="architecture of one with random weights; else the ordinary one")
    parser.add_argument("--shots", type=float, default=1.0)
    parser.add_argument("--student", default="")
    parser.add_argument("--cache", type=Path, help="where the ordinary teacher, whom students ask, is kept")
    parser.add_argument("--students", type=int, default=8, help="students of ours a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--loader-workers", type=int, default=0, help="DataLoader workers of the reference loop")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        task = datasets.load(args.data)
        runtime = Runtime(Cache(args.cache or Path(folder)), "cpu", print)
        spec = TeacherSpec("demo")
        if args.teacher:
            network = networks.raw_pixels(networks.build(args.teacher, len(task.classes), task.shape), task.shape[0])
            spec = TeacherSpec("live:random", live=network.eval())
        target = open_target(spec, task, task.train, None, FULL, 8, runtime)
        options = Options(teacher="demo", jobs=args.jobs, shots=args.shots, student=args.student)
        experiment = prepare(options, STANDARD, AttackSelection({"soft-kd": SoftKD}, (), {}), task, cache)
        setup = Setup(experiment, target, cache, args.jobs)
        print(f"{experiment.recipe.architecture}, {experiment.recipe.precision}, {len(experiment.pool):,} images")
        ratios: dict[str, list[float]] = {"answers included": [], "once answers are there": []}
        for turn in range(args.rounds):
            torch.set_num_threads(args.jobs)
            began = time.perf_counter()
            reference(setup, args.steps, args.loader_workers)
            theirs = time.perf_counter() - began
            for stored in (cache.root / "answers").rglob("*.npz"):
                stored.unlink()
            with closing(executor(args.jobs, "cpu")) as crew:
                asking, training, stepping = ours(setup, crew, 1_000 * turn, args.students, args.steps)
            spent = {"answers included": asking + training, "once answers are there": training}
            told = [f"papers' loop {60 / theirs:.2f} students a minute"]
            for name, seconds in spent.items():
                ratios[name].append(args.students * theirs / seconds)
                told.append(f"this pipeline {60 * args.students / seconds:.2f} {name}")
            print(f"{', '.join(told)}; {stepping / (training * args.jobs):.0%} of training in steps", flush=True)
    for name, found in ratios.items():
        print(f"{name}: median {statistics.median(found):.2f}x, lowest {min(found):.2f}x of {len(found)} rounds")


if __name__ == "__main__":
    main()
