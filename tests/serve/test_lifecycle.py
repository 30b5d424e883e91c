"""From the start of a server to its end, and what the command line says on the way."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

import toplabel
from serving import CAT, ROOT, Server, head, held_port, read_all, serving, wait_until
from toplabel.errors import UsageError
from toplabel.serve.options import ServeOptions
from toplabel.serve.server import accept_waiting, listen

WAITING = """
import time
from pathlib import Path
def wait_for(file):
    end = time.monotonic() + 300
    while not Path(file).exists() and time.monotonic() < end:
        time.sleep(0.01)
"""
SLOW = f"""{WAITING}
from toplabel.serve import models
answer = models.ServedModel.answer
def slowly(self, content, **kwargs):
    if content != models.WARM_UP_IMAGE:
        wait_for({{until!r}})
    return answer(self, content, **kwargs)
models.ServedModel.answer = slowly
from toplabel.cli import main
main()
"""
"""A server whose answers wait until there is a file."""

PATIENT = ("--request-timeout", "300", "--drain-timeout", "300")
NEVER = "/no such file"
TOKEN = "a-token-of-sixteen-or-more"


def refused(*arguments: str) -> tuple[int, list[str]]:
    """The exit status and the lines on standard error of a start that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "toplabel", "serve", "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_what_is_in_flight_is_finished_and_new_requests_see_that_it_is_not_ready(tmp_path: Path):
    answered, looked = tmp_path / "answered", tmp_path / "looked"
    lame = f"""{WAITING}
import asyncio
from types import SimpleNamespace
from toplabel.serve import server
async def sleep(seconds):
    if seconds == 7:
        await asyncio.to_thread(wait_for, {str(looked)!r})
    else:
        await asyncio.sleep(seconds)
server.asyncio = SimpleNamespace(**{{**vars(asyncio), "sleep": sleep}})
"""
    code = lame + SLOW.format(until=str(answered))
    with serving("--lame-duck", "7", *PATIENT, code=code) as server:
        statuses: list[int] = []
        clients = [
            threading.Thread(target=lambda: statuses.append(server.classify(CAT).status))
            for _ in range(2)
        ]
        for client in clients:
            client.start()
        assert wait_until(lambda: server.metric("toplabel_requests_in_flight") == 3)
        server.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: server.ask("GET", "/health/ready").status == 503)
        assert server.ask("GET", "/health/live").status == 200
        assert server.ask("GET", "/health/live").headers["connection"] == "close"
        looked.touch()
        answered.touch()
        for client in clients:
            client.join()
        assert statuses == [200, 200]
        assert server.process.wait(120) == 0


def test_a_second_signal_ends_it_at_once():
    with serving(*PATIENT, code=SLOW.format(until=NEVER)) as server:
        threading.Thread(target=lambda: _ignore_errors(server), daemon=True).start()
        assert wait_until(lambda: server.metric("toplabel_requests_in_flight") == 2)
        server.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: not server.is_listening())
        assert server.stop(signal.SIGTERM) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_what_is_not_finished_in_time_is_cut_off_and_the_status_says_so():
    code = SLOW.format(until=NEVER)
    with serving(*PATIENT, "--drain-timeout", "0.5", code=code) as server:
        threading.Thread(target=lambda: _ignore_errors(server), daemon=True).start()
        assert wait_until(lambda: server.metric("toplabel_requests_in_flight") == 2)
        assert server.stop() == 1


def _ignore_errors(server: Server) -> None:
    try:
        server.classify(CAT)
    except OSError:
        return


def test_while_models_are_loaded_it_is_live_and_not_ready(tmp_path: Path):
    looked = tmp_path / "looked"
    code = f"""{WAITING}
import sys
import toplabel, toplabel.models.load
from toplabel.serve import server
load, listen = toplabel.load, server.listen
def slow_load(*args, **kwargs):
    wait_for({str(looked)!r})
    return load(*args, **kwargs)
def telling_listen(host, port):
    listener = listen(host, port)
    print("listening at http://%s:%s" % listener.getsockname(), file=sys.stderr, flush=True)
    return listener
toplabel.load, server.listen = slow_load, telling_listen
from toplabel.cli import main
main()
"""
    with serving(code=code) as server:
        assert server.ask("GET", "/health/live").status == 200
        ready = server.ask("GET", "/health/ready")
        assert (ready.status, ready.code) == (503, "not_ready")
        early = server.classify(CAT)
        assert (early.status, early.code) == (503, "not_ready")
        assert early.headers["retry-after"] == "1"
        looked.touch()
        assert wait_until(lambda: server.ask("GET", "/health/ready").status == 200)
        assert server.classify(CAT).status == 200


def test_a_slow_request_is_answered_with_503_when_its_time_is_up():
    with serving("--request-timeout", "0.5", code=SLOW.format(until=NEVER)) as server:
        reply = server.classify(CAT)
        assert (reply.status, reply.code) == (503, "busy")


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_stops_the_start_with_one_line(tmp_path: Path):
    bad = tmp_path / "bad.toplabel"
    bad.write_bytes(b"no bundle")
    for model in (str(bad), str(tmp_path / "missing.toplabel")):
        status, lines = refused("-m", model)
        assert status == 2
        assert len(lines) == 1
        assert model in lines[0]


@pytest.mark.slow
def test_an_address_that_is_taken_stops_the_start_with_one_line():
    with serving() as server:
        status, lines = refused("--port", str(server.port))
    assert (status, len(lines)) == (2, 1)
    assert "choose another --port" in lines[0]


@pytest.mark.slow
def test_statements_about_a_model_are_for_one_model(tmp_path: Path):
    status, lines = refused("-m", "a", "-m", "b", "--labels", "x.txt")
    assert (status, len(lines)) == (2, 1)
    assert "--labels" in lines[0]


@pytest.mark.slow
def test_a_server_for_all_addresses_without_a_token_warns_in_one_line():
    with serving("--host", "0.0.0.0") as server:
        warnings = [line for line in server.lines if "warning" in line]
        assert len(warnings) == 1
        assert "--token-file" in warnings[0]
    with serving("--host", "0.0.0.0", environment={"TOPLABEL_TOKEN": TOKEN}) as server:
        assert not [line for line in server.lines if "warning" in line]


@pytest.mark.slow
def test_it_listens_at_127_0_0_1_only():
    with serving() as server:
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
        listening = [row.split()[1] for row in rows if row.split()[3] == "0A"]
        assert f"0100007F:{server.port:04X}" in listening
        assert f"00000000:{server.port:04X}" not in listening


def test_a_token_is_asked_for_by_all_but_health_and_the_page(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    with serving("--token-file", str(file)) as server:
        for path in ("/health/live", "/health/ready", "/v2/health/live", "/docs"):
            assert server.ask("GET", path).status == 200
        for method, path in (
            ("POST", "/v1/classify"),
            ("GET", "/v1/models"),
            ("GET", "/metrics"),
            ("POST", "/v2/models/efficientnet_lite0/infer"),
            ("POST", "/models/efficientnet_lite0"),
            ("GET", "/nowhere"),
        ):
            reply = server.ask(method, path, b"" if method == "POST" else None)
            assert reply.status == 401
            assert reply.headers["www-authenticate"] == "Bearer"
        for wrong in ("Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xe9", TOKEN):
            headers = {"Authorization": wrong}
            assert server.ask("POST", "/v1/classify", CAT, headers).status == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert server.ask("POST", "/v1/classify", CAT, headers).status == 200
        assert TOKEN not in "\n".join(server.lines)


@pytest.mark.parametrize("text", ["", "short", "spaces in the long token", "ümläüts-are-no-header"])
def test_a_token_that_is_none_stops_the_start(tmp_path: Path, text: str):
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(UsageError, match="token"):
        ServeOptions(token_file=str(file)).read_token()


@pytest.mark.slow
def test_several_models_are_served_by_name(tmp_path: Path):
    packed = tmp_path / "cats.toplabel"
    toplabel.load().save(packed)
    with serving("-m", str(packed), "-m", "mine=embedded/efficientnet_lite0") as server:
        models = server.ask("GET", "/v1/models").json["models"]
        assert [m["name"] for m in models] == [toplabel.load().name, "mine"]
        assert [m["default"] for m in models] == [True, False]
        for name in ("cats", "mine", toplabel.load().name):
            reply = server.classify(CAT, f"?model={name}")
            assert reply.json["predictions"][0]["label"] == "tiger cat"
    status, lines = refused("-m", str(packed), "-m", "embedded/efficientnet_lite0")
    assert (status, len(lines)) == (2, 1)
    assert "-m one=A.toplabel" in lines[0]


def test_each_request_is_one_line_of_json_without_content():
    with serving() as server:
        server.ask("POST", "/v1/classify?top_k=2", CAT, {"X-Request-ID": "trace-7"})
        server.classify(CAT[:500])
        assert wait_until(lambda: len(server.requests) == 2)
        good, bad = server.requests
        assert good["request_id"] == "trace-7"
        assert (good["method"], good["path"], good["status"]) == ("POST", "/v1/classify", 200)
        assert good["images"] == 1
        assert good["milliseconds"] > 0
        assert bad["errors"] == ["truncated"]
        assert all(len(json.dumps(line)) < 1000 for line in server.requests)
        assert "tiger" not in json.dumps(server.requests)


def test_metrics_count_what_was_asked():
    with serving("--no-access-log") as server:
        for content in (CAT, CAT, CAT[:500]):
            server.classify(content)
        server.ask("GET", "/nowhere")
        text = server.ask("GET", "/metrics").body.decode()
        route = 'method="POST",route="/v1/classify"'
        assert f'toplabel_requests_total{{code="200",{route}}} 2.0' in text
        assert f'toplabel_requests_total{{code="422",{route}}} 1.0' in text
        assert 'toplabel_requests_total{code="404",method="GET",route="(none)"} 1.0' in text
        for stage in ("queue", "read", "model"):
            assert f'toplabel_stage_seconds_count{{stage="{stage}"}} 3.0' in text
        assert "toplabel_queue_depth 0.0" in text
        assert server.metric("toplabel_batch_images_count") >= 2
        assert "process_resident_memory_bytes" in text


@pytest.mark.slow
def test_the_server_imports_no_torch():
    code = """
import sys, threading, toplabel.cli
threading.Thread(target=lambda: None).start()
from toplabel.serve import server
end = server.serve
def checked(*args, **kwargs):
    status = end(*args, **kwargs)
    print("torch" in sys.modules, "timm" in sys.modules, file=sys.stderr)
    return status
server.serve = checked
toplabel.cli.main()
"""
    with serving(code=code) as server:
        assert server.classify(CAT).status == 200
        server.stop()
        assert wait_until(lambda: server.lines[-1] == "False False")


def test_without_the_extra_the_command_says_what_to_install():
    code = """
import sys
sys.modules["fastapi"] = None
from toplabel.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "serve"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert "pip install 'toplabel[serve]'" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_no_accepted_request_is_dropped_in_fifty_restarts_under_load():
    answered, dropped = [0], []
    stop = threading.Event()

    def ask_on_and_on(port: int) -> None:
        while not stop.is_set():
            connection = HTTPConnection("127.0.0.1", port, timeout=300)
            try:
                connection.connect()
            except OSError:
                time.sleep(0.005)
                continue
            try:  # on one connection, until the server says it is the last answer on it
                for _ in range(20):
                    connection.request("POST", "/v1/classify", CAT)
                    response = connection.getresponse()
                    response.read()
                    if response.status not in (200, 503):
                        dropped.append(response.status)
                    answered[0] += response.status == 200
                    if response.getheader("connection") == "close":
                        break
            except (OSError, HTTPException) as error:
                dropped.append(repr(error))
            finally:
                connection.close()

    with held_port() as port:
        arguments = ("--port", str(port), "--lame-duck", "0.2", "--no-access-log", *PATIENT)
        clients = [threading.Thread(target=ask_on_and_on, args=(port,)) for _ in range(8)]
        for client in clients:
            client.start()
        try:
            for _ in range(50):
                before = answered[0]
                with serving(*arguments) as server:
                    time.sleep(0.3)
                    assert wait_until(lambda before=before: answered[0] > before + 1)
                    assert server.stop(timeout=400) == 0
        finally:
            stop.set()
            for client in clients:
                client.join()
    assert dropped == []
    assert answered[0] > 50


def test_connections_that_wait_when_a_server_stops_listening_are_accepted():
    listener = listen("127.0.0.1", 0)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    accepted = accept_waiting(listener)
    listener.close()
    assert len(accepted) == 3
    for client, sock in zip(clients, accepted, strict=True):
        sock.sendall(b"here")
        assert client.recv(4) == b"here"
        client.close()
        sock.close()


def test_a_request_that_was_being_sent_when_the_server_was_stopped_is_answered():
    with serving("--lame-duck", "0") as server:
        with server.socket() as sock:
            sock.sendall(head(length=len(CAT)) + CAT[:1000])
            assert wait_until(lambda: server.metric("toplabel_requests_in_flight") == 2)
            server.process.send_signal(signal.SIGTERM)
            assert wait_until(lambda: not server.is_listening())
            sock.sendall(CAT[1000:])
            answer = read_all(sock)
        assert b"200 OK" in answer
        assert b"connection: close" in answer.lower()
        assert server.process.wait(120) == 0


def test_a_server_without_descriptors_to_spare_is_stopped_by_one_signal():
    code = """
import errno, socket
def none_left(self):
    raise OSError(errno.EMFILE, "Too many open files")
socket.socket.dup = none_left
from toplabel.cli import main
main()
"""
    with serving(code=code) as server:
        assert server.stop() == 0
        lost = "connections that waited to be accepted are lost"
        assert wait_until(lambda: lost in server.lines[-1])


def test_headers_that_were_being_sent_when_the_server_was_stopped_become_a_request():
    whole = head(length=len(CAT)) + CAT
    with serving("--lame-duck", "0.2") as server:
        with server.socket() as sock:
            sock.sendall(whole[:40])
            assert server.classify(CAT).status == 200  # by now the other connection is read, too
            server.process.send_signal(signal.SIGTERM)
            assert wait_until(lambda: not server.is_listening())
            time.sleep(1)  # longer than an idle connection is left alone
            sock.sendall(whole[40:])
            answer = read_all(sock)
        assert b"200 OK" in answer
        assert server.process.wait(120) == 0


@pytest.mark.slow
def test_threads_respect_what_the_process_may_use():
    code = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from toplabel.serve import work
begin = work.Workers.__init__
def told(self, threads, **kwargs):
    print("threads", threads, file=sys.stderr)
    begin(self, threads, **kwargs)
work.Workers.__init__ = told
from toplabel.cli import main
main()
"""
    with serving(code=code) as server:
        assert "threads 1" in server.lines
