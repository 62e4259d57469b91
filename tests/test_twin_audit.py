"""From end to end: a teacher that an attacker could train at home is not DISTILLABLE, an ordinary one still is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from audits import request, smoke
from record_changes import found_in

from audit import pipeline, teach
from audit.finished.verify import verify
from audit.plan.suite import STANDARD
from reports.record import Record

SUITE = replace(
    STANDARD,
    name="twin-0",
    attacks=("nkd", "dist"),
    controls=(),
    settings=4,
    tuning_seeds=1,
    seeds=8,
    bite_seeds=2,
    most=None,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a cache that the audits share: the second trains no control that the first has trained."""
    with smoke(SUITE):
        yield tmp_path_factory.mktemp("cache")


def audited(cache: Path, out: Path, teacher: str, attack: str) -> Record:
    done = pipeline.run(request(cache, out, teacher=teacher, data="glyphs", attacks=attack))
    assert list(verify(done.folder)) == []
    return done.record


def test_a_twin_is_not_distillable_by_the_gain_of_its_own_copy(cache: Path, tmp_path: Path) -> None:
    made = tmp_path / "twin.pt"
    teach.teach("label-smoothing", made, data="glyphs", architecture="strided-8-16-32", seed=7, cache=cache)
    record = audited(cache, tmp_path / "out", str(made), "nkd")
    assert record.verdict.word == "INCONCLUSIVE"
    row = found_in(record, "nkd")
    over = {found.over: found.margin for found in row.margins}
    assert over["ls"].lower > 0.01, "by the papers' definition alone it would be"
    assert over["twin"].lower <= 0
    assert any("nkd gains" in reason and "on a twin" in reason for reason in record.verdict.reasons)


def test_an_ordinary_teacher_is_distillable_over_a_twin_and_the_sentence_tells_of_home(
    cache: Path, tmp_path: Path
) -> None:
    record = audited(cache, tmp_path / "out", "demo", "dist")
    assert record.verdict.word == "DISTILLABLE"
    assert all(found.margin.lower > 0 for found in found_in(record, "dist").margins if found.over != "home-made")
    assert "; a teacher trained at home gives as much: " in record.verdict.sentence
