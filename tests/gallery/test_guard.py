"""Who is let in: tokens, names, origins, rates, and how much may be sent for how long."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.testclient import TestClient

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.guard import LOOPBACK, Uploads, client_of, guarded, names_of, rate_of, tokens_of

WORD = "a word of some length"
FOREIGN = "ein längeres Wort, bitte"


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{FOREIGN.replace(' ', '-')}\n\nAnna Bolena 0123456789abcdef\n", encoding="utf-8")
    own = {FOREIGN.replace(" ", "-"): "", "0123456789abcdef": "Anna Bolena"}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tokens_of(file, {}) == tokens_of("~/tokens", {}) == own
    assert tokens_of(file, {"MPANET_TOKEN": WORD}) == {WORD: "", **own}
    assert tokens_of(None, {}) == tokens_of(None, {"MPANET_TOKEN": ""}) == {}
    for text, words in (("short\n", "at least 16"), ("\n", "holds no token")):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            tokens_of(file, {})
    with pytest.raises(UserError, match="cannot be read"):
        tokens_of(tmp_path / "gone", {})


def test_a_network_needs_a_token_and_names() -> None:
    assert names_of("127.0.0.1", [], {}) == list(LOOPBACK)
    for host, hosts in (("0.0.0.0", []), ("0.0.0.0", ["a.org"]), ("192.0.2.7", []), ("127.0.0.1", ["a.org"])):
        with pytest.raises(UserError, match="token_file"):
            names_of(host, hosts, {})
    with pytest.raises(UserError, match="under which names"):
        names_of("0.0.0.0", [], {WORD: ""})
    assert names_of("0.0.0.0", ["a.org"], {WORD: ""}) == [*LOOPBACK, "a.org"]
    assert names_of("192.0.2.7", [], {WORD: ""}) == [*LOOPBACK, "192.0.2.7"]


def application(**words: Any) -> FastAPI:
    app, uploads = FastAPI(), Uploads()
    guarded(app, **{"tokens": {}, "names": LOOPBACK, "rate": None} | words)

    @app.api_route("/user", methods=["GET", "POST"])
    async def user(request: Request) -> str:
        async with uploads.body(request) as body:
            return f"{request.state.user}, {len(body)}"

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(application(tokens={WORD: "Anna", FOREIGN: ""}), base_url="http://127.0.0.1:8000") as client:
        yield client


def test_only_who_has_a_token_is_let_in(client: TestClient) -> None:
    assert client.get("/healthz").json() == "ok"
    for given in ("", "Bearer", f"Bearer {WORD}x", f"Bearer {WORD[:-1]}", WORD, f"Basic {WORD}"):
        refused = client.get("/user", headers={"Authorization": given})
        assert (refused.status_code, "wants its token" in refused.json()["detail"]) == (401, True)
        assert refused.headers["www-authenticate"] == "Bearer"
    assert client.get("/user", headers={"Authorization": f"Bearer {WORD}"}).json() == "Anna, 0"
    for kind in ("utf-8", "latin-1"):  # curl's, and a page's that does not know better
        given = client.get("/user", headers={"Authorization": f"Bearer {FOREIGN}".encode(kind)})
        assert (given.status_code, given.json()) == (200, ", 0")


@pytest.mark.parametrize("name", ["evil.example", "testserver", "127.0.0.1.evil.example", "", "0.0.0.0"])
def test_another_name_is_not_served(client: TestClient, name: str) -> None:
    assert client.get("/healthz", headers={"Host": name}).status_code == 400


@pytest.mark.parametrize("name", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_these_names_are(client: TestClient, name: str) -> None:
    assert client.get("/healthz", headers={"Host": name}).status_code == 200


def test_another_sites_page_is_not_answered() -> None:
    with TestClient(application(), base_url="http://127.0.0.1:8000") as client:
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://[::1"},
            {"Origin": "//127.0.0.1:8000"},
            {"Origin": "http://127.0.0.1:9000"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        ):
            refused = client.post("/user", headers=headers)
            assert (refused.status_code, "other sites" in refused.json()["detail"]) == (403, True)
        own = {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}
        assert client.post("/user", headers=own).status_code == client.post("/user").status_code == 200
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        opened = client.get("/healthz", headers=link)
        assert opened.status_code == 200
        assert opened.headers["x-content-type-options"] == "nosniff"
        assert opened.headers["cache-control"] == "no-store"


def test_one_client_asks_so_often_and_others_still_may() -> None:
    app = application(rate=rate_of("3/minute"), tokens={WORD: ""})
    headers = {"Authorization": f"Bearer {WORD}"}
    base = "http://127.0.0.1"
    with TestClient(app, base_url=base, client=("192.0.2.1", 1)) as one:
        assert [one.get("/user", headers=headers).status_code for _ in range(3)] == [200] * 3
        refused = one.get("/user", headers={"Authorization": "Bearer guess"})  # a guess is asked, too
        assert (refused.status_code, 1 <= int(refused.headers["retry-after"]) <= 60) == (429, True)
        assert one.get("/healthz").status_code == 200
    with TestClient(app, base_url=base, client=("192.0.2.2", 1)) as other:
        assert other.get("/user", headers=headers).status_code == 200
    with pytest.raises(UserError, match="120/minute"):
        rate_of("many")


def test_one_client_is_one_address_or_one_network_of_ipv6() -> None:
    clients = [{"client": (host, 1)} for host in ("192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")]
    names = [client_of(scope) for scope in clients]
    assert names == ["192.0.2.1", "2001:db8::/64", "2001:db8::/64", "2001:db8:0:1::/64"]
    assert client_of({}) == "unknown"


@pytest.mark.parametrize("said", ["5", str(10**12), None])
def test_bytes_are_counted_as_they_come_whatever_is_said(client: TestClient, said: str | None) -> None:
    headers = {"Authorization": f"Bearer {WORD}"} | ({} if said is None else {"Content-Length": said})
    refused = client.post("/user", content=iter([b"x" * 5_000_000] * 5), headers=headers)
    assert (refused.status_code, refused.json()) == (413, {"detail": "An upload has at most 20 MB."})
    assert client.post("/user", content=iter([b"x" * 5_000_000] * 4), headers=headers).json() == "Anna, 20000000"


def request(chunks: AsyncIterator[bytes]) -> Request:
    async def receive() -> dict[str, Any]:
        chunk = await anext(chunks, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request({"type": "http", "headers": []}, receive)


def test_uploads_have_so_much_time_and_memory_together() -> None:
    uploads = Uploads(most=100, seconds=0.2)

    async def some(*parts: int, wait: float = 0) -> AsyncIterator[bytes]:
        for part in parts:
            yield b"x" * part
            await asyncio.sleep(wait)

    async def work() -> None:
        async with uploads.body(request(some(30, 30))) as body:
            assert (len(body), uploads.held) == (60, 60)
            with pytest.raises(HTTPException) as refused:
                async with uploads.body(request(some(30, 30))):
                    pass
            assert (refused.value.status_code, uploads.held) == (503, 60)
            async with uploads.body(request(some(40))) as other:
                assert len(other) == 40
        assert uploads.held == 0
        with pytest.raises(HTTPException) as late:
            async with uploads.body(request(some(*[1] * 50, wait=0.05))):
                pass
        assert (late.value.status_code, uploads.held) == (408, 0)

    asyncio.run(work())
