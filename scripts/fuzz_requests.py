"""Requests that nobody should send, as bytes: request `number` of a `seed` is always the same.

Each begins as a good request of one of the server's forms. Then its line, headers, framing or body
are changed, one to three times, in ways that have broken servers: numbers out of range, lengths
that lie, two headers where one may be, other spellings of a path, JSON of the wrong shape, deep
JSON, forms and tensors whose sizes do not agree, images with flipped, missing or foreign bytes. Of
a few the bytes on the wire are changed, whatever they mean, or two requests are sent in one.

    python scripts/fuzz_requests.py SEED NUMBER > request.bin   # one of them, to look at
"""

from __future__ import annotations

import base64
import json
import random
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

BOUNDARY = b"b0undary"
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")
METHODS += (b"PRI", b"post", b"G\x00T", b"", b"A" * 300)
TARGETS = (
    *(b"/", b"/docs", b"/openapi.json", b"/metrics", b"/health/live", b"/health/ready", b"/v2"),
    *(b"/v1/classify", b"/v1/models", b"/v1/models/x/labels", b"/v1/explain", b"/models/x"),
    *(b"/v2/models/x", b"/v2/models/efficientnet_lite0", b"/v2/models/efficientnet_lite0/infer"),
    *(b"//v1/classify", b"/v1//classify", b"/v1/classify/", b"/V1/classify", b"/v1/%63lassify"),
    *(b"/v1/../v1/classify", b"/v1/classify%00", b"/%2e%2e/%2e%2e/etc/passwd", b"/%", b"/%ff%fe"),
    *(b"*", b"http://localhost/v1/classify", b"localhost:80", b"", b"/" + b"a" * 5000, b"/\xff"),
)
QUERIES = (
    *(b"top_k=1", b"top_k=0", b"top_k=-1", b"top_k=1e9", b"top_k=999999999999999999999", b"top_k="),
    *(b"top_k=1&top_k=2", b"threshold=nan", b"threshold=-inf", b"threshold=2", b"model=x"),
    *(b"model=../../etc/passwd", b"model=%00", b"label=5", b"label=-1", b"label=1001", b"format=x"),
    *(b"format=json&label=281", b"%ff=%fe", b"a", b"&&&", b"top_k=%EF%BC%91", b"x" * 3000),
)
KINDS = (
    *(b"image/jpeg", b"image/png", b"application/octet-stream", b"application/json", b"text/plain"),
    *(
        b"application/x-www-form-urlencoded",
        b"multipart/form-data",
        b"multipart/form-data; boundary",
    ),
    *(b'multipart/form-data; boundary=""', b"multipart/form-data; boundary=" + b"x" * 400),
    *(
        b"application/json; charset=utf-16",
        b"",
        b"/",
        b"\xff",
        b"image/svg+xml",
        b"multipart/mixed",
    ),
)
HEADERS = (
    *((b"Expect", b"100-continue"), (b"Expect", b"200-ok"), (b"Upgrade", b"websocket")),
    *((b"Connection", b"upgrade"), (b"Connection", b"close"), (b"Connection", b"keep-alive, x")),
    *((b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"identity"), (b"TE", b"trailers")),
    *((b"Host", b"evil.example"), (b"Host", b"localhost:x"), (b"Host", b""), (b"Host", b"[::1")),
    *((b"Origin", b"https://evil.example"), (b"Origin", b"null"), (b"Origin", b"http://[")),
    *(
        (b"Sec-Fetch-Site", b"cross-site"),
        (b"Authorization", b"Bearer \xff"),
        (b"Range", b"bytes=0-"),
    ),
    *((b"X-Request-ID", b"../../x"), (b"X-Request-ID", b"a" * 500), (b"Accept", b"*/*;q=zz")),
    *((b"Inference-Header-Content-Length", b"-1"), (b"Inference-Header-Content-Length", b"99999")),
    *(
        (b"Inference-Header-Content-Length", b"x"),
        (b"Content-Type", b"image/jpeg"),
        (b"\x00", b"x"),
    ),
    *(
        (b"Bad Name", b"x"),
        (b"X", b"a\rb"),
        (b"X", b"a\nb"),
        (b"X-Long", b"y" * 20_000),
        (b"", b"x"),
    ),
    *(
        (b"Forwarded", b"for=x"),
        (b"X-Forwarded-For", b"1.2.3.4"),
        (b"X-HTTP-Method-Override", b"PUT"),
    ),
)
LENGTHS = (b"0", b"-1", b"+5", b"1", b"007", b"5, 5", b"5, 6", b"0x10", b"1e3", b"99999999", b"")
LENGTHS += (b"9" * 5000, b"33554433", b"\xb2", b" 10 ", b"1_0")
VERSIONS = (
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.1 ",
    b"HTTP/9.9",
    b"http/1.1",
    b"",
    b"X",
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 1e308, 10**30, "", "x", "\x00", "\ud800", "é" * 50, [], {}, [[]]),
    *([None], {"a": {"b": []}}, "data:image/png;base64,", "data:,", "file:///etc/passwd"),
    *("/etc/passwd", "http://127.0.0.1/", "AAAA", "=", "A" * 5001, [0] * 40, float("nan")),
)
TENSOR = {"name": "image", "datatype": "BYTES", "shape": [1]}
TYPES = ("BYTES", "FP32", "FP16", "INT64", "UINT8", "BOOL", "x", 5, None)


@dataclass
class Draft:
    """A request before it is bytes."""

    method: bytes
    target: bytes
    kind: bytes
    body: bytes
    query: bytes = b""
    version: bytes = b"HTTP/1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    framing: bytes | None = None
    """The lines that say how long the body is; None: a right Content-Length."""

    def to_bytes(self) -> bytes:
        """As it goes over the wire."""
        target = self.target + (b"?" + self.query if self.query else b"")
        framing = self.framing
        if framing is None:
            framing = b"Content-Length: %d\r\n" % len(self.body)
        headers = self.headers
        if not any(name == b"Host" for name, _ in headers):
            headers = [(b"Host", b"localhost"), *headers]
        lines = b"".join(b"%s: %s\r\n" % one for one in headers)
        kind = b"Content-Type: %s\r\n" % self.kind if self.kind else b""
        start = b"%s %s %s\r\n" % (self.method, target, self.version)
        return start + lines + kind + framing + b"\r\n" + self.body


def fuzzed(seed: int, number: int, images: Sequence[bytes]) -> bytes:
    """One request's bytes.

    Args:
        seed, number: Which.
        images: Files of images, small ones, that requests are made of.
    """
    chance = random.Random(f"{seed}/{number}")
    if chance.random() < 0.02:
        return chance.randbytes(chance.randrange(1, 400))
    sent = _changed(chance, images)
    if chance.random() < 0.05:
        sent += _changed(chance, images)
    if chance.random() < 0.1:
        sent = _scrambled(sent, chance)
    return sent


def _changed(chance: random.Random, images: Sequence[bytes]) -> bytes:
    draft = chance.choice(FORMS)(chance, chance.choice(images))
    for _ in range(chance.randrange(1, 4)):
        chance.choice(CHANGES)(draft, chance)
    return draft.to_bytes()


# Good requests


def _raw(chance: random.Random, image: bytes) -> Draft:
    return Draft(b"POST", b"/v1/classify", b"image/jpeg", image)


def _form(chance: random.Random, image: bytes) -> Draft:
    disposition = b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    part = b"--%s\r\n%sContent-Type: image/jpeg\r\n\r\n%s\r\n" % (BOUNDARY, disposition, image)
    body = part * chance.randrange(1, 4) + b"--%s--\r\n" % BOUNDARY
    return Draft(b"POST", b"/v1/classify", b"multipart/form-data; boundary=" + BOUNDARY, body)


def _json(chance: random.Random, image: bytes) -> Draft:
    text = base64.b64encode(image).decode()
    target, value = chance.choice(
        [
            (b"/v1/classify", {"image": text}),
            (b"/v1/classify", {"images": [text, text]}),
            (b"/v1/classify", {"url": "http://127.0.0.1/a.jpg"}),
            (b"/v1/explain", {"image": "AAAA"}),
            (b"/", {"inputs": text, "parameters": {"top_k": 3, "function_to_apply": "softmax"}}),
            (b"/models/efficientnet_lite0", {"inputs": text}),
        ]
    )
    value = _with_other_values(value, chance) if chance.random() < 0.5 else value
    return Draft(b"POST", target, b"application/json", json.dumps(value).encode())


def _tensor(chance: random.Random, image: bytes) -> Draft:
    tensor = {**TENSOR, "data": [base64.b64encode(image).decode()]}
    value = {"inputs": [tensor], "outputs": [{"name": "label"}, {"name": "score"}]}
    value = _with_other_values(value, chance) if chance.random() < 0.7 else value
    body = json.dumps(value).encode()
    return Draft(b"POST", b"/v2/models/efficientnet_lite0/infer", b"application/json", body)


def _binary_tensor(chance: random.Random, image: bytes) -> Draft:
    data = struct.pack("<I", len(image)) + image
    size = len(data) if chance.random() < 0.5 else chance.choice([0, 1, -1, 10**12, len(data) + 1])
    shape = chance.choice([[1], [2], [-1], [2**40], [], [1, 3, 224, 224], [10**9, 10**9, 10**9]])
    datatype = chance.choice(TYPES)
    tensor = {**TENSOR, "shape": shape, "datatype": datatype}
    tensor["parameters"] = {"binary_data_size": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    draft = Draft(b"POST", b"/v2/models/efficientnet_lite0/infer", b"", head + data)
    length = len(head) if chance.random() < 0.8 else chance.choice([0, -1, len(head) + 1, 10**9])
    draft.headers.append((b"Inference-Header-Content-Length", b"%d" % length))
    return draft


def _read(chance: random.Random, image: bytes) -> Draft:
    return Draft(b"GET", chance.choice(TARGETS), b"", b"")


FORMS: tuple[Callable[[random.Random, bytes], Draft], ...] = (
    *(_raw, _form, _json, _tensor, _binary_tensor, _read),
)


# Changes


def _change_method(draft: Draft, chance: random.Random) -> None:
    draft.method = chance.choice(METHODS)


def _change_target(draft: Draft, chance: random.Random) -> None:
    draft.target = chance.choice(TARGETS)


def _change_query(draft: Draft, chance: random.Random) -> None:
    draft.query = b"&".join(chance.choices(QUERIES, k=chance.randrange(1, 4)))


def _change_kind(draft: Draft, chance: random.Random) -> None:
    draft.kind = chance.choice(KINDS)


def _change_version(draft: Draft, chance: random.Random) -> None:
    draft.version = chance.choice(VERSIONS)


def _add_headers(draft: Draft, chance: random.Random) -> None:
    draft.headers += chance.choices(HEADERS, k=chance.randrange(1, 4))
    if chance.random() < 0.05:
        draft.headers += [(b"X-%d" % n, b"v") for n in range(chance.randrange(500))]


def _change_framing(draft: Draft, chance: random.Random) -> None:
    length = b"Content-Length: %s\r\n" % chance.choice(LENGTHS)
    chunked = b"Transfer-Encoding: %s\r\n" % chance.choice(
        [b"chunked", b"Chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b"\x0bchunked"]
    )
    draft.framing = chance.choice([b"", length, chunked, length + chunked, length + length])
    if chunked in draft.framing and chance.random() < 0.8:
        draft.body = _chunks(draft.body, chance)


def _chunks(body: bytes, chance: random.Random) -> bytes:
    """A body in chunks, some of them with a size that is not theirs."""
    size = max(1, len(body) // chance.randrange(1, 9))
    parts = []
    for start in range(0, len(body), size):
        part = body[start : start + size]
        said = b"%x" % len(part)
        if chance.random() < 0.05:
            said = chance.choice([b"-1", b"0", b"fffffffff", b"x", b"", b"1;" + b"e" * 900, b"0x5"])
        parts.append(b"%s\r\n%s\r\n" % (said, part))
    return b"".join(parts) + chance.choice([b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"0\r\n"])


def _flip_bytes(draft: Draft, chance: random.Random) -> None:
    draft.body = _scrambled(draft.body, chance)


def _cut_body(draft: Draft, chance: random.Random) -> None:
    draft.body = draft.body[: chance.randrange(len(draft.body) + 1)]


def _replace_body(draft: Draft, chance: random.Random) -> None:
    draft.body = chance.choice(
        [
            *(
                b"",
                b"{}",
                b"[]",
                b"null",
                b'"',
                b"{",
                b'{"a":',
                b"\xef\xbb\xbf{}",
                b"\xff\xfe{\x00",
            ),
            *(
                b"[" * 100_000,
                b'{"a":' * 20_000,
                b"[1," * 50_000,
                b"9" * 100_000,
                b"--",
                b"\r\n" * 999,
            ),
            *(chance.randbytes(chance.randrange(5000)), b'{"image": 1, "image": 2}'),
        ]
    )


def _as_another_image(draft: Draft, chance: random.Random) -> None:
    """The first bytes of another format, before what is there."""
    starts = (b"\x89PNG\r\n\x1a\n", b"GIF89a\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"BM")
    starts += (
        b"RIFF\xff\xff\xff\xffWEBPVP8X",
        b"P6\n99999 99999\n255\n",
        b"\xff\xd8\xff\xe1\xff\xff",
    )
    starts += (b"<svg>", b"%PDF-1.4", b"\0\0\0 ftypheic", b"8BPS\0\1", b"\0\0\x01\0\xff\xff")
    draft.body = chance.choice(starts) + draft.body[chance.randrange(40) :]


CHANGES: tuple[Callable[[Draft, random.Random], None], ...] = (
    *(_change_method, _change_target, _change_query, _change_kind, _change_version, _add_headers),
    *(_add_headers, _change_framing, _change_framing, _flip_bytes, _flip_bytes, _cut_body),
    *(_replace_body, _as_another_image),
)


def _with_other_values(value: Any, chance: random.Random) -> Any:
    """JSON with some of its values, names and lists exchanged."""
    if chance.random() < 0.12:
        return chance.choice([*VALUES, *TYPES])
    if isinstance(value, dict):
        changed = {name: _with_other_values(one, chance) for name, one in value.items()}
        if chance.random() < 0.1:
            changed[
                chance.choice(["image", "images", "inputs", "outputs", "id", "x" * 999, ""])
            ] = chance.choice(VALUES)
        return changed
    if isinstance(value, list):
        return [_with_other_values(one, chance) for one in value] * chance.choice(
            [1, 1, 1, 0, 2, 40]
        )
    return value


def _scrambled(sent: bytes, chance: random.Random) -> bytes:
    """With some bytes flipped, put in, left out or sent twice."""
    changed = bytearray(sent)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        if not changed:
            break
        at = chance.randrange(len(changed))
        if (how := chance.randrange(4)) == 0:
            changed[at] = chance.randrange(256)
        elif how == 1:
            changed[at:at] = chance.choice([b"\r\n", b"\0", b"\xff", b"%", b'"', b"\r\n\r\n"])
        elif how == 2:
            del changed[at : at + chance.randrange(1, 20)]
        else:
            changed[at:at] = changed[at : at + chance.randrange(1, 200)]
    return bytes(changed)


if __name__ == "__main__":
    from soak_clients import small_images

    sys.stdout.buffer.write(fuzzed(int(sys.argv[1]), int(sys.argv[2]), small_images()))
