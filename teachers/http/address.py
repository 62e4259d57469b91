"""The address of a model behind HTTP, and the command line's options for its server; no torch."""

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
    """The command line's options for a server: tensor names, and headers whose values are environment variables."""

    input: str = ""  # NAME, NAME:DATATYPE or NAME:DATATYPE:LAYOUT
    output: str = ""  # NAME
    headers: tuple[str, ...] = ()  # NAME=VARIABLE each: the values stay in the environment
    plain: bool = False  # allow http without encryption, for servers inside a cluster


USUAL = Service()


@dataclass(frozen=True)
class Address:
    """The address of a model that speaks the Open Inference Protocol V2."""

    base: str  # up to and without /v2
    model: str  # percent-encoded, as in the URL
    version: str | None

    @classmethod
    def parse(cls, text: str, plain: bool = False) -> Address:
        """Parse https://HOST/v2/models/NAME[/versions/V]; `plain` allows http to any host.

        Raises UsageError if it is no such URL, carries a secret, or would send images unencrypted over a network.
        """
        try:
            url = urlsplit(text)
            scheme, host, port = url.scheme.lower(), url.hostname or "", url.port
        except ValueError:  # its message quotes the URL, which may hold a password
            raise UsageError(f"--teacher is not a URL; give {FORM}") from None
        if url.username is not None or url.password is not None or url.query or url.fragment:
            raise UsageError(
                f"the URL of --teacher holds a user, a query or a fragment; put a bearer token into ${TOKEN} instead, "
                "and other credentials into --header"
            )
        found = re.fullmatch(r"(?P<prefix>.*)/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?/*", url.path)
        if scheme not in ("http", "https") or not host or found is None or re.search(r"[\x00-\x20\x7f]", text):
            raise UsageError(f"{text!r} is not a model's address; give {FORM}")
        if {found["model"], found["version"]} & {".", ".."}:
            raise UsageError(f"{text!r} names no model; give {FORM}")
        if scheme == "http" and not plain and not loopback(host):
            raise UsageError(
                f"{host} would get the queries without encryption; give an https address, or --plain-http if the whole "
                "network in between is yours (on loopback, http needs neither)"
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
        """The model's name in reports."""
        return unquote(self.model if self.version is None else f"{self.model}-{self.version}")

    @property
    def local(self) -> bool:
        """Whether the server runs on this machine."""
        return loopback(urlsplit(self.base).hostname or "")


def is_address(text: str) -> bool:
    """Whether a teacher is given as a URL."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def loopback(host: str) -> bool:
    """Whether a host name or IP address means this machine; nothing is looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ascii(host: str) -> str:
    """Return a host name in ASCII, as it is looked up.

    Raises UsageError if it is no host name: a part is empty or too long, or cannot be encoded.
    """
    name = host if host.isascii() else _encoded(host)
    if len(name) > 253 or not all(0 < len(part) < 64 for part in name.removesuffix(".").split(".")):
        raise UsageError(f"{host[:80]!r} is not the name of a host; give {FORM}")
    return name


def _encoded(host: str) -> str:
    import httpx  # heavy, and only such names need it

    try:
        return httpx.URL(f"https://{host}/").raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return ""
