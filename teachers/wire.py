"""A model's address, and polite questions to it over HTTP: one retry, waiting when told to, a token that stays."""

from __future__ import annotations

import json
import os
import re
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from teachers.errors import RefusedInput, UsageError
from teachers.forks import TOKEN

TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # seconds
PATIENCE = 600.0  # seconds that one question waits in all where the server says "later"
LARGEST = 2**26  # bytes of a reply
TOLD = 200  # characters of a body that an error quotes
LATER = (429, 503)
SIZE = re.compile(r"batch|size|large|limit|exceed|shape|dimension", re.IGNORECASE)  # a complaint that fewer may mend
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

Note = Callable[[str], None]


class TooMuch(RefusedInput):
    """A question was too large for the server, or for its time: fewer images at once may do."""


@dataclass(frozen=True)
class Address:
    """Where a model of the Open Inference Protocol V2 answers."""

    base: str  # up to and without /v2
    model: str  # as the URL quotes it
    version: str | None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read https://HOST/v2/models/NAME, with /versions/V or not.

        Raises UsageError where it is none, carries a secret, or would be asked without encryption over a network.
        """
        try:
            url = urlsplit(text)
            scheme, host, port = url.scheme.lower(), url.hostname or "", url.port
        except ValueError:  # it quotes the URL, whose user and password are no one's business
            raise UsageError("--teacher is no URL; give https://HOST/v2/models/NAME[/versions/V]") from None
        if url.username is not None or url.password is not None or url.query or url.fragment:
            raise UsageError(
                f"the URL of --teacher holds a user, a query or a fragment; put a bearer token into ${TOKEN} instead"
            )
        found = re.fullmatch(r"(?P<prefix>.*)/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?/?", url.path)
        if (
            url.scheme.lower() not in ("http", "https")
            or not host
            or found is None
            or re.search(r"[\x00-\x20\x7f]", text)
        ):
            raise UsageError(f"{text!r} is no model's address; give https://HOST/v2/models/NAME[/versions/V]")
        if scheme == "http" and not _loopback(host):
            raise UsageError(f"{host} would be asked without encryption; give an https address (http: loopback only)")
        where = f"[{host}]" if ":" in host else host
        base = f"{scheme}://{where}{'' if port is None else f':{port}'}{found['prefix']}"
        return cls(base, found["model"], found["version"])

    @property
    def url(self) -> str:
        """The model's URL."""
        version = "" if self.version is None else f"/versions/{self.version}"
        return f"{self.base}/v2/models/{self.model}{version}"

    @property
    def name(self) -> str:
        """What a report calls the model."""
        return unquote(self.model if self.version is None else f"{self.model}-{self.version}")


def is_address(text: str) -> bool:
    """Whether a teacher is named by a URL."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Wire:
    """Questions to one model's URL; `sent` counts the images that went over it, those of retries included.

    The token is read once and never leaves the request's header: redirects are not followed, and what a server says is
    quoted without it.
    """

    def __init__(
        self,
        address: Address,
        note: Note,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address, self.sent = address, 0
        self._note, self._sleep, self._clock = note, sleep, clock
        self._token = os.environ.get(TOKEN, "").strip()
        if not re.fullmatch(r"[\x21-\x7e]*", self._token):
            raise UsageError(f"${TOKEN} holds characters that no header may hold")
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        local = _loopback(httpx.URL(address.url).host)
        self._client = httpx.Client(headers=headers, timeout=TIMEOUT, follow_redirects=False, trust_env=not local)
        weakref.finalize(self, self._client.close)

    def get(self, path: str = "") -> Any:
        """Return what is below the model's URL, from JSON, or None where nothing came.

        Raises RefusedInput with one sentence where the server cannot be reached, or says something else.
        """
        return self._ask("GET", path, None, 0)

    def post(self, path: str, body: bytes, images: int) -> Any:
        """Send JSON that holds some images, and return the answer.

        Raises TooMuch where fewer of them may do, else as `get`.
        """
        return self._ask("POST", path, body, images)

    def scrubbed(self, text: str, most: int = TOLD) -> str:
        """Return a server's text as one printable line, without the token."""
        plain = text.replace(self._token, "…") if self._token else text
        return "".join(c for c in " ".join(plain[: 50 * most].split()) if c.isprintable())[:most]

    def _ask(self, method: str, path: str, body: bytes | None, images: int) -> Any:
        waited, again = 0.0, True
        while True:
            try:
                status, headers, text = self._once(method, path, body, images)
            except httpx.TransportError as e:
                told = f"{self.address.url} cannot be reached: {self.scrubbed(str(e)) or type(e).__name__}"
                if images > 1 and isinstance(e, httpx.ReadTimeout | httpx.WriteTimeout):
                    raise TooMuch(f"{told}, with {images} images at once") from None
                if not again:
                    raise RefusedInput(
                        f"{told}, twice; see that it is served, and run the same command again"
                    ) from None
                again = False
                continue
            if status not in LATER:
                return self._read(status, text, images)
            waited += self._wait(status, headers.get("retry-after", ""), text, waited)

    def _once(self, method: str, path: str, body: bytes | None, images: int) -> tuple[int, httpx.Headers, bytes]:
        kind = {} if body is None else {"Content-Type": "application/json"}
        try:
            self.sent += images
            with self._client.stream(method, self.address.url + path, content=body, headers=kind) as reply:
                text = bytearray()
                for part in reply.iter_bytes():
                    text += part
                    if len(text) > LARGEST:
                        raise RefusedInput(f"{self.address.url} answered more than {LARGEST >> 20} MiB to one question")
                return reply.status_code, reply.headers, bytes(text)
        except NOT_SENT:
            self.sent -= images
            raise

    def _read(self, status: int, body: bytes, images: int) -> Any:
        text = body.decode("utf-8", "replace")
        if 200 <= status < 300:
            try:
                return json.loads(text) if text.strip() else None
            except (ValueError, RecursionError):
                raise RefusedInput(f"{self.address.url} answered no JSON: {self.scrubbed(text)}") from None
        told = f"{self.address.url} answered {status}: {self.scrubbed(text) or 'nothing'}"
        if 300 <= status < 400:
            raise RefusedInput(f"{self.address.url} answered {status}, a redirect, and none is followed; give its goal")
        if status in (401, 403):
            raise RefusedInput(f"{told}; put a bearer token that may ask into ${TOKEN}")
        if status == 413 or (status == 400 and images and SIZE.search(text)):
            raise TooMuch(f"{told}, to {images} images at once")
        raise RefusedInput(told)

    def _wait(self, status: int, asked: str, body: bytes, waited: float) -> float:
        seconds = max(1.0, self._after(asked, waited))
        if waited + seconds > PATIENCE:
            told = self.scrubbed(body.decode("utf-8", "replace")) or "nothing"
            raise RefusedInput(
                f"{self.address.url} answered {status} ({told}) and would be waited for {waited + seconds:.0f} s, more "
                f"than {PATIENCE:.0f}; run the same command later: what was answered is kept"
            )
        self._note(f"{self.address.url} answered {status}; waiting {seconds:.0f} s")
        self._sleep(seconds)
        return seconds

    def _after(self, asked: str, waited: float) -> float:
        """Return the seconds that Retry-After asks for; each wait doubles the sum where it asks for none."""
        if re.fullmatch(r"\d+", asked.strip()):
            return float(asked)
        try:
            when = parsedate_to_datetime(asked)
        except (TypeError, ValueError):
            return min(waited, 60.0)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - self._clock()
