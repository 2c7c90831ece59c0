"""The page in a real browser: by mouse and by keyboard, wide and on a phone, light and dark."""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from checkpoints import draw_crops
from gallery.served import Here, live, until
from gallery.test_two_streams import TWO

from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.listening import server_of
from mpanet_pl.gallery.serving import create_app

CHROMIUM = shutil.which("chromium")
WORD = "ein Wort für alle"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]
SHOWN = "#answers li > button:first-child"


@pytest.fixture(scope="module")
def people(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty crops of three cameras, an hour apart in 2026, of two people, the last of whom is nobody known."""
    folder = tmp_path_factory.mktemp("people")
    crops = sorted(draw_crops(folder / "crops", 30).iterdir())
    lines = [
        f"crops/{crop.name},{crop.name[0]},2026-01-31T{number % 24:02d}:00:00,{'AB'[number % 2] if number else ''}"
        for number, crop in enumerate(crops)
    ]
    (folder / "list.csv").write_text("\n".join(["path,camera,time,identity", *lines]))
    embed_images(embedder, folder / "list.csv", folder / "people")
    return folder / "people"


@contextmanager
def served(people: Path, embedder: Embedder, **words: Any) -> Iterator[str]:
    server = server_of(create_app(live(people), embedder, decoder=Here(), **words), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(params=[(1200, "light"), (390, "dark")], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest) -> Iterator[Any]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)
    width, scheme = request.param
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(30_000)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        yield page
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        assert [fault for fault in faults if "status of 40" not in fault] == []
        browser.close()


def titles(page: Any) -> list[str]:
    return [button.get_attribute("title") for button in page.locator(SHOWN).all()]


def test_from_an_image_on_and_back(page: Any, people: Path, embedder: Embedder, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    with served(people, embedder, threshold=0.99) as address:
        page.goto(address)
        expect(page.locator("#said")).to_contain_text("24 of 30 rows, the newest first")
        expect(page.locator(SHOWN).first).to_contain_text("2026-01-31 23:00:00 UTC")
        page.click("#more")
        expect(page.locator(SHOWN)).to_have_count(30)
        page.set_input_files("#file", people.parent / "crops/2_1010.png")
        expect(page.locator(SHOWN).first).to_have_attribute("title", "crops/2_1010.png")
        expect(page.locator(SHOWN)).to_have_count(12)
        box = page.locator(f"{SHOWN} img").first.bounding_box()
        assert box["height"] >= 230, "a picture is too small to see anybody"
        page.locator(SHOWN).nth(1).focus()
        page.keyboard.press("ArrowRight")
        asked = page.evaluate("document.activeElement.title")
        assert asked == titles(page)[2]
        page.keyboard.press("Enter")
        expect(page.locator("#query figcaption")).to_have_text(asked)
        expect(page.locator(SHOWN)).to_have_count(12)
        expect(page.locator(SHOWN).first).to_be_focused()
        marks = page.locator("#answers .right, #answers .wrong")
        assert marks.count() >= 11
        found = titles(page)
        page.screenshot(path=tmp_path / "row.png")
        link = page.url
        page.go_back()
        expect(page.locator("#query figcaption")).to_have_text("2_1010.png")
        expect(page.locator(SHOWN)).to_have_count(12)
        page.go_back()
        expect(page.locator("#what")).to_have_text("The gallery")
        page.goto("about:blank")
        page.goto(link)
        expect(page.locator("#query figcaption")).to_have_text(asked)
        expect(page.locator(SHOWN)).to_have_count(12)
        assert titles(page) == found
        page.locator(".large").first.click()
        expect(page.locator("#picture")).to_be_visible()
        page.keyboard.press("Escape")
        page.click("#browse")
        expect(page.locator("#said")).to_contain_text("24 of 30 rows")


def test_who_may_answer_and_who_is_known(page: Any, people: Path, embedder: Embedder) -> None:
    from playwright.sync_api import expect

    with served(people, embedder, threshold=0.99) as address:
        page.goto(f"{address}?id=crops/1_1000.png&k=48")
        expect(page.locator(SHOWN)).to_have_count(29)
        if not page.evaluate("document.getElementById('filters').open"):
            page.click("summary")
        one, two = (page.locator(f"#cameras button[value='{camera}']") for camera in "12")
        for presses, cameras, count in (
            ((one, two), "12", 19),
            ((one,), "2", 10),
            ((one, two), "13", 19),
            ((two,), "123", 29),
        ):
            for press in presses:
                press.click()
            expect(page.locator("#said")).to_contain_text(f"{count} answers of 30")
            assert {title.split("/")[1][0] for title in titles(page)} == set(cameras)
        page.check("#other_camera")
        expect(page.locator("#said")).to_contain_text("20 answers")
        page.uncheck("#other_camera")
        page.fill("#after", "2026-01-31T20:00:00")
        page.keyboard.press("Tab")
        expect(page.locator("#said")).to_contain_text("4 answers of 30 rows")
        assert "after=1769889600" in page.url
        page.reload()
        expect(page.locator("#said")).to_contain_text("4 answers of 30 rows")
        if not page.evaluate("document.getElementById('filters').open"):
            page.click("summary")
        assert page.input_value("#after").startswith("2026-01-31T20:00")
        page.click("#clear")
        expect(page.locator(SHOWN)).to_have_count(12)
        expect(page.locator("#promise")).to_contain_text("known from a cosine of 0.990")
        for value, text in (("0", "known"), ("1", "unknown")):
            page.evaluate(f"threshold.value = {value}; threshold.dispatchEvent(new Event('input'))")
            marks = page.locator("#answers .mark").all_text_contents()
            assert marks == [text] * 12
        expect(page.locator("#promise")).to_contain_text("known from a cosine of 1.000")


def test_a_failed_upload_shows_no_old_answers_and_a_token_is_asked_for(
    page: Any, people: Path, embedder: Embedder, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    (tmp_path / "broken.png").write_bytes(b"garbage")
    with served(people, embedder, tokens={WORD: "Anna"}) as address:
        page.goto(address)
        for word in ("wrong", WORD):
            expect(page.locator("#door")).to_be_visible()
            page.fill("#token", word)
            page.keyboard.press("Enter")
        expect(page.locator(SHOWN)).to_have_count(24)
        assert not re.search("Wort|token", page.url)
        page.set_input_files("#file", tmp_path / "broken.png")
        expect(page.locator("#note")).to_contain_text("no JPEG")
        expect(page.locator(SHOWN)).to_have_count(0)
        expect(page.locator("#promise")).to_contain_text("No threshold")
        assert page.locator(".mark.known").count() == 0
        page.go_back()
        expect(page.locator(SHOWN)).to_have_count(24)


def test_a_network_of_two_streams_asks_for_the_modality(page: Any, tmp_path: Path) -> None:
    from checkpoints import save_checkpoint
    from playwright.sync_api import expect

    from mpanet_pl.gallery.embedder import load

    two = load(save_checkpoint(tmp_path / "two.ckpt", trunk=TWO), device="cpu")
    draw_crops(tmp_path / "crops/ir", 4)
    embed_images(two, tmp_path / "crops", tmp_path / "people", name="(?P<modality>ir|rgb)/")
    with served(tmp_path / "people", two) as address:
        page.goto(address)
        expect(page.locator(SHOWN)).to_have_count(4)
        page.set_input_files("#file", tmp_path / "crops/ir/2_1010.png")
        expect(page.locator("#note")).to_contain_text("visible or infrared")
        page.select_option("#infrared", "true")
        expect(page.locator(SHOWN).first).to_contain_text("1: 1.000")
