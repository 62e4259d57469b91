"""A teacher behind an API: asked over the Open Inference Protocol V2, it answers as a `Box` does."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from teachers.errors import RefusedInput, UsageError
from teachers.http.address import USUAL, Address, Service
from teachers.http.replies import rows
from teachers.http.v2 import Metadata, Signature, as_bytes
from teachers.http.wire import TooMuch, Wire
from teachers.notes import Note
from teachers.numbers import ENOUGH, Numbers, Output, numbers
from teachers.surface import FULL, Answers, Surface, concatenate

BATCH = 64  # images per request, at first
NUMBERS = 2**20  # pixel values per request, at most; their JSON is about 20 MB
LONG = 500  # characters of an error message, at most

Stats = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation by channel
PLAIN: Stats = ((0.0,), (1.0,))


class Remote:
    """A model behind a URL: its metadata, its request format, and the number of images sent to it."""

    def __init__(
        self,
        address: str,
        shape: tuple[int, int, int],
        classes: int,
        *,
        note: Note,
        normalise: Stats = PLAIN,
        service: Service = USUAL,
        order: tuple[int, ...] = (),
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read a model's metadata; `order` gives for each class its output's index, if not the data's order.

        Raises UsageError or RefusedInput with one sentence if it cannot be asked about images of this shape.
        """
        self.address = Address.parse(address, service.plain)
        self._wire = Wire(self.address, note, service, sleep=sleep, clock=clock)
        told = self._wire.get()
        with self._quoting():
            self.signature = Signature.of(told, shape, classes, self.address.url, service)
            platform = Metadata.of(told, self.address.url).platform or ""
        if self.signature.datatype == "UINT8" and normalise != PLAIN:
            raise UsageError(f"{self.address.url} takes pixels as bytes, not normalised ones; leave --normalize out")
        ready = self._wire.get("/ready")
        if isinstance(ready, dict) and ready.get("ready") is False:
            raise RefusedInput(f"{self.address.url} says that it is not ready; run the same command again later")
        self.platform = self._wire.scrubbed(platform, 60)
        self.normalise, self.order = normalise, order
        self._numbers: Numbers | None = None  # None until the output type is known
        self._remember: Callable[[Output], object] = lambda output: None
        self._answering: tuple[object, object] | None = None  # the model and version of the first answer
        self.fingerprint = _fingerprint(self.address, told, normalise, service, order, self._wire.host)
        self._classes, self._note = classes, note
        self.batch = self.signature.batch or max(1, min(BATCH, NUMBERS // int(np.prod(shape))))

    def expect(self, output: Output | None, remember: Callable[[Output], object]) -> None:
        """Set the output type known from an earlier run; if None, the first answers show it and `remember` gets it."""
        self._numbers, self._remember = output and Numbers(output), remember

    @property
    def output(self) -> Output | None:
        """The model's output type, or None until it is known."""
        return None if self._numbers is None else self._numbers.output

    @property
    def sent(self) -> int:
        """The number of images sent, including retries and padding."""
        return self._wire.sent

    def ask(self, images: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield log-probabilities (n, K) of images (N, C, H, W) in [0, 1] as they arrive, one request at a time.

        The first answers are held back until there are enough of them to recognise the output type.
        """
        first: list[tuple[slice, NDArray[np.float64]]] = []
        for part, found in self._rows(images):
            first.append((part, found))
            if self._numbers is None and part.stop < min(ENOUGH, len(images)):
                continue
            if self._numbers is None:
                self._settle(np.concatenate([held for _, held in first]))
            for where, held in first:
                yield where, self._log_probs(held)
            first.clear()

    def _rows(self, images: Tensor) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield rows of numbers, one request at a time; if a request is too large, it and all later ones are halved."""
        x, at = self._prepared(images), 0
        while at < len(x):
            part = x[at : at + self.batch]
            try:
                found = self._request(part)
            except TooMuch as e:
                if self.batch == 1 or self.signature.batch is not None:
                    raise RefusedInput(str(e)) from None
                self.batch = max(1, len(part) // 2)
                self._note(f"{e}; sending {self.batch} at once")
                continue
            yield slice(at, at + len(part)), self._finite(found)
            at += len(part)

    def _prepared(self, images: Tensor) -> Tensor:
        if self.signature.datatype == "UINT8":
            return as_bytes(images)
        mean, std = (torch.tensor(part).reshape(1, -1, 1, 1) for part in self.normalise)
        return images.float() if self.normalise == PLAIN else (images.float() - mean) / std

    def _request(self, x: Tensor) -> NDArray[np.float64]:
        """Send some images; for a model with a fixed batch size, pad them with copies of the first."""
        short = 0 if self.signature.batch is None else self.signature.batch - len(x)
        padded = torch.cat([x, x[:1].expand(short, -1, -1, -1)]) if short else x
        reply = self._wire.post("/infer", self.signature.request(padded), len(padded))
        with self._quoting():
            self._hold(reply)
            found = rows(reply, len(padded), self._classes, self.address.url, self.signature.output)
        return found[: len(x), list(self.order)] if self.order else found[: len(x)]

    def _hold(self, reply: object) -> None:
        """Refuse an answer from another model or version than the first answer came from."""
        if not isinstance(reply, dict):
            return
        now = reply.get("model_name"), reply.get("model_version")
        first = self._answering = self._answering or now
        if now != first:
            names = [" version ".join(f"{part!s:.60}" for part in who if part is not None) for who in (now, first)]
            raise RefusedInput(f"{self.address.url} answered as {names[0]}; its first answers were those of {names[1]}")

    @contextmanager
    def _quoting(self) -> Iterator[None]:
        """Remove secrets from error messages that quote the server."""
        try:
            yield
        except (RefusedInput, UsageError) as e:
            raise type(e)(self._wire.scrubbed(str(e), LONG)) from None

    def _finite(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        values = torch.from_numpy(found)
        bad = int((values.isnan().any(-1) | ~values.float().amax(-1).isfinite()).sum())
        if bad:
            who = self.address.url
            raise RefusedInput(f"{who} answered NaN or infinity on {bad} of {len(found)} images; expected numbers")
        return found

    def _settle(self, first: NDArray[np.float64]) -> None:
        """Recognise the output type from the first answers, remember it and note it."""
        self._numbers = numbers(first, self.address.url)
        self._remember(self._numbers.output)
        self._note(f"{self.address.url} answers with {self._numbers.told}")

    def _log_probs(self, found: NDArray[np.float64]) -> Tensor:
        assert self._numbers is not None
        return self._numbers.log_probs(torch.from_numpy(np.ascontiguousarray(found)), self.address.url)


class RemoteBox:
    """A remote teacher behind a surface, for `Oracle`. Boxes of one teacher share its image count and batch size."""

    def __init__(self, remote: Remote, surface: Surface = FULL) -> None:
        if surface.kind == "gradients":
            raise UsageError("a teacher behind a URL sends no input gradients; give another --surface")
        self.remote, self.surface = remote, surface

    @property
    def sent(self) -> int:
        """The number of images sent."""
        return self.remote.sent

    @property
    def fingerprint(self) -> str:
        """Digest of the teacher's identity."""
        return self.remote.fingerprint

    def __call__(self, images: Tensor) -> Answers:
        """Answer images (N, C, H, W).

        Raises RefusedInput if the server's answers are invalid.
        """
        return concatenate([answers for _, answers in self.batches(images)])

    def batches(self, images: Tensor) -> Iterator[tuple[slice, Answers]]:
        """Answer images (N, C, H, W) one request at a time; yield which images, and their answers, as these arrive."""
        for part, log_probs in self.remote.ask(images):
            yield part, self.surface(log_probs)


def _fingerprint(
    address: Address, metadata: object, normalise: Stats, service: Service, order: tuple[int, ...], host: str
) -> str:
    """Return a digest of a model's address, its metadata, and how it is asked."""
    parts = [address.url, address.model, address.version, metadata, *([] if normalise == PLAIN else normalise)]
    stated = {"input": service.input, "output": service.output, "order": order, "host": host}
    if any(stated.values()):
        parts.append({name: value for name, value in stated.items() if value})
    try:
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        raise RefusedInput(f"the metadata of {address.url} are nested too deeply") from None
