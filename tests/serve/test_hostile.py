"""Files of decoders' own test suites, sent to a real server, one by one and many at a time."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving import CAT, Server, serving
from toplabel.errors import ERROR_CODES

AT_ONCE = 16
CODES = {*ERROR_CODES, "busy", "too_many_pixels"}


@pytest.mark.slow  # a minute or two
@pytest.mark.parametrize("clients", [1, AT_ONCE])
def test_each_hostile_file_is_answered_and_the_server_goes_on(
    shared_data: Path, clients: int
) -> None:
    files = sorted(path for path in (shared_data / "hostile").rglob("*") if path.is_file())
    assert len(files) > 500
    largest, over = 0.0, threading.Event()
    with serving() as server:
        server.classify(CAT)

        def watch() -> None:
            nonlocal largest
            while not over.wait(0.2):
                largest = max(largest, server.resident_mb())

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        with ThreadPoolExecutor(clients) as pool:
            found = Counter(pool.map(lambda path: _answer(server, path), files))
        over.set()
        watching.join()
        assert server.classify(CAT).json["predictions"][0]["label"] == "tiger cat"
        assert server.ask("GET", "/health/ready").status == 200
    assert set(found) <= {"labelled", *CODES}
    assert found["internal"] == 0
    assert found["labelled"] > 100
    assert largest < 1000  # MB


def _answer(server: Server, path: Path) -> str:
    """The word labelled, or the code of the error; where the server is busy it is asked again."""
    content = path.read_bytes()
    while True:
        reply = server.classify(content, "?top_k=1")
        if reply.status == 200:
            return "labelled"
        if reply.status != 503:
            assert 400 <= reply.status < 500, (path, reply)
            return str(reply.code)
        time.sleep(0.1)
