"""The protocol's edges: odd requests are answered in one clear line, never with a 500."""

import base64
import copy
import json
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import CAT, Server, form, head, read_all, serving

IMAGE = base64.b64encode(CAT).decode()
INFER = "/v2/models/efficientnet_lite0/infer"
REQUESTS: dict[str, tuple[str, Any]] = {
    "images": ("/v1/classify", {"images": [IMAGE]}),
    "image": ("/v1/classify", {"image": IMAGE}),
    "url": ("/v1/classify", {"urls": ["http://localhost/cat.jpg"]}),
    "hugging-face": ("/", {"inputs": IMAGE, "parameters": {"top_k": 1}}),
    "hugging-face-function": ("/", {"inputs": IMAGE, "parameters": {"function_to_apply": "none"}}),
    "infer": (
        INFER,
        {
            "id": "a",
            "inputs": [
                {
                    "name": "image",
                    "datatype": "BYTES",
                    "shape": [1],
                    "data": [IMAGE],
                    "parameters": {"binary_data_size": 0},
                }
            ],
            "outputs": [
                {"name": "scores", "parameters": {"classification": 1, "binary_data": False}}
            ],
            "parameters": {"binary_data_output": False},
        },
    ),
    "infer-tensor": (
        INFER,
        {"inputs": [{"name": "tensor", "datatype": "FP32", "shape": [1, 3, 1, 1], "data": [1.0]}]},
    ),
}
ODD = (
    *(None, True, False, 0, -1, 1, 10**400, 2**63, 1e308, float("nan"), float("inf")),
    *("", "label", "\ud800", "\x00", "a" * 1000, "../../etc/passwd", "http://[::1", "é"),
    *([], {}, [[]], [None], [{}], {"": None}, {"name": ["label"]}, ["label"], [[["a"]]], [1, "a"]),
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--no-access-log") as running:
        yield running


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in JSON, and of the whole."""
    yield at
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*at, key))


def replaced(value: Any, at: tuple[Any, ...], odd: Any) -> Any:
    if not at:
        return odd
    whole = copy.deepcopy(value)
    inner = whole
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = odd
    return whole


@pytest.mark.parametrize("name", REQUESTS)
def test_no_value_of_a_wrong_type_is_an_internal_error(server: Server, name: str):
    path, value = REQUESTS[name]
    bodies = [replaced(value, at, odd) for at in places(value) for odd in ODD]
    bodies += [
        replaced(value, at, {**inner, odd: 1})
        for at in places(value)
        if isinstance(inner := _inner(value, at), dict)
        for odd in ("", "name", "\ud800", "x" * 5000)
    ]
    chosen = random.Random(0).sample(bodies, min(len(bodies), 120))
    for body in [{"outputs": [{"name": ["label"]}], **value}, *chosen] if path == INFER else chosen:
        reply = server.post(path, json.dumps(body).encode(), "application/json")
        assert reply.status in (200, 400, 403, 413, 415, 422), (body, reply.body)
        reply.body.decode("ascii")
        assert reply.json


def _inner(value: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        value = value[key]
    return value


def test_names_with_half_a_character_are_text(tmp_path: Path):
    names = ["a\ud800b", "\udcff", "kitten 🐈"]
    labels = [names[i % 3] + str(i) for i in range(1000)]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    with serving(
        "--no-access-log", "-m", "embedded", "--labels", str(tmp_path / "labels.json")
    ) as server:
        record = server.classify(CAT).json["predictions"][0]
        assert record["label"] == "a\\ud800b282"
        all_names = server.ask("GET", "/v1/models").json["models"][0]["labels_url"]
        assert server.ask("GET", all_names).json["labels"][:3] == [
            *("a\\ud800b0", "\\xff1", "kitten 🐈2")
        ]
        assert server.post("/", CAT).json[0]["label"] == "a\\ud800b282"
        body = {"inputs": REQUESTS["infer"][1]["inputs"], "outputs": [{"name": "label"}]}
        for outputs in ("label", "scores"):
            body["outputs"] = [{"name": outputs, "parameters": {"classification": 1}}]
            body["inputs"][0].pop("parameters", None)
            reply = server.post(INFER, json.dumps(body).encode(), "application/json")
            assert "a\\ud800b282" in reply.json["outputs"][0]["data"][0]
        for query in ("", "?format=json"):
            reply = server.post(f"/v1/explain{query}", CAT)
            assert reply.status == 200
            assert json.loads(reply.headers["x-explanation"])["label"] == "a\\ud800b282"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("filename*=utf-8''na%C3%AFve.jpg", "naïve.jpg"),
        ("filename*=iso-8859-1'en'%A3.jpg", "£.jpg"),
        ("filename*=unheard-of''a.jpg", "a.jpg"),
        ("filename*=a.jpg", "a.jpg"),
        ("filename*=utf-8''a%0Ab%22c%5C.jpg", 'a\\nb"c\\.jpg'),
        ("filename=plain.jpg; filename*=utf-8''other.jpg", "plain.jpg"),
        ('filename="filename*=x.jpg"', "filename*=x.jpg"),
        ("filename*=", "<image 0>"),
    ],
)
def test_a_file_may_be_named_in_the_extended_form(server: Server, disposition: str, name: str):
    part = f'--b\r\nContent-Disposition: form-data; name="file"; {disposition}\r\n\r\n'
    body = part.encode() + CAT + b"\r\n--b--\r\n"
    (record,) = server.post("/v1/classify", body, "multipart/form-data; boundary=b").json[
        "predictions"
    ]
    assert record["source"] == name
    assert record["label"] == "tiger cat"


LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (LIVE, 1),
        (LIVE * 3, 3),
        (head(length=len(CAT)) + CAT, 1),
        ((head(length=len(CAT)) + CAT) * 2, 2),
        (head(length=3) + b"abc", 1),
        (head(length=len(CAT)) + CAT[:100], 0),
        (b"GET /health", 0),
        (b"", 0),
    ],
)
def test_a_client_that_sends_no_more_is_answered(server: Server, sent: bytes, answers: int):
    for _ in range(3):
        with server.socket() as sock:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock).count(b"HTTP/1.1 ") == answers


@pytest.mark.parametrize(
    "sent",
    [
        head(length=3, X=100_000 * "a") + b"abc",
        head("/v1/classify?" + 20_000 * "a", length=3) + b"abc",
        head(length=3, **{f"X_{number}": "a" for number in range(4000)}) + b"abc",
    ],
    ids=["one", "path", "many"],
)
def test_headers_of_100_kb_are_too_large_also_where_they_come_at_once(server: Server, sent: bytes):
    with server.socket() as sock:
        sock.sendall(sent)
        assert sock.recv(100).startswith(b"HTTP/1.1 431 ")


@pytest.mark.slow
def test_more_clients_than_there_are_descriptors_are_told_so():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "from toplabel.cli import main; main()"
    )
    with serving("--no-access-log", code=code) as server:
        assert any("at most 32 connections" in line for line in server.lines)
        clients = [server.socket() for _ in range(100)]
        answers = []
        for client in clients[40:]:
            client.sendall(LIVE)
            answers.append(client.recv(100)[:12])
        assert set(answers) == {b"HTTP/1.1 503"}
        for client in clients:
            client.close()
        assert server.classify(CAT).status in (200, 503)  # it lives
        body, kind = form(("a.gif", b"GIF89a"), ("cat.jpg", CAT))
        assert server.classify(body, kind=kind).json["predictions"][1]["label"] == "tiger cat"


def test_all_works_below_the_path_of_a_proxy():
    with serving("--no-access-log", "--root-path", "/my/labels") as server:
        for root in ("", "/my/labels"):  # a proxy takes it away, or leaves it
            page = server.ask("GET", f"{root}/").body.decode()
            links = re.findall(r'(?:href|src)="(/[^"]*)"', page)
            links += re.findall(r'href="(/[^"]*)"', server.ask("GET", f"{root}/docs").body.decode())
            assert len(links) >= 6
            for link in links:
                assert link.startswith("/my/labels/")
                assert server.ask("GET", link).status == 200
            for script in re.findall(r"/page/\w+\.js", page):
                for module in re.findall(r'from "(.*?)"', server.ask("GET", script).body.decode()):
                    assert (
                        server.ask("GET", f"{root}/page/{module.removeprefix('./')}").status == 200
                    )
            assert server.ask("GET", f"{root}/openapi.json").json["servers"] == [
                {"url": "/my/labels"}
            ]
            (model,) = server.ask("GET", f"{root}/v1/models").json["models"]
            assert len(server.ask("GET", model["labels_url"]).json["labels"]) == 1000
            assert server.post(f"{root}/v1/classify", CAT).status == 200
            moved = server.post(f"{root}/v1/classify/?top_k=1", CAT)
            assert (moved.status, moved.headers["location"]) == (
                307,
                "/my/labels/v1/classify?top_k=1",
            )
        assert server.ask("GET", "/my/labels").status == 200
        assert server.ask("GET", "/my/labelsv1/models").status == 404
        assert server.ask("GET", "/my/labels/my/labels/v1/models").status == 404
