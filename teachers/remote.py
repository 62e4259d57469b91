"""A teacher that is an API already: asked over the Open Inference Protocol V2, answering as a `Box` does."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from teachers.errors import RefusedInput, UsageError
from teachers.surface import FULL, Answers, Surface, concatenate
from teachers.v2 import Metadata, Signature, as_bytes
from teachers.wire import Address, Note, TooMuch, Wire

BATCH = 64  # images of a request, at first
NUMBERS = 2**20  # most pixel values of one, whose JSON is about 20 MB
SUM = 1e-3  # how far probabilities may be from summing to one
ROUNDING = 1e-6
LONG = 500  # characters of a refusal

Output = Literal["logits", "probabilities", "log-probabilities"]
Stats = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation by channel
PLAIN: Stats = ((0.0,), (1.0,))


class Remote:
    """A model behind a URL: what it is, how it is asked, and how many images it was sent."""

    def __init__(
        self,
        address: str,
        shape: tuple[int, int, int],
        classes: int,
        *,
        note: Note,
        normalise: Stats = PLAIN,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Ask a model what it is.

        Raises UsageError or RefusedInput with one sentence where it cannot be asked about images of this shape.
        """
        self.address = Address.parse(address)
        self._wire = Wire(self.address, note, sleep=sleep, clock=clock)
        told = self._wire.get()
        with self._quoting():
            self.signature = Signature.of(told, shape, classes, self.address.url)
        if self.signature.datatype == "UINT8" and normalise != PLAIN:
            raise UsageError(f"{self.address.url} takes pixels as bytes, which cannot be normalised; no --normalize")
        self._wire.get("/ready")
        self.platform = self._wire.scrubbed(Metadata.model_validate(told).platform, 60)
        self.normalise = normalise
        self.output: Output | None = None  # of its numbers, once it is known
        self._remember: Callable[[Output], object] = lambda output: None
        self.fingerprint = _fingerprint(self.address, told, normalise)
        self._classes, self._note = classes, note
        self.batch = self.signature.batch or max(1, min(BATCH, NUMBERS // int(np.prod(shape))))

    def expect(self, output: Output | None, remember: Callable[[Output], object]) -> None:
        """Hold the model to what its numbers were in earlier answers, or say what they are in the first ones."""
        self.output, self._remember = output, remember

    @property
    def sent(self) -> int:
        """Images that went over the wire, those of retries and of padding included."""
        return self._wire.sent

    def ask(self, images: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield log-probabilities (n, K) of images (N, C, H, W) in [0, 1], a request at a time, as they arrive.

        A request that is too large is halved, and so are those after it.
        """
        x, at = self._prepared(images), 0
        while at < len(x):
            part = x[at : at + self.batch]
            try:
                rows = self._request(part)
            except TooMuch as e:
                if self.batch == 1 or self.signature.batch is not None:
                    raise RefusedInput(str(e)) from None
                self.batch = max(1, len(part) // 2)
                self._note(f"{e}; asking about {self.batch} at once")
                continue
            yield slice(at, at + len(part)), self._log_probs(rows)
            at += len(part)

    def _prepared(self, images: Tensor) -> Tensor:
        if self.signature.datatype == "UINT8":
            return as_bytes(images)
        mean, std = (torch.tensor(part).reshape(1, -1, 1, 1) for part in self.normalise)
        return images.float() if self.normalise == PLAIN else (images.float() - mean) / std

    def _request(self, x: Tensor) -> NDArray[np.float64]:
        """Send some images; a model that takes a fixed number of them is sent copies of the first beside them."""
        short = 0 if self.signature.batch is None else self.signature.batch - len(x)
        padded = torch.cat([x, x[:1].expand(short, -1, -1, -1)]) if short else x
        reply = self._wire.post("/infer", self.signature.request(padded), len(padded))
        with self._quoting():
            return self.signature.rows(reply, len(padded), self._classes, self.address.url)[: len(x)]

    @contextmanager
    def _quoting(self) -> Iterator[None]:
        """Let refusals quote what a server said as `Wire` does."""
        try:
            yield
        except RefusedInput as e:
            raise RefusedInput(self._wire.scrubbed(str(e), LONG)) from None

    def _log_probs(self, rows: NDArray[np.float64]) -> Tensor:
        url = self.address.url
        values = torch.from_numpy(rows)
        bad = int((values.isnan().any(-1) | ~values.float().amax(-1).isfinite()).sum())
        if bad:
            raise RefusedInput(f"{url} answered NaN or infinity on {bad} of {len(rows)} images; expected numbers")
        found = output_of(rows)
        if self.output is None:
            if found is None:
                low, high = rows.sum(1).min(), rows.sum(1).max()
                raise RefusedInput(
                    f"{url} answered numbers in [0, 1] whose sums go from {low:.3f} to {high:.3f}; expected logits, or "
                    "probabilities of all classes, which sum to one"
                )
            self.output = found
            self._remember(found)
            self._note(f"{url} answers with {found}")
        elif self.output not in ("logits", found):
            raise RefusedInput(f"{url} answered {found or 'other numbers'}; its first answers were {self.output}")
        if self.output == "logits":
            return F.log_softmax(values.float(), -1)
        return (values.clamp(min=0).log() if self.output == "probabilities" else values).clamp(max=0).float()


class RemoteBox:
    """A remote teacher behind a surface: what `Oracle` asks. Boxes of one teacher share its count and its batch."""

    def __init__(self, remote: Remote, surface: Surface = FULL) -> None:
        if surface.kind == "gradients":
            raise UsageError("a teacher behind a URL sends no input gradients; give another --surface")
        self.remote, self.surface = remote, surface

    @property
    def sent(self) -> int:
        """Images that went over the wire."""
        return self.remote.sent

    @property
    def fingerprint(self) -> str:
        """Digest of the teacher's identity."""
        return self.remote.fingerprint

    def __call__(self, images: Tensor) -> Answers:
        """Answer images (N, C, H, W).

        Raises RefusedInput where the server's answers are none.
        """
        return concatenate([answers for _, answers in self.batches(images)])

    def batches(self, images: Tensor) -> Iterator[tuple[slice, Answers]]:
        """Answer images (N, C, H, W) a request at a time, as the answers arrive: which images, and the answers."""
        for part, log_probs in self.remote.ask(images):
            yield part, self.surface(log_probs)


def output_of(rows: NDArray[np.float64]) -> Output | None:
    """Tell what finite rows of numbers (N, K) are; None where they lie in [0, 1] and are no distributions."""
    inside = bool((rows >= -ROUNDING).all() and (rows <= 1 + ROUNDING).all())
    if inside:
        return "probabilities" if _sum_to_one(rows) else None
    return "log-probabilities" if (rows <= ROUNDING).all() and _sum_to_one(np.exp(rows)) else "logits"


def _sum_to_one(rows: NDArray[np.float64]) -> bool:
    return bool((np.abs(rows.sum(1) - 1) < SUM).all())


def _fingerprint(address: Address, metadata: object, normalise: Stats) -> str:
    """Return a digest of where a model is, and of all that it says of itself."""
    parts = [address.url, address.model, address.version, metadata, *([] if normalise == PLAIN else normalise)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
