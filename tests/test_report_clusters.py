"""What a record holds of the clusters of the teacher's answers, and what its page shows of them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from pages import HOSTILE, Page
from PIL import Image
from pydantic import ValidationError
from sample_clusters import answers, with_pools
from sample_record import sample_record

from audit.analysis import derive
from audit.diagnosis import pools, thumbnails
from audit.diagnosis.pools import illustrated
from audit.statistics import sights
from reports import cluster_figures, html, svg
from reports.clusters import Clusters, Map, Picture, Triangle
from reports.record import PoolName, Record
from teachers.data.stored import StoredImages
from teachers.task import Pool


def clustered(classes: tuple[str, ...] | None = None, of_each: int = 5, hostile: str | None = None) -> Record:
    """Return the sample record with clusters."""
    record = sample_record(hostile=hostile)
    if classes is not None:
        record = record.model_copy(update={"task": record.task.model_copy(update={"classes": classes})})
    K = len(record.task.classes)
    return with_pools(record, {name: answers(K, of_each, seed) for seed, name in enumerate(get_args(PoolName))})


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def test_the_images_are_those_furthest_from_the_mean_answer_of_the_most_spread_classes() -> None:
    record = clustered()
    assert record.clusters is not None
    held_out = record.cmi[-1]
    P = np.exp(held_out.answers.array().astype(np.float64))
    P /= P.sum(1, keepdims=True)
    y = held_out.labels.array()
    order = sorted(range(62), key=lambda c: -(held_out.per_class[c] or 0))
    assert [shown.name for shown in record.clusters.spread] == [record.task.classes[c] for c in order[:4]]
    for c, shown in zip(order, record.clusters.spread, strict=False):
        Q = P[y == c].mean(0)
        divergence = {int(row): float((P[row] * np.log(P[row] / Q)).sum()) for row in np.flatnonzero(y == c)}
        assert [p.row for p in shown.pictures] == sorted(divergence, key=lambda row: -divergence[row])[:6]
        for picture in shown.pictures:
            assert picture.divergence == pytest.approx(divergence[picture.row])
            assert picture.predicted == record.task.classes[P[picture.row].argmax()]
            assert picture.probability == pytest.approx(P[picture.row].max(), rel=2e-3)


@pytest.mark.parametrize("noise", [0.0, 1e-13])
def test_where_all_are_alike_another_processor_sees_the_same(noise: float) -> None:
    """The same answer for all images of a class: classes, images and axes are ties that rounding must not decide."""
    y = np.arange(60) % 6
    rng = np.random.default_rng(0)
    log_p = np.log(np.where(np.eye(6, dtype=bool)[y], 0.9, 0.02)) + noise * rng.standard_normal((60, 6))
    curve = sights.cmi.curve(log_p, y, 6)
    found = sights.clusters(sights.ClusterView(sights.AnswerSet("validation", log_p, y), curve, tuple("abcdef")), [])
    assert [shown.name for shown in found.spread] == ["a", "b", "c", "d"]
    assert [picture.row for picture in found.spread[0].pictures] == [0, 6, 12, 18, 24, 30]
    assert found.triangle is not None
    assert found.triangle.classes == (0, 1, 2)
    assert found.projection is None
    page = html.render(clustered().model_copy(update={"clusters": found}))
    assert "vary as much along other directions" in page


def test_without_validation_answers_there_is_nothing_to_see() -> None:
    record = with_pools(sample_record(), {"train": answers(62, 3, 0), "augmented": answers(62, 3, 1)})
    assert record.clusters is None
    assert html.render(record)


def test_a_record_of_before_has_no_clusters_and_gets_none() -> None:
    record = clustered().model_copy(update={"clusters": None})
    assert sights.seen(record, [derive.measured(pool, 62) for pool in record.cmi]) is None
    page = html.render(record)
    assert "Three classes in a triangle" not in page
    assert "<img" not in page


def test_thumbnails_stay_small_whatever_they_show() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 224, 300), np.uint8)
    uri = thumbnails.data_uri(noise)
    assert len(base64.b64decode(uri.partition(",")[2])) <= thumbnails.MOST
    assert decoded(uri).size == (64, 48)


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_of_small_images_lose_nothing(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 16, 16), np.uint8)
    shown = np.asarray(decoded(thumbnails.data_uri(pixels)))
    assert (shown == (pixels.transpose(1, 2, 0) if channels == 3 else pixels[0])).all()


@pytest.mark.parametrize("on_disk", [False, True])
def test_thumbnails_are_of_the_images_whose_answers_were_kept(
    on_disk: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of large data a sample of the validation images is kept; the images may lie on disk."""
    images = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    y = np.arange(200) % 4
    monkeypatch.setattr(pools, "CMI_ENTRIES", 4 * 80)
    np.save(tmp_path / "images.npy", images)
    pool = Pool(StoredImages(tmp_path / "images.npy") if on_disk else images, y)  # type: ignore[arg-type]
    kept = pools._sample(pool, 4)
    assert len(kept) == 80
    log_p = answers(4, 20, 0)[0]
    record = sample_record()
    record = record.model_copy(update={"task": record.task.model_copy(update={"classes": tuple("abcd")})})
    record = with_pools(record, {"validation": (log_p, np.asarray(kept.labels).astype(np.uint16))})
    task: Any = SimpleNamespace(validation=pool, classes=tuple("abcd"))
    found = illustrated(record, task).clusters
    assert found is not None
    for picture in (p for shown in found.spread for p in shown.pictures):
        assert np.asarray(decoded(picture.png))[0, 0] == np.asarray(kept.images[picture.row])[0, 0, 0]


@pytest.mark.parametrize("png", ["https://a.example/b.png", "data:text/html,<script>", "javascript:alert(1)", "a.png"])
def test_a_picture_is_a_picture(png: str) -> None:
    with pytest.raises(ValidationError, match="png"):
        Picture(png=png, divergence=0, predicted="", probability=1)


def test_the_page_shows_the_clusters_with_a_text_and_a_table_for_each() -> None:
    record = clustered()
    tags = Page(html.render(record)).tags
    pictures = [a for tag, a in tags if tag == "img"]
    assert len(pictures) == 4 * 5
    assert all((a["src"] or "").startswith("data:image/png;base64,") and a["alt"] for a in pictures)
    drawings = [a for tag, a in tags if tag == "svg"]
    assert all(a["role"] == "img" and a["aria-label"] for a in drawings)
    names = [tag for tag, _ in tags]
    assert len(drawings) == names.count("figure") == names.count("figcaption") == 6
    places = [i for i, name in enumerate(names) if name == "figure"]
    for start, end in zip(places, [*places[1:], len(names)], strict=True):
        assert names[start:end].index("details") < names[start:end].index("table")
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_hostile_names_of_classes_stay_text_in_pictures_and_figures() -> None:
    names = tuple(HOSTILE.values())
    text = html.render(clustered(names, hostile=" ".join(names)))
    read = Page(text)
    assert not {"iframe", "object", "embed", "form", "base"} & {tag for tag, _ in read.tags}
    assert [sum(tag == one for tag, _ in read.tags) for one in ("style", "script")] == [1, 1]
    assert not [key for _, attributes in read.tags for key in attributes if key.startswith("on")]
    said = "".join(read.said)
    assert [name for name in names if html.visible(name) not in said] == []


def test_the_table_of_a_triangle_gives_back_the_probabilities() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6], [0.5, 0.3, 0.2]])
    x, y = sights.barycentric(np.log(shares)).T.tolist()
    points = Map(name="validation", x=tuple(x), y=tuple(y), classes=(4, 9, 2, 4))
    rows = cluster_figures.corners(Triangle(classes=(4, 9, 2), maps=(points,)))
    assert [(row.label, row.number) for row in rows] == [(4, 2), (9, 1), (2, 1)]
    for row, expected in zip(rows, (shares[[0, 3]].mean(0), shares[1], shares[2]), strict=True):
        assert row.shares == pytest.approx(tuple(expected))


def test_marks_take_the_colours_of_the_page_and_say_them_once() -> None:
    clusters = clustered().clusters
    assert clusters is not None
    text = cluster_figures.projection(clusters, [str(c) for c in range(62)])
    assert text is not None
    assert text.count("<use") > 300
    assert text.count("style=") < 150
    assert "var(--muted, " + svg.PALETTE["muted"] in text
    assert "<image" not in text


def test_the_page_of_many_classes_images_and_points_stays_small() -> None:
    """100 classes, 1,000 points and 900 in triangles, and 24 thumbnails of noise, which nothing compresses."""
    record = clustered(tuple(f"<b>class {c}" for c in range(100)), of_each=160)
    assert isinstance(record.clusters, Clusters)
    page = html.render(record)
    assert len(page.encode()) < 600_000
    assert sum(tag == "img" for tag, _ in Page(page).tags) == 24
