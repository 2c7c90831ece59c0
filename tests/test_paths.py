"""Three people's ways through the package: the lines of `examples/*.sh`, each on people drawn in its layout."""

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from pages import ROOT, Block, Desk, command_of, lines

pytestmark = pytest.mark.slow
LEAVES = {
    "student": ["runs/first/index.html", "comparison/comparison.md"],
    "researcher": ["comparison/comparison.tex", "mpanet.npz", "runs/again/results.json"],
    "engineer": ["answers/sheet.html", "network.onnx", "forgotten.json"],
}


def draw(name: str) -> None:
    """What a person has at hand."""
    if name == "researcher":
        Desk(Path("desk")).command("synthesize", ["out=SYSU-MM01", "layout=sysu"], Path.cwd())
    if name == "engineer":
        desk = Desk(Path("desk"))
        desk.command("train", ["run_dir=runs/first"], Path.cwd())
        shutil.copy("runs/first/checkpoints/last.ckpt", "network.ckpt")
        desk.command("synthesize", ["out=drawn", "layout=folder"], Path.cwd())
        shutil.move("drawn/test", "crops")


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_path_is_walked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw(name)
    desk, script = Desk(tmp_path / "desk"), ROOT / f"examples/{name}.sh"
    walked = 0
    for words, here in lines(Block(script, 1, "sh", script.read_text("utf-8"))):
        command = command_of(words)
        assert command, words
        if here:
            desk.command(*command, tmp_path)
            walked += 1
        else:
            import_module(f"mpanet_pl.{command[0]}")
    assert walked >= 4
    assert [path for path in LEAVES[name] if not (tmp_path / path).is_file()] == []
    if name == "researcher":
        ours, again = (json.loads((tmp_path / f"runs/{run}/results.json").read_text()) for run in ("reranked", "again"))
        assert ours["scores"] != {} != again["scores"]
