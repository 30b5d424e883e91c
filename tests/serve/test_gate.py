"""The gate: every route, method and spelling of a path is behind it, whoever asks."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from serving import CAT, Server, serving
from toplabel.serve.api_error import ApiError
from toplabel.serve.gate import Gate
from toplabel.serve.options import ServeOptions

pytest.importorskip("fastapi")
TOKEN = "a-token-of-the-tests-0123456789"
OPEN = {"/", "/app.js", "/docs", "/openapi.json", "/health/live", "/health/ready"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    arguments = ("--cors-origin", ORIGIN, "--allowed-host", "photos.example")
    with serving(*arguments, environment={"TOPLABEL_TOKEN": TOKEN}) as running:
        yield running


def headers(**given: str) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in given.items()}


def spellings(path: str) -> list[str]:
    return [
        path,
        f"{path.rstrip('/')}/",
        f"//{path.lstrip('/')}",
        f"/.{path}",
        path.replace("/v1", "/%761"),
        path.upper(),
        f"{path}?token={TOKEN}",
        f"http://127.0.0.1{path}",
    ]


STRANGERS = {
    "no token": {},
    "a wrong token": headers(Authorization="Bearer another-token-of-the-tests"),
    "a foreign host": headers(Authorization=f"Bearer {TOKEN}", Host="evil.example"),
    "another site": headers(Authorization=f"Bearer {TOKEN}", Origin="https://evil.example"),
    "no origin": headers(Authorization=f"Bearer {TOKEN}", Origin="null"),
    "a page elsewhere": headers(Authorization=f"Bearer {TOKEN}", Sec_Fetch_Site="cross-site"),
    "another port": headers(Authorization=f"Bearer {TOKEN}", Sec_Fetch_Site="same-site"),
}


@pytest.mark.parametrize(
    "stranger",
    [
        name if name in ("no token", "another site") else pytest.param(name, marks=pytest.mark.slow)
        for name in STRANGERS
    ],
)
def test_no_route_method_or_spelling_answers_a_stranger(server: Server, stranger: str) -> None:
    listed = json.loads(server.ask("GET", "/openapi.json").body)["paths"]
    paths = {path.replace("{name}", "built-in").replace("{version}", "1") for path in listed}
    paths |= {"/", "/metrics", "/models/built-in", "/unknown"}
    assert len(paths) > 12
    for path, method in itertools.product(sorted(paths), METHODS):
        for spelt in spellings(path):
            reply = server.ask(method, spelt, CAT[:100] if method == "POST" else None,
                               STRANGERS[stranger])  # fmt: skip
            is_open = reply.status == 200 and method in ("GET", "HEAD")
            refused = reply.status in (400, 401, 403) or (method, reply.status) == ("HEAD", 405)
            assert refused or is_open, (method, spelt, reply)
            if is_open:
                assert stranger != "a foreign host"
                assert spelt.partition("?")[0].removeprefix("http://127.0.0.1") in OPEN | {
                    "/docs.css", "/docs.js", "/v2/health/live", "/v2/health/ready",
                }  # fmt: skip


def test_who_may_ask_is_answered(server: Server) -> None:
    token = headers(Authorization=f"Bearer {TOKEN}")
    for more in (
        {},
        headers(Host="photos.example:8000"),
        headers(Host="localhost"),
        headers(Host="[::1]:8000"),
        headers(Origin=f"http://127.0.0.1:{server.port}"),
        headers(Sec_Fetch_Site="same-origin"),
        headers(Sec_Fetch_Site="none"),
        headers(Origin=ORIGIN, Sec_Fetch_Site="cross-site"),
    ):
        reply = server.ask("POST", "/v1/classify", CAT, token | more)
        assert reply.status == 200, (more, reply)
    assert server.ask("POST", "/", CAT, token).status == 200


def test_a_page_of_an_allowed_origin_may_read_answers_and_errors(server: Server) -> None:
    asks = headers(
        Origin=ORIGIN,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization,content-type",
    )
    reply = server.ask("OPTIONS", "/v1/classify", None, asks)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in reply.headers["access-control-allow-headers"].lower()
    assert "POST" in reply.headers["access-control-allow-methods"]
    answered = server.ask("POST", "/", CAT, headers(Origin=ORIGIN, Authorization=f"Bearer {TOKEN}"))
    shown = answered.headers["access-control-expose-headers"].lower().split(", ")
    own = {name for name in answered.headers if name.startswith("x-")}
    assert own - {"x-content-type-options", "x-frame-options"} <= {*shown}
    assert {"x-unknown", "x-precision", "x-warnings"} <= {*shown}
    refused = server.ask("POST", "/v1/classify", CAT, headers(Origin=ORIGIN))
    assert refused.status == 401  # the page can read why
    assert refused.headers["access-control-allow-origin"] == ORIGIN
    assert refused.headers["vary"] == "Origin"
    elsewhere = server.ask(
        "OPTIONS", "/v1/classify", None, asks | {"Origin": "https://evil.example"}
    )
    assert elsewhere.status == 403
    assert "access-control-allow-origin" not in elsewhere.headers


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        *((name, True) for name in ("localhost", "LOCALHOST:80", "a.localhost", "127.0.0.1:8000")),
        *((name, True) for name in ("[::1]", "[fe80::1]:80", "10.1.2.3:8000", "", "::1")),
        *((name, False) for name in ("evil.com", "localhost.evil.com", "127.0.0.1.evil.com:80")),
        *((name, False) for name in ("localhost@evil.com", "evil.com:127", "x")),
    ],
)
def test_names_are_answered_to_only_where_they_cannot_lead_elsewhere(
    host: str, passes: bool
) -> None:
    gate = Gate(ServeOptions(), token=None, open_paths=frozenset({"/"}))
    scope: dict[str, Any] = {"path": "/v1/models", "method": "GET"}
    if passes:
        return gate.check(scope, {b"host": host.encode()})
    with pytest.raises(ApiError) as caught:
        gate.check(scope, {b"host": host.encode()})
    assert (caught.value.status, caught.value.code) == (403, "host_not_allowed")
    assert "--allowed-host" in caught.value.message


def test_a_server_for_others_answers_to_any_name_unless_names_are_given() -> None:
    scope: dict[str, Any] = {"path": "/v1/models", "method": "GET"}
    Gate(ServeOptions(host="0.0.0.0"), token=None, open_paths=frozenset()).check(
        scope, {b"host": b"photos.example"}
    )
    named = Gate(
        ServeOptions(host="0.0.0.0", allowed_hosts=("api.example",)),
        token=None,
        open_paths=frozenset(),
    )
    named.check(scope, {b"host": b"API.example:443"})
    with pytest.raises(ApiError, match="photos"):
        named.check(scope, {b"host": b"photos.example"})


def test_a_form_with_other_fields_than_files_is_refused_by_name(server: Server) -> None:
    token = headers(Authorization=f"Bearer {TOKEN}")
    kind = headers(Content_Type="multipart/form-data; boundary=b")
    for name in ("model", "top_k", "threshold"):
        body = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n1\r\n'.encode()
        body += b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.jpg"\r\n\r\n'
        reply = server.ask("POST", "/v1/classify", body + CAT + b"\r\n--b--\r\n", token | kind)
        assert (reply.status, reply.code) == (422, "unknown_field")
        assert f"?{name}=" in reply.json["error"]["message"]


def test_zero_classes_are_refused_in_every_dialect(server: Server) -> None:
    token = headers(Authorization=f"Bearer {TOKEN}", Content_Type="application/json")
    body = json.dumps({"inputs": "aGVsbG8=", "parameters": {"top_k": 0}}).encode()
    assert server.ask("POST", "/", body, token).status in (415, 422)
    assert server.ask("POST", "/v1/classify?top_k=0", b"{}", token).status == 422


def test_an_origin_that_is_no_address_is_refused_like_any_other() -> None:
    gate = Gate(ServeOptions(), token=None, open_paths=frozenset())
    for origin in (b"http://[evil", b"http://", b"localhost", b""):
        with pytest.raises(ApiError) as refused:
            gate.check({"path": "/", "method": "POST"}, {b"host": b"localhost", b"origin": origin})
        assert refused.value.status == 403
    gate.check(
        {"path": "/", "method": "POST"}, {b"host": b"[::1]:80", b"origin": b"http://[::1]:80"}
    )
