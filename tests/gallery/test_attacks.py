"""The command under attack: two thousand made files, sockets that drip, and signals in the midst of it."""

import contextlib
import http.client
import io
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from checkpoints import draw_crops
from commands import type_in
from gallery.served import NAME, client_of, picture, until
from PIL import Image, ImageSequence

from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.uploads import Decoder
from mpanet_pl.serve import serve

WORD = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def people(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    draw_crops(folder / "crops", 9)
    embed_images(embedder, folder / "crops", folder / "people", name=NAME)
    return folder / "people"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["host=0.0.0.0"], "needs a token: token_file=FILE, or MPANET_TOKEN"),
        (["hosts=[a.org]"], "needs a token"),
        (["token=word"], "token"),
        (["token_file=gone"], "token_file=gone cannot be read"),
        (["rate=often"], "such as 120/minute"),
        (["access_log=on"], "access_file"),
        (["access_log=on", "access_file=gone/log"], "cannot be logged"),
    ],
)
def test_mistakes_are_sentences(
    words: list[str],
    sentence: str,
    people: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert type_in("serve", serve, [f"gallery={people}", "device=cpu", *words], monkeypatch) in (1, 2)
    assert sentence in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(
    people: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mpanet_pl.gallery.searching.embedder_of", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert type_in("serve", serve, [f"gallery={people}", f"port={port}"], monkeypatch) == 2
    told = capsys.readouterr()
    assert f"Nobody can listen on host=127.0.0.1 port={port}: Address already in use." in told.err
    assert "rows" not in told.out


@contextmanager
def command(people: Path, *words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "mpanet_pl.serve", f"gallery={people}", f"port={port}", "device=cpu", *words]
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=own) as process:
        try:
            until(lambda: process.poll() is not None or reached(port), 240)
            assert process.poll() is None, process.stdout and process.stdout.read()
            yield process, port
        finally:
            process.kill()


def reached(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def ask(port: int, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("POST" if path.startswith("/search") else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ended(process: subprocess.Popen[bytes]) -> str:
    """What it had to say, a signal and less than five seconds later, with no process left behind."""
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert time.monotonic() - started < 5.5
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 5)
    assert process.stdout is not None
    return process.stdout.read().decode()


@pytest.mark.slow
def test_the_command_with_a_token_and_a_log(people: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"Anna {WORD}\n")
    log = tmp_path / "log.jsonl"
    words = [f"token_file={tmp_path}/tokens", "access_log=on", f"access_file={log}"]
    crop = (people.parent / "crops/2_1010.png").read_bytes()
    with command(people, *words, MPANET_TOKEN="of-the-environment") as (process, port):
        assert ask(port, "/search?k=1", crop)[0] == 401
        status, body = ask(port, "/search?k=1", crop, Authorization=f"Bearer {WORD}")
        assert (status, json.loads(body)["answers"][0]["path"]) == (200, "2_1010.png")
        assert ask(port, "/search?k=1", crop, Authorization="Bearer of-the-environment")[0] == 200
        assert ask(port, "/healthz", Host="evil.example")[0] == 400
        said = ended(process)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["user"], line["shown"]) for line in lines] == [("Anna", ["2_1010.png"]), ("", ["2_1010.png"])]
    assert WORD not in said
    assert "of-the-environment" not in said
    assert re.fullmatch(rf"9 rows, and pictures below \S+crops: http://127.0.0.1:{port}/\n", said), said


def seeds() -> list[bytes]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8))
    forms = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("GIF", {})]
    forms += [("TIFF", {"compression": kind}) for kind in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")]
    forms += [
        ("PNG", {"save_all": True, "append_images": [picture] * 3}),
        ("TIFF", {"save_all": True, "append_images": [picture] * 9}),
    ]
    forms += [
        ("EPS", {}),
        ("ICO", {}),
        ("PPM", {}),
        ("TGA", {}),
        ("JPEG2000", {}),
        ("PDF", {}),
        ("SGI", {}),
        ("PCX", {}),
    ]
    made = []
    for kind, words in forms:
        for image in (picture, picture.convert("L"), picture.quantize(16)):
            file = io.BytesIO()
            try:
                image.save(file, kind, **words)
            except (OSError, ValueError):
                continue  # which has no such form
            made.append(file.getvalue())
    assert len(list(ImageSequence.Iterator(Image.open(io.BytesIO(made[0]))))) == 1
    return made


def broken(rng: np.random.Generator, whole: list[bytes]) -> bytes:
    """A file of which bytes were changed, cut, doubled, or taken from another's."""
    data = bytearray(whole[rng.integers(len(whole))])
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(len(data) + 1)) if rng.random() < 0.5 else int(rng.integers(min(len(data), 64) + 1))
        match rng.integers(6):
            case 0:
                data[place : place + 1] = rng.bytes(1)
            case 1:
                del data[place:]
            case 2:
                data[place : place + 4] = b"\xff\xff\xff\xff" if rng.random() < 0.5 else b"\x7f\xff\xff\xff"
            case 3:
                data[place:place] = data[place : place + int(rng.integers(400))]
            case 4:
                other = whole[rng.integers(len(whole))]
                data[place:] = other[min(place, len(other)) :]
            case 5:
                data[place:place] = rng.bytes(int(rng.integers(1, 50)))
    return bytes(data)


@pytest.mark.slow
def test_of_two_thousand_made_files_none_ends_the_server(people: Path, embedder: Embedder) -> None:
    rng, whole = np.random.default_rng(27), seeds()
    files = [broken(rng, whole) for _ in range(1900)] + [rng.bytes(int(rng.integers(1, 5000))) for _ in range(100)]
    decoder = Decoder(processes=2)
    with client_of(people, embedder, decoder=decoder) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda file: client.post("/search?k=1&thumbnails=false", content=file), files))
        told = Counter(answer.status_code for answer in answers)
        assert told.keys() <= {200, 400}, told
        assert told[200] > 100, "so few were read that little was tried"
        assert told[400] > 500, "so few were broken that little was tried"
        assert all(isinstance(answer.json().get("detail", ""), str) for answer in answers)
        assert client.post("/search", content=whole[0]).status_code == 200


@pytest.mark.slow
def test_fifty_clients_are_served_under_a_slow_loris_for_a_minute(people: Path) -> None:
    """Three hundred sockets that drip headers and bodies, always anew, beside fifty that ask."""
    end = math.inf
    dripping = [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
        b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999\r\n\r\nx",
    ]

    def drip(port: int) -> None:
        held: list[socket.socket] = []
        while time.monotonic() < end:
            while len(held) < 300:
                try:
                    held.append(socket.create_connection(("127.0.0.1", port), 5))
                    held[-1].sendall(dripping[len(held) % 2])
                except OSError:
                    break
            for one in held[:]:
                try:
                    one.sendall(b"a")
                except OSError:
                    one.close()
                    held.remove(one)
            time.sleep(0.2)
        for one in held:
            one.close()

    def honest(port: int) -> list[int]:
        told = []
        while time.monotonic() < end:
            try:
                told.append(ask(port, "/search?id=1_1000.png&k=3&thumbnails=false")[0])
            except OSError:
                told.append(0)
        return told

    with command(people, "rate=null") as (process, port):
        end = time.monotonic() + 60
        loris = threading.Thread(target=drip, args=(port,))
        loris.start()
        with ThreadPoolExecutor(50) as pool:
            told = Counter(code for codes in pool.map(honest, [port] * 50) for code in codes)
        taken = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text()).group(1))  # type: ignore[union-attr]
        loris.join()
        stuck = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(50)]
        said = ended(process)
        for one in stuck:
            one.close()
    print(told, taken)
    assert told[200] > 250, told
    assert told[200] > 0.99 * told.total(), told
    assert taken < 4_000_000  # kB
    assert "Traceback" not in said


def memory(process: subprocess.Popen[bytes]) -> int:
    """Bytes of the server itself, without the processes that decode."""
    (line,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    return 1024 * int(line)


@pytest.mark.slow
def test_uploads_take_so_much_memory_together(people: Path) -> None:
    """Large pictures in small files, chunks without end, and forty bodies that are never finished."""
    file = io.BytesIO()
    Image.new("RGBA", (5000, 5000)).save(file, "PNG")
    with command(people, "rate=null") as (process, port):
        assert ask(port, "/search?k=1", picture(20, 40))[0] == 200
        before = memory(process)
        with ThreadPoolExecutor(12) as pool:
            codes = list(pool.map(lambda _: ask(port, "/search?k=1", file.getvalue())[0], range(12)))
        assert set(codes) <= {200, 400}, codes
        assert memory(process) - before < 100e6
        endless = socket.create_connection(("127.0.0.1", port), 30)
        headers = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent = 0
        with endless, contextlib.suppress(OSError):  # it is cut off
            endless.sendall(b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers)
            for sent in range(400):  # noqa: B007
                endless.sendall(b"f4240\r\n" + b"x" * 10**6 + b"\r\n")
        assert memory(process) - before < 250e6, sent
        start = b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 19900000\r\n\r\n"
        unfinished = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(40)]
        for one in unfinished:
            with contextlib.suppress(OSError):
                one.sendall(start + b"x" * 19_000_000)
        assert memory(process) - before < 450e6, "forty bodies are 760 MB"
        for one in unfinished:
            one.close()
        assert ask(port, "/search?k=1", picture(20, 40))[0] == 200


@pytest.mark.slow
def test_a_signal_ends_it_while_it_decodes(people: Path) -> None:
    """Pictures of the most pixels, ten at a time."""
    large = io.BytesIO()
    Image.effect_noise((7000, 7000), 80).convert("RGBA").resize((7000, 7000)).save(
        large, "TIFF", compression="tiff_lzw"
    )
    body = large.getvalue()[:19_000_000]
    with command(people, "rate=null") as (process, port), ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(ask, port, "/search?k=1", body) for _ in range(10)]
        time.sleep(3)
        said = ended(process)
        for one in waiting:
            one.exception(60)
    assert "Traceback" not in said
