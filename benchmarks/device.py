"""What a card gives: one call, so many minutes, one table.

Students a minute against the loop that the papers' repositories use, and 1, 2, 4 and 8 of them at once; steps with and
without bfloat16 and a recorded step; `fit` on airbench's network against airbench's own loop; the margin of an attack
on the CPU and on the card; then as much of a standard audit as time allows.

    python benchmarks/device.py --data FOLDER --out device.json [--minutes 10]
    python benchmarks/device.py --smoke --device cpu --out smoke.json

FOLDER holds CIFAR-10: either train/<class>/* and test/<class>/*, or torchvision's cifar-10-batches-py. Every
measurement is written at once; the same command goes on with what is missing. Beside device.json lie device.md, the
table, and device/, with teacher, cache and audit.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from unittest import mock

import airbench
import torch
from ledger import Figure, Ledger, NotMeasured, Row, measure
from pipeline import Setup, ours, reference
from precision_margins import Answered, answered, told

from attacks.controls.ls import LS
from attacks.logits.soft_kd import SoftKD
from audit import teach
from audit.cache.store import Cache
from audit.commands import EXIT, INTERRUPTED
from audit.context import open_context
from audit.execution.cards import SERVER, Card
from audit.execution.processes import Processes
from audit.plan import suite
from audit.plan.options import Options
from audit.plan.suite import Suite
from audit.statistics.compare import differing, paired
from teachers import graphs
from teachers.data import datasets
from teachers.networks import Shape
from teachers.notes import silent
from teachers.precision import BFLOAT16, FLOAT32, Precision, processor
from teachers.storage.entries import Content
from teachers.surface import Answers
from teachers.task import Augment, Pool, Task, few_shot
from teachers.training import Recipe, StoredStream, Student, fit, predict
from teachers.views import ViewSet

NEVER = 10**9  # steps before one is recorded
WARM = 10  # steps before anything is timed
ROUNDS = 3  # of steps; their median is told
STOPPING = 20.0  # seconds that an audit may take to end
AT_ONCE = (1, 2, 4, 8)
AUDIT = "from audit.cli import main; main()"


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    shots: float  # of the training images, for students
    student: str
    steps: int  # of a student
    students: int  # at least, for each number at once
    teacher: str
    lessons: int  # steps of the teacher
    air: float  # of the training images, for airbench's network
    batch: int  # of airbench
    small: str  # student whose margins are compared
    seeds: int
    margins: Suite
    audit: tuple[str, ...]  # options


FULL = Size(
    shots=0.1,
    student="resnet-20",
    steps=400,
    students=8,
    teacher="resnet18-small",
    lessons=1_500,
    air=1.0,
    batch=airbench.BATCH,
    small="strided-16-32-64",
    seeds=5,
    margins=suite.STANDARD,
    audit=("--effort", "standard"),
)
SMOKE = Size(
    shots=0.1,
    student="strided-8-16-32",
    steps=10,
    students=1,
    teacher="strided-8-16-32",
    lessons=300,
    air=0.05,
    batch=32,
    small="strided-8-16-32",
    seeds=2,
    margins=replace(suite.SMOKE, steps=20, views=2),
    # Of two options with one name the second counts: the demo teacher of digits takes least time.
    audit=("--teacher", "demo", "--data", "digits", "--effort", "smoke", "--attacks", "dist", "--seeds", "2"),
)


@dataclass
class Bench:
    """What is measured on, and all measurements."""

    size: Size
    data: str
    device: str
    folder: Path
    held: ExitStack = field(default_factory=ExitStack)

    @property
    def cache(self) -> Path:
        """Where teacher, images and the audit's students are kept."""
        return self.folder / "cache"

    @cached_property
    def task(self) -> Task:
        return datasets.load(self.data, Cache(self.cache).root)

    @property
    def teacher(self) -> Path:
        """The checkpoint of the teacher; raise NotMeasured where it is not taught yet."""
        path = self.folder / "teacher.pt"
        if not path.exists():
            raise NotMeasured("there is no teacher yet")
        return path

    @cached_property
    def setup(self) -> Setup:
        """What both the papers' loop and ours train on."""
        size = self.size
        options = Options(
            teacher=str(self.teacher),
            data=self.data,
            shots=size.shots,
            student=size.student,
            attacks="soft-kd",
            device=self.device,
            cache=self.cache,
            quiet=True,
        )
        context = self.held.enter_context(open_context(options))
        return Setup(context.experiment, context.targets.audited, context.cache, 1)

    def seconds(self, work: Callable[[], object]) -> float:
        """Return how long work takes on the device."""
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        """Wait until the card has nothing to do."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def opened(self, before: Figure | None, allowed: float) -> Figure:
        """Open the data; the cache keeps the images of a folder."""
        took = self.seconds(lambda: self.task)
        sizes = " / ".join(f"{len(pool):,}" for pool in (self.task.train, self.task.validation, self.task.test))
        return Figure(f"{sizes} images of {self.task.name} opened in {took:.0f} s")

    def taught(self, before: Figure | None, allowed: float) -> Figure:
        """Teach the teacher, as `audit teach` does."""
        path, size = self.folder / "teacher.pt", self.size
        lesson = partial(teach.teach, "plain", path, data=self.data, architecture=size.teacher, steps=size.lessons)
        took = self.seconds(lambda: lesson(device=self.device, cache=self.cache))
        return Figure(f"{size.teacher}, {size.lessons:,} steps in {took:.0f} s, accuracy measured, too")

    def papers(self, before: Figure | None, allowed: float) -> Figure:
        """Train one student as the papers' repositories do."""
        workers = min(8, os.cpu_count() or 1) if self.device == "cuda" else 0
        reference(self.setup, WARM, workers)
        took = self.seconds(lambda: reference(self.setup, self.size.steps, workers))
        told = f"{self.size.student}, {self.size.steps} steps, {workers} loader processes"
        return Figure(f"{60 / took:.1f} students a minute ({told})", 60 / took)

    def together(self, at_once: int, before: Figure | None, allowed: float) -> Figure:
        """Train students as an audit does, so many at once, when the teacher's answers are there."""
        size, setup = self.size, self.setup
        free = torch.cuda.mem_get_info()[0] if self.device == "cuda" else sys.maxsize
        card = Card(free, at_once, silent, students=at_once)
        count = max(size.students, 2 * at_once if size.students > 1 else at_once)
        with tempfile.TemporaryDirectory() as name, closing(Processes(1, None, card)) as crew:
            fresh = replace(setup, cache=Cache(Path(name)))
            asking, _, _ = ours(fresh, crew, 0, at_once, WARM)
            _, took, stepping = ours(fresh, crew, 1_000, count, size.steps)
        if card.students < at_once:
            raise NotMeasured(f"only {card.students} such students fit")
        rate, memory = 60 * count / took, f", {card.largest / 2**30:.2f} GiB of the card each" * bool(card.largest)
        steps = f"{stepping / (took * at_once):.0%} of the time in steps"
        told = f"{rate:.1f} students a minute ({count} in {took:.1f} s, {steps}{memory}; asking took {asking:.1f} s)"
        return Figure(told, rate)

    def stepped(self, precision: Precision, recorded: bool, before: Figure | None, allowed: float) -> Figure:
        """Train a student in this process, on answers that cost nothing."""
        if recorded and self.device != "cuda":
            raise NotMeasured("only a card records steps")
        pool, classes = few_shot(self.task.train, self.size.shots), len(self.task.classes)
        values = torch.randn(len(pool), classes, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
        kept = StoredStream(
            pool,
            ViewSet("crop", 1),
            batch=128,
            seed=0,
            answers=Answers("probs", values),
            device=self.device,
        )
        recipe = Recipe(self.size.student, self.size.steps, views=1, precision=precision)
        where, watch = {"classes": classes, "shape": self.task.shape, "device": self.device}, Watch()
        with mock.patch.object(graphs, "EAGER", graphs.EAGER if recorded else NEVER), watch:
            fit(replace(recipe, steps=WARM), kept, SoftKD().loss, 0, **where)  # type: ignore[arg-type]
            found = [self.seconds(lambda: fit(recipe, kept, SoftKD().loss, 0, **where)) for _ in range(ROUNDS)]  # type: ignore[arg-type]
        if recorded and watch.refused:
            raise NotMeasured(f"the card recorded nothing ({watch.refused})")
        rate = recipe.steps / statistics.median(found)
        return Figure(f"{rate:.1f} steps a second ({self.size.student}, batch 128, median of {ROUNDS})", rate)

    @cached_property
    def air(self) -> Pool:
        """The images that airbench's network is trained on, shifted by as many pixels as there."""
        augment = Augment(pad=airbench.SHIFT, flip=self.task.train.augment.flip)
        return replace(few_shot(self.task.train, self.size.air), augment=augment)

    def airbench(self, before: Figure | None, allowed: float) -> Figure:
        """Train airbench's network by airbench's loop."""
        pool, size, found = self.air, self.size, list[airbench.AirNet]()
        steps, classes = airbench.steps_of(pool, size.batch), len(self.task.classes)
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            airbench.plain(pool, classes, WARM, size.batch, self.device)
            took = self.seconds(lambda: found.append(airbench.plain(pool, classes, steps, size.batch, self.device)))
        half = "float16" if self.device == "cuda" else FLOAT32
        return self._air(steps, took, airbench.accuracy(found[0], self.task.test, self.device), half)

    def fitted(self, before: Figure | None, allowed: float) -> Figure:
        """Train airbench's network by `fit`."""
        pool, size, found, watch = self.air, self.size, list[Student](), Watch()
        on_card = self.device == "cuda"
        whole = airbench.recipe(airbench.steps_of(pool, size.batch), size.batch, BFLOAT16 if on_card else FLOAT32)

        def work(recipe: Recipe) -> None:
            views = ViewSet("crop", recipe.views)
            stream = airbench.WhitenedStream(pool, views, batch=recipe.batch, seed=0, device=self.device)
            stream.some = airbench.some(pool)
            shape: Shape = pool.shape
            loss = LS(smoothing=airbench.SMOOTHING).loss
            found.append(fit(recipe, stream, loss, 0, classes=len(self.task.classes), shape=shape, device=self.device))

        with watch:
            work(replace(whole, steps=WARM))
            took = self.seconds(lambda: work(whole))
        test = self.task.test
        right = float((predict(found[-1].network, test, self.device) == test.every_label).mean())
        recorded = f", no step recorded: {watch.refused}" if watch.refused else ", recorded steps"
        return self._air(whole.steps, took, right, f"{whole.precision}{recorded * on_card}")

    def _air(self, steps: int, took: float, right: float, how: str) -> Figure:
        told = f"{steps / took:.1f} steps a second ({steps} of batch {self.size.batch} in {took:.2f} s); "
        images = f"{right:.2%} of {len(self.task.test):,} test images right, trained on {len(self.air):,}"
        return Figure(f"{told}{images}; {how}", steps / took)

    def margins(self, before: Figure | None, allowed: float) -> Figure:
        """Train the same students on the CPU and on the device, each asked and trained there; compare their margins."""
        found: list[Answered] = []
        for place in ("cpu", self.device):
            options = Options(
                teacher=str(self.teacher),
                data=self.data,
                shots=self.size.shots,
                student=self.size.small,
                attacks="soft-kd",
                precision=FLOAT32,
                device=place,
                cache=self.apart(f"{len(found)}-{place}"),
                quiet=True,
            )
            found.append(answered(options, ["soft-kd"], self.size.seeds, self.size.margins)[0])
        on_cpu, here = ((one["soft-kd"], one["ls"]) for one in found)
        difference = differing(here, on_cpu)
        low, high = difference.interval()
        zero = "contains zero" if low <= 0 <= high else "does not contain zero"
        parts = f"cpu {told(paired(*on_cpu))}, {self.device} {told(paired(*here))}"
        whole = f"{parts}, difference {told(difference)}, which {zero}"
        return Figure(
            f"{whole} (points, 95 %; soft-kd over ls, {self.size.small}, {self.size.seeds} seeds, validation)"
        )

    def apart(self, name: str) -> Path:
        """Return a cache with students and answers of its own, and with the images that were decoded already."""
        cache, images = self.folder / f"margins-{name}", self.cache / "data"
        cache.mkdir(exist_ok=True)
        if images.exists() and not (cache / "data").exists():
            (cache / "data").symlink_to(images)
        return cache

    def audited(self, before: Figure | None, allowed: float) -> Figure:
        """Go on with an audit until the time is over."""
        out, log = self.folder / "audit", self.folder / "audit.log"
        options = ("--teacher", self.teacher, "--data", self.data, "--device", self.device, *self.size.audit)
        command = [
            sys.executable,
            "-c",
            AUDIT,
            "run",
            *map(str, options),
            "--out",
            str(out),
            "--cache",
            str(self.cache),
        ]
        began = time.monotonic()
        with log.open("a") as told:
            process = subprocess.Popen(command, stdout=told, stderr=told)
            try:
                code = process.wait(max(1.0, allowed - STOPPING))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                code = process.wait()  # until this measurement's time is over
            finally:
                process.kill()
                process.wait()
        if code not in (*EXIT.values(), INTERRUPTED):
            raise RuntimeError(log.read_text().strip().splitlines()[-1])
        spent = time.monotonic() - began + (before.seconds if before else 0.0)
        return self._progress(out, spent, code != INTERRUPTED)

    def _progress(self, out: Path, spent: float, over: bool) -> Figure:
        journal = out / "journal.jsonl"
        lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
        keys = {line["cell"] for line in lines if "cell" in line and "failed" not in line}
        cells = Cache(self.cache, silent).entries
        names = (f"cells/{key[:2]}/{key}.json" for key in keys)
        stepping = sum(cells.read(name, seconds_in_steps, "the student is trained again") or 0.0 for name in names)
        rate, how = 60 * len(keys) / spent, " ".join(self.size.audit)
        told = f"{len(keys)} students in {spent / 60:.1f} min, {rate:.1f} a minute, {stepping:.0f} s of theirs in steps"
        ending = "it is finished" if over else "the next run goes on with it"
        return Figure(f"{told} ({how}); {ending}", rate, done=over, seconds=spent)

    def rows(self) -> list[Row]:
        """Return what is measured, in order, with shares of the time."""
        students, images = (lambda: self.setup), (lambda: self.task)
        loop, plain, air = "papers' loop", "steps: float32", "airbench's loop"
        together = [Row(f"{k} at once", 0.05, partial(self.together, k), loop, ready=students) for k in AT_ONCE]
        stepped = [
            Row(plain, 0.02, partial(self.stepped, FLOAT32, False), ready=images),
            Row("steps: float32, recorded", 0.02, partial(self.stepped, FLOAT32, True), plain, ready=images),
            Row("steps: bfloat16", 0.02, partial(self.stepped, BFLOAT16, False), plain, ready=images),
            Row("steps: bfloat16, recorded", 0.02, partial(self.stepped, BFLOAT16, True), plain, ready=images),
        ]
        return [
            Row("data", 0.06, self.opened, needed=True),
            Row("teacher", 0.12, self.taught, needed=True),
            Row(loop, 0.06, self.papers, ready=students),
            *together,
            *stepped,
            Row(air, 0.05, self.airbench, ready=images),
            Row("`fit` on airbench's network", 0.05, self.fitted, air, ready=images),
            Row("margins, CPU and device", 0.15, self.margins),
            Row("audit", 0.26, self.audited),
        ]


class Watch:
    """Notes why a step was not recorded."""

    def __init__(self) -> None:
        self.refused = "none was tried"
        self._patch = mock.patch.object(graphs, "on_card", self._recorded(graphs.on_card))

    def _recorded(self, recorder: graphs.Recorder) -> graphs.Recorder:
        def record(work: graphs.Work) -> graphs.Work:
            try:
                replay = recorder(work)
            except RuntimeError as e:
                self.refused = str(e).splitlines()[0]
                raise
            self.refused = ""
            return replay

        return record

    def __enter__(self) -> None:
        self._patch.start()

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


def seconds_in_steps(content: Content) -> float:
    """Return how long a stored student's steps took."""
    return float(json.loads(content.file.read())["step_seconds"])


def machine(device: str) -> str:
    """Return what a measurement holds for."""
    cores = f"{os.cpu_count()} cores ({processor() or 'no bfloat16'})"
    if device == "cpu":
        return cores
    shared = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", SERVER)).exists()
    return f"{torch.cuda.get_device_name()} {'with' if shared else 'without'} MPS, {cores}"


def named(data: str) -> str:
    """Return the name of a data set as an audit takes it; a folder may be torchvision's."""
    return f"torchvision:CIFAR10:{data}" if (Path(data) / "cifar-10-batches-py").is_dir() else data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data", metavar="DIR", help="CIFAR-10, or any data set that `audit run --data` takes")
    parser.add_argument("--smoke", action="store_true", help="glyphs and tiny students: whether all of it runs")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU on this machine; give --device cpu")
    if not args.smoke and args.data is None:
        parser.error("give --data, a folder with CIFAR-10, or --smoke")
    if not (math.isfinite(args.minutes) and args.minutes > 0) or args.out.suffix != ".json":
        parser.error("give --minutes above 0, and an --out that ends in .json")
    data, now = named(args.data or "glyphs"), datetime.now().astimezone()
    setting = {
        "machine": machine(args.device),
        "torch": f"torch {torch.__version__}",
        "data": args.data or "glyphs",
        "sizes": "smoke" if args.smoke else "all sizes",
    }
    folder = args.out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        ledger = Ledger.open(args.out, setting, f"{now:%Y-%m-%d %H:%M:%S}")
    except ValueError as e:
        parser.error(str(e))
    bench = Bench(SMOKE if args.smoke else FULL, data, args.device, folder.resolve())
    rows = bench.rows()
    try:
        with bench.held:
            measure(rows, ledger, 60 * args.minutes)
    finally:
        args.out.with_suffix(".md").write_text(ledger.table(rows))
    print("\n" + ledger.table(rows), end="")


if __name__ == "__main__":
    main()
