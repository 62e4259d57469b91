"""How often the adaptive attack claims to have decoded something where there is nothing to decode.

    python benchmarks/adaptive_findings.py            # resumes; writes adaptive_findings.json beside this file

Answers are drawn (`tests/answer_worlds.py`): of ordinary teachers, at a temperature, of twins of the student's own
network, of teachers that answer with smoothed labels, with noise behind the top class, or with class means.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from answer_worlds import World, tail, twin, world  # type: ignore[import-not-found]  # noqa: E402  # needs the path
from defenders import Honest, labels_alone, shuffled, sorted_decoys  # type: ignore[import-not-found]  # noqa: E402

from attacks.adaptive.chain import decode  # noqa: E402
from attacks.adaptive.decoders.decoding import by_class  # noqa: E402

WORLDS = 25  # of each shape and kind
SHAPES = ((5, 60, 4), (10, 40, 4), (16, 24, 2), (30, 20, 4))  # classes, images of each, views
OUT = Path(__file__).with_suffix(".json")


def _means(w: World) -> Tensor:
    return by_class(w.answers, w.tops, w.answers.shape[1])[w.tops].log_softmax(1)


def _noise(w: World) -> Tensor:
    drawn = 3 * torch.randn(w.answers.shape, generator=torch.Generator().manual_seed(11))
    lead = torch.where(tail(w), drawn, -torch.inf).amax(1, keepdim=True) + 1
    return torch.where(tail(w), drawn, lead).log_softmax(1)


KINDS: dict[str, Callable[[World], Tensor]] = {
    "honest": lambda w: w.answers,
    "honest, softer": lambda w: (w.answers / 4).log_softmax(1),
    "twin": twin,
    "labels": lambda w: labels_alone(Honest(w.answers, w.labels)),
    "shuffled": lambda w: shuffled(Honest(w.answers, w.labels)),
    "sorted decoys": lambda w: sorted_decoys(Honest(w.answers, w.labels)),
    "noise": _noise,
    "class means": _means,
}


def main() -> None:
    """Count the findings, world by world."""
    torch.set_num_threads(1)
    found: dict[str, list[str]] = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    for seed in range(WORLDS):
        for k, each, views in SHAPES:
            for kind, shown in KINDS.items():
                row = found.setdefault(f"{kind}, {k} classes", [])
                if len(row) > seed:
                    continue
                w = world(k, each, views, 100 + seed)
                row.append(decode(shown(w), w.labels, w.reference, rescaled=False).told)
        world.cache_clear()
        OUT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, said in sorted(found.items()):
        print(f"{name:28s} {sum(map(bool, said)):3d} of {len(said)}  {sorted(set(filter(None, said)))}")


if __name__ == "__main__":
    main()
