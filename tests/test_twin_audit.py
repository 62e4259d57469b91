"""From end to end: a teacher that an attacker could train at home is not DISTILLABLE.

That an ordinary one still is, is told in test_claims.py.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from audits import request, smoke
from record_changes import found_in

from audit import pipeline, teach
from audit.finished.verify import verify
from audit.plan.suite import STANDARD

SUITE = replace(
    STANDARD,
    name="twin-0",
    attacks=("nkd",),
    controls=(),
    settings=2,
    tuning_seeds=1,
    seeds=4,
    bite_seeds=2,
    steps=200,
    epochs=0,
    most=None,
)


@pytest.mark.slow
def test_a_twin_is_not_distillable_by_the_gain_of_its_own_copy(drawn: Path, tmp_path: Path) -> None:
    made = tmp_path / "twin.pt"
    teach.teach("label-smoothing", made, data="glyphs", architecture="strided-8-16-32", seed=7, cache=drawn)
    with smoke(SUITE):
        done = pipeline.run(request(drawn, tmp_path / "out", teacher=str(made), data="glyphs", attacks="nkd"))
        assert list(verify(done.folder)) == []
    record = done.record
    assert record.verdict.word == "INCONCLUSIVE"
    row = found_in(record, "nkd")
    over = {found.over: found.margin for found in row.margins}
    assert over["ls"].lower > 0.01, "by the papers' definition alone it would be"
    assert over["twin"].lower <= 0
    assert any("nkd gains" in reason and "on a twin" in reason for reason in record.verdict.reasons)
