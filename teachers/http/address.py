"""Where a model answers over HTTP, and what the command line says about its server; no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from teachers.errors import UsageError
from teachers.processes.forks import TOKEN

FORM = "https://HOST/v2/models/NAME[/versions/V]"


@dataclass(frozen=True)
class Service:
    """What the command line says about a server: tensors by name, headers by environment variable."""

    input: str = ""  # NAME, NAME:DATATYPE or NAME:DATATYPE:LAYOUT
    output: str = ""  # NAME
    headers: tuple[str, ...] = ()  # NAME=VARIABLE: values stay in the environment
    plain: bool = False  # http without encryption is allowed, for servers inside a cluster


USUAL = Service()


@dataclass(frozen=True)
class Address:
    """Where a model of the Open Inference Protocol V2 answers."""

    base: str  # up to and without /v2
    model: str  # as the URL quotes it
    version: str | None

    @classmethod
    def parse(cls, text: str, plain: bool = False) -> Address:
        """Read https://HOST/v2/models/NAME, with /versions/V or not; `plain` allows http to any host.

        Raises UsageError where it is none, carries a secret, or would be asked without encryption over a network.
        """
        try:
            url = urlsplit(text)
            scheme, host, port = url.scheme.lower(), url.hostname or "", url.port
        except ValueError:  # it quotes the URL, whose user and password are no one's business
            raise UsageError(f"--teacher is no URL; give {FORM}") from None
        if url.username is not None or url.password is not None or url.query or url.fragment:
            raise UsageError(
                f"the URL of --teacher holds a user, a query or a fragment; put a bearer token into ${TOKEN} instead, "
                "other credentials behind --header"
            )
        found = re.fullmatch(r"(?P<prefix>.*)/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?/*", url.path)
        if scheme not in ("http", "https") or not host or found is None or re.search(r"[\x00-\x20\x7f]", text):
            raise UsageError(f"{text!r} is no model's address; give {FORM}")
        if {found["model"], found["version"]} & {".", ".."}:
            raise UsageError(f"{text!r} names no model; give {FORM}")
        if scheme == "http" and not plain and not loopback(host):
            raise UsageError(
                f"{host} would be asked without encryption; give an https address, or --plain-http where all between "
                "here and there is yours (http needs neither on loopback)"
            )
        where = f"[{host}]" if ":" in host else _ascii(host)
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

    @property
    def local(self) -> bool:
        """Whether it is this machine that answers."""
        return loopback(urlsplit(self.base).hostname or "")


def is_address(text: str) -> bool:
    """Whether a teacher is named by a URL."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or number alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ascii(host: str) -> str:
    """Return a host as it is asked for.

    Raises UsageError where it is none: a part that is empty or too long, or in letters that have no such form.
    """
    name = host if host.isascii() else _encoded(host)
    if len(name) > 253 or not all(0 < len(part) < 64 for part in name.removesuffix(".").split(".")):
        raise UsageError(f"{host[:80]!r} is no name of a host; give {FORM}")
    return name


def _encoded(host: str) -> str:
    import httpx  # for such names alone

    try:
        return httpx.URL(f"https://{host}/").raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return ""
