"""The names of built-in teachers, and quotes for names in lists; no torch."""

from __future__ import annotations

import hashlib

TRUTH = "smoothed-truth"


PLACEBO = "placebo"


HALF_LEAK = "half-leak"


NOISY = "noisy"


SYNTHETIC = frozenset({TRUTH, PLACEBO, HALF_LEAK, NOISY})  # teachers that are not trained models


def truth_digest(pool: str, views: int) -> str:
    """Return the fingerprint of the smoothed-truth teacher for a pool, given the pool's digest."""
    return hashlib.sha256(f"{TRUTH} {pool} {views}".encode()).hexdigest()


DEMO = "demo"


BUILT_IN = {
    DEMO: "an ordinary teacher, trained once on the embedded task and kept in the cache",
    TRUTH: "answers the smoothed label of every training image: not distillable by construction",
    PLACEBO: "answers the ordinary teacher's class means, shuffled: nothing of an image, nothing between classes",
    HALF_LEAK: "answers as the ordinary teacher for half of the classes, labels for the others",
    NOISY: "answers as the ordinary teacher with fresh noise at every query",
}


def quoted(name: str) -> str:
    """Return a name for a comma-separated list, in quotes if it contains a comma or a quote."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name
