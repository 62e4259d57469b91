"""A teacher behind HTTP answers as the same network here, whatever its server does; the token stays secret."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
import torch
from fake_server import FakeServer, Fault
from torch import Tensor, nn
from torch.nn import functional as F

from teachers import networks
from teachers.errors import RefusedInput, UsageError
from teachers.http import wire
from teachers.http.remote import Remote, RemoteBox
from teachers.http.wire import Address
from teachers.numbers import numbers
from teachers.oracle import Box
from teachers.processes.forks import TOKEN
from teachers.surface import Surface

SHAPE, CLASSES = (1, 8, 8), 10
IMAGES = torch.rand(150, *SHAPE, generator=torch.Generator().manual_seed(0))
TODAY = 1_800_000_000.0


def network() -> nn.Module:
    torch.manual_seed(0)
    return networks.build("strided-4-8", CLASSES, SHAPE).eval()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(network(), SHAPE, CLASSES).serving() as fake:
        yield fake


class Told:
    """What a remote teacher said, and how long it slept."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.slept: list[float] = []


def remote(server: FakeServer, told: Told | None = None, **more: Any) -> Remote:
    told, shape, classes = told or Told(), more.pop("shape", SHAPE), more.pop("classes", CLASSES)
    return Remote(
        server.url, shape, classes, note=told.notes.append, sleep=told.slept.append, clock=lambda: TODAY, **more
    )


def box(server: FakeServer, told: Told | None = None, **more: Any) -> RemoteBox:
    return RemoteBox(remote(server, told, **more))


def same(found: Tensor, images: Tensor = IMAGES) -> None:
    torch.testing.assert_close(found, Box(network())(images).values, rtol=0, atol=1e-5)


def test_a_remote_teacher_answers_as_the_network_itself(server: FakeServer) -> None:
    asked = box(server)
    found = asked(IMAGES)
    assert (found.kind, found.values.dtype) == ("probs", torch.float32)
    same(found.values)
    assert server.requests == [64, 64, 22]
    assert asked.sent == server.images == 150


def test_every_request_is_answered_as_it_arrives(server: FakeServer) -> None:
    asked = box(server)
    parts = asked.batches(IMAGES)
    where, first = next(parts)
    assert (where, server.images) == (slice(0, 64), 64)
    same(first.values, IMAGES[:64])
    assert [part for part, _ in parts] == [slice(64, 128), slice(128, 150)]


@pytest.mark.parametrize("surface", ["label", "top:3+round:2"])
def test_a_surface_is_put_before_what_the_api_says(server: FakeServer, surface: str) -> None:
    shown = Surface.parse(surface)
    found, here = RemoteBox(remote(server), shown)(IMAGES), Box(network(), shown)(IMAGES)
    assert found.kind == here.kind
    torch.testing.assert_close(found.values, here.values)
    with pytest.raises(UsageError, match="no input gradients"):
        RemoteBox(remote(server), Surface.parse("gradients"))


def test_channels_last_and_bytes_are_sent_where_the_model_takes_them() -> None:
    colours = torch.rand(5, 3, 6, 4)

    def means(x: Tensor) -> Tensor:
        return 9 * x.mean((2, 3))

    with FakeServer(means, (3, 6, 4), 3, layout="NHWC").serving() as fake:
        found = remote(fake, shape=(3, 6, 4), classes=3)
        assert found.signature.layout == "NHWC"
        torch.testing.assert_close(RemoteBox(found)(colours).values, F.log_softmax(means(colours), -1))
        fake.datatype = "UINT8"
        pixels = (colours * 255).round() / 255
        found = remote(fake, shape=(3, 6, 4), classes=3)
        torch.testing.assert_close(RemoteBox(found)(colours).values, F.log_softmax(means(pixels), -1))
        with pytest.raises(UsageError, match="--normalize"):
            remote(fake, shape=(3, 6, 4), classes=3, normalise=((0.5,), (0.5,)))


def test_what_a_model_takes_normalised_is_normalised_here(server: FakeServer) -> None:
    plain, moved = remote(server), remote(server, normalise=((0.5,), (0.25,)))
    same(RemoteBox(moved)(IMAGES).values, (IMAGES - 0.5) / 0.25)
    assert plain.fingerprint != moved.fingerprint


@pytest.mark.parametrize(
    ("kind", "turned"),
    [
        ("logits", lambda z: z),
        ("probabilities", lambda z: F.softmax(z, -1)),
        ("log-probabilities", lambda z: F.log_softmax(z, -1)),
    ],
)
def test_logits_and_probabilities_are_told_apart(
    server: FakeServer, kind: str, turned: Callable[[Tensor], Tensor]
) -> None:
    inner, told = network(), Told()
    server.answer = lambda x: turned(inner(x))
    asked = box(server, told)
    same(asked(IMAGES).values)
    assert asked.remote.output == kind
    assert told.notes == [f"{server.url} answers with {kind}"]
    if kind != "logits":
        server.answer = lambda x: 3 * inner(x)
        with pytest.raises(RefusedInput, match=f"answered logits; its first answers were {kind}"):
            asked(IMAGES)
        again = box(server)
        again.remote.expect(asked.remote.output, told.notes.append)
        with pytest.raises(RefusedInput, match="its first answers were"):
            again(IMAGES)


def test_scores_that_are_no_distribution_are_not_taken_for_logits(server: FakeServer) -> None:
    server.answer = lambda x: torch.full((len(x), CLASSES), 0.05)
    with pytest.raises(RefusedInput, match=r"sums go from 0\.500 to 0\.500; expected logits"):
        box(server)(IMAGES)
    assert numbers(torch.full((2, 4), 0.25).double().numpy(), "it").output == "probabilities"
    assert numbers(torch.full((2, 4), -1.0).double().numpy(), "it").output == "logits"


def test_a_fixed_batch_is_filled_up_and_what_fills_it_is_counted() -> None:
    with FakeServer(network(), SHAPE, CLASSES, batch=8).serving() as fake:
        asked = box(fake)
        same(asked(IMAGES[:20]).values, IMAGES[:20])
        assert fake.requests == [8, 8, 8]
        assert asked.sent == fake.images == 24
        fake.faults.append(Fault(413, "too large"))
        with pytest.raises(RefusedInput, match="answered 413: too large, to 8 images at once"):
            asked(IMAGES[:2])


def test_a_batch_that_is_too_large_is_halved_and_stays_so(server: FakeServer) -> None:
    server.most, told = 20, Told()
    asked = box(server, told)
    same(asked(IMAGES).values)
    assert server.requests[:3] == [64, 32, 16]
    assert set(server.requests[3:]) == {16, 6}
    assert asked.sent == server.images
    assert "sending 16 at once" in told.notes[1]
    server.faults.append(Fault(400, '{"error": "batch must be at most 8"}'))
    assert server.requests[-2:] == [16, 6]
    same(asked(IMAGES[:16]).values, IMAGES[:16])
    assert server.requests[-3:] == [16, 8, 8]
    server.most = 0
    with pytest.raises(RefusedInput, match="answered 413: 1 images are too many, to 1 images at once"):
        asked(IMAGES)


def test_other_refusals_are_told_in_a_sentence_and_not_repeated(server: FakeServer) -> None:
    asked = box(server)
    for status in (400, 404, 422, 500, 502):
        server.faults.append(Fault(status, "the \x1b[31mweights\n are gone " + "x" * 300))
        before = len(server.requests)
        with pytest.raises(RefusedInput) as told:
            asked(IMAGES[:3])
        assert f"answered {status}: the [31mweights are gone xxx" in str(told.value)
        assert len(str(told.value)) < 300
        assert len(server.requests) == before + 1
    same(asked(IMAGES[:3]).values, IMAGES[:3])


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_says_later_is_asked_later(server: FakeServer, status: int) -> None:
    told = Told()
    asked = box(server, told)
    date = formatdate(TODAY + 90, usegmt=True)
    server.faults += [Fault(status, headers={"Retry-After": after}) for after in ("7", date, "soon", "0")]
    server.faults.append(Fault(status))
    same(asked(IMAGES[:5]).values, IMAGES[:5])
    assert told.slept == [7, 90, 60, 1, 60]
    assert f"answered {status}; waiting 90 s" in told.notes[1]
    assert asked.sent == server.images == 30


def test_no_question_waits_longer_than_ten_minutes(server: FakeServer) -> None:
    told = Told()
    asked = box(server, told)
    server.faults += [Fault(429, "slow down", {"Retry-After": "400"})] * 2
    with pytest.raises(RefusedInput, match=r"answered 429 \(slow down\) and asks to wait 800 s in all"):
        asked(IMAGES[:5])
    assert told.slept == [400]
    server.faults += [Fault(503)] * 1_000
    told.slept.clear()
    with pytest.raises(RefusedInput, match="more than 600"):
        asked(IMAGES[:5])
    assert 500 < sum(told.slept) <= 600
    assert asked.sent == server.images


def test_a_broken_connection_is_tried_once_more(server: FakeServer) -> None:
    asked = box(server)
    for fault in (Fault(reset=True), Fault(body='{"outputs"', short=True)):
        server.faults.append(fault)
        same(asked(IMAGES[:5]).values, IMAGES[:5])
        server.faults += [fault, fault]
        with pytest.raises(RefusedInput, match=r"cannot be reached: .*, twice; check that it is running"):
            asked(IMAGES[:5])
    assert asked.sent == server.images == 40


def test_what_never_left_is_not_counted() -> None:
    with FakeServer(network(), SHAPE, CLASSES).serving() as fake:
        asked = box(fake)
    with pytest.raises(RefusedInput, match="cannot be reached"):
        asked(IMAGES[:5])
    assert asked.sent == fake.images == 0


def test_a_slow_answer_is_asked_for_in_halves(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "TIMEOUT", 0.2)
    asked = box(server)
    server.faults.append(Fault(slow=True))
    same(asked(IMAGES[:64]).values, IMAGES[:64])
    assert server.requests == [64, 32, 32]
    server.faults += [Fault(slow=True)] * 2
    with pytest.raises(RefusedInput, match="cannot be reached: timed out, twice"):
        asked(IMAGES[:1])
    assert asked.sent == server.images


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ({"name": "other"}, "answered with the outputs other; expected scores"),
        ({"datatype": "INT64"}, "answered INT64; expected a number for every class"),
        ({"shape": [3, 10]}, r"answered the shape \[3, 10\] to 5 images; expected \[5, 10\]"),
        ({"shape": [50]}, r"answered the shape \[50\] to 5 images"),
        ({"shape": "wide"}, "answered the shape wide to 5 images"),
        ({"shape": [5, 7]}, "answered 7 classes; the data has 10"),
        ({"data": [1.0] * 49}, "answered 49 numbers; expected 50"),
        ({"data": ["a"] * 50}, "answered data that are not numbers"),
        ({"data": [10**400] * 50}, "answered data that are not numbers"),
        ({"data": {"a": 1}}, "answered data that are not numbers"),
        ({"datatype": ["FP32"]}, r"answered \['FP32'\]; expected a number"),
        ({"name": "\x1b[31m\ud800\n" + "x" * 900}, r"with the outputs \[31m x{50,60}; expected scores"),
        ({"data": [[1.0], [1.0, 2.0]]}, "answered data that are not numbers"),
        ({"data": [float("nan")] * 10 + [1.0] * 40}, "answered NaN or infinity on 1 of 5 images"),
        ({"data": [float("inf")] * 10 + [1.0] * 40}, "answered NaN or infinity on 1 of 5 images"),
        ({"data": [None] * 50}, "answered NaN or infinity on 5 of 5 images"),
        ({"data": [1e300] * 50}, "answered NaN or infinity on 5 of 5 images"),
    ],
)
def test_answers_that_are_none_are_refused_with_what_came(
    server: FakeServer, output: dict[str, Any], sentence: str
) -> None:
    server.output = output
    with pytest.raises(RefusedInput, match=sentence):
        box(server)(IMAGES[:5])


@pytest.mark.parametrize("body", ['{"outputs": [{"na', "[]", "", "[" * 100_000, '{"outputs": 3}', '{"outputs": [3]}'])
def test_bodies_that_are_no_answer_are_refused(server: FakeServer, body: str) -> None:
    server.faults.append(Fault(200, body))
    with pytest.raises(RefusedInput, match=r"answered (text that is not JSON|with the outputs none)"):
        box(server)(IMAGES[:5])


def test_an_endless_answer_is_cut(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST", 1_000_000)
    server.faults.append(Fault(200, "x" * 2_000_000))
    with pytest.raises(RefusedInput, match="answered more than 977 KiB to one question"):
        box(server)(IMAGES[:5])


IMAGE = {"name": "images", "datatype": "FP32", "shape": [-1, 1, 8, 8]}


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"inputs": []}, "takes nothing; its metadata must list one input"),
        ({"inputs": [IMAGE, IMAGE]}, "its metadata must list one input"),
        ({"inputs": [{**IMAGE, "shape": [-1, 3, 32, 32]}]}, r"shape \[-1, 3, 32, 32\], and the data has \(1, 8, 8\)"),
        ({"inputs": [{**IMAGE, "shape": [-1, 64]}]}, r"shape \[-1, 64\]"),
        ({"inputs": [{**IMAGE, "shape": []}]}, r"shape \[\]"),
        ({"inputs": [{**IMAGE, "shape": [0, 1, 8, 8]}]}, r"shape \[0, 1, 8, 8\]"),
        ({"inputs": [{**IMAGE, "datatype": "BYTES"}]}, "takes BYTES; it must take FP32 or UINT8"),
        ({"inputs": 3}, "not that of the protocol V2: inputs is wrong"),
        ({"outputs": [{"name": "label", "datatype": "INT64", "shape": [-1]}]}, r"gives label \(INT64 \[-1\]\)"),
        ({"outputs": [{"name": n, "datatype": "FP32", "shape": [-1, 10]} for n in "ab"]}, "expected one output"),
    ],
)
def test_a_model_that_takes_or_gives_something_else_is_refused(
    server: FakeServer, metadata: dict[str, Any], sentence: str
) -> None:
    server.metadata = metadata
    with pytest.raises(RefusedInput, match=sentence):
        remote(server)


def test_one_output_of_several_is_taken_where_it_alone_fits(server: FakeServer) -> None:
    scores = {"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]}
    server.metadata = {"outputs": [scores, {"name": "features", "datatype": "FP32", "shape": [-1, 512]}]}
    same(box(server)(IMAGES).values)
    server.metadata = {"outputs": None, "inputs": [{**IMAGE, "shape": ["-1", "-1", -1, -1]}]}
    same(box(server)(IMAGES).values)


def test_a_model_that_is_not_there_or_not_ready_is_refused(server: FakeServer) -> None:
    server.ready = False
    with pytest.raises(RefusedInput, match="answered 400: nothing"):
        remote(server)
    server.url += "y"
    with pytest.raises(RefusedInput, match=r"/v2/models/xy answered 404: .*no /v2/models/xy"):
        remote(server)


def test_a_large_image_begins_with_fewer_at_once() -> None:
    with FakeServer(lambda x: x.mean((2, 3)), (3, 224, 224), 3).serving() as fake:
        assert remote(fake, shape=(3, 224, 224), classes=3).batch == 6


def test_the_identity_is_that_of_the_url_and_of_what_the_model_says(server: FakeServer) -> None:
    first = remote(server).fingerprint
    assert first == RemoteBox(remote(server)).fingerprint
    assert len(first) == 64
    server.metadata = {"versions": ["2"]}
    assert remote(server).fingerprint != first


@pytest.mark.parametrize(
    "text",
    [
        "https://host/v2/models",
        "https://host/models/x",
        "https://host/v2/models/x/infer",
        "https:///v2/models/x",
        "https://host:port/v2/models/x",
        "https://ho st/v2/models/x",
        "https://[::1/v2/models/x",
        "ftp://host/v2/models/x",
        "http://host/v2/models/x",
        "http://10.0.0.1/v2/models/x",
        "http://localhost.example.org/v2/models/x",
    ],
)
def test_what_is_no_safe_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)


def test_an_address_has_a_name() -> None:
    plain = Address.parse("HTTPS://Host:8443/serving/v2/models/a%20b/")
    assert (plain.url, plain.name) == ("https://host:8443/serving/v2/models/a%20b", "a b")
    fixed = Address.parse("http://[::1]:8000/v2/models/x/versions/3")
    assert (fixed.url, fixed.name) == ("http://[::1]:8000/v2/models/x/versions/3", "x-3")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("https://me:s3cret@host/v2/models/x", f"bearer token into \\${TOKEN}"),
        ("https://host/v2/models/x?key=s3cret", f"bearer token into \\${TOKEN}"),
        ("https://me:s3cret/@host/v2/models/x", "not a URL"),
        ("https://me:s3cret@host\u2100/v2/models/x", "not a URL"),
    ],
)
def test_a_secret_in_the_url_is_refused_and_not_repeated(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as told:
        Address.parse(text)
    assert "s3cret" not in str(told.value)


def test_the_token_goes_to_the_server_and_nowhere_else(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, told = "s3cret.t0ken", Told()
    monkeypatch.setenv(TOKEN, secret)
    server.metadata = {"platform": f"echo {secret}"}
    asked = box(server, told)
    asked(IMAGES[:5])
    assert server.tokens == [f"Bearer {secret}"] * 3
    errors = []
    elsewhere = FakeServer(network(), SHAPE, CLASSES)
    with elsewhere.serving():
        faults = [
            Fault(401, f"wrong: Bearer {secret}"),
            Fault(500, "x" * 195 + secret),
            Fault(200, f"no JSON {secret}"),
            Fault(302, headers={"Location": f"{elsewhere.url}/infer?{secret}"}),
            Fault(429, secret, {"Retry-After": "900"}),
            Fault(200, json.dumps({"outputs": [{"name": secret}]})),
        ]
        for fault in faults:
            server.faults.append(fault)
            with pytest.raises(RefusedInput) as refused:
                asked(IMAGES[:5])
            errors.append("".join(traceback.format_exception(refused.value)))
    server.metadata = {"inputs": [{"name": secret, "datatype": "FP32", "shape": [-1, 1, 8, 8]}] * 2}
    with pytest.raises(RefusedInput, match=r"takes … \(FP32 \[-1, 1, 8, 8\]\), …") as refused:
        remote(server)
    errors.append("".join(traceback.format_exception(refused.value)))
    assert elsewhere.tokens == []
    assert "a redirect, which is not followed" in errors[3]
    seen = [*errors, *told.notes, repr(asked), repr(asked.remote), asked.fingerprint, asked.remote.platform]
    assert not [text for text in seen if "s3cret" in text]


def test_a_token_that_no_header_holds_is_refused_and_not_repeated(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "s3cret\ntoken")
    with pytest.raises(UsageError, match="no header may hold") as told:
        remote(server)
    assert "s3cret" not in str(told.value)


def test_the_fake_counts_what_it_was_asked(server: FakeServer) -> None:
    body = remote(server).signature.request(IMAGES[:2])
    assert json.loads(body)["outputs"] == [{"name": "scores"}]
    assert server.images == 0
    twice = replace(server, images=0)
    assert twice.told() == server.told()
