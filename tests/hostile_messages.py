"""What a worker or a teacher's process could send that is no message: frames as they lie on the wire."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

Frames = list[bytes]


def frame(content: bytes) -> bytes:
    return struct.pack("!i", len(content)) + content


def head(header: object, arrays: object = ()) -> bytes:
    return frame(json.dumps({"header": header, "arrays": arrays}).encode())


def whole(header: object, **arrays: np.ndarray) -> bytes:
    """Return a message as it would be sent, whatever is in it."""
    declared = [[name, a.dtype.str, a.shape] for name, a in arrays.items()]
    return head(header, declared) + b"".join(frame(a.tobytes()) for a in arrays.values() if a.size)


IMAGES: dict[str, Any] = {"say": "ask", "estimate": False}
VIEWS: dict[str, Any] = {"say": "ask", "pool": "p" * 64, "sets": [{"kind": "crop", "count": 2}]}


def views(**changes: object) -> dict[str, Any]:
    return VIEWS | {"sets": [VIEWS["sets"][0] | changes]}


RECIPE: dict[str, Any] = {
    "architecture": "strided-4-4",
    "steps": 25,
    "batch": 128,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "warmup": 0.05,
    "views": 2,
    "wrap": None,
}
REPORT: dict[str, Any] = {
    "recipe": RECIPE,
    "view": "crop",
    "source": "original",
    "parameters": 100,
    "diverged": False,
    "seconds": 1.0,
    "step_seconds": 1.0,
    "repeats": 0.5,
    "decoded": "",
}
FAILURE: dict[str, Any] = {"sentence": "s", "trace": "", "code": 70}


def failed(**changes: object) -> bytes:
    return whole({"say": "failed", "failure": FAILURE | changes})


def trained(**changes: object) -> bytes:
    return whole({"say": "trained", "report": REPORT | changes})


def recipe(**changes: object) -> bytes:
    return trained(recipe=RECIPE | changes)


def array(dtype: str, shape: object, header: dict[str, Any] = IMAGES, name: object = "images") -> bytes:
    """Return a message that declares an array and never sends it."""
    return head(header, [[name, dtype, shape]])


def nested(depth: int, spec: str, closing: str) -> bytes:
    return frame(('{"header":' + spec * depth + closing * depth + ',"arrays":[]}').encode())


def pixels(*shape: int, dtype: str = "f4") -> np.ndarray:
    return np.full(shape, 0.5, dtype)


index = np.array

NO_FRAMES: dict[str, bytes] = {
    "nothing in it": frame(b""),
    "one byte": frame(b"x"),
    "a length of a thousand million": struct.pack("!i", 10**9) + b"{}",
    "a length of two thousand million": struct.pack("!i", 2**31 - 1) + b"{}",
    "a negative length": struct.pack("!i", -5) + b"{}",
    "a long length": struct.pack("!iQ", -1, 10**18),
    "the longest length": struct.pack("!iQ", -1, 2**64 - 1),
    "a header of five million bytes": frame(b'{"header":{},"arrays":[],"x":"' + b"a" * 5_000_000 + b'"}'),
    "no UTF-8": frame(b'{"header":{"say":"\xff\xfe"},"arrays":[]}'),
    "UTF-16": frame('{"header":{},"arrays":[]}'.encode("utf-16")),
    "half a surrogate": frame(b'{"header":{"say":"\\ud800"},"arrays":[]}'),
    "a null byte": frame(b"\x00" * 40),
    "a pickle": frame(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin"),
    "JSON that ends early": frame(b'{"header":{"say":"ask"'),
    "two JSON texts": frame(b'{"header":{},"arrays":[]}{}'),
    "deep lists": nested(100_000, "[", "]"),
    "deep objects": nested(50_000, '{"a":', "}").replace(b'"a":}', b'"a":1}'),
    "a number of 10,000 digits": frame(b'{"header":{"say":' + b"9" * 10_000 + b'},"arrays":[]}'),
    "NaN": frame(b'{"header":{"say":NaN},"arrays":[]}'),
    "a list": frame(b"[]"),
    "a number": frame(b"7"),
    "null": frame(b"null"),
    "no arrays": frame(b'{"header":{}}'),
    "no header": frame(b'{"arrays":[]}'),
    "another key": frame(b'{"header":{},"arrays":[],"more":1}'),
    "a header that is a list": head([["say", "step"]]),
    "a header that is null": head(None),
    "arrays that are an object": head(IMAGES, {"images": 1}),
    "an array of two parts": head(IMAGES, [["images", "<f4"]]),
    "an array of four parts": head(IMAGES, [["images", "<f4", [1], 1]]),
    "an array of no name": array("<f4", [1, 1, 8, 8], name=None),
    "an array whose name is a number": array("<f4", [1, 1, 8, 8], name=5),
}

NO_ARRAYS: dict[str, bytes] = {
    "an object dtype": array("|O", [4]),
    "a complex dtype": array("<c16", [4]),
    "a string dtype": array("<U8", [4]),
    "a record dtype": array("<f4,<i8", [4]),
    "a void dtype": array("|V1000000", [4]),
    "a date dtype": array("<M8[s]", [4]),
    "another byte order": array(">f4", [1, 1, 8, 8]),
    "a dtype that is code": array("(__import__('os').system('true'),)", [4]),
    "a dtype of no name": array("", [4]),
    "a dtype that is a number": head(IMAGES, [["images", 4, [4]]]),
    "a negative dimension": array("<f4", [-1, 1, 8, 8]),
    "two negative dimensions": array("<f4", [-4, -4]),
    "a thousand million images": array("<f4", [10**9, 1, 8, 8]),
    "a thousand million million images": array("<f4", [10**15]),
    "sizes whose product is zero by overflow": array("<f4", [2**32, 2**32]),
    "sizes whose product is negative by overflow": array("<f4", [2**31, 2**32]),
    "a dimension beyond 64 bits": array("<f4", [10**30]),
    "nothing times 10**12": array("<f4", [0, 10**12]),
    "nothing times 10**12, thrice": array("<f4", [0, 10**12, 10**12, 10**12]),
    "a shape of forty dimensions": array("<f4", [1] * 40),
    "a shape of thousands of dimensions": array("<f4", [1] * 5_000),
    "a shape of floats": array("<f4", [1.0, 1.0, 8.0, 8.0]),
    "a shape of booleans": array("<f4", [True, True, 8, 8]),
    "a shape that is text": array("<f4", "1188"),
    "a shape that is null": array("<f4", None),
    "fewer bytes than declared": array("<f4", [1, 1, 8, 8]) + frame(b"\0" * 255),
    "more bytes than declared": array("<f4", [1, 1, 8, 8]) + frame(b"\0" * 257),
    "an empty frame for an array": array("<f4", [1, 1, 8, 8]) + frame(b""),
    "a huge frame for a small array": array("<f4", [1, 1, 8, 8]) + struct.pack("!i", 10**9),
    "thousands of arrays": head(IMAGES, [[str(i), "<f4", [0]] for i in range(5_000)]),
    "two arrays of one name": head(IMAGES, [["images", "<f4", [0]]] * 2),
    "arrays beside a word that has none": whole({"say": "step"}, images=pixels(1, 1, 8, 8)),
    "an array beside a failure": whole({"say": "failed", "failure": FAILURE}, images=pixels(1, 1, 8, 8)),
}

NO_QUESTIONS: dict[str, bytes] = {
    "images of float64": whole(IMAGES, images=pixels(2, 1, 8, 8, dtype="f8")),
    "images of float16": whole(IMAGES, images=pixels(2, 1, 8, 8, dtype="f2")),
    "images of bytes": whole(IMAGES, images=np.zeros((2, 1, 8, 8), "u1")),
    "images of booleans": whole(IMAGES, images=np.ones((2, 1, 8, 8), "?")),
    "no images": whole(IMAGES),
    "an empty batch": whole(IMAGES, images=pixels(0, 1, 8, 8)),
    "images of another size": whole(IMAGES, images=pixels(2, 1, 9, 8)),
    "images of three channels": whole(IMAGES, images=pixels(2, 3, 8, 8)),
    "one image without a batch": whole(IMAGES, images=pixels(1, 8, 8)),
    "a number in place of images": whole(IMAGES, images=np.float32(0.5)),
    "images by another name": whole(IMAGES, pictures=pixels(2, 1, 8, 8)),
    "images and an index": whole(IMAGES, images=pixels(2, 1, 8, 8), index=index([1])),
    "an estimate that is a number": whole(IMAGES | {"estimate": 1}, images=pixels(2, 1, 8, 8)),
    "an estimate that is text": whole(IMAGES | {"estimate": "no"}, images=pixels(2, 1, 8, 8)),
    "no estimate": whole({"say": "ask"}, images=pixels(2, 1, 8, 8)),
    "a question of both kinds": whole(IMAGES | VIEWS, images=pixels(2, 1, 8, 8)),
    "an index of floats": whole(VIEWS, index=index([0.0, 1.0])),
    "an index of int32": whole(VIEWS, index=index([0, 1], "i4")),
    "an index of booleans": whole(VIEWS, index=index([True, False])),
    "an index of two dimensions": whole(VIEWS, index=index([[0, 1]])),
    "no index": whole(VIEWS),
    "a count that is true": whole(views(count=True), index=index([0])),
    "a count of a half": whole(views(count=0.5), index=index([0])),
    "a count that is text": whole(views(count="2"), index=index([0])),
    "a count of nothing": whole(views(count=0), index=index([0])),
    "a negative count": whole(views(count=-3), index=index([0])),
    "a huge count": whole(views(count=10**18), index=index([0])),
    "an unknown kind of view": whole(views(kind="negative"), index=index([0])),
    "a kind that is a path": whole(views(kind="../../teachers"), index=index([0])),
    "a pool that is a list": whole(VIEWS | {"pool": ["p"]}, index=index([0])),
    "a pool of a long name": whole(VIEWS | {"pool": "p" * 1000}, index=index([0])),
    "no views at all": whole(VIEWS | {"sets": []}, index=index([0])),
    "more kinds of views than there are": whole(VIEWS | {"sets": 11 * VIEWS["sets"]}, index=index([0])),
    "views that are text": whole(VIEWS | {"sets": ["crop"]}, index=index([0])),
    "another key in views": whole(views(pool="p"), index=index([0])),
    "another key in a question": whole(VIEWS | {"budget": None}, index=index([0])),
}

NO_ENDS: dict[str, bytes] = {
    "an unknown word": whole({"say": "hello"}),
    "a word that is a list": whole({"say": []}),
    "a word that is null": whole({"say": None}),
    "no word": whole({}),
    "a word with more": whole({"say": "step", "more": 1}),
    "an exit code of its own": failed(code=0),
    "an exit code of a verdict": failed(code=1),
    "an exit code beyond bytes": failed(code=10**6),
    "an exit code that is true": failed(code=True),
    "an exit code that is text": failed(code="70"),
    "a failure without a sentence": whole({"say": "failed", "failure": {"code": 70, "trace": ""}}),
    "a failure of a million characters": failed(sentence="x" * 10**6),
    "a trace of a million characters": failed(trace="x" * 10**6),
    "a sentence that is null": failed(sentence=None),
    "a failure that is text": whole({"say": "failed", "failure": "oh"}),
    "a failure with a cell": failed(cell={}),
    "a student without a report": whole({"say": "trained"}),
    "a report that is null": whole({"say": "trained", "report": None}),
    "a student without weights": trained(),
    "seconds that are NaN": trained(seconds=float("nan")),
    "seconds without end": trained(seconds=float("inf")),
    "seconds before the beginning": trained(seconds=-1.0),
    "seconds that are true": trained(seconds=True),
    "step seconds that are text": trained(step_seconds="1"),
    "more repeats than images": trained(repeats=1.5),
    "negative repeats": trained(repeats=-0.1),
    "repeats that are NaN": trained(repeats=float("nan")),
    "parameters of a half": trained(parameters=0.5),
    "negative parameters": trained(parameters=-1),
    "a divergence that is a number": trained(diverged=0),
    "a view that is a number": trained(view=4),
    "a source of a million characters": trained(source="s" * 10**6),
    "another key in a report": trained(correct=[1]),
    "a recipe that is null": trained(recipe=None),
    "an architecture that is a list": recipe(architecture=["resnet-20"]),
    "steps that are true": recipe(steps=True),
    "steps of a half": recipe(steps=2.5),
    "no steps": recipe(steps=0),
    "steps beyond numbers": recipe(steps=10**40),
    "a batch of nothing": recipe(batch=0),
    "a rate that is NaN": recipe(lr=float("nan")),
    "a rate without end": recipe(lr=float("inf")),
    "a momentum of two": recipe(momentum=2.0),
    "views of nothing": recipe(views=0),
    "a wrap that is a list": recipe(wrap=["os:system"]),
    "another key in a recipe": recipe(device="cuda"),
    "a recipe without steps": trained(recipe={k: v for k, v in RECIPE.items() if k != "steps"}),
}

MESSAGES = NO_FRAMES | NO_ARRAYS | NO_QUESTIONS | NO_ENDS

# What begins as it should, and stops: the other side waits, and never for ever.
HALVES: dict[str, bytes] = {
    "half a length": b"\0\0",
    "half a header": frame(b'{"header":{},"arrays":[]}')[:12],
    "a header without its array": array("<f4", [2, 1, 8, 8]),
    "half an array": whole(IMAGES, images=pixels(2, 1, 8, 8))[:-100],
    "half a long length": struct.pack("!iH", -1, 0),
}

# A message, of which nothing may be granted: it is answered by a refusal.
REFUSED: dict[str, tuple[bytes, str]] = {
    "an unsorted index": (whole(VIEWS, index=index([3, 1])), "strictly increasing"),
    "an index twice": (whole(VIEWS, index=index([1, 1])), "strictly increasing"),
    "an index before the pool": (whole(VIEWS, index=index([-1, 2])), "lie in the pool"),
    "an index beyond the pool": (whole(VIEWS, index=index([1, 60])), "lie in the pool"),
    "an index at the end of numbers": (whole(VIEWS, index=index([0, 2**63 - 1])), "lie in the pool"),
    "an index whose steps overflow": (whole(VIEWS, index=index([-(2**63), 2**63 - 1])), "lie in the pool"),
    "no index at all": (whole(VIEWS, index=np.zeros(0, np.int64)), "the query has no images"),
    "another pool": (whole(VIEWS | {"pool": "0" * 64}, index=index([0])), "does not hold these images"),
    "a pool that is a path": (whole(VIEWS | {"pool": "../pools"}, index=index([0])), "does not hold these images"),
    "more than the budget": (whole(views(count=200), index=np.arange(60)), "above the budget"),
    "images of NaN": (whole(IMAGES, images=np.full((2, 1, 8, 8), np.nan, "f4")), r"in \[0, 1\]"),
    "images without end": (whole(IMAGES, images=np.full((2, 1, 8, 8), np.inf, "f4")), r"in \[0, 1\]"),
    "one pixel above one": (whole(IMAGES, images=pixels(2, 1, 8, 8) + 0.6), r"in \[0, 1\]"),
    "one pixel of NaN": (
        whole(IMAGES, images=np.where(np.arange(128).reshape(2, 1, 8, 8), 0.5, np.nan).astype("f4")),
        "0, 1",
    ),
}
