"""SIGKILL before each file of search, export and push takes its place: what is there is whole, and of one command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import save_checkpoint
from gallery.made import made
from gallery.test_sharing import made_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="no fork here")]
KILLED = """
import json, os, shutil, signal, sys
from importlib import import_module
from itertools import count
from pathlib import Path

replace = Path.replace
import hydra, torch  # and what else every child would import
import mpanet_pl.cli.command, mpanet_pl.gallery.answer_files, mpanet_pl.gallery.exporting, mpanet_pl.gallery.sharing

def work(turn, name, watched, words):
    places = iter(range(turn, -1, -1))

    def counted(path, target):
        if str(target).startswith(watched) and next(places) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = counted
    try:
        import_module(f"mpanet_pl.{name}").main([*words, f"out={watched}"])
    except SystemExit as ended:
        os._exit(ended.code or 0)
    os._exit(0)

for name, watched, words in json.loads(sys.argv[1]):
    for turn in count():
        child = os.fork() or work(turn, name, watched, words)
        ended = os.waitpid(child, 0)[1]
        if ended not in (0, signal.SIGKILL):
            sys.exit(f"{name}, turn {turn}, ended with {ended}")
        shutil.copytree(os.path.dirname(watched), f"{name}/{turn}")
        if not ended:
            break
"""


def after(folder: Path) -> list[dict[str, bytes]]:
    """The files after a kill before the first of them takes its place, the second, …, and after none."""
    turns = sorted(folder.iterdir(), key=lambda path: int(path.name))
    found = [{path.name: path for path in turn.rglob("*") if path.is_file()} for turn in turns]
    return [{name: path.read_bytes() for name, path in turn.items() if name[0] != "."} for turn in found]


def test_nothing_half_written_is_taken_for_whole(tmp_path: Path) -> None:
    made(tmp_path / "g", 40), made(tmp_path / "queries", 3, seed=1)
    names = {"results.parquet", "results.csv", "results.json", "sheet.html"}
    files = [*(f"of_search/answers/{name}" for name in names), "of_push/card/README.md", "of_export/mpanet.pt2"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("earlier")
    ckpt, thin = made_run(tmp_path / "run", "synthetic"), save_checkpoint(tmp_path / "thin.ckpt", trunk="resnet18_thin")
    search = [f"gallery={tmp_path}/g", f"queries={tmp_path}/queries", "device=cpu", "threshold=null"]
    commands = [
        ("search", f"{tmp_path}/of_search/answers", search),
        ("push", f"{tmp_path}/of_push/card", [f"ckpt={ckpt}"]),
        ("export", f"{tmp_path}/of_export/mpanet.pt2", [f"ckpt={thin}", "format=torch", "compact=null"]),
    ]
    line = [sys.executable, "-c", KILLED, json.dumps(commands)]
    subprocess.run(line, check=True, timeout=300, cwd=tmp_path, stdout=subprocess.DEVNULL)

    *cut, whole = after(tmp_path / "search")
    assert ([len(there) for there in cut], whole.keys()) == ([0, 1, 2, 3], names)
    assert all(there.items() <= whole.items() for there in cut)
    assert f"{tmp_path}/of_search/answers" in (tmp_path / "g/shown.json").read_text()
    *cut, whole = after(tmp_path / "push")
    assert [there.keys() for there in cut] == [set(), {"model.safetensors"}, {"model.safetensors", "config.json"}]
    assert all(there.items() <= whole.items() for there in cut)
    cut, whole = after(tmp_path / "export")
    assert (cut, len(whole["mpanet.pt2"]) > 1000) == ({"mpanet.pt2": b"earlier"}, True)
