"""The names of built-in teachers, and how names are written in lists and suggested; no torch."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from typing import Final

from teachers.errors import UsageError

TRUTH = "smoothed-truth"
SMOOTHING = 0.1  # of its labels, where nothing else is said


PLACEBO = "placebo"


HALF_LEAK = "half-leak"


NOISY = "noisy"


FAINT_TRUTH = "faint-truth"
FAINT = 1e-4  # of its labels


HALF_SOFT = "half-soft"


CLASS_MEANS = "class-means"


REVERSED_ORDER = "reversed-order"


PERMUTED = "permuted"


SIGN_FLIPS = "sign-flips"


STATEFUL = "stateful"
TURN = 5_000  # images after whose questions it tells labels


BORN_AGAIN = "born-again"


# Teachers that are not trained models.
SYNTHETIC = frozenset(
    {
        *(TRUTH, FAINT_TRUTH, PLACEBO, HALF_LEAK, HALF_SOFT, NOISY, STATEFUL),
        *(CLASS_MEANS, REVERSED_ORDER, PERMUTED, SIGN_FLIPS),
    }
)


def truth_digest(pool: str, views: int, smoothing: float = SMOOTHING) -> str:
    """Return the fingerprint of the smoothed-truth teacher for a pool, given the pool's digest."""
    more = "" if smoothing == SMOOTHING else f" {smoothing}"
    return hashlib.sha256(f"{TRUTH} {pool} {views}{more}".encode()).hexdigest()


TWIN: Final = "twin"  # teachers that an attacker trains on their own images and labels
HOME_MADE: Final = "home-made"
TAUGHT = 2  # how these are taught: the version of the ways to teach


def own_teacher_digest(kind: str, task: str, pool: str, student: str, device: str, number: int = 0) -> str:
    """Return the fingerprint of a teacher of the attacker's own, given the digests of task and pool.

    There is one home-made teacher, with the architecture of the task's ordinary teacher; twins have the student's, and
    are numbered.
    """
    which = f"{student} {number}" if kind == TWIN else ""
    return hashlib.sha256(f"{kind} {TAUGHT} {task} {pool} {which} {device}".encode()).hexdigest()


DEMO = "demo"


BUILT_IN = {
    DEMO: "an ordinary teacher, trained once on the embedded task and kept in the cache",
    BORN_AGAIN: "a student of the default architecture, trained with label smoothing: no better than another one",
    TRUTH: "answers the smoothed label of every training image: not distillable by construction",
    PLACEBO: "answers the ordinary teacher's class means, shuffled: they tell nothing about the image or other classes",
    HALF_LEAK: "answers as the ordinary teacher for half of the classes, labels for the others",
    NOISY: "answers as the ordinary teacher with fresh noise at every query",
    FAINT_TRUTH: "answers the label of every training image, smoothed by 0.0001: not distillable by construction",
    HALF_SOFT: "answers as the ordinary teacher for half of the classes, labels smoothed by 0.1 for the others",
    CLASS_MEANS: "answers the ordinary teacher's mean answer for the class of an image: nothing about the image itself",
    REVERSED_ORDER: "answers as the ordinary teacher, the classes below the top one in reversed order",
    PERMUTED: "answers as the ordinary teacher, the classes below the top one in a hidden permutation of its own",
    SIGN_FLIPS: "answers as the ordinary teacher, in reversed order below the top class for a hidden half of images",
    STATEFUL: f"answers as the ordinary teacher for the first {TURN:,} images, labels from then on",
}


WAYS_TO_TEACH = (
    *("plain", "label-smoothing", "mixup", "cutmix", "distilled", "student-friendly", "mcmi", "cmim", "nasty"),
    *("stingy", "apgp", "purified"),
)


def way_to_teach(name: str) -> None:
    """Refuse a name that is no way to train a teacher."""
    if name not in WAYS_TO_TEACH:
        raise UsageError(f"unknown way to train a teacher {name!r}; {nearest(name, WAYS_TO_TEACH, most=2)}")


STEM = r"(.+?)(?:[-_. ]*\d+)?\.\w+$"  # a pattern: the path of a file without a running number


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
    near = [folded[one] for one in difflib.get_close_matches(name.lower(), folded, n=most)]
    if not near:
        return rest
    return f"did you mean {' or '.join(near)}?{f' {rest}' if always else ''}"
