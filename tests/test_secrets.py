"""What a server is shown stays between us and it, however it is echoed; and how a server may be asked."""

from __future__ import annotations

import base64
import html
import json
import os
import random
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from fake_server import FakeServer, Fault
from hostile_servers import (
    CLASSES,
    FINE,
    GOOD,
    IMAGES,
    LATE,
    METADATA,
    SHAPE,
    TRICKLE,
    Server,
    once,
    outputs,
    serving,
    slowly,
    tensor,
    told,
)
from torch import Tensor

from audit.cache.store import Cache
from audit.plan.options import options_of, teacher_spec
from teachers.errors import AuditError, RefusedInput, UsageError
from teachers.http import wire
from teachers.http.address import USUAL, Address, Service
from teachers.http.credentials import headers, secrets
from teachers.http.redaction import Redaction
from teachers.http.remote import Remote, RemoteBox
from teachers.processes import forks
from teachers.processes.forks import TOKEN
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import open_task

X = torch.rand(IMAGES, *SHAPE, generator=torch.Generator().manual_seed(0))
SECRET = "s3cret+T0ken/9&z"
PLAIN = ("s3cret", "T0ken", "9&z", "czNj", "zZWNyZXQ", "733363726574")  # of it, and of its base64 and hex

ECHOES: dict[str, Callable[[str], str]] = {
    "plain": lambda s: s,
    "in other letters": str.upper,
    "percent": quote,
    "percent for all": lambda s: "".join(f"%{ord(c):02X}" for c in s),
    "percent of percent": lambda s: "".join(f"%25{ord(c):02x}" for c in s),
    "JSON escapes": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "Python escapes": lambda s: "".join(f"\\x{ord(c):02x}" for c in s),
    "HTML": html.escape,
    "HTML numbers": lambda s: "".join(f"&#{ord(c)};" for c in s),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 of a header": lambda s: base64.b64encode(f"Authorization: Bearer {s}!".encode()).decode(),
    "base64 after one": lambda s: base64.b64encode(f"x{s}yz".encode()).decode(),
    "base64 for URLs": lambda s: base64.urlsafe_b64encode(f"me:{s}".encode()).decode(),
    "base64 in lines": lambda s: "\n".join(base64.b64encode(s.encode()).decode()),
    "hex": lambda s: s.encode().hex(),
    "newlines": "\n".join,
    "CRLF": "\r\n".join,
    "tabs and spaces": " \t".join,
    "NUL": "\0".join,
    "escape sequences": "\x1b[31m".join,
    "titles": "\x1b]0;x\x07".join,
    "backspaces": "\b".join,
    "zero width": "\u200b".join,
    "no-break": "\u00a0".join,
    "surrogates": "\ud800".join,
    "written newlines": "\\n".join,
    "written NUL": "\\u0000".join,
    "percent newlines": "%0A".join,
    "HTML newlines": "&#10;".join,
}


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(TOKEN, SECRET)
    return SECRET


def shows(text: str) -> bool:
    plain = "".join(c for c in text if c.isascii() and c.isprintable() and c != " ").lower()
    return any(part.lower() in plain for part in PLAIN)


@pytest.mark.parametrize("name", ECHOES)
def test_no_echo_of_a_secret_is_told(name: str, token: str) -> None:
    echo, redact = ECHOES[name], Redaction(secrets(headers(())))
    for before in ("", "x" * 190, "\x1b[1m" * 40, "\0" * 60_000):
        assert not shows(redact(f"{before}wrong: {echo(token)} again", 200))
        assert not shows(redact(f"{before}{echo(f'Bearer {token}')}", 200))


def test_no_mixture_of_echoes_is_told(token: str) -> None:
    redact, rng = Redaction(secrets(headers(()))), random.Random(0)
    ways = [
        lambda c: c,
        lambda c: f"%{ord(c):02x}",
        lambda c: f"\\u00{ord(c):02x}",
        lambda c: f"&#{ord(c)};",
        html.escape,
    ]
    between = ["", "\n", "\0", "\x1b[0m", "\u200b", " ", "\\n", "%0a"]
    for _ in range(500):
        mixed = "".join(rng.choice(ways)(c) + rng.choice(between) for c in token)
        assert not shows(redact("z" * rng.randrange(220) + mixed, 200)), mixed


def test_a_text_without_secrets_is_told_as_it_is(token: str) -> None:
    redact = Redaction(secrets(headers(())))
    assert redact("batch 64 is\n too large [1, 3]", 200) == "batch 64 is too large [1, 3]"
    assert Redaction(())("s3cret", 3) == "s3c"


def test_a_token_of_thousands_of_letters_is_found() -> None:
    rng = random.Random(1)
    long = "".join(rng.choice("abcdefXYZ0189-_.") for _ in range(4000))
    redact = Redaction([long])
    for way in (str, quote, "\n".join, lambda s: f"%{s}41", lambda s: f"\\u00{s}", lambda s: f"\x1b[{s}"):
        found = redact("wrong: " + way(long) + " again", 200)
        assert found.startswith("wrong: ")
        assert len(found) < 20


@pytest.mark.parametrize("before", ["%", "%4", "\\", "\\u00", "\\x", "&#", "\x1b[", "\x1b", "&"])
@pytest.mark.parametrize("secret", ["41nice.secret.token", "n0t.for.your.eyes1%", "31mine.and.mine.only"])
def test_what_stands_beside_a_secret_does_not_hide_it(before: str, secret: str) -> None:
    found = Redaction([secret])(f"{before}{secret}41", 200)
    assert secret[4:-3] not in found


def ask(url: str, service: Service = USUAL) -> Tensor:
    remote = Remote(
        url, SHAPE, CLASSES, note=lambda line: None, service=service, sleep=lambda seconds: None, clock=lambda: 0.0
    )
    remote.batch = IMAGES
    return RemoteBox(remote)(X).values


@pytest.mark.parametrize("name", ECHOES)
def test_a_server_that_echoes_the_token_does_not_get_it_told(name: str, token: str) -> None:
    said = ECHOES[name](token)
    body = json.dumps({"error": said})
    raw = said.encode("utf-8", "replace")
    for server in (
        Server(GOOD, once(body), ""),
        Server(GOOD, once(raw, status="403 No"), ""),
        Server(GOOD, once(raw, status="413 No"), ""),
        Server(GOOD, once(raw), ""),
        Server(GOOD, outputs(tensor(name=said)), ""),
        Server(GOOD, outputs(tensor(datatype=said)), ""),
        Server(GOOD, outputs(tensor(shape=said)), ""),
        Server(told(inputs=[{"name": said, "datatype": said, "shape": [1]}]), FINE, ""),
        Server(told(outputs=[{"name": said, "datatype": "X", "shape": [1]}]), FINE, ""),
    ):
        with serving(server) as url, pytest.raises(AuditError) as refused:
            ask(url)
        assert not shows(str(refused.value))


def test_headers_come_out_of_the_environment_and_no_child_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_KEY", "k3y-of-a-gate")
    monkeypatch.setenv("GATE_HOST", "model.example.org")
    monkeypatch.setenv("BASIC", "Basic " + base64.b64encode(b"me:passw0rd").decode())
    stated = ("X-API-Key=GATE_KEY", "host=GATE_HOST", "Authorization=BASIC")
    with FakeServer(lambda x: x.flatten(1)[:, :CLASSES] - 0.5, SHAPE, CLASSES).serving() as server:
        server.faults.append(Fault(500, "me:passw0rd k3y-of-a-gate passw0rd at model.example.org"))
        with pytest.raises(RefusedInput, match=r"answered 500: … … … at model\.example\.org"):
            ask(server.url, Service(headers=stated))
        assert server.tokens[0] == os.environ["BASIC"]
        first = Remote(server.url, SHAPE, CLASSES, note=print, service=Service(headers=stated)).fingerprint
        monkeypatch.setenv("GATE_KEY", "another")
        assert Remote(server.url, SHAPE, CLASSES, note=print, service=Service(headers=stated)).fingerprint == first
        monkeypatch.setenv("GATE_HOST", "another.example.org")
        assert Remote(server.url, SHAPE, CLASSES, note=print, service=Service(headers=stated)).fingerprint != first
    with forks.unsaid():
        assert not {"GATE_KEY", "BASIC", "GATE_HOST"} & set(os.environ)
    assert os.environ["GATE_KEY"] == "another"


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ("X-Key", "takes NAME=VARIABLE"),
        ("X-Key=s3cret value", "takes NAME=VARIABLE"),
        ("X Key=GATE", "takes NAME=VARIABLE"),
        ("X-Key=", "takes NAME=VARIABLE"),
        ("=GATE", "takes NAME=VARIABLE"),
        ("X-Key=NOT_THERE", "NOT_THERE is not set"),
        ("Content-Length=GATE", "every request sets this header"),
        ("accept-encoding=GATE", "every request sets this header"),
        ("X-Key=BROKEN", "no header may hold"),
        ("X-Key=FOREIGN", "no header may hold"),
        ("authorization=GATE", "given twice"),
    ],
)
def test_a_header_that_is_none_is_refused_and_not_repeated(
    stated: str, sentence: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE", "s3cret")
    monkeypatch.setenv("BROKEN", "s3cret\r\nX: y")
    monkeypatch.setenv("FOREIGN", "s3cré")
    with pytest.raises(UsageError, match=sentence) as refused:
        headers([stated])
    assert "s3cr" not in str(refused.value)


def test_the_command_line_holds_back_what_headers_are_made_of() -> None:
    asked = {"teacher": "https://h/v2/models/x", "input": "x:UINT8", "output": "y", "plain_http": True}
    found = teacher_spec(options_of({**asked, "header": ["X-Key=SOME_VARIABLE"]}))
    assert found.service == Service("x:UINT8", "y", ("X-Key=SOME_VARIABLE",), plain=True)
    assert "SOME_VARIABLE" in forks._withheld
    forks._withheld.discard("SOME_VARIABLE")
    with pytest.raises(UsageError, match="--header takes"):
        options_of({**asked, "header": ["nonsense"]})


IMAGE = METADATA["inputs"][0]  # type: ignore[index]
SCORES = METADATA["outputs"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("metadata", "service"),
    [
        ({"inputs": [], "outputs": []}, Service("images", "scores")),
        ({"inputs": None, "outputs": None}, Service("images:FP32", "scores")),
        ({"inputs": None, "outputs": None}, Service("images:FP32:NCHW", "")),
        ({"inputs": [IMAGE, {**IMAGE, "name": "mask"}]}, Service("images")),
        ({"outputs": [SCORES, {**SCORES, "name": "aux"}]}, Service("", "scores")),
        (
            {"outputs": [{**SCORES, "shape": [-1, CLASSES, 1, 1]}, {**SCORES, "name": "f", "shape": [-1, 512]}]},
            Service(),
        ),
    ],
)
def test_what_metadata_leaves_out_the_user_states(metadata: dict[str, object], service: Service) -> None:
    with serving(Server(told(**metadata), FINE, "")) as url:
        assert ask(url, service).shape == (IMAGES, CLASSES)


@pytest.mark.parametrize(
    ("metadata", "service", "sentence"),
    [
        ({"inputs": []}, Service(), "or you name the input with --input"),
        ({}, Service("image"), "--input image: .* takes images"),
        ({}, Service("images:UINT8"), "says that it takes FP32"),
        ({}, Service("images:INT64"), "FP32 or UINT8, not as INT64"),
        ({}, Service("images:BF16"), "not as BF16"),
        ({}, Service("", "score"), "--output score: .* gives scores"),
        ({"outputs": [SCORES, {**SCORES, "name": "aux"}]}, Service(), "name it with --output"),
    ],
)
def test_what_the_user_states_and_the_server_denies_is_refused(
    metadata: dict[str, object], service: Service, sentence: str
) -> None:
    with serving(Server(told(**metadata), FINE, "")) as url, pytest.raises(AuditError, match=sentence):
        ask(url, service)


ROWS = (np.arange(IMAGES * CLASSES).reshape(IMAGES, CLASSES) % 7 - 3).astype(float)


@pytest.mark.parametrize(
    "found",
    [
        tensor(data=ROWS.ravel().tolist()),
        tensor(data=ROWS.tolist()),
        tensor(data=ROWS.astype(int).ravel().tolist()),
        tensor(shape=[IMAGES, CLASSES, 1, 1], data=ROWS.ravel().tolist()),
        tensor(shape=[IMAGES, CLASSES, 1, 1], data=ROWS.reshape(IMAGES, CLASSES, 1, 1).tolist()),
        tensor(shape=[IMAGES, 1, CLASSES], data=ROWS.reshape(IMAGES, 1, CLASSES).tolist()),
    ],
)
def test_rows_are_read_in_every_shape_that_means_them(found: dict[str, object]) -> None:
    with serving(Server(GOOD, outputs(found), "")) as url:
        torch.testing.assert_close(ask(url), torch.from_numpy(ROWS).float().log_softmax(-1))


@pytest.mark.parametrize("shape", [[CLASSES], [1, CLASSES], [CLASSES, 1, 1], [1, CLASSES, 1, 1]])
@pytest.mark.parametrize("size", [list(SHAPE), [8, 8, 1], [-1, 8, 8]])
def test_a_model_without_a_dimension_for_their_number_is_asked_one_by_one(shape: list[int], size: list[int]) -> None:
    row = ROWS[0]
    metadata = told(inputs=[{**IMAGE, "shape": size}], outputs=[{**SCORES, "shape": [CLASSES]}])
    with serving(Server(metadata, outputs(tensor(shape=shape, data=row.tolist())), "")) as url:
        remote = Remote(url, SHAPE, CLASSES, note=lambda line: None)
        assert json.loads(remote.signature.request(X[:1]))["inputs"][0]["shape"] == (
            [8, 8, 1] if size == [8, 8, 1] else [1, 8, 8]
        )
        found = RemoteBox(remote)(X).values
    torch.testing.assert_close(found, torch.from_numpy(ROWS[[0] * IMAGES]).float().log_softmax(-1))


def test_an_answer_of_another_model_or_version_stops() -> None:
    with FakeServer(lambda x: x.flatten(1)[:, :CLASSES] - 0.5, SHAPE, CLASSES).serving() as server:
        asked = RemoteBox(Remote(server.url, SHAPE, CLASSES, note=lambda line: None))
        asked(X)
        server.faults.append(
            Fault(200, json.dumps({"model_name": "x", "model_version": "2", "outputs": [tensor(data=[-1.0] * 40)]}))
        )
        with pytest.raises(RefusedInput, match="answered as x version 2; its first answers were those of x"):
            asked(X)


def test_cookies_are_not_kept() -> None:
    with FakeServer(lambda x: x.flatten(1)[:, :CLASSES] - 0.5, SHAPE, CLASSES).serving() as server:
        remote = Remote(server.url, SHAPE, CLASSES, note=lambda line: None)
        body = json.dumps({"model_name": "x", "outputs": [tensor()]})
        server.faults.append(Fault(200, body, {"Set-Cookie": "session=1; Path=/"}))
        RemoteBox(remote)(X)
        assert not remote._wire._client.cookies


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://model.models.svc.cluster.local/v2/models/x", "http://model.models.svc.cluster.local/v2/models/x"),
        ("http://10.0.0.7:8000/v2/models/x//", "http://10.0.0.7:8000/v2/models/x"),
        ("http://[fd00::7]:80/v2/models/x/versions/2/", "http://[fd00::7]:80/v2/models/x/versions/2"),
        ("https://bücher.example/v2/models/x", "https://xn--bcher-kva.example/v2/models/x"),
        ("https://host./v2/models/x", "https://host./v2/models/x"),
    ],
)
def test_http_beyond_this_machine_needs_a_word(text: str, url: str) -> None:
    assert Address.parse(text, plain=True).url == url
    if text.startswith("http:"):
        with pytest.raises(UsageError, match="--plain-http"):
            Address.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("https://a..b/v2/models/x", f"https://{'a' * 64}/v2/models/x", "https://\u2603\u2603.\u3002/v2/models/x"),
        *("https://h/v2/models/..", "https://h/v2/models/x/versions/.", "https://h:99999/v2/models/x"),
        *(
            "https://me@h/v2/models/x",
            "https://h/v2/models/x?y",
            "https://h/v2/models/x#y",
            "https://h\\@i/v2/models/x",
        ),
        *("http://me:pw@10.0.0.1/v2/models/x", "https://\u202eh/v2/models/x", "https://h/v2/models/"),
    ],
)
def test_what_is_no_address_gets_a_sentence(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Address.parse(text, plain=True)
    assert "pw" not in str(refused.value)


PROXIES = [
    *({"NO_PROXY": "localhost,fd07:b51a:cc66:f0::/64"}, {"NO_PROXY": "[::1]"}, {"ALL_PROXY": "socks5://127.0.0.1:1"}),
    *({"HTTPS_PROXY": "ftp://me:s3cret@h"}, {"HTTPS_PROXY": "http://me:s3cret@h:port"}, {"ALL_PROXY": "http://[::1"}),
    *({"SSL_CERT_FILE": "/not/there.pem"}, {"SSL_CERT_DIR": "/not/there"}, {"SSL_CERT_FILE": __file__}),
]


@pytest.mark.parametrize("environment", PROXIES, ids=lambda e: "-".join(next(iter(e.items())))[:40])
def test_an_environment_that_cannot_be_used_gets_a_sentence(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=next(iter(environment)) if "SSL" in str(environment) else "PROXY") as refused:
        wire.Wire(Address.parse("https://model.invalid/v2/models/m"), lambda line: None)
    assert "s3cret" not in str(refused.value)


def test_a_proxy_is_none_of_loopbacks_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/not/there.pem")
    with serving(Server(GOOD, FINE, "")) as url:
        assert ask(url).shape == (IMAGES, CLASSES)


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """Write a certificate of loopback that signs itself."""
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=loopback -keyout key.pem -out cert.pem"
    done = subprocess.run(
        [*line.split(), "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("openssl is not there")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return tmp_path / "cert.pem", context


def test_certificates_of_the_environment_count_on_loopback_too(
    certified: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, context = certified
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with serving(Server(GOOD, FINE, ""), context) as url:
        with pytest.raises(RefusedInput, match="name the authority that signed it with SSL_CERT_FILE"):
            ask(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert ask(url).shape == (IMAGES, CLASSES)


def test_a_slow_loris_behind_tls_is_ended_too(
    certified: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, context = certified
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(wire, "TOTAL", 0.5)
    server = Server(slowly(TRICKLE, b" " * 9999), FINE, "")
    with serving(server, context) as url, pytest.raises(RefusedInput, match=LATE):
        ask(url)


def test_options_of_a_server_are_none_of_a_file(tmp_path: Path) -> None:
    for service in (Service(input="x"), Service(headers=("A=B",)), Service(plain=True)):
        with pytest.raises(UsageError, match="for a teacher behind a URL"):
            open_task(TeacherSpec(str(tmp_path / "m.pt"), "digits", service=service), Cache(tmp_path))


@pytest.mark.slow
def test_the_command_line_tells_what_is_missing_in_a_sentence(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['audit', *sys.argv[1:]]; from audit.cli import main; main()"
    line = ["cmi", "--teacher", "https://model.invalid/v2/models/m", "--data", "digits", "--cache", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *line, "--header", "Host=NOT_THERE_AT_ALL"],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_PROXY": "[::1]"},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "NOT_THERE_AT_ALL is not set" in done.stderr
    assert "Traceback" not in done.stderr
