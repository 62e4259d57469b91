"""How each field of a record can be verified: one table, and the part of docs/verdict.md that is generated from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Told = Literal["recomputed", "checked", "repeat", "again", "text"]

MEANING: Final[Mapping[Told, str]] = {
    "recomputed": "computed again from the rest of the record",
    "checked": "compared with other parts of the record, its suite and its students' digests",
    "repeat": "measured on a student: only `audit repeat` can check it, which trains the student again",
    "again": "measured on, or stated about, the teacher or the data: only another audit of the same file can check it",
    "text": "additional information that nothing else depends on",
}

# By part of the record (see `audit schema`); an array counts as one field.
FIELDS: Final[Mapping[str, Mapping[Told, str]]] = {
    "Record": {"checked": "schema_version audit answered journal", "again": "cmi_behind", "text": "command"},
    "Bite": {"recomputed": "bites", "checked": "students control_students", "text": "baseline"},
    "CMIPool": {
        "recomputed": "temperatures cmi se plug_in gamma ncmi per_class unreliable",
        "checked": "name labels",
        "again": "answers",
    },
    "Comparison": {
        "recomputed": "accuracy control_accuracy agreement queries p_holm floor dropped_accuracy "
        "control_dropped_accuracy",
        "checked": "attack student holds needs status reason parameters tuned_over control control_parameters looks "
        "students control_students baseline baseline_students extra",
        "text": "title paper",
    },
    "Cost": {"recomputed": "queries agreement", "checked": "students"},
    "Environment": {"text": "tool python torch numpy platform threads packages code"},
    "Flag": {"recomputed": "id raised why do caps"},
    "SurfaceResult": {"recomputed": "surface folder record word attack accuracy calibration_error top5"},
    "Interval": {"recomputed": "mean se df low high lower upper p seeds images discordant"},
    "LedgerRow": {"checked": "attack purpose charged", "again": "sent"},
    "Look": {"recomputed": "number alpha horizon", "checked": "seeds"},
    "Map": {"recomputed": "name x y classes"},
    "NormalisationTrial": {"again": "normalize correct"},
    "Picture": {"recomputed": "row overlay divergence told probability", "again": "png"},
    "PicturedClass": {"recomputed": "name cmi se"},
    "CellPlan": {"checked": "engine version recipe pool task surrogate fingerprint surface splits device"},
    "Probe": {"checked": "images queries correct", "again": "repeated regrouped softmaxed saturated duplicated"},
    "Projection": {"recomputed": "explained"},
    "Regime": {"checked": "recipe view source"},
    "Settings": {
        "checked": "student surface shots labels budget effort device drop_classes seeds",
        "text": "teacher data arch normalize size classes weights attacks input output header plain_http surrogate "
        "price isolate",
    },
    "SuiteInfo": {"checked": "name digest attacks complete recipe settings tuning_seeds seeds plugins controls"},
    "TaskInfo": {
        "recomputed": "majority",
        "checked": "digest train validation test validation_labels pool_digest held",
        "again": "name classes shape test_labels",
    },
    "TeacherInfo": {
        "recomputed": "validation_accuracy test_accuracy test_low test_high",
        "checked": "correct",
        "again": "name sha256 architecture method parameters output mean std bgr validated",
    },
    "Times": {"again": "created", "text": "wall_seconds training_share trained reused"},
    "Trial": {
        "recomputed": "validation_accuracy agreement",
        "checked": "cell kind name role teacher parameters student seed labels budget",
        "repeat": "validated correct agrees charged estimated repeats diverged",
        "text": "network_parameters seconds step_seconds",
    },
    "Triangle": {"recomputed": "classes"},
    "Usability": {"recomputed": "accuracy calibration_error top5", "again": "correct confidence classes"},
    "Verdict": {"recomputed": "word sentence scope reasons settle delta look alpha"},
}


def told(part: str) -> dict[str, Told]:
    """Return how each field of a part is verified."""
    return {field: how for how, fields in FIELDS[part].items() for field in fields.split()}


def page() -> str:
    """Write the list in docs/verdict.md."""
    lines = []
    for how in ("repeat", "again", "text"):
        parts = (
            f"{part}: {', '.join(f'`{name}`' for name, kind in told(part).items() if kind == how)}"
            for part in FIELDS
            if how in FIELDS[part]
        )
        lines += [f"**{MEANING[how][0].upper()}{MEANING[how][1:]}.**", "; ".join(parts) + ".", ""]
    return "\n".join(lines)
