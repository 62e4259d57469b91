"""Names of the teachers that are built in, and names in lists; no torch."""

from __future__ import annotations

import hashlib

TRUTH = "smoothed-truth"


PLACEBO = "placebo"


HALF_LEAK = "half-leak"


NOISY = "noisy"


SYNTHETIC = frozenset({TRUTH, PLACEBO, HALF_LEAK, NOISY})  # teachers that are no models


def truth_digest(pool: str, views: int) -> str:
    """Return the fingerprint of the teacher that answers the smoothed labels of a pool, by that pool's digest."""
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
    """Return a name as a part of a list with commas, in quotes where it holds a comma or quotes."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name
