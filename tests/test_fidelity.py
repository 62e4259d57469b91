"""What the page says of techniques and their authors' code is what the code says."""

from pathlib import Path

import pytest

from attacks import fidelity
from attacks.base import Attack, Technique
from attacks.registry import CONTROLS, OURS
from teachers.methods.registry import METHODS

ROOT = Path(__file__).resolve().parent.parent
EVERY: dict[str, type[Technique]] = {**{attack.name: attack for attack in OURS}, **CONTROLS}
COMPARED = [name for name, technique in EVERY.items() if technique.fidelity]


def cells(name: str) -> list[str]:
    """Return the row of a technique on the page."""
    text = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_page_says_what_the_code_says() -> None:
    """Where this fails: python -c "from attacks.fidelity import page; print(page(), end='')" > docs/fidelity.md."""
    assert (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8") == fidelity.page()


def test_every_technique_is_on_the_page_once() -> None:
    page = fidelity.page()
    rest = next(line for line in page.splitlines() if line.startswith("Without a comparison"))
    for name in EVERY:
        assert (f"\n| `{name}` |" in page) != (f"`{name}`" in rest)
    for name, method in METHODS.items():
        assert (f"\n| `{name}` |" in page) == (method.fidelity is not None)


@pytest.mark.parametrize("name", COMPARED)
def test_settings_of_authors_exist_and_are_not_the_default(name: str) -> None:
    technique = EVERY[name]
    known = technique.fidelity
    assert known is not None
    presets = technique.presets() if issubclass(technique, Attack) else {}
    settings = [presets[place] if isinstance(place, str) else technique.grid()[place] for place in known.settings]
    assert technique() not in settings
    assert len(set(settings)) == len(settings)


@pytest.mark.parametrize("name", COMPARED)
def test_a_row_says_something_and_stays_in_its_cells(name: str) -> None:
    known = EVERY[name].fidelity
    assert known is not None
    assert known.source or known.default is None, "nothing was read, so nothing is known of the default"
    assert known.source or known.note
    assert known.default is not False or known.note, "a default that is not the authors' says what differs"
    assert len(cells(name)) == 5


def test_a_setting_is_written_by_what_it_changes_and_where_it_stands() -> None:
    assert cells("nkd")[3] == "`gamma=3.5, temperature=3` (place 5)"
    assert cells("skeptical")[3] == "`temperature=20, shallow=-2, delay=0.111, deep=True` (preset `paper`)"
    assert cells("soft-kd")[2:4] == ["yes", "–"]
    assert cells("htc")[1:3] == ["nothing that settles it", "not known"]
