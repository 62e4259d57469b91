"""Build a realistic record from synthetic numbers, for tests of the reports and for looking at them."""

from __future__ import annotations

import math
import string
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from reports import record as rec
from reports.record import Comparison, Interval, PackedArray, Word

IMAGES = 400
CLASSES = (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase)
TEMPERATURES = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0, 8.0, 16.0)
SHIFT: dict[Word, float] = {"DISTILLABLE": 0.0, "UNDISTILLABLE": -0.021, "INCONCLUSIVE": -0.017}
LS_ACCURACY = 0.8412
RIGHT = PackedArray.of(np.ones(IMAGES, bool))
LABELS = PackedArray.of(np.arange(IMAGES, dtype=np.uint16) % len(CLASSES))
CHANGES = PackedArray.of(np.zeros(IMAGES, np.float16))
LS = rec.ControlResult(name="ls", parameters={"smoothing": 0.1}, accuracy=LS_ACCURACY)

# name, title, paper, needs, holds, margin, standard error, passes its positive control
ATTACKS = (
    ("soft-kd", "Soft targets", "Hinton et al. 2015, arXiv 1503.02531", "probs", "original", 0.0142, 0.0021, True),
    ("dkd", "Decoupled KD", "Zhao et al. 2022, arXiv 2203.08679", "probs", "original", 0.0191, 0.0024, True),
    ("lskd", "Logit standardisation", "Sun et al. 2024, arXiv 2403.01427", "probs", "original", 0.0035, 0.0022, True),
    ("avg", "Averager student", "Keser & Toreyin 2023", "probs", "original", 0.0010, 0.0019, False),
    ("label-kd", "Label KD", "Wang et al. 2021", "label", "original", None, 0.0, None),
    ("label-mixup", "Labels of mixtures", "Zhang et al. 2018", "label", "original", -0.0025, 0.0026, True),
    ("knockoff", "Knockoff Nets", "Orekondy et al. 2019, arXiv 1812.02766", "probs", "surrogate", -0.084, 0.006, True),
    ("noise", "Random noise", "Roberts et al. 2019", "probs", "no data", -0.613, 0.011, False),
)


def interval(mean: float, se: float) -> Interval:
    """Return an interval around a mean with about 18 degrees of freedom."""
    p = 0.5 * math.erfc(mean / se / math.sqrt(2)) if se else 0.5
    wide, narrow = 2.1 * se, 1.73 * se
    ends = {"low": mean - wide, "high": mean + wide, "lower": mean - narrow, "upper": mean + narrow}
    return Interval(mean=mean, se=se, df=18.4, **ends, p=p, seeds=5, images=IMAGES, discordant=41.2)


def positive_control(name: str, passes: bool) -> rec.PositiveControl:
    """Return an attack's result on the ordinary teacher; the two without original data have a curve."""
    if name not in {"knockoff", "noise"}:
        return rec.PositiveControl(
            students=(), baseline="LS student", passes=passes, margin=interval(0.021 if passes else 0.002, 0.004)
        )
    top = 0.75 if name == "knockoff" else 0.09
    curve = tuple(
        rec.Cost(queries=queries, accuracy=interval(top * share, 0.008), agreement=top * share * 0.98)
        for queries, share in ((388, 0.4), (775, 0.66), (1550, 0.88), (3100, 1.0))
    )
    return rec.PositiveControl(
        students=(), baseline="majority class", passes=passes, margin=interval(top - 0.016, 0.008), curve=curve
    )


def comparisons(shift: float) -> tuple[Comparison, ...]:
    """Return one comparison for every attack, margins of original-data attacks shifted."""
    rows = []
    for name, title, paper, needs, holds, margin, se, passes in ATTACKS:
        fixed: dict[str, Any] = {
            "attack": name,
            "title": title,
            "paper": paper,
            "needs": needs,
            "holds": holds,
            "student": "",
        }
        if margin is None:
            reason = "the teacher repeats 100.0 % of the known labels, so the targets equal the control's"
            rows.append(Comparison(**fixed, status="identical", reason=reason, control=rec.ControlResult(name="ls")))
            continue
        found = interval(margin + (shift if holds == "original" else 0), se)
        rows.append(
            Comparison(
                **fixed,
                status="judged",
                knockoff=rec.KnockoffResult(
                    parameters={"temperature": 4.0, "weight": 0.9} if needs == "probs" else {"alpha": 0.4},
                    tuned_over=6,
                    accuracy=LS_ACCURACY + found.mean,
                    agreement=0.92 if holds == "original" else 0.7 if holds == "surrogate" else 0.21,
                    queries=3100 if holds != "no data" else 12400,
                    dropped_accuracy=0.31,
                ),
                control=LS.model_copy(update={"dropped_accuracy": 0.0}),
                margin=found,
                p_holm=min(1.0, found.p * 7),
                baseline=rec.BaselineResult(name="ce", students=(), margin=interval(found.mean + 0.006, se)),
                positive_control=positive_control(name, bool(passes)),
            )
        )
    return tuple(rows)


def controls() -> tuple[Comparison, ...]:
    """Return the null control and one other no-victim baseline."""
    common: dict[str, Any] = {"paper": "", "holds": "original", "needs": "label", "status": "judged", "student": ""}
    null, plain = (rec.KnockoffResult(accuracy=LS_ACCURACY + gain) for gain in (0.0004, -0.0061))
    return (
        Comparison(
            **common,
            attack="null",
            title="LS against LS, fresh seeds",
            knockoff=null,
            control=LS,
            margin=interval(0.0004, 0.0022),
        ),
        Comparison(
            **common,
            attack="ce",
            title="Cross entropy, no smoothing",
            knockoff=plain,
            control=LS,
            margin=interval(-0.0061, 0.0024),
        ),
    )


def trials() -> tuple[rec.Trial, ...]:
    """Return two judged students for every attack that ran, and two LS students."""
    rng = np.random.default_rng(0)
    regime = rec.Regime(recipe={"steps": 1200, "batch": 128}, view="crop", source="original")
    fixed: dict[str, Any] = {"role": "judge", "regime": regime, "labels": 1.0, "agreement": 0.9, "diverged": False}
    fixed |= {"network_parameters": 61_000, "seconds": 11.5, "step_seconds": 9.8}
    fixed |= {"gradient_queries": 0, "repeated_labels": None, "validation_correct": RIGHT, "test_agrees": RIGHT}
    control: dict[str, Any] = {"kind": "control", "teacher": None, "queries": 0}
    attack: dict[str, Any] = {"kind": "attack", "teacher": "audited", "queries": 3100}
    students = [("ls", LS_ACCURACY, {"smoothing": 0.1}, control)]
    students += [(a[0], LS_ACCURACY + a[5], {"temperature": 4.0}, attack) for a in ATTACKS if a[5] is not None]
    return tuple(
        rec.Trial(
            key=f"{name}-{seed}",
            cell=cell(name, parameters, seed),
            validation_accuracy=accuracy,
            test_correct=PackedArray.of(rng.random(IMAGES) < accuracy),
            **own,
            **fixed,
        )
        for name, accuracy, parameters, own in students
        for seed in (0, 1)
    )


def cell(technique: str, parameters: rec.Parameters, seed: int) -> rec.Cell:
    """Return what determines a student."""
    recipe = {"architecture": "cnn-small"}
    fixed = {"engine": 2, "version": "1", "pool": PINNED, "task": PINNED}
    return rec.Cell(technique=technique, parameters=parameters, recipe=recipe, seed=seed, **fixed)


def pool(name: Literal["train", "augmented", "validation"], height: float, classes: int = len(CLASSES)) -> rec.CMIPool:
    """Return a pool whose CMI over the temperature is a bump of the given height."""
    rng = np.random.default_rng(len(name))
    labels = np.arange(2 * classes, dtype=np.uint16) % classes
    answers = np.log(rng.dirichlet(np.full(classes, 0.1), labels.size) + 1e-12).astype(np.float16)
    cmi = tuple(height * math.exp(-0.9 * math.log(t / 1.3) ** 2) for t in TEMPERATURES)
    per_class: list[float | None] = [float(v) for v in height * rng.gamma(1.5, 0.6, classes)]
    per_class[7] = None
    return rec.CMIPool(
        name=name,
        answers=PackedArray.of(answers),
        labels=PackedArray.of(labels),
        temperatures=TEMPERATURES,
        cmi=cmi,
        se=tuple(0.004 + 0.04 * v for v in cmi),
        plug_in=tuple(v * 0.97 for v in cmi),
        gamma=tuple(4.1 + 0.4 * t for t in TEMPERATURES),
        ncmi=tuple(v / (4.1 + 0.4 * t) for v, t in zip(cmi, TEMPERATURES, strict=True)),
        per_class=tuple(per_class),
        unreliable=62 if name == "validation" else 0,
    )


SCOPE = "suite standard-1, full probabilities, no query limit, student cnn-small, all 3,100 training images and labels"
SAID: dict[Word, dict[str, Any]] = {
    "DISTILLABLE": {
        "sentence": "A student trained with the teacher's answers (dkd) is 1.91 points more accurate than the same "
        "student trained without them.",
        "reasons": ("dkd: Holm-adjusted p < 0.001", "soft-kd: Holm-adjusted p < 0.001"),
        "settle": "",
    },
    "UNDISTILLABLE": {
        "sentence": "No attack of this suite trained a better student than label smoothing did, and none can be "
        "better by 0.5 points or more.",
        "reasons": (),
        "settle": "",
    },
    "INCONCLUSIVE": {
        "sentence": "No attack beat label smoothing, but the tests are too weak to rule out a gain of 0.5 points.",
        "reasons": ("upper bound of dkd is +0.63 points, above the tolerance of 0.5 points",),
        "settle": "About 9 more seeds for dkd would bring its upper bound below 0.5 points.",
    },
}
FLAG = {
    "id": "few-images-per-class",
    "found": "62 of 62 classes have fewer than 50 validation images.",
    "why": "The correction of the CMI estimate is only good to first order.",
    "do": "Keep more validation images (--validation).",
    "caps": "nothing",
}
TEACHER = {"sha256": "4f1c" * 16, "architecture": "cnn-large", "network_parameters": 1_204_862, "output": "logits"}
TEACHER |= {"mean": (0.5,), "std": (0.5,), "bgr": False, "validation_correct": RIGHT, "test_correct": RIGHT}
TEACHER |= {"usability": rec.Usability(correct=RIGHT, confidence=None, classes=LABELS)}
ACCURACY = {"validation_accuracy": 0.9012, "test_accuracy": 0.8987, "test_low": 0.891, "test_high": 0.906}
PROBE = {"images": IMAGES, "queries": IMAGES, "repeated": CHANGES, "regrouped": CHANGES, "correct": RIGHT}
PROBE |= {"softmaxed": False, "saturated": 0.0, "normalised": (), "duplicated": RIGHT}
PINNED = "b7e2" * 16
SUITE = {
    "name": "standard-1",
    "digest": PINNED,
    "attacks": tuple(row[0] for row in ATTACKS),
    "complete": True,
    "recipe": {"steps": 1200, "batch": 128, "rate": 0.05, "nesterov": True},
    "settings": 6,
    "tuning_seeds": 2,
    "seeds": 5,
}
TASK = {
    "name": "characters",
    "digest": PINNED,
    "pool_digest": PINNED,
    "shape": (1, 16, 16),
    "majority": 0.0161,
    "train": 3100,
    "validation": 1240,
    "test": IMAGES,
    "validation_labels": LABELS,
    "test_labels": LABELS,
    "pool_images": 3100,
}
SETTINGS = {
    "teacher": "",
    "seeds": 0,
    "student": "cnn-small",
    "surface": "probs",
    "shots": 1.0,
    "labels": 1.0,
    "budget": None,
    "effort": "standard",
    "surrogate": "textures",
    "device": "cpu",
    "drop_classes": (CLASSES[7], CLASSES[9]),
}
VERSIONS = {"tool": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "numpy": "2.3.1", "packages": {}}
TIMES = {"created": "2026-01-12T09:30:00Z", "wall_seconds": 3781.0, "training_share": 0.86}


def sample_record(word: Word = "DISTILLABLE", hostile: str | None = None) -> rec.Record:
    """Return a record of the given verdict; a hostile text replaces names that strangers choose."""
    rows = comparisons(SHIFT[word])
    if hostile is not None:
        rows = (rows[0].model_copy(update={"attack": hostile, "title": hostile, "paper": hostile}), *rows[1:])
    ledger = [
        {"attack": r.attack, "purpose": "train", "charged": r.knockoff.queries * 5, "sent": r.knockoff.queries}
        for r in rows
    ]
    ledger.append({"attack": "", "purpose": "cmi", "charged": 9300, "sent": 9300})
    name = hostile or "cmim.pt"
    parts: dict[str, Any] = {
        "command": hostile or "audit run --teacher cmim.pt",
        "teacher": {**TEACHER, **ACCURACY, "name": name, "method": "cmim"},
        "ordinary": {**TEACHER, **ACCURACY, "name": "ordinary", "method": "plain"},
        "task": {**TASK, "classes": (hostile or CLASSES[0], *CLASSES[1:])},
        "suite": SUITE,
        "settings": SETTINGS,
        "look": {"number": 1, "alpha": 0.05, "seeds": (5, 8, 10), "horizon": 20},
        "verdict": {**SAID[word], "word": word, "scope": SCOPE, "delta": 0.005, "look": 1, "alpha": 0.05},
        "flags": ({**FLAG, "found": hostile or FLAG["found"]},),
        "comparisons": rows,
        "controls": controls(),
        "cmi": (pool("train", 0.11), pool("augmented", 0.24), pool("validation", 0.37)),
        "probe": PROBE,
        "distinct_answers": 31_000,
        "ledger": tuple(ledger),
        "trials": trials(),
        "journal": PINNED,
        "environment": {**VERSIONS, "platform": "Linux x86_64", "threads": 2, "code": PINNED},
        "times": {**TIMES, "trained": 164, "reused": 12},
    }
    return rec.Record(audit="9c41d0aa" * 8, **parts)


SURFACES = ("probs", "logits", "uint8", "top:5", "top:1", "round:2", "noise:0.1", "sparse:6", "mad:0.5", "label")


def large_record(hostile: str | None = None) -> rec.Record:
    """Return a record of 30 attacks, 100 classes and 10 surfaces."""
    record = sample_record(hostile=hostile)
    rng = np.random.default_rng(1)
    kept = [c for c in record.comparisons if c.margin is not None]
    rows = []
    for i in range(30 - len(record.comparisons)):
        row = kept[i % len(kept)]
        found = interval(float(rng.normal(0.0, 0.012)) - (0.2 if row.holds != "original" else 0), 0.003)
        update = {"attack": f"{row.attack}-{i}", "margin": found, "p_holm": min(1.0, 29 * found.p), "looks": (5, 8)}
        knockoff = row.knockoff.model_copy(update={"accuracy": LS_ACCURACY + found.mean})
        rows.append(row.model_copy(update={**update, "knockoff": knockoff}))
    purposes = ("tune, audited teacher", "judge, audited teacher", "positive control, ordinary teacher")
    ledger = [rec.LedgerRow(attack=r.attack, purpose=p, charged=24_800, sent=3_100) for r in rows for p in purposes]
    shown = {"folder": "", "record": PINNED, "attack": "dkd", "accuracy": 0.9, "calibration_error": 0.03, "top5": 0.98}
    words: tuple[Word, ...] = ("DISTILLABLE", "INCONCLUSIVE", "UNDISTILLABLE")
    update = {
        "comparisons": (*record.comparisons, *rows),
        "controls": tuple(record.controls[i % 2].model_copy(update={"attack": f"control-{i}"}) for i in range(6)),
        "task": record.task.model_copy(update={"classes": tuple(f"class {i}" for i in range(100))}),
        "cmi": (pool("train", 0.11, 100), pool("augmented", 0.24, 100), pool("validation", 0.37, 100)),
        "ledger": (*record.ledger, *ledger),
        "surfaces": tuple(
            rec.SurfaceResult(surface=s, word=words[i % 3], margin=interval(0.02 - 0.003 * i, 0.003), **shown)
            for i, s in enumerate(SURFACES)
        ),
        "settings": replace(record.settings, drop_classes=("class 9", "class 77")),
    }
    return record.model_copy(update=update)
