"""The names of built-in teachers, and how names are written in lists and suggested; no torch."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable

TRUTH = "smoothed-truth"
SMOOTHING = 0.1  # of its labels, where nothing else is said


PLACEBO = "placebo"


HALF_LEAK = "half-leak"


NOISY = "noisy"


SYNTHETIC = frozenset({TRUTH, PLACEBO, HALF_LEAK, NOISY})  # teachers that are not trained models


def truth_digest(pool: str, views: int, smoothing: float = SMOOTHING) -> str:
    """Return the fingerprint of the smoothed-truth teacher for a pool, given the pool's digest."""
    more = "" if smoothing == SMOOTHING else f" {smoothing}"
    return hashlib.sha256(f"{TRUTH} {pool} {views}{more}".encode()).hexdigest()


DEMO = "demo"


BUILT_IN = {
    DEMO: "an ordinary teacher, trained once on the embedded task and kept in the cache",
    TRUTH: "answers the smoothed label of every training image: not distillable by construction",
    PLACEBO: "answers the ordinary teacher's class means, shuffled: they tell nothing about the image or other classes",
    HALF_LEAK: "answers as the ordinary teacher for half of the classes, labels for the others",
    NOISY: "answers as the ordinary teacher with fresh noise at every query",
}


def quoted(name: str) -> str:
    """Return a name for a comma-separated list, in quotes if it contains a comma or a quote."""
    return in_quotes(name) if "," in name or '"' in name else name


def in_quotes(name: str) -> str:
    """Return a name in double quotes, a quote in it written twice."""
    return '"' + name.replace('"', '""') + '"'


def nearest(
    name: str, known: Iterable[str], most: int = 1, otherwise: str | None = None, *, always: bool = False
) -> str:
    """Suggest the known names that are nearest, whatever their case; `otherwise` stands where none is near.

    By default that is the list of all known names. With `always`, it follows the suggestion, too.
    """
    folded = {one.lower(): one for one in known}
    rest = f"there are {', '.join(folded.values()) or 'none'}" if otherwise is None else otherwise
    near = [folded[one] for one in difflib.get_close_matches(name.lower(), folded, n=most, cutoff=0.5)]
    if not near:
        return rest
    return f"did you mean {' or '.join(near)}?{f' {rest}' if always else ''}"
