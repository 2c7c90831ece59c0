"""What pages say in numbers is what the files of docs/results say."""

import json
import re
from pathlib import Path

import pytest
from scripts_of import script

measure_docs = script("measure_docs")
ROOT = measure_docs.ROOT
RESULTS = sorted(measure_docs.RESULTS.glob("*.json"))


def test_pages_say_what_the_files_say(tmp_path: Path) -> None:
    for page in measure_docs.PAGES:
        assert measure_docs.rendered(page) == page.read_text("utf-8"), "python scripts/measure_docs.py --write"
    (tmp_path / "page.md").write_text("R1 <!-- = first_run.runs.0.r1 -->99.9<!-- / -->")
    first = json.loads((measure_docs.RESULTS / "first_run.json").read_text("utf-8"))["runs"][0]["r1"]
    assert f">{first}<" in measure_docs.rendered(tmp_path / "page.md")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_file_says_where_its_numbers_come_from(path: Path) -> None:
    result = json.loads(path.read_text("utf-8"))
    assert all(result[key] for key in ("command", "release", "machine", "date"))
    assert any(f"= {path.stem}." in page.read_text("utf-8") for page in measure_docs.PAGES), "no page shows it"


@pytest.mark.parametrize("path", [path for path in RESULTS if "page" in json.loads(path.read_text("utf-8"))])
def test_sentences_around_a_table_have_its_files_numbers(path: Path) -> None:
    text = path.read_text("utf-8")
    page = (ROOT / json.loads(text)["page"]).read_text("utf-8")
    prose = re.sub(r"<!-- = .*?<!-- / -->|```.*?```|`[^`]*`", "", page, flags=re.DOTALL)
    for number in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", prose):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", text), f"{number} of {page[:40]} is not in {path}"
