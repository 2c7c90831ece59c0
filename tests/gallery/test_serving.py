"""The service: the same answers as the search, of the generation that is there now, and sentences otherwise."""

import asyncio
import base64
import io
import json
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import draw_crops
from fastapi.testclient import TestClient
from gallery.made import made
from gallery.served import NAME, client_of, live, picture
from PIL import Image

from mpanet_pl import __version__
from mpanet_pl.errors import RunStopped
from mpanet_pl.gallery import request_handler, schemas
from mpanet_pl.gallery.access_log import AccessLog
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.engines import HeldGallery, Live
from mpanet_pl.gallery.forgetting import forget
from mpanet_pl.gallery.known import promise_of
from mpanet_pl.gallery.search_thread import Answerer
from mpanet_pl.gallery.searching import open_queries, search
from mpanet_pl.gallery.serving import create_app
from mpanet_pl.gallery.store import Gallery

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:pymilvus")


@pytest.fixture(scope="module")
def people(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    draw_crops(folder / "crops", 12)
    embed_images(embedder, folder / "crops", folder / "people", name=NAME, shard_size=5)
    return folder / "people"


@pytest.fixture
def changing(embedder: Embedder, tmp_path: Path) -> Path:
    draw_crops(tmp_path / "crops", 6)
    embed_images(embedder, tmp_path / "crops", tmp_path / "people", name=NAME, shard_size=4)
    return tmp_path / "people"


@pytest.fixture(scope="module", params=["held", "milvus"])
def client(request: pytest.FixtureRequest, people: Path, embedder: Embedder) -> Iterator[TestClient]:
    if request.param == "held":
        asked = live(people)
    else:
        from mpanet_pl.gallery.milvus import copy_at, filled

        copy = copy_at(str(people.parent / "people.db"), "people", "FLAT")
        asked = Live(people, lambda folder: filled(Gallery(folder), copy))
    with TestClient(create_app(asked, embedder), base_url="http://127.0.0.1") as client:
        yield client


def test_it_answers_as_the_search_does(client: TestClient, people: Path) -> None:
    gallery = Gallery(people)
    crop = people.parent / "crops/2_1010.png"
    with open_queries(gallery, crop, device="cpu") as queries:
        expected = gallery.rows(search(gallery, queries, k=4).rows[0])["path"].to_pylist()
    by_id = client.post("/search", params={"id": "2_1010.png", "k": 4}).json()
    assert [answer["path"] for answer in by_id["answers"]] == expected
    assert (by_id["generation"], by_id["rows"], by_id["unfinished"]) == (gallery.generation, 12, "")
    by_upload = client.post("/search", params={"k": 5}, content=crop.read_bytes()).json()["answers"]
    assert [answer["path"] for answer in by_upload] == ["2_1010.png", *expected]
    assert by_upload[0]["score"] == pytest.approx(1, abs=1e-4)
    assert (by_upload[0]["camera"], by_upload[0]["time"]) == ("2", 1010.0)
    assert by_upload[0]["thumbnail"].startswith("data:image/jpeg;base64,")
    some = client.post("/search", params={"id": "1_1000.png", "camera": ["2", "3"], "after": 1050}).json()["answers"]
    assert {answer["camera"] for answer in some} == {"2", "3"}
    assert min(answer["time"] for answer in some) >= 1050
    others = client.post("/search", params={"id": "1_1000.png", "other_camera": True}).json()["answers"]
    assert {answer["camera"] for answer in others} == {"2", "3"}


def test_many_at_once_get_each_their_own(client: TestClient, people: Path) -> None:
    crops = sorted((people.parent / "crops").iterdir()) * 2

    def ask(crop: Path) -> str:
        answers = client.post("/search", params={"k": 1}, content=crop.read_bytes()).json()["answers"]
        return answers[0]["path"]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, crops)) == [crop.name for crop in crops]


def test_one_bad_query_does_not_stop_the_others(client: TestClient, people: Path) -> None:
    image = base64.b64encode((people.parent / "crops/2_1010.png").read_bytes()).decode()
    asked = [{"id": "1_1000.png"}, {"id": "gone.png"}, {"image": "AAAA"}, {"image": image}, {}]
    many = client.post("/search/many", params={"k": 2}, json={"queries": asked}).json()
    one = client.post("/search", params={"id": "1_1000.png", "k": 2, "thumbnails": False}).json()["answers"]
    results = many["results"]
    assert [answer["path"] for answer in results[0]["answers"]] == [answer["path"] for answer in one]
    assert (len(one), results[0]["error"]) == (2, None)
    assert results[3]["answers"][0]["path"] == "2_1010.png"
    errors = [results[number]["error"] for number in (1, 2, 4)]
    assert ["no row gone.png" in errors[0], "no JPEG" in errors[1], "Give an image" in errors[2]] == [True] * 3
    too_many = json.dumps({"queries": asked[:1] * (schemas.MOST_QUERIES + 1)}).encode()
    for wrong in (b"", b"{}", b'{"queries": []}', b'{"queries": [{"image": 7}]}', b"[" * 9000, too_many):
        refused = client.post("/search/many", content=wrong)
        assert (refused.status_code, type(refused.json()["detail"])) == (422, str)


@pytest.mark.parametrize(
    ("params", "body", "status", "sentence"),
    [
        ({}, b"", 400, "Give an image"),
        ({"id": "1_1000.png"}, b"x", 400, "not both"),
        ({"id": "../crops/1_1000.png"}, b"", 400, "no row ../crops/1_1000.png"),
        ({"modality": "radar", "id": "1_1000.png"}, b"", 400, "visible or infrared"),
        ({}, b"garbage", 400, "no JPEG, PNG"),
        ({}, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "no JPEG, PNG"),
        ({}, picture(8000, 8000), 400, "64 megapixels"),
        ({}, b"x" * 20_000_001, 413, "at most 20 MB"),
        ({"id": "1_1000.png", "k": 1000}, b"", 422, "k: Input should be less than or equal to 100"),
        ({"id": "1_1000.png", "after": "nan"}, b"", 422, "after: Input should be a finite number"),
        ({"id": "1_1000.png", "camera": "9" * 5000}, b"", 422, "camera"),
        ({"id": "1_1000.png", "camera": ["1"] * 101}, b"", 422, "camera"),
        ({"id": "a" * 50_000}, b"", 422, "id"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(
    client: TestClient, params: dict[str, object], body: bytes, status: int, sentence: str
) -> None:
    refused = client.post("/search", params=params, content=body)
    assert (refused.status_code, sentence in refused.json()["detail"]) == (status, True), refused.text


def test_a_threshold_says_what_it_promises_among_the_people_there_are(
    people: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the generation that is asked, not of the one at the start."""
    monkeypatch.setattr(
        request_handler, "limit_of", lambda gallery, asked: len(gallery) / 20 if asked == "auto" else asked
    )
    with client_of(people, embedder) as client:
        answers = client.post("/search", params={"id": "1_1000.png"}).json()["answers"]
        assert [answer["known"] for answer in answers] == [answer["score"] >= 0.6 for answer in answers]
        assert client.get("/about").json()["threshold"] == 0.6
        told = client.get("/promise", params={"threshold": 0.25}).json()
        assert told == {
            "generation": Gallery(people).generation,
            "threshold": 0.25,
            "known": promise_of(Gallery(people), 0.25),
        }
        assert client.get("/promise", params={"threshold": "nan"}).status_code == 422
    with client_of(people, embedder, threshold=None) as client:
        assert client.post("/search", params={"id": "1_1000.png"}).json()["answers"][0]["known"] is None


def test_rows_are_browsed_the_newest_first(client: TestClient, people: Path) -> None:
    rows = sorted(Gallery(people).columns("path", "time", "camera").to_pylist(), key=lambda row: -row["time"])
    some = client.get("/rows", params={"offset": 2, "k": 3}).json()
    assert [row["path"] for row in some["answers"]] == [row["path"] for row in rows[2:5]]
    assert (some["matching"], some["rows"]) == (12, 12)
    of_one = client.get("/rows", params={"not_camera": ["1", "2"]}).json()
    assert [row["path"] for row in of_one["answers"]] == [row["path"] for row in rows if row["camera"] == "3"]
    assert client.get("/rows", params={"offset": 99}).json()["answers"] == []


def test_pictures_are_those_of_rows_below_the_root(embedder: Embedder, changing: Path) -> None:
    Image.new("RGB", (600, 1200)).save(changing.parent / "passport.png")
    (changing.parent / "crops/1_1050.png").symlink_to(changing.parent / "passport.png")
    for name, size in (("2_1000.png", (1200, 600)), ("2_1001.png", (600, 1200))):
        Image.new("RGB", size).save(changing.parent / "crops" / name)
    embed_images(embedder, changing.parent / "crops", changing, name=NAME)
    with client_of(changing, embedder) as client:
        known = client.get("/picture", params={"id": "1_1000.png"})
        assert Image.open(io.BytesIO(known.content)).format == known.headers["content-type"].split("/")[1].upper()
        for name, size in (("2_1000.png", (1024, 512)), ("2_1001.png", (512, 1024))):
            large = client.get("/picture", params={"id": name}).content
            assert Image.open(io.BytesIO(large)).size == size
        names = ["", "gone.png", "/etc/passwd", "../passport.png", "/proc/self/mem", "1_1000.png\0", "a" * 50_000]
        answers = [client.get("/picture", params={"id": name}) for name in [*names, "1_1050.png"]]
        assert {(answer.status_code, answer.json()["detail"][:22]) for answer in answers} == {
            (404, "The gallery has no pic")
        }
        shown = {row["path"]: row["thumbnail"] for row in client.get("/rows").json()["answers"]}
        assert [path for path, thumbnail in shown.items() if thumbnail is None] == ["1_1050.png"]


def test_openapi_says_what_is_answered(client: TestClient, people: Path, embedder: Embedder) -> None:
    said = client.get("/openapi.json").json()
    assert said["info"]["version"] == __version__
    assert "securitySchemes" not in said["components"]
    for path in ("/search", "/search/many", "/rows", "/about", "/healthz"):
        (operation,) = said["paths"][path].values()
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        method = next(iter(said["paths"][path]))
        asked = {"json": {"queries": [{"id": "1_1000.png"}]}} if path == "/search/many" else {}
        given = client.request(method, path, params={"id": "1_1000.png"} if path == "/search" else {}, **asked).json()
        assert given.keys() == said["components"]["schemas"][answer]["properties"].keys()
    picture = client.get("/picture", params={"id": "1_1000.png"}).headers["content-type"]
    assert picture in said["paths"]["/picture"]["get"]["responses"]["200"]["content"]
    for methods in said["paths"].values():
        ((method, operation),) = methods.items()
        for status, answer in operation["responses"].items():
            if status != "200":
                assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Refusal"}, (
                    status
                )
    search = said["paths"]["/search"]["post"]
    assert {"400", "401", "403", "408", "413", "422", "429", "503"} < search["responses"].keys()
    assert "image/jpeg" in search["requestBody"]["content"]
    app = create_app(live(people), embedder, tokens={"t" * 16: ""})
    with_token = app.openapi()
    assert with_token["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert with_token["paths"]["/search"]["post"]["security"] == [{"HTTPBearer": []}]


def test_nothing_is_fetched_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert "//" not in page.text.replace("// ", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_fault_of_the_engine_is_a_sentence(people: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_: object, **__: object) -> None:
        raise RunStopped("Milvus at http://there refused the request: gone")

    monkeypatch.setattr(HeldGallery, "search", dead)
    with client_of(people, embedder) as client:
        refused = client.post("/search", params={"id": "1_1000.png"})
        assert (refused.status_code, refused.json()["detail"][:25]) == (503, "Milvus at http://there re")


def paths(client: TestClient, crop: Path) -> list[str]:
    answers = client.post("/search", params={"k": 50}, content=crop.read_bytes()).json()["answers"]
    return sorted(answer["path"] for answer in answers)


def test_whoever_is_forgotten_or_embedded_meanwhile_is_noticed(embedder: Embedder, changing: Path) -> None:
    crops = changing.parent / "crops"
    with client_of(changing, embedder) as client:
        before = client.get("/healthz").json()
        assert before == {"status": "ok", "rows": 6, "generation": Gallery(changing).generation}
        assert paths(client, crops / "1_1000.png") == sorted(path.name for path in crops.iterdir())
        assert forget(changing, path=["1_1000.png"])
        assert client.post("/search", params={"id": "1_1000.png"}).status_code == 400
        assert client.get("/picture", params={"id": "1_1000.png"}).status_code == 404
        left = sorted(path.name for path in crops.iterdir() if path.name != "1_1000.png")
        assert paths(client, crops / "1_1000.png") == left
        for path in left:  # each answers as itself
            again = client.post("/search", params={"k": 1}, content=(crops / path).read_bytes()).json()
            assert again["answers"][0]["path"] == path
            assert path not in [row["path"] for row in client.post("/search", params={"id": path}).json()["answers"]]
        after = client.get("/healthz").json()
        assert (after["rows"], after["generation"] != before["generation"]) == (5, True)
        assert len(client.get("/rows").json()["answers"]) == client.get("/about").json()["rows"] == 5
        draw_crops(crops, 9)
        embed_images(embedder, crops, changing, name=NAME)
        assert client.get("/healthz").json()["rows"] == 9
        assert len(paths(client, crops / "2_1010.png")) == 9


def test_a_milvus_is_filled_anew_once_the_gallery_changed(embedder: Embedder, changing: Path) -> None:
    from mpanet_pl.gallery.milvus import copy_at, filled

    crop, copy = changing.parent / "crops/1_1000.png", copy_at(str(changing.parent / "people.db"), "people", "FLAT")
    asked = Live(changing, lambda folder: filled(Gallery(folder), copy))
    with TestClient(create_app(asked, embedder), base_url="http://127.0.0.1") as client:
        everybody = paths(client, crop)
        assert len(everybody) == 6
        forget(changing, path=["1_1000.png"])
        assert paths(client, crop) == everybody[1:]
        assert client.post("/search", params={"id": "1_1000.png"}).status_code == 400
        assert client.get("/healthz").json()["rows"] == 5


def test_a_change_between_search_and_answer_is_never_answered(
    embedder: Embedder, changing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is forgotten after the search, before the answer leaves, is in no answer."""
    crops, turn = changing.parent / "crops", iter(["2_1010.png", "3_1020.png"])
    search = HeldGallery.search

    def interrupted(*arguments: object, **words: object) -> object:
        found = search(*arguments, **words)
        if (name := next(turn, None)) is not None:
            forget(changing, path=[name])
        return found

    monkeypatch.setattr(HeldGallery, "search", interrupted)
    with client_of(changing, embedder) as client:
        assert paths(client, crops / "1_1000.png") == ["1_1000.png", "1_1030.png", "2_1040.png", "3_1050.png"]
    endless = threading.Event()
    monkeypatch.setattr(Gallery, "current", property(lambda self: endless.is_set()))
    with client_of(changing, embedder) as client:
        refused = client.post("/search", params={"id": "1_1000.png"})
        assert (refused.status_code, refused.json()["detail"]) == (503, "The gallery is being changed: ask again.")


def test_a_gallery_made_anew_by_another_network_is_not_asked(embedder: Embedder, changing: Path) -> None:
    with client_of(changing, embedder) as client:
        assert client.get("/healthz").status_code == 200
        record = json.loads((changing / "record.json").read_text())
        (changing / "record.json").write_text(json.dumps(record | {"checkpoint": "another"}))
        for refused in (client.get("/healthz"), client.post("/search", params={"id": "1_1000.png"})):
            assert refused.status_code == 503
            assert "another" in refused.json()["detail"]
        changing.rename(changing.parent / "elsewhere")
        for refused in (client.get("/healthz"), client.post("/search", params={"id": "1_1000.png"})):
            assert (refused.status_code, "cannot be read now" in refused.json()["detail"]) == (503, True)


def test_answers_are_logged_before_they_leave(people: Path, embedder: Embedder, tmp_path: Path) -> None:
    import hashlib

    crop = (people.parent / "crops/2_1010.png").read_bytes()
    with client_of(people, embedder, log=AccessLog("on", tmp_path / "log")) as client:
        shown = client.post("/search", params={"k": 2, "camera": "1"}, content=crop).json()["answers"]
        client.get("/rows", params={"k": 1})
        client.get("/picture", params={"id": "1_1000.png"})
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        assert [line["asked"] for line in lines] == ["search", "browse", "picture"]
        assert lines[0]["query"] == [f"sha256:{hashlib.sha256(crop).hexdigest()}"]
        assert lines[0]["shown"] == [answer["path"] for answer in shown]
        assert (lines[0]["only"], lines[0]["client"]) == ({"cameras": ["1"]}, "testclient")
        (tmp_path / "log").unlink()
        (tmp_path / "log").mkdir()
        assert client.post("/search", params={"id": "1_1000.png"}).status_code == 503


def test_no_disk_is_waited_for_by_those_who_do_not_ask_it(
    people: Path, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's file system may take its time, meanwhile others are answered."""
    touched: dict[str, bool] = {}

    def watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*arguments: Any, **words: Any) -> Any:
            with suppress(RuntimeError):  # where no loop runs
                asyncio.get_running_loop()
                touched[name] = True
            touched.setdefault(name, False)
            return work(*arguments, **words)

        return watch

    monkeypatch.setattr(Gallery, "unfinished", property(watched("plan", Gallery.unfinished.fget)))
    monkeypatch.setattr(Gallery, "current", property(watched("stamps", Gallery.current.fget)))
    monkeypatch.setattr(request_handler, "limit_of", watched("identities", request_handler.limit_of))
    log = AccessLog("on", tmp_path / "access.log")
    monkeypatch.setattr(log, "_append", watched("log", log._append))
    with client_of(people, embedder, log=log) as client:
        row = client.get("/rows?k=1").json()["answers"][0]["path"]
        for asked in ("/about", "/healthz", "/promise?threshold=0.5", f"/picture?id={row}"):
            assert client.get(asked).status_code == 200, asked
        assert client.post(f"/search?id={row}").status_code == 200
    assert touched == dict.fromkeys(["stamps", "plan", "identities", "log"], False)


def test_a_generation_leaves_the_memory_before_the_next_one_is_opened(tmp_path: Path) -> None:
    folder, opened, events = made(tmp_path / "g", 6).folder, list[weakref.ref](), list[str]()

    @contextmanager
    def open_engine(folder: Path) -> Iterator[HeldGallery]:
        assert [held() for held in opened] == [None] * len(opened)
        opened.append(weakref.ref(engine := HeldGallery(folder, "cpu")))
        events.append("opened")
        yield engine
        events.append("closed")

    asked = Live(folder, open_engine)
    assert asked.engine() is asked.engine() is asked.gallery()
    forget(folder, path=["1.png"])
    assert len(asked.gallery()) == len(asked.engine().gallery) == 5
    asked.close()
    assert events == ["opened", "closed"] * 2
    assert len(asked.gallery()) == 5


def test_a_search_that_does_not_end_keeps_no_process(people: Path, embedder: Embedder) -> None:
    before = set(threading.enumerate())
    answerer = Answerer(live(people), embedder)
    answerer.start()
    (thread,) = set(threading.enumerate()) - before
    is_daemon = thread.daemon
    answerer.stop()
    assert is_daemon
    assert not thread.is_alive(), "where it ends, it is waited for"


def test_a_held_gallery_is_the_gallery(people: Path) -> None:
    held, gallery = HeldGallery(people, "cpu"), Gallery(people)
    rows = np.array([11, 0, 5])
    assert held.rows(rows).equals(gallery.rows(rows))
    assert held.columns("time", "path").to_pylist() == gallery.columns("time", "path").to_pylist()
    assert [block.start for block in held.blocks()] == [block.start for block in gallery.blocks()]
    np.testing.assert_array_equal(held.vectors(rows), gallery.vectors(rows))
    np.testing.assert_allclose(held.query("1_1030.png").vectors, gallery.vectors([1]), atol=1e-3)
    assert Live(people, lambda folder: nullcontext(HeldGallery(folder, "cpu"))).gallery().generation == held.generation
