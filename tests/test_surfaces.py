"""Several surfaces: an audit of each, and the table of what they cost and what they hold back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from audits import request
from command_line import call
from hypothesis import given
from hypothesis import strategies as st

from audit.commands import EXIT
from audit.finished.verify import verify
from audit.recording.teacher import usable
from audit.statistics.usability import BINS, calibration_error, rankable
from audit.surfaces import audit, surfaces
from reports import wording
from reports.record import load
from teachers.errors import UsageError
from teachers.surface import Surface


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_its_formula_bin_by_bin(answers: list[tuple[float, bool]]) -> None:
    p, right = np.array([a for a, _ in answers]), np.array([b for _, b in answers])
    expected = 0.0
    for m in range(BINS):
        inside = (np.ceil(p * BINS) == m + 1) | ((m == 0) & (p == 0))
        if inside.any():
            expected += inside.sum() / len(p) * abs(right[inside].mean() - p[inside].mean())
    assert calibration_error(p, right) == pytest.approx(expected, abs=1e-9)


def test_five_classes_can_be_ranked_where_five_have_a_probability() -> None:
    assert rankable(np.array([5, 4, 9, 0]), 10) == 0.5
    assert rankable(np.array([3, 2]), 3) == 0.5, "all of three"


def test_users_see_what_the_surface_shows() -> None:
    p = torch.tensor([[0.5, 0.3, 0.15, 0.03, 0.012, 0.008], [0.9, 0.04, 0.03, 0.02, 0.008, 0.002]])
    labels, log_p = np.array([0, 1]), p.log().numpy()
    seen = {name: usable(Surface(name), log_p, labels) for name in ("probs", "round:1", "top:3", "label")}
    assert {name: one.classes.array().tolist() for name, one in seen.items()} == {
        "probs": [6, 6],
        "round:1": [3, 1],
        "top:3": [3, 3],
        "label": [1, 1],
    }
    assert all(one.correct.array().tolist() == [True, False] for one in seen.values())
    assert seen["label"].confidence is None
    confidence = seen["round:1"].confidence
    assert confidence is not None
    assert confidence.array() == pytest.approx([0.5, 0.9], abs=1e-3)


def test_surfaces_are_named_with_commas_and_each_once() -> None:
    assert surfaces("probs, top:5+round:2,probs") == ("probs", "top:5+round:2")
    with pytest.raises(UsageError, match="names no surface"):
        surfaces(" , ")
    with pytest.raises(UsageError, match="unknown surface"):
        surfaces("probs,logit")


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_every_surface_is_audited_and_the_table_follows_from_its_audits(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    argv = ["run", "--teacher", "demo", "--data", "digits", "--effort", "smoke", "--cache", str(kept), "--jobs", "1"]
    code, told, _ = call(capsys, *argv, "--out", str(out), "--surface", "probs,top:3,label")
    record = load(out)
    words = [row.word for row in record.surfaces]
    assert code == EXIT[next(word for word in wording.WORST if word in words)]
    assert [row.surface for row in record.surfaces] == ["probs", "top:3", "label"]
    assert "calibration error" in told
    each = [load(out / row.folder).times for row in record.surfaces]
    assert record.times.trained + record.times.reused == sum(one.trained + one.reused for one in each)
    probs, top, label = record.surfaces
    assert (probs.top5, top.top5, label.top5, label.calibration_error) == (1.0, 0.0, 0.0, None)
    assert probs.accuracy == pytest.approx(record.teacher.test_accuracy)
    assert load(out / label.folder).settings.surface == "label"
    assert list(verify(out)) == []
    for name, text in (("report.html", "API hardening"), ("summary.md", "API hardening")):
        assert text in (out / name).read_text()
        assert wording.hardening(record).split(" is ")[0].split(" was ")[0] in (out / name).read_text()

    again = audit(request(kept, out, surface="probs,top:3,label"))
    assert again.record == record
    with pytest.raises(UsageError, match="holds another audit"):
        audit(request(kept, out, surface="probs,label"))
    with pytest.raises(UsageError, match="holds another audit"):
        audit(request(kept, out / top.folder, surface="probs,label"))
    assert load(out) == record
    own = out / top.folder / "record.json"
    forged = json.loads(own.read_text())
    forged["verdict"]["word"] = "UNDISTILLABLE"
    own.write_text(json.dumps(forged))
    assert next(verify(out)).where.startswith("surface top:3")
    own.write_text("{}")
    assert "cannot be read" in next(verify(out)).stored
    own.unlink()
    assert [(d.where, "cannot read" in d.stored) for d in verify(out)] == [("surfaces", True)]
    code, _, told = call(capsys, "report", str(out))
    assert (code, f"cannot read {own}" in told) == (4, True), "junit.xml tells of all surfaces, or is not written"
    assert call(capsys, "report", str(out), "--format", "html,csv")[0] == 0, "these tell of the first"


def test_the_least_restrictive_surface_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from sample_record import sample_record

    from reports.record import SurfaceResult

    def row(surface: str, word: str, top5: float, error: float | None) -> SurfaceResult:
        return SurfaceResult(
            surface=surface,
            folder=surface,
            record="",
            word=word,  # type: ignore[arg-type]
            attack="dkd",
            margin=None,
            accuracy=0.9,
            calibration_error=error,
            top5=top5,
        )

    rows = (
        row("probs", "DISTILLABLE", 1.0, 0.01),
        row("round:2", "UNDISTILLABLE", 0.6, 0.03),
        row("top:1", "UNDISTILLABLE", 0.0, 0.01),
        row("label", "UNDISTILLABLE", 0.0, None),
    )
    record = sample_record().model_copy(update={"surfaces": rows})
    assert "is round:2." in wording.hardening(record)
    assert "is top:1." in wording.hardening(record.model_copy(update={"surfaces": (rows[0], *rows[2:])}))
    assert wording.hardening(record.model_copy(update={"surfaces": rows[:1]})).startswith("No audited surface")
