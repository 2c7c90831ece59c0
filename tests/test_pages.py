"""README and docs: every block runs, in the order of its page, in a folder of its own; links lead somewhere."""

import os
import re
import sys
import time
from pathlib import Path

import pytest
from pages import MENU, PAGES, ROOT, Desk, blocks
from scripts_of import script

from mpanet_pl.__main__ import commands


@pytest.mark.slow
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    desk, faults = Desk(tmp_path), []
    for page in [page for page in PAGES if re.search(os.environ.get("MPANET_PAGE", ""), page.name)]:
        start = time.perf_counter()
        try:
            desk.run(page, monkeypatch)
        except (Exception, SystemExit) as fault:
            faults.append(f"{page.relative_to(ROOT)}: {type(fault).__name__}: {fault}; its last line is {desk.line}")
        print(f"{page.name}: {time.perf_counter() - start:.1f} s")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`]*`", "", page.read_text("utf-8"))  # in code, `](` calls what a list holds
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_sites_menu() -> None:
    docs = ROOT / "docs"
    assert sorted(MENU) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))


def test_the_page_of_commands_has_every_command() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/commands.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(commands())


def test_the_site_fetches_nothing_from_elsewhere() -> None:
    assert "font: false" in (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "http" not in (ROOT / "mkdocs.yml").read_text("utf-8")


def test_pip_installs_extras_that_there_are() -> None:
    extras = script("site_hooks").project()["optional-dependencies"]
    asked = [
        name for page in PAGES for block in blocks(page) for name in re.findall(r"pip install \S*\[(.*?)\]", block.text)
    ]
    assert {name for names in asked for name in names.split(",")} <= extras.keys()
    assert asked
