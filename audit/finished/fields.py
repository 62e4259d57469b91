"""How each field of a record can be verified: one table, and the part of docs/verdict.md that is generated from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Check = Literal["recomputed", "checked", "repeat", "again", "text"]

MEANING: Final[Mapping[Check, str]] = {
    "recomputed": "computed again from the rest of the record",
    "checked": "compared with other parts of the record, its suite and its students' digests",
    "repeat": "measured on a student: only `audit repeat` can check it, which trains the student again",
    "again": "measured on, or stated about, the teacher or the data: only another audit of the same file can check it",
    "text": "additional information that nothing else depends on",
}

# By part of the record (see `audit schema`); an array counts as one field.
FIELDS: Final[Mapping[str, Mapping[Check, str]]] = {
    "Record": {
        "checked": "schema_version audit design distinct_answers journal",
        "again": "cmi_without_guard",
        "text": "command",
    },
    "BaselineResult": {"checked": "name students"},
    "Cell": {
        "checked": "engine technique version parameters recipe seed pool task surrogate teacher surface budget splits "
        "device",
    },
    "CMIPool": {
        "recomputed": "temperatures cmi se plug_in gamma ncmi per_class unreliable",
        "checked": "name labels",
        "again": "answers",
    },
    "Comparison": {
        "recomputed": "p_holm corrected_lower mis_tuned",
        "checked": "attack student holds needs outside_suite status reason looks",
        "text": "title paper",
    },
    "ControlMargin": {"recomputed": "accuracy", "checked": "over name parameters students"},
    "ControlResult": {"recomputed": "accuracy dropped_accuracy", "checked": "name parameters students"},
    "Cost": {"recomputed": "queries agreement", "checked": "students"},
    "Engine": {"text": "name version"},
    "EngineNode": {"text": "name system students"},
    "Environment": {"text": "tool python torch numpy platform threads packages code"},
    "Flag": {"recomputed": "id found why do caps"},
    "SurfaceResult": {"recomputed": "surface folder record word attack accuracy calibration_error top5"},
    "FrameworkEntry": {"recomputed": "framework version id"},
    "Interval": {"recomputed": "mean se df low high lower upper p seeds images discordant"},
    "KnockoffResult": {
        "recomputed": "accuracy agreement queries dropped_accuracy",
        "checked": "parameters tuned_over students",
    },
    "LedgerRow": {"checked": "attack purpose charged", "again": "sent"},
    "Look": {"recomputed": "number horizon", "checked": "seeds alpha outsiders"},
    "Map": {"recomputed": "name x y classes"},
    "NormalisationTrial": {"again": "normalize correct"},
    "Picture": {"recomputed": "row overlay divergence predicted probability", "again": "png"},
    "PicturedClass": {"recomputed": "name cmi se"},
    "PositiveControl": {"recomputed": "passes", "checked": "students control_students", "text": "baseline"},
    "Probe": {"checked": "images queries correct", "again": "repeated regrouped softmaxed saturated duplicated"},
    "Projection": {"recomputed": "explained"},
    "Regime": {"checked": "recipe view source"},
    "SecondProbe": {"checked": "queries", "again": "validation views noise"},
    "Settings": {
        "checked": "student surface delta shots labels budget effort device precision drop_classes seeds groups",
        "text": "teacher data arch normalize size classes weights attacks input output header plain_http surrogate "
        "price isolate",
    },
    "SuiteInfo": {
        "checked": "name digest attacks complete recipe settings tuning_seeds finalists seeds plugins controls",
    },
    "TaskInfo": {
        "recomputed": "majority",
        "checked": "digest train validation test validation_labels pool_digest pool_images test_groups",
        "again": "name classes shape test_labels test_alike test_named",
    },
    "TeacherInfo": {
        "recomputed": "validation_accuracy test_accuracy test_low test_high",
        "checked": "test_correct",
        "again": "name sha256 architecture method network_parameters output mean std bgr validation_correct",
    },
    "Times": {"again": "created", "text": "wall_seconds training_share trained reused"},
    "Trial": {
        "recomputed": "validation_accuracy agreement",
        "checked": "key kind role teacher labels",
        "repeat": "validation_correct test_correct test_agrees queries gradient_queries repeated_labels diverged "
        "decoded",
        "text": "network_parameters seconds step_seconds",
    },
    "Triangle": {"recomputed": "classes"},
    "Usability": {"recomputed": "accuracy calibration_error top5", "again": "correct confidence classes"},
    "Verdict": {"recomputed": "word sentence scope reasons settle delta look alpha"},
}


def told(part: str) -> dict[str, Check]:
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
