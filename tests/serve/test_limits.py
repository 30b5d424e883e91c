"""What a real server refuses: too much, too slow, too many, from where it may not."""

import base64
import gc
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from PIL import Image

from serving import CAT, Server, chunked, form, head, read_all, read_one, serving, wait_until
from toplabel.serve.api_error import ApiError
from toplabel.serve.inference_protocol import read_request
from toplabel.serve.request_body import json_of_images, parse_json, uploads_of_json

LIMIT = 200_000
HEAD_SECONDS = BODY_SECONDS = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        *("--max-body", str(LIMIT), "--header-timeout", "120", "--body-timeout", "120"),
        *("--request-timeout", "300", "--max-images", "8", "--queue", "16", "--no-access-log"),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    """A server that waits for nobody for long."""
    with serving(
        *("--header-timeout", str(HEAD_SECONDS), "--body-timeout", str(BODY_SECONDS)),
        *("--request-timeout", "300", "--no-access-log"),
    ) as running:
        yield running


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(server: Server):
    fitting = CAT[:1000] + bytes(LIMIT - 1000)
    assert server.classify(fitting).status != 413
    assert server.classify(fitting + b"x").status == 413


def test_a_body_is_refused_by_its_stated_length_before_it_is_sent(server: Server):
    with server.socket() as sock:
        sock.sendall(head(length=LIMIT + 1))
        answer = sock.recv(65536)
    assert status_of(answer) == 413
    assert b"connection: close" in answer.lower()


def test_a_client_that_waits_for_100_continue_is_not_asked_for_too_large_a_body(server: Server):
    with server.socket() as sock:
        sock.sendall(head(length=LIMIT + 1, Expect="100-continue"))
        assert status_of(sock.recv(65536)) == 413
    with server.socket() as sock:
        sock.sendall(head(length=len(CAT), Expect="100-continue", Connection="close"))
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(CAT)
        assert status_of(read_all(sock)) == 200


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_a_chunked_body_is_counted_while_it_streams(server: Server, size: int):
    content = CAT + bytes(size - len(CAT))
    answer = server.raw(head(Transfer_Encoding="chunked", Connection="close") + chunked(content))
    assert (status_of(answer) == 413) == (size > LIMIT)


def test_an_endless_chunked_body_is_cut_off(server: Server):
    sent = 0
    with server.socket() as sock:
        sock.sendall(head(Transfer_Encoding="chunked"))
        try:
            while sent < 50 * LIMIT:
                sock.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
                sock.setblocking(False)
                try:
                    answer = sock.recv(65536)
                    break
                except BlockingIOError:
                    sock.setblocking(True)
        except (BrokenPipeError, ConnectionResetError):
            sock.setblocking(True)
            answer = read_all(sock)
    assert status_of(answer) == 413
    assert sent < 50 * LIMIT


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
@pytest.mark.parametrize("kind", ["multipart", "json"])
def test_forms_and_json_are_counted_with_all_that_is_around(server: Server, kind: str, size: int):
    if kind == "multipart":
        body, media = form(("a.jpg", CAT))
        body = body[:-2] + b"\r\n" + bytes(0)
        body += b" " * (size - len(body))  # after the end of the form comes an epilogue
    else:
        body, media = json.dumps({"image": base64.b64encode(CAT).decode()}).encode(), ""
        media = "application/json"
        body += b" " * (size - len(body))
    assert len(body) == size
    assert server.classify(body, kind=media).status == (413 if size > LIMIT else 200)


def test_the_answer_to_too_large_a_body_arrives_although_the_client_goes_on_sending(server: Server):
    for _ in range(20):
        answer = server.raw(head(length=40 * LIMIT) + bytes(10 * LIMIT))
        assert status_of(answer) == 413
        assert b'"too_large"' in answer


def test_too_many_images_are_refused(server: Server):
    body, kind = form(*[(f"{n}.jpg", b"x") for n in range(9)])
    assert server.classify(body, kind=kind).code == "too_many_images"
    body = json.dumps({"images": ["eA=="] * 9}).encode()
    assert server.classify(body, kind="application/json").status == 413


def test_large_headers_are_a_431_and_no_http_a_400_in_the_one_form(server: Server):
    answer = server.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 400_000)
    assert status_of(answer) == 431
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"code", "message"}
    for nonsense in (b"\x16\x03\x01\x00\xa5", b"HELLO\r\n\r\n", b"GET / HTTP/1.1\r\nbad\r\n\r\n"):
        answer = server.raw(nonsense + b"\r\n\r\n")
        assert status_of(answer) == 400
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


def test_a_bad_chunk_in_the_middle_of_a_body_is_a_400(server: Server):
    answer = server.raw(head(Transfer_Encoding="chunked") + b"5\r\nhello\r\nnonsense\r\n")
    assert status_of(answer) == 400


def test_a_bad_chunk_of_a_body_that_nobody_reads_is_no_defect(server: Server):
    sent = head("/nowhere", Transfer_Encoding="chunked") + b"5\r\nhello\r\nnonsense\r\n"
    before = len(server.lines)
    answer = server.raw(sent)
    assert (status_of(answer), answer.count(b"HTTP/1.1 4")) == (400, 1)
    assert server.classify(CAT[:9]).status == 422
    assert server.lines[before:] == []


def test_slow_headers_end_a_connection_in_time(hasty: Server):
    def answer(start: bytes) -> tuple[float, bytes]:
        started = time.monotonic()
        answer = drip(hasty, start)
        return time.monotonic() - started, answer

    starts = [b"", b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n", b"GET /health/live HT"]
    with ThreadPoolExecutor(len(starts)) as clients:
        for seconds, found in clients.map(answer, starts):
            assert seconds > HEAD_SECONDS * 0.9
            assert status_of(found) == 408


def test_a_slow_body_ends_a_connection_in_time_on_every_path(hasty: Server):
    def answer(path: str) -> bytes:
        return drip(hasty, head(path, length=1000))

    paths = ["/v1/classify", "/health/live", "/nowhere", "/", "/v2/models/x/infer", "/models/x"]
    with ThreadPoolExecutor(len(paths)) as clients:
        answers = dict(zip(paths, clients.map(answer, paths), strict=True))
    assert status_of(answers["/v1/classify"]) == 408
    assert b"connection: close" in answers["/nowhere"].lower()


def drip(server: Server, start: bytes) -> bytes:
    """What comes back to a client that sends `start`, and then a byte now and then."""
    with server.socket() as sock:
        sock.sendall(start)
        sock.settimeout(0.2)
        received = b""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                part = sock.recv(65536)
            except TimeoutError:
                with suppress(OSError):  # it has ended: what it said is there to read
                    sock.sendall(b"a")
                continue
            except OSError:
                return received
            if not part:
                return received
            received += part
        raise AssertionError("the connection is still open")


def test_an_idle_connection_is_kept_for_a_while_and_a_second_request_served(hasty: Server):
    with hasty.socket() as sock:
        for _ in range(3):
            sock.sendall(head("/health/live", method="GET"))
            assert status_of(read_one(sock)) == 200
            time.sleep(HEAD_SECONDS * 0.4)


def test_pipelined_requests_are_answered_in_order(server: Server):
    two = head("/health/live", method="GET") + head("/nowhere", method="GET", Connection="close")
    answer = server.raw(two)
    assert answer.index(b"200 OK") < answer.index(b"404 Not Found")


def test_many_slow_clients_end_while_a_healthy_one_is_answered(hasty: Server):
    slow = [hasty.socket() for _ in range(500)]
    stop = threading.Event()

    def send(place: int, content: bytes) -> None:
        with suppress(OSError):  # it has ended
            slow[place].sendall(content)

    def keep_dripping() -> None:
        while not stop.wait(0.5):
            for place in range(len(slow)):
                send(place, b"a")

    dripping = threading.Thread(target=keep_dripping)
    try:
        for place in range(len(slow)):
            send(place, head(length=1000) if place % 2 else b"POST /v1/classify HTTP/1.1\r\nHo")
        dripping.start()
        assert [hasty.classify(CAT).status for _ in range(30)] == [200] * 30
        assert wait_until(lambda: hasty.metric("toplabel_connections") <= 2)
    finally:
        stop.set()
        if dripping.ident is not None:
            dripping.join()
        for sock in slow:
            sock.close()


@pytest.mark.slow
def test_connections_beyond_the_limit_get_a_503_and_the_others_go_on():
    with serving("--max-connections", "20", "--header-timeout", "120") as small:
        held = [small.socket() for _ in range(20)]
        try:
            answer = small.raw(head("/health/live", method="GET"))
            assert status_of(answer) == 503
            assert b"retry-after" in answer.lower()
            held[0].sendall(head("/health/live", method="GET"))
            assert status_of(read_one(held[0])) == 200
        finally:
            for sock in held:
                sock.close()
        assert wait_until(lambda: small.ask("GET", "/health/live").status == 200)


@pytest.mark.slow
def test_a_low_limit_of_descriptors_is_raised_to_what_connections_need():
    code = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
from toplabel.cli import main
main()
"""
    arguments = ("--max-connections", "400", "--header-timeout", "120", "--no-access-log")
    with serving(*arguments, code=code) as small:
        held = [small.socket() for _ in range(390)]
        try:
            assert small.ask("GET", "/health/live").status == 200
            assert small.metric("toplabel_connections") >= 390
        finally:
            for sock in held:
                sock.close()


def test_a_full_queue_is_a_503_with_retry_after(server: Server):
    refused: list[int] = []
    others: list[int] = []

    def ask(_: int) -> None:
        reply = server.classify(CAT)
        if reply.status == 503:
            refused.append(reply.status)
            assert reply.headers["retry-after"] == "1"
            assert reply.code == "busy"
        else:
            others.append(reply.status)

    with ThreadPoolExecutor(64) as clients:
        list(clients.map(ask, range(320)))
    assert refused
    assert others.count(200) == len(others) > 0
    assert server.classify(CAT).status == 200


@pytest.mark.slow
def test_a_multipart_of_dashes_or_of_a_thousand_parts_is_refused_fast():
    with serving("--no-access-log") as running:
        running.classify(CAT)
        before = running.resident_mb()
        for body, kind in (
            (b"--" * 5_000_000, "multipart/form-data; boundary=----"),
            (b"--b\r\n" * 2_000_000, "multipart/form-data; boundary=b"),
            form(*[(f"{n}", b"x") for n in range(1001)]),
            (b"--b\r\n" + b"X: y\r\n" * 500_000, "multipart/form-data; boundary=b"),
            (b'{"image":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json"),
            (b"[" * 10_000_000, "application/json"),
        ):
            started = running.cpu_seconds()
            reply = running.classify(body, kind=kind)
            assert 400 <= reply.status < 500
            assert running.cpu_seconds() - started < 10
        gc.collect()
        assert running.resident_mb() - before < 50


def test_clients_that_leave_in_the_middle_leave_nothing_behind(server: Server):
    server.classify(CAT)
    before = server.descriptors()
    for count in range(1000):
        with server.socket() as sock:
            if count % 2:
                sock.sendall(head(length=len(CAT)) + CAT[: len(CAT) // 2])
            else:
                sock.sendall(head(length=len(CAT)) + CAT)
    assert wait_until(lambda: server.metric("toplabel_queue_depth") == 0)
    assert wait_until(lambda: server.metric("toplabel_connections") == 1)
    assert wait_until(lambda: server.metric("toplabel_requests_in_flight") == 1)
    assert wait_until(lambda: server.metric("toplabel_held_bytes") == 0)
    assert wait_until(lambda: server.descriptors() <= before + 1)
    assert server.classify(CAT).status == 200


def _png(size: tuple[int, int]) -> bytes:
    """A plain image of that (width, height)."""
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def test_what_a_leaving_client_has_queued_is_not_worked_on(server: Server):
    large = _png((4000, 3000))  # all of them take longer than a client's leaving goes unnoticed
    before = server.metric("toplabel_images_total")
    socks = [server.socket() for _ in range(14)]
    for sock in socks:
        sock.sendall(head(length=len(large)) + large)
        sock.close()
    assert wait_until(lambda: server.metric("toplabel_requests_in_flight") == 1)
    time.sleep(0.3)
    assert server.metric("toplabel_images_total") - before < 14


@pytest.mark.slow
def test_a_client_that_does_not_read_is_let_go():
    code = (
        "import toplabel.serve.options as o; from toplabel.cli import main;"
        "o.ServeOptions.__init__.__kwdefaults__['write_timeout'] = 0.5; main()"
    )
    with serving(code=code) as running:
        labels = running.ask("GET", "/v1/models").json["models"][0]["labels_url"]
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", running.port))
            sock.sendall(head(labels, method="GET") * 400)  # several megabytes of answers
            assert wait_until(lambda: running.metric("toplabel_connections") == 1)


@pytest.mark.parametrize("shape", [(20000, 1), (1, 65500), (8000, 1), (1, 1)])
def test_thin_images_are_answered_within_time_and_memory(server: Server, shape: tuple):
    image = _png(shape)
    before = server.resident_mb()
    started = server.cpu_seconds()
    reply = server.classify(image)
    assert reply.status in (200, 413, 422)
    assert server.cpu_seconds() - started < 10
    assert server.resident_mb() - before < 100


@pytest.mark.parametrize(
    "body",
    [
        b'{"images":[' + b"[]," * 3_000_000 + b"[]]}",
        b'{"images":' + b"[" * 3_000_000,
        b'{"images":[{' + b",".join(b'"%d":0' % n for n in range(500_000)) + b"}]}",
        b'{"inputs":[' + b"1," * 3_000_000 + b"1]}",
    ],
    ids=["lists", "depth", "fields", "numbers"],
)
def test_json_of_many_values_is_refused_before_it_is_parsed(
    body: bytes, monkeypatch: pytest.MonkeyPatch
):
    def parsed(*_: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(json, "loads", parsed)
    for read in (
        lambda: uploads_of_json(body, max_images=32),
        lambda: read_request(body, None),
        lambda: parse_json(body, json_of_images(1)),
    ):
        with pytest.raises(ApiError) as caught:
            read()
        assert (caught.value.status, caught.value.code) == (413, "too_many_values")


@pytest.mark.slow
def test_refused_images_leave_nothing_behind() -> None:
    """What fails is held by its own traceback until garbage is looked for."""
    with serving() as server:
        bad = CAT[:300] + bytes(500_000)
        for _ in range(30):
            server.classify(bad)
        before = server.resident_mb()
        for _ in range(150):
            assert server.classify(bad).status == 422
        assert server.resident_mb() - before < 25  # of 75 MB that came
