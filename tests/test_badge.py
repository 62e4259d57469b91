"""The badge says the word with its scope, in a picture that nothing can break and in JSON that shields.io reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from gate_records import distillable, several, undistillable
from pages import HOSTILE, WORDS
from sample_record import sample_record

from reports import badge
from reports.record import Word, load

pytestmark = pytest.mark.usefixtures("figures_once")

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("word", WORDS)
def test_it_says_the_word_and_what_it_speaks_of(word: Word) -> None:
    record = sample_record(word)
    told = json.loads(badge.endpoint(record))
    assert told.keys() == {"schemaVersion", "label", "message", "color"}
    assert (told["schemaVersion"], told["label"]) == (1, "distillation audit")
    assert told["message"] == f"{word} (standard-1, probs)"
    root = ET.fromstring(badge.svg(record))
    assert [text.text for text in root.iter(f"{SVG}text")] == [told["label"], told["message"]]
    assert f"#{told['color']}" in {rect.attrib["fill"] for rect in root.iter(f"{SVG}rect")}


def test_words_have_colours_of_their_own() -> None:
    assert len({json.loads(badge.endpoint(sample_record(word)))["color"] for word in WORDS}) == 3


def test_it_has_a_text_alternative() -> None:
    root = ET.fromstring(badge.svg(sample_record()))
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == "distillation audit of cmim.pt: DISTILLABLE (standard-1, probs)"
    assert (root.attrib["role"], root.attrib["aria-labelledby"]) == ("img", title.attrib["id"])


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_name_stays_text_on_one_line(name: str) -> None:
    record = sample_record(hostile=name)
    settings = replace(record.settings, surface=name)
    text = badge.svg(record.model_copy(update={"settings": settings}))
    tags = {element.tag.removeprefix(SVG) for element in ET.fromstring(text).iter()}
    assert tags == {"svg", "title", "rect", "g", "text"}
    assert text.count("\n") == 1
    assert len(text) < 2_000
    assert "\u202e" not in text


def test_of_several_surfaces_the_worst_word_is_told(tmp_path: Path) -> None:
    folder = several({"label": undistillable(), "probs": distillable()}, tmp_path / "audit")
    assert badge.message(load(folder)) == "DISTILLABLE (gate-1, label, probs)"
    assert load(folder).verdict.word == "UNDISTILLABLE"
