"""The service: the same answers as the search, bounds on what is handed in, and the page in a real browser."""

import io
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from checkpoints import draw_crops
from fastapi.testclient import TestClient
from PIL import Image

from mpanet_pl.errors import RunStopped
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.embedding import embed_images
from mpanet_pl.gallery.searching import open_queries, search
from mpanet_pl.gallery.serving import Engine, HeldGallery, create_app
from mpanet_pl.gallery.store import Gallery

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:pymilvus")
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def people(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    draw_crops(folder / "crops", 12)
    embed_images(embedder, folder / "crops", folder / "people", name=r"(?P<camera>\d+)_(?P<time>\d+)", shard_size=5)
    return folder / "people"


@pytest.fixture(scope="module", params=["held", "milvus"])
def client(request: pytest.FixtureRequest, people: Path, embedder: Embedder) -> Iterator[TestClient]:
    with ExitStack() as stack:
        engine: Engine = HeldGallery(people, "cpu")
        if request.param == "milvus":
            from mpanet_pl.gallery.milvus import copy_at, filled

            copy = copy_at(str(people.parent / "people.db"), "people", "FLAT")
            engine = stack.enter_context(filled(Gallery(people), copy))
        yield stack.enter_context(TestClient(create_app(engine, embedder)))


def test_it_answers_as_the_search_does(client: TestClient, people: Path) -> None:
    gallery = Gallery(people)
    crop = people.parent / "crops/2_1010.png"
    with open_queries(gallery, crop, device="cpu") as queries:
        expected = gallery.rows(search(gallery, queries, k=4).rows[0])["path"].to_pylist()
    by_id = client.post("/search", params={"id": "2_1010.png", "k": 4}).json()["answers"]
    assert [answer["path"] for answer in by_id] == expected
    by_upload = client.post("/search", params={"k": 5}, content=crop.read_bytes()).json()["answers"]
    assert [answer["path"] for answer in by_upload] == ["2_1010.png", *expected]
    assert by_upload[0]["score"] == pytest.approx(1, abs=1e-4)
    assert (by_upload[0]["camera"], by_upload[0]["time"]) == ("2", 1010.0)
    assert by_upload[0]["thumbnail"].startswith("data:image/jpeg;base64,")
    some = client.post("/search", params={"id": "1_1000.png", "camera": ["2", "3"], "after": 1050}).json()["answers"]
    assert {answer["camera"] for answer in some} == {"2", "3"}
    assert min(answer["time"] for answer in some) >= 1050


def test_many_at_once_get_each_their_own(client: TestClient, people: Path) -> None:
    crops = sorted((people.parent / "crops").iterdir()) * 3

    def ask(crop: Path) -> str:
        answers = client.post("/search", params={"k": 1}, content=crop.read_bytes()).json()["answers"]
        return answers[0]["path"]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, crops)) == [crop.name for crop in crops]


def picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("params", "body", "status", "sentence"),
    [
        ({}, b"", 400, "Give an image"),
        ({"id": "1_1000.png"}, b"x", 400, "not both"),
        ({"id": "../crops/1_1000.png"}, b"", 400, "no row ../crops/1_1000.png"),
        ({"modality": "radar", "id": "1_1000.png"}, b"", 400, "visible or infrared"),
        ({}, b"garbage", 400, "no image"),
        ({}, picture(8000, 8000), 400, "64 megapixels"),
        ({}, b"x" * 20_000_001, 413, "at most 20 MB"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(
    client: TestClient, params: dict[str, object], body: bytes, status: int, sentence: str
) -> None:
    refused = client.post("/search", params=params, content=body)
    assert refused.status_code == status
    assert sentence in refused.json()["detail"]
    assert client.post("/search", params={"id": "1_1000.png", "k": 1000}).status_code == 422
    assert client.get("/healthz").json() == {"status": "ok", "rows": 12}


def test_only_who_has_the_token_and_the_right_name_is_let_in(people: Path, embedder: Embedder) -> None:
    with TestClient(create_app(HeldGallery(people, "cpu"), embedder, token="word")) as client:
        assert client.post("/search", params={"id": "1_1000.png"}).status_code == 401
        assert client.get("/openapi.json").status_code == 401
        let_in = client.post("/search", params={"id": "1_1000.png"}, headers={"Authorization": "Bearer word"})
        assert let_in.status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 400


def test_nothing_is_fetched_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert "//" not in page.text.replace("// {", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/search" in client.get("/openapi.json").json()["paths"]


def test_a_fault_of_the_engine_is_a_sentence(people: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HeldGallery(people, "cpu")

    def dead(*_: object, **__: object) -> None:
        raise RunStopped("Milvus at http://there does not do it: gone")

    monkeypatch.setattr(engine, "search", dead)
    with TestClient(create_app(engine, embedder)) as client:
        refused = client.post("/search", params={"id": "1_1000.png"})
        assert (refused.status_code, refused.json()["detail"][:25]) == (503, "Milvus at http://there do")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_the_page_in_a_browser(people: Path, embedder: Embedder, tmp_path: Path) -> None:
    """By mouse and by keyboard, wide and on a phone's width: an image in, who answers, on from an answer."""
    import uvicorn
    from playwright.sync_api import expect, sync_playwright

    app = create_app(HeldGallery(people, "cpu"), embedder, token="word")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            for width, scheme in ((1100, "light"), (390, "dark")):
                page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
                faults: list[str] = []
                page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
                page.on("requestfailed", lambda request, faults=faults: faults.append(request.url))
                page.goto(f"http://127.0.0.1:{port}/#token=word")
                page.set_input_files("#file", people.parent / "crops/2_1010.png")
                first = page.locator("#answers button").first
                first.wait_for()
                assert "2_1010.png" in (first.get_attribute("title") or "")
                page.select_option("#camera", "3")
                expect(first).to_contain_text("camera 3")
                expect(page.locator("#answers button")).to_have_count(4)
                page.locator("#answers button").first.focus()
                page.keyboard.press("Tab")
                second = page.evaluate("document.activeElement.title")
                page.keyboard.press("Enter")
                expect(page.locator("#query")).to_have_text(second)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                expect(page.locator("#said")).to_contain_text("answers")
                page.screenshot(path=tmp_path / f"page_{width}.png")
                assert faults == []
                page.close()
            browser.close()
    finally:
        server.should_exit = True
        thread.join(20)


def test_a_held_gallery_is_the_gallery(people: Path) -> None:
    held, gallery = HeldGallery(people, "cpu"), Gallery(people)
    rows = np.array([11, 0, 5])
    assert held.rows(rows).equals(gallery.rows(rows))
    assert [block.start for block in held.blocks()] == [block.start for block in gallery.blocks()]
