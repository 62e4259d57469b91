"""Send requests to a model's URL: retry once, wait when the server asks, keep a time limit, never leak secrets."""

from __future__ import annotations

import json
import os
import re
import ssl
import time
import weakref
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx

from teachers.errors import RefusedInput, UsageError
from teachers.http import credentials
from teachers.http.address import USUAL, Address, Service
from teachers.http.bodies import DuplicateKey, collected, parsed
from teachers.http.connection import Line, Overtime
from teachers.http.redaction import Redaction
from teachers.notes import Note
from teachers.processes.forks import TOKEN

TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # seconds of silence
TOTAL = 180.0  # seconds of a request in all, however slowly bytes arrive
PATIENCE = 600.0  # seconds that one request waits in all if the server says "later"
LARGEST = 2**26  # bytes of a reply, at most
TOLD = 200  # characters of a reply quoted in an error message
LARGEST_TOLD = 2**20  # bytes of a reply that are searched for that quote
LATER = (429, 503)
ERRORS = ("error", "errors", "detail", "message")  # keys under which servers report an error
SIZE = re.compile(r"batch|size|large|limit|exceed|shape|dimension", re.IGNORECASE)  # errors that fewer images may avoid
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
PROXIES = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY"


class TooMuch(RefusedInput):
    """A request was too large or too slow for the server; fewer images at once may succeed."""


class Wire:
    """Requests to one model's URL; `sent` counts the images sent, including retries.

    The token and other headers are read once and appear in requests only: redirects are not followed, and quotes of the
    server's replies have them removed.
    """

    def __init__(
        self,
        address: Address,
        note: Note,
        service: Service = USUAL,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address, self.sent = address, 0
        self._note, self._sleep, self._clock = note, sleep, clock
        headers = credentials.headers(service.headers)
        self.host = headers.get("Host", "")  # if the command line gives one: a gateway routes by it
        self._redacted, self._line = Redaction(credentials.secrets(headers)), Line()
        self._client = self._connected({"Accept-Encoding": "identity", **headers})
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        weakref.finalize(self, self._client.close)

    def _connected(self, headers: dict[str, str]) -> httpx.Client:
        """Return a client that uses the environment's certificates, and its proxies unless the server is local."""
        plain = self.address.local and self.address.base.startswith("http:")  # no proxy, no TLS: nobody is trusted
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else certificates()
        try:
            return httpx.Client(
                headers=headers,
                timeout=TIMEOUT,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=1),
                trust_env=not self.address.local,
                verify=verify,
            )
        except ImportError:
            raise UsageError("a SOCKS proxy needs an extra: pip install 'httpx[socks]'; or unset ALL_PROXY") from None
        except (httpx.InvalidURL, ValueError, OSError) as e:
            told = self.scrubbed(str(e)) or type(e).__name__
            raise UsageError(f"the proxies in the environment cannot be used ({told}); correct {PROXIES}") from None

    def get(self, path: str = "") -> Any:
        """Return the parsed JSON at a path below the model's URL, or None if the reply is empty.

        Raises RefusedInput with one sentence if the server cannot be reached or answers anything else.
        """
        return self._ask("GET", path, None, 0)

    def post(self, path: str, body: bytes, images: int) -> Any:
        """Send JSON that holds `images` images, and return the parsed answer.

        Raises TooMuch if fewer images may succeed, otherwise as `get` does.
        """
        return self._ask("POST", path, body, images)

    def scrubbed(self, text: str, most: int = TOLD) -> str:
        """Return a server's text without secrets, as one printable line."""
        return self._redacted(text, most)

    def _ask(self, method: str, path: str, body: bytes | None, images: int) -> Any:
        waited, again = 0.0, True
        while True:
            try:
                status, headers, text = self._once(method, path, body, images)
            except Overtime:
                told = f"{self.address.url} did not finish its answer in {TOTAL:.0f} s"
                if images > 1:
                    raise TooMuch(f"{told}, to {images} images at once") from None
                raise RefusedInput(f"{told}; find out what delays it, and run the same command again") from None
            except (httpx.HTTPError, httpx.InvalidURL) as e:
                told = f"{self.address.url} cannot be reached: {self.scrubbed(str(e)) or type(e).__name__}"
                if "CERTIFICATE_VERIFY_FAILED" in str(e):
                    raise RefusedInput(f"{told}; name the authority that signed it with SSL_CERT_FILE") from None
                if images > 1 and isinstance(e, httpx.ReadTimeout | httpx.WriteTimeout):
                    raise TooMuch(f"{told}, with {images} images at once") from None
                if not again:
                    raise RefusedInput(
                        f"{told}, twice; check that it is running, and run the same command again"
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
            with (
                self._line.within(TOTAL) as extensions,
                self._client.stream(
                    method, self.address.url + path, content=body, headers=kind, extensions=extensions
                ) as reply,
            ):
                packed = reply.headers.get("content-encoding", "")
                text = collected(reply.iter_raw(), packed, LARGEST, self.address.url)
                return reply.status_code, reply.headers, text
        except NOT_SENT:
            self.sent -= images
            raise

    def _read(self, status: int, body: bytes, images: int) -> Any:
        text = body[:LARGEST_TOLD].decode("utf-8", "replace")
        if 200 <= status < 300:
            try:
                return self._meant(parsed(body), images)
            except DuplicateKey as e:
                raise RefusedInput(
                    f"{self.address.url} answered JSON with the key {self.scrubbed(str(e))} twice"
                ) from None
            except (ValueError, RecursionError):
                raise RefusedInput(
                    f"{self.address.url} answered text that is not JSON: {self.scrubbed(text)}"
                ) from None
        told = f"{self.address.url} answered {status}: {self.scrubbed(text) or 'nothing'}"
        if 300 <= status < 400:
            raise RefusedInput(
                f"{self.address.url} answered {status}, a redirect, which is not followed; give the final URL"
            )
        if status in (401, 403):
            raise RefusedInput(f"{told}; put a bearer token that has access into ${TOKEN}")
        if status == 413 or (status == 400 and images and SIZE.search(text)):
            raise TooMuch(f"{told}, to {images} images at once")
        raise RefusedInput(told)

    def _meant(self, reply: Any, images: int) -> Any:
        """Return a reply, or raise if it is an error sent with a success status."""
        said = reply if isinstance(reply, dict) else {}
        error = next((said[key] for key in ERRORS if said.get(key)), None)
        if not error or reply.get("outputs") or reply.get("inputs"):
            return reply
        text = error if isinstance(error, str) else json.dumps(error)
        told = f"{self.address.url} answered with an error: {self.scrubbed(text)}"
        if images > 1 and SIZE.search(text):
            raise TooMuch(f"{told}, to {images} images at once")
        raise RefusedInput(told)

    def _wait(self, status: int, asked: str, body: bytes, waited: float) -> float:
        seconds = max(1.0, self._after(asked, waited))
        if waited + seconds > PATIENCE:
            told = self.scrubbed(body.decode("utf-8", "replace")) or "nothing"
            raise RefusedInput(
                f"{self.address.url} answered {status} ({told}) and asks to wait {waited + seconds:.0f} s in all, more "
                f"than {PATIENCE:.0f}; run the same command later: the answers so far are kept"
            )
        self._note(f"{self.address.url} answered {status}; waiting {seconds:.0f} s")
        self._sleep(seconds)
        return seconds

    def _after(self, asked: str, waited: float) -> float:
        """Return the seconds that Retry-After asks for; without it, wait as long as before in all, at most 60 s."""
        if re.fullmatch(r"\d+", asked.strip(), re.ASCII):
            return float(asked)
        try:
            when = parsedate_to_datetime(asked)
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - self._clock()
        except (TypeError, ValueError, OverflowError):
            return min(waited, 60.0)


def certificates() -> ssl.SSLContext:
    """Return the trusted certificates: those in SSL_CERT_FILE and SSL_CERT_DIR if set, else the defaults.

    Raises UsageError if these hold none.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and not folder:
        return httpx.create_ssl_context(trust_env=False)
    try:
        if folder and not file and not Path(folder).is_dir():
            raise FileNotFoundError(2, "no such folder")
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    except (OSError, ssl.SSLError) as e:
        which = f"SSL_CERT_FILE={file}" if file else f"SSL_CERT_DIR={folder}"
        raise UsageError(f"{which} holds no certificates ({e.strerror or e}); correct it or unset it") from None
