"""A field that comes later leaves students of earlier settings under their keys."""

from dataclasses import asdict, dataclass

import pytest

from attacks import registry
from attacks.base import Attack
from attacks.contract import check_declaration
from attacks.declared import Declaration, Point, stand_in
from attacks.logits.soft_kd import SoftKD
from audit.attempt.settings import changed
from reports.record import Cell

# Of the grid's first four settings and of the preset `paper`, before the first field came later.
KEYS = {
    "dfme": "a6f17bf5ac207aa6 82f59ae822594aa2",
    "disguide": "0f705d70328ffbdf 2ea0af8a8391434f",
    "dfms": "fec1852b191e8d54 560ad96d0192f603",
    "dfms-hl": "0fdfd30709b5b472 47009b4430ebe7e4",
    "ideal": "b68f242d029f31e7 b3f3e71a84230b9b 15353abbd23df3c2 cebeacac733cbf92 feb2bd14d9a17c27",
    "jbda": "e4ae09fe5d7141df 404cc14788c4488d 2bf1668c019dfdb9 e63c745f58034470",
}


def key(attack: Attack) -> str:
    fixed = {"recipe": {}, "seed": 0, "pool": "p", "task": "t"}
    cell = Cell(engine=2, technique=attack.name, version=f"{attack.version}", parameters=attack.parameters, **fixed)
    return cell.key[:16]


@pytest.mark.parametrize("name", KEYS)
def test_earlier_settings_keep_their_keys(name: str) -> None:
    attack = registry.attacks()[name]
    paper = [setting for preset, setting in attack.presets().items() if preset == "paper"]
    assert " ".join(key(setting) for setting in (*attack.grid()[:4], *paper)) == KEYS[name]


@dataclass(frozen=True, kw_only=True)
class Grown(SoftKD):
    """An attack that got a field."""

    name = "grown"
    later = frozenset({"more"})

    more: float = 1.0


def test_a_later_field_counts_where_it_is_not_the_default_and_a_setting_is_read_from_what_counts() -> None:
    assert Grown().parameters == SoftKD().parameters
    assert Grown(more=2.0).parameters == SoftKD().parameters | {"more": 2.0}
    for setting in (Grown(), Grown(more=2.0)):
        assert Grown(**setting.parameters) == setting


def test_a_later_field_can_be_set_by_name() -> None:
    assert changed(Grown(), ["more=3"]) == Grown(more=3.0)


def test_a_stand_in_of_a_plug_in_names_its_students_as_the_plug_in_does() -> None:
    said = ("name", "title", "paper", "version", "published", "needs", "holds", "views", "later")
    named = {n: getattr(Grown, n) for n in said}
    grid = (asdict(Grown()), asdict(Grown(more=2.0)))
    given = Declaration(**named, grid=grid, presets={}, doc="", origin="", package="p")
    made = stand_in(Declaration.model_validate_json(given.model_dump_json()), Point("p:Grown", "p", ""))
    assert [one.parameters for one in made.grid()] == [Grown().parameters, Grown(more=2.0).parameters]


def test_the_contract_catches_a_later_field_that_is_none() -> None:
    class Strange(SoftKD):
        later = frozenset({"mroe"})

    with pytest.raises(AssertionError, match=r"'mroe'.*no fields"):
        check_declaration(Strange)
