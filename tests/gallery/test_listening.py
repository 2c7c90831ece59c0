"""Sockets: connections that come to nothing, an end in time, and no traceback for whoever leaves."""

import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fastapi import FastAPI, Request
from gallery.served import until

from mpanet_pl.gallery import listening
from mpanet_pl.gallery.guard import Uploads, client_of
from mpanet_pl.gallery.listening import Server, server_of

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
APP = FastAPI()
UPLOADS = Uploads(seconds=30)


@APP.get("/")
async def hello() -> str:
    return "hello"


@APP.get("/who")
async def who(request: Request) -> str:
    return client_of(request.scope)


@APP.post("/")
async def take(request: Request) -> int:
    async with UPLOADS.body(request) as body:
        return len(body)


@contextmanager
def served(**words: Any) -> Iterator[tuple[Server, int]]:
    server = server_of(APP, host="127.0.0.1", port=0, **words)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield server, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


OPENED: list[socket.socket] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def connection(port: int, text: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=10)
    OPENED.append(made)
    made.sendall(text)
    return made


def is_open(one: socket.socket) -> bool:
    one.settimeout(0.01)
    try:
        return one.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def answer(one: socket.socket) -> bytes:
    one.settimeout(10)
    text = b""
    while not re.search(rb"\r\n\r\n.+", text, re.DOTALL):
        if not (some := one.recv(4096)):
            break
        text += some
    return text


def test_headers_come_in_time_or_the_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HEADER_SECONDS", 0.5)
    with served() as (server, port):
        silent, slow, answered = connection(port), connection(port), connection(port, GET)
        body = connection(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome")
        assert b"hello" in answer(answered)
        answered.sendall(GET[:9])  # another request, begun
        started = time.monotonic()
        for _ in range(40):
            if not is_open(slow):
                break
            slow.sendall(b"G")
            time.sleep(0.05)
        until(lambda: not any(map(is_open, (silent, slow, answered))))
        assert time.monotonic() - started < 10
        assert is_open(body)  # it has the time of an upload
        body.sendall(b" more")
        assert answer(body).endswith(b"9")
        until(lambda: not server.server_state.connections)


def test_who_has_been_sending_longest_makes_room() -> None:
    with served(connections=5) as (server, port):
        loris = [connection(port, b"GET / HTTP/1.1\r\nX: ") for _ in range(3)]
        until(lambda: len(server.server_state.connections) == 3)
        loris += [connection(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n") for _ in range(2)]
        until(lambda: len(server.server_state.connections) == 5)
        for number in range(5):
            with connection(port, GET) as honest:
                assert b"hello" in answer(honest)
            until(lambda: len(server.server_state.connections) < 5)
            loris.append(connection(port))
            until(lambda: len(server.server_state.connections) == 5)
            assert not is_open(loris[number])
            assert len(server.server_state.connections) <= 5


@pytest.mark.parametrize(
    "text",
    [b"\r\n" * 99, b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 99_999, GET.replace(b"/ ", b"/" * 9999)],
)
def test_garbage_is_refused(text: bytes) -> None:
    with served() as (_, port):
        assert re.match(rb"HTTP/1.1 4|$", answer(connection(port, text)))
        assert b"hello" in answer(connection(port, GET))


def test_who_leaves_in_the_middle_of_an_upload_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    from mpanet_pl.gallery.serving import _say_mistakes

    app = FastAPI()
    uploads, seen = Uploads(), threading.Event()
    _say_mistakes(app)

    @app.post("/")
    async def take(request: Request) -> int:
        try:
            async with uploads.body(request) as body:
                return len(body)
        finally:
            seen.set()

    server = server_of(app, host="127.0.0.1", port=0)
    logging.getLogger("uvicorn.error").propagate = True
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    with caplog.at_level(logging.ERROR):
        port = server.servers[0].sockets[0].getsockname()[1]
        connection(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nsome").close()
        assert seen.wait(20)
        until(lambda: not server.server_state.tasks)
    server.should_exit = True
    thread.join(20)
    assert (uploads.held, caplog.text) == (0, "")


def test_it_says_nothing_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither to who starts it, while nothing is wrong, nor to who asks."""
    with served() as (_, port):
        assert b"server" not in answer(connection(port, GET)).lower()
    assert tuple(capsys.readouterr()) == ("", "")


def test_the_last_end_takes_the_processes_that_decode_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    child, ended = Mock(), Mock()
    monkeypatch.setattr("multiprocessing.active_children", lambda: [child])
    monkeypatch.setattr(listening.os, "_exit", lambda status: ended(status, child.kill.call_count))
    listening._end()
    ended.assert_called_once_with(1, 1)


ENDLESS = """
import asyncio, sys, threading, time
from contextlib import asynccontextmanager
from fastapi import FastAPI
from mpanet_pl.gallery.listening import server_of

@asynccontextmanager
async def living(app):
    yield
    if sys.argv[1] == "lifespan": time.sleep(60)

app = FastAPI(lifespan=living)

@app.get("/")
async def hang():
    print("asked", flush=True)
    if sys.argv[1] == "thread": await asyncio.to_thread(time.sleep, 60)
    while True:
        try: await asyncio.sleep(60)
        except asyncio.CancelledError: pass

server = server_of(app, host="127.0.0.1", port=int(sys.argv[2]))
server.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["task", "thread", "lifespan"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_five_seconds_whatever_it_does(what: str, sent: signal.Signals, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "endless.py").write_text(ENDLESS)
    line = [sys.executable, str(tmp_path / "endless.py"), what, str(port)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: _asked(port))
            assert process.stdout is not None
            assert process.stdout.readline() == b"asked\n"
            started = time.monotonic()
            process.send_signal(sent)
            process.wait(20)
            assert time.monotonic() - started < 5.5
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()
        finally:
            process.kill()


def _asked(port: int) -> bool:
    try:
        connection(port, GET)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("proxies", "client"), [([], "127.0.0.1"), (["192.0.2.1"], "127.0.0.1"), (["127.0.0.1"], "203.0.113.9")]
)
def test_a_proxys_word_is_believed_where_it_is_named(proxies: list[str], client: str) -> None:
    with served(proxies=proxies) as (_, port):
        asked = GET.replace(b"/ ", b"/who ").replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
        assert client.encode() in answer(connection(port, asked))
