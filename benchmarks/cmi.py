"""CMI over temperature: `audit.statistics.cmi.curve` against the loop of the papers' repositories, and its peak memory.

Three ways to measure the same, each for every temperature. The public MCMI script's way: answers come in batches of
128, every class of a batch is copied to its place, then the softmax of all, the class means and `F.kl_div` (the script
itself takes the softmax of all anew after every class of every batch, which would take hours). Its inner part alone,
with answers at hand: for every class its softmax, mean and `F.kl_div`; both give the plug-in alone. And that inner part
giving all that `curve` gives: bias correction, standard error, Γ. All start from the same float32 log-probabilities, on
the same number of threads, turn by turn in one run; what is compared is the median of the ratios. Processor time is
told beside, for a machine that does something else meanwhile.

Memory is that of a process of its own that measures 50,000 images of 1,000 classes from a file within 2 GiB.

    python benchmarks/cmi.py [--rounds 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teachers.units import size

TEMPERATURES = [2.0 ** (i / 2 - 2) for i in range(20)]
IMAGES = 50_000
BATCH = 128
LIMIT = 2 << 30  # bytes

Array = NDArray[Any]


def labels(classes: int) -> Array:
    """Return shuffled labels, every class as often."""
    return np.random.default_rng(0).permutation(np.arange(IMAGES) % classes)


def answers(y: Array, classes: int, rows: int = 2_500) -> Iterator[Array]:
    """Draw float32 log-probabilities as a trained teacher gives them, in chunks (rows, classes)."""
    rng = np.random.default_rng(1)
    for at in range(0, len(y), rows):
        z = 2 * rng.standard_normal((rows, classes), np.float32)
        z[np.arange(rows), y[at : at + rows]] += 6
        z -= z.max(1, keepdims=True)
        yield z - np.log(np.exp(z).sum(1, keepdims=True))


def script(log_p: Array, y: Array, K: int) -> Array:
    """Return the plug-in CMI (T,) the public script's way, for classes of equal size."""
    import torch
    from torch.nn import functional as F

    z, label = torch.from_numpy(log_p), torch.from_numpy(y)
    found = []
    for T in TEMPERATURES:
        placed, filled = torch.empty(K, len(y) // K, K), torch.zeros(K, dtype=torch.long)
        for logit, target in zip(torch.split(z / T, BATCH), torch.split(label, BATCH), strict=True):
            for c, count in zip(*target.unique(return_counts=True), strict=True):  # type: ignore[no-untyped-call]
                placed[c, filled[c] : filled[c] + count] = logit[target == c]
                filled[c] += count
        log_Q = F.softmax(placed, 2).mean(1).log()[:, None].expand_as(placed)
        log_P = F.log_softmax(placed, 2)
        found.append(float(F.kl_div(log_Q, log_P, reduction="sum", log_target=True)) / len(z))
    return np.array(found)


def plug_in(log_p: Array, y: Array, K: int) -> Array:
    """Return the plug-in CMI (T,), class by class."""
    import torch
    from torch.nn import functional as F

    z, label = torch.from_numpy(log_p), torch.from_numpy(y)
    found = []
    for T in TEMPERATURES:
        total = 0.0
        for c in range(K):
            mine = z[label == c]
            Q = F.softmax(mine / T, 1).mean(0)
            log_P = F.log_softmax(mine / T, 1)
            total += float(F.kl_div(Q.log().expand_as(log_P), log_P, reduction="sum", log_target=True))
        found.append(total / len(z))
    return np.array(found)


def everything(log_p: Array, y: Array, K: int) -> Array:
    """Return plug-in, corrected value, standard error and Γ, (T, 4), by the same loop."""
    import torch
    from torch.nn import functional as F

    z, label = torch.from_numpy(log_p), torch.from_numpy(y)
    found = []
    for T in TEMPERATURES:
        divergence, bias, within = torch.empty(len(z)), 0.0, 0.0
        mass, surprise = torch.zeros(K), torch.zeros(K)
        for c in range(K):
            of_class = label == c
            mine = z[of_class]
            P, log_P = F.softmax(mine / T, 1), F.log_softmax(mine / T, 1)
            Q = P.mean(0)
            divergence[of_class] = F.kl_div(Q.log().expand_as(P), log_P, reduction="none", log_target=True).sum(1)
            bias += float((P.var(0) / Q).sum()) / 2
            A, B = P.sum(0), -log_P.clamp(min=np.log(1e-12)).sum(0)
            mass, surprise, within = mass + A, surprise + B, within + float(A @ B)
        n, mean = len(z), float(divergence.mean())
        gamma = (float(mass @ surprise) - within) / (n * (n - 1))
        found.append((mean, mean + bias / n, float(divergence.std()) / n**0.5, gamma))
    return np.array(found)


def ours(log_p: Array, y: Array, K: int) -> Array:
    """Return plug-in, corrected value, standard error and Γ, (T, 4)."""
    from audit.statistics.cmi import curve

    found = curve(log_p, y, K, TEMPERATURES)
    return np.stack([found.plug_in, found.cmi, found.se, found.gamma], 1)


def timed(measure: Callable[[], Array]) -> tuple[float, float, Array]:
    """Return wall seconds, processor seconds and what was measured."""
    wall, processor = time.perf_counter(), time.process_time()
    found = measure()
    return time.perf_counter() - wall, time.process_time() - processor, found


def compare(rounds: int, classes: int) -> None:
    """Time all ways turn by turn."""
    y = labels(classes)
    log_p = np.concatenate(list(answers(y, classes)))
    ways = {"the script's way": script, "its inner part": plug_in, "its inner part, everything": everything}
    for measure in (ours, plug_in, everything):  # what happens only once: imports, first allocations
        measure(log_p[:5_000], y[:5_000], classes)
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        wall, processor, found = timed(lambda: ours(log_p, y, classes))
        line = f"curve {wall:.3f} s ({processor:.3f} s of processor)"
        for name, measure in ways.items():
            their_wall, their_processor, reference = timed(partial(measure, log_p, y, classes))
            ratios[name].append((their_wall / wall, their_processor / processor))
            line += f"; {name} {their_wall:.3f} s ({their_processor:.3f} s)"
            assert np.allclose(reference, found if reference.ndim == 2 else found[:, 0], rtol=1e-3, atol=2e-6)
        print(line, flush=True)
    for name, pairs in ratios.items():
        walls, processors = zip(*pairs, strict=True)
        print(
            f"against {name}: median {statistics.median(walls):.1f}x, lowest {min(walls):.1f}x; processor time "
            f"{statistics.median(processors):.1f}x, lowest {min(processors):.1f}x (n = {rounds} rounds)"
        )


def within_limit(path: Path, classes: int) -> None:
    """Measure answers from a file within the limit, and print the peak."""
    from audit.statistics.cmi import curve

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    wall, _, _ = timed(lambda: curve(np.load(path, mmap_mode="r"), labels(classes), classes, TEMPERATURES).cmi)
    # Of this program alone: ru_maxrss remembers the process that started it.
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    print(f"{IMAGES:,} images, {classes:,} classes: {wall:.1f} s, peak {size(1024 * int(peak[1]))}, file included")


def memory(classes: int) -> None:
    """Write answers to a file and measure them in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path, y = Path(folder) / "answers.npy", labels(classes)
        written = np.lib.format.open_memmap(path, "w+", np.float32, (IMAGES, classes))
        at = 0
        for chunk in answers(y, classes):
            written[at : at + len(chunk)] = chunk
            at += len(chunk)
        written.flush()
        subprocess.run([sys.executable, __file__, "--file", str(path), "--classes", str(classes)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(args.threads):  # BLAS reads it once, when numpy loads it: start again
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if args.file:
        within_limit(args.file, args.classes)
        return
    import torch

    torch.set_num_threads(args.threads)
    print(f"{IMAGES:,} images, {args.classes} classes, {len(TEMPERATURES)} temperatures, {args.threads} threads")
    compare(args.rounds, args.classes)
    for classes in (args.classes, 1_000):
        memory(classes)


if __name__ == "__main__":
    main()
