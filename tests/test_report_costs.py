"""Steal-cost curves with their price, and the reference bag beside a CMI curve."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from pages import HOSTILE, Page
from record_changes import updated
from sample_record import interval, sample_record

from reports import bag_figure, cost_figures, figures, html
from reports.bag import REFERENCE, Concentrations, Method, concentrations, shipped
from reports.record import Cost, Record


def stolen(attacks: int, price: float | None = None, names: tuple[str, ...] = (), tops: float = 0.5) -> Record:
    """Return a record of as many attacks with a curve of three budgets, the first the most accurate."""
    record = sample_record()
    rows = []
    for i in range(attacks):
        top = tops * 0.9**i
        curve = tuple(
            Cost(
                queries=2_000 * 10**step, accuracy=interval(top * (step + 1) / 3, 0.01), agreement=top * (step + 1) / 4
            )
            for step in range(3)
        )
        name = names[i] if names else f"attack-{i}"
        rows.append(record.comparisons[6].model_copy(update={"attack": name, "curve": curve}))
    settings = replace(record.settings, price=price)
    return record.model_copy(update={"comparisons": (*record.comparisons[:2], *rows), "settings": settings})


def words(text: str | None) -> list[str]:
    assert text is not None
    return [e.text or "" for e in ET.fromstring(text).iter() if e.tag.endswith("text")]


def test_accuracy_and_agreement_have_a_panel_each_and_the_ls_student_a_line() -> None:
    said = words(cost_figures.costs(stolen(2)))
    assert {"accuracy, %", "agreement, %", "queries"} <= set(said)
    assert said.count("attack-0") == said.count("attack-1") == 2
    assert said.count("LS student") == 1


def test_the_curves_that_can_be_told_apart_are_drawn_and_the_page_says_which() -> None:
    record = stolen(10)
    said = words(cost_figures.costs(record))
    assert [f"attack-{i}" in said for i in range(10)] == [True] * 8 + [False] * 2
    page = html.render(record)
    assert "Drawn are the 8 attacks whose last student is most accurate; the table has all 10." in page
    assert all(page.count(f"<bdi>attack-{i}</bdi>") > 2 for i in range(10))
    assert "Drawn are" not in html.render(stolen(8))


def test_the_price_stands_above_the_queries_it_pays() -> None:
    """At 5 per 1,000 queries, 2,000 queries cost 10."""
    record = stolen(1, price=5.0)
    text = cost_figures.costs(record)
    said = words(text)
    assert "price, at 5 per 1,000 queries" in said
    assert text is not None
    written = [(e.text, e.attrib) for e in ET.fromstring(text).iter() if e.tag.endswith("text") and "x" in e.attrib]
    foot = max(float(place["y"]) for name, place in written if name == "20k")
    paid = {name: float(place["x"]) for name, place in written if float(place["y"]) < foot / 2}
    asked = {name: float(place["x"]) for name, place in written if float(place["y"]) == foot}
    assert [asked["2,000"], asked["20k"], asked["200k"]] == pytest.approx([paid["10"], paid["100"], paid["1,000"]])
    said_on_page = "".join(Page(html.render(record)).said)
    assert re.search(r"2,000\s*16\.67", said_on_page)
    assert "10.00" in said_on_page
    assert "1,000.00" in said_on_page


@pytest.mark.parametrize("price", [None, 0.0])
def test_without_a_price_there_is_no_axis_of_it(price: float | None) -> None:
    assert not any("price" in word for word in words(cost_figures.costs(stolen(1, price=price))))


def test_students_of_several_architectures_have_a_line_each() -> None:
    record = stolen(2)
    other = updated(record.comparisons[-1], {"student": "resnet-8", "control.accuracy": 0.6})
    said = words(cost_figures.costs(record.model_copy(update={"comparisons": (*record.comparisons[:-1], other)})))
    assert "LS, resnet-8" in said


def test_an_attack_that_asked_nothing_has_no_place_on_a_logarithmic_axis() -> None:
    record = stolen(1)
    nothing = Cost(queries=0, accuracy=interval(0.1, 0.01), agreement=0.1)
    row = record.comparisons[-1].model_copy(update={"curve": (nothing,)})
    assert cost_figures.costs(record.model_copy(update={"comparisons": (row,)})) is None


def test_hostile_names_do_not_widen_the_figure() -> None:
    names = tuple(HOSTILE.values())[:8]
    text = cost_figures.costs(stolen(8, names=names))
    assert text is not None
    assert all(len(word) <= 30 for word in words(text))
    assert "<script" not in text


def test_names_keep_their_order_and_their_distance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.random(8).tolist()
        places = cost_figures.apart(values, 0.05)
        assert np.argsort(places).tolist() == np.argsort(values).tolist()
        assert (np.diff(np.sort(places)) > 0.05 - 1e-9).all()
    assert cost_figures.apart([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert cost_figures.apart([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])


def test_the_bag_of_the_task_is_known_whatever_the_suite_and_without_the_teacher_itself() -> None:
    bag = shipped(REFERENCE)
    assert bag is not None
    own = next(t for t in bag.teachers if t.method == "plain")
    everyone, others = concentrations(bag.task_digest, ""), concentrations(bag.task_digest, own.sha256)
    assert everyone is not None
    assert others is not None
    teachers = {t.sha256: t for t in bag.teachers}.values()
    assert everyone.values == tuple(sorted(t.cmi for t in teachers if t.cmi is not None))
    assert everyone.hidden == sum(t.cmi is None for t in teachers)
    assert sorted([*others.values, own.cmi or 0]) == list(everyone.values)
    assert concentrations("another task", "") is None


def test_of_another_task_the_page_says_nothing_of_the_bag() -> None:
    assert "reference bag" not in html.render(sample_record()).lower()


def test_the_bag_stands_beside_the_curve_with_a_text_and_a_table() -> None:
    bag = shipped(REFERENCE)
    assert bag is not None
    record = sample_record()
    record = record.model_copy(update={"task": record.task.model_copy(update={"digest": bag.task_digest})})
    page = html.render(record)
    read = Page(page)
    said = "".join(read.said)
    (drawn,) = (
        a["aria-label"] or "" for tag, a in read.tags if tag == "svg" and "largest CMI" in (a["aria-label"] or "")
    )
    found = concentrations(bag.task_digest, "")
    assert found is not None
    assert bag_figure.said(found) in str(drawn)
    smaller = sum(value > max(record.cmi[-1].cmi) for value in found.values)
    assert f"On validation images {smaller} of them are less concentrated than this teacher." in said
    assert "The reference bag as a table" in said
    assert all(method.name in said for method in found.methods)
    text = figures.cmi_curve(record.cmi, found)
    assert text is not None
    assert text.count("<use") > len(found.values)


def test_methods_share_a_name_where_two_would_not_fit() -> None:
    heights = {"a": (0.1, 0.12), "b": (0.5,), "c": (0.52,), "d": (0.56, 0.58), "e": (0.9,)}
    bag = Concentrations("bag", tuple(Method(name, cmi) for name, cmi in heights.items()), 0)
    found = [[method.name for method in methods] for methods in bag_figure.groups(bag, 0.1)]
    assert found == [["a"], ["b", "c", "d"], ["e"]]


def test_the_classes_of_a_large_task_with_hostile_names_have_their_bars() -> None:
    record = sample_record()
    names = tuple(HOSTILE.values())
    names = tuple(names[i % len(names)] + str(i) for i in range(100))
    per_class: tuple[Any, ...] = tuple(float(v) for v in np.random.default_rng(0).random(100))
    validation = record.cmi[-1].model_copy(update={"per_class": per_class})
    text = figures.cmi_per_class((validation,), names)
    said = words(text)
    assert text is not None
    assert len(text.encode()) < 40_000
    assert sum(len(word) > 0 and not re.fullmatch(r"[\d.]+|CMI, nats", word) for word in said) >= 90
    assert all(len(word) <= 13 for word in said)
    assert "<script" not in text
