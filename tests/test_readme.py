"""What README and docs show can be run: code blocks run, commands compose, links lead somewhere."""

import re
import shlex
import shutil
import warnings
from importlib import import_module
from pathlib import Path

import pytest
from commands import SMALL_WORLD, compose, type_in
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from trees import draw_image

from mpanet_pl.train import train

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands() -> list[tuple[str, list[str]]]:
    """(command, arguments) of every `python -m mpanet_pl.…` that a page shows, `…` left out."""
    found = []
    for page in PAGES:
        for name, rest in re.findall(r"-m mpanet_pl\.(\w+)((?: [^`|\n]*)?)", page.read_text()):
            arguments = shlex.split(rest.split("  #")[0].replace("\\", ""), comments=True)
            if "--config-dir" in arguments:
                continue  # of a project beside this one, whose own test runs its commands
            found.append((name, [word for word in arguments if "…" not in word and not word.startswith("-")]))
    return found


@pytest.mark.parametrize(
    ("name", "arguments"), [pytest.param(*case, id=" ".join([case[0], *case[1]])) for case in commands()]
)
def test_every_command_shown_composes(name: str, arguments: list[str]) -> None:
    if name in ("summarize", "compare"):
        return
    words = [word for word in arguments if "=" in word and not word.startswith("hydra")]
    compose(name, [first_of_the_sweep(word) for word in words])


def first_of_the_sweep(word: str) -> str:
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return word
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(override.sweep_string_iterator())
    return f"{override.get_key_element()}={first}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`]*`", "", page.read_text())  # in code, `](` calls what a list holds
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_sites_menu() -> None:
    menu = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    docs = ROOT / "docs"
    assert sorted(menu) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))


def test_the_site_fetches_nothing_from_elsewhere() -> None:
    assert "font: false" in (ROOT / "mkdocs.yml").read_text()
    assert "http" not in (ROOT / "mkdocs.yml").read_text()


def test_the_readme_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytorch_lightning.Trainer.__init__", _on_the_cpu(monkeypatch))
    _, code = blocks(ROOT / "README.md", "python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on a bare Trainer
        exec(compile(code, "README.md", "exec"), {})
    assert 0 <= float(capsys.readouterr().out.strip().splitlines()[-1]) <= 100


def _on_the_cpu(monkeypatch: pytest.MonkeyPatch, **more):
    import pytorch_lightning as pl

    original = pl.Trainer.__init__

    def initialise(self: pl.Trainer, **keys) -> None:
        original(
            self, **{"accelerator": "cpu", "enable_progress_bar": False, "enable_checkpointing": False, **more, **keys}
        )

    return initialise


def test_the_path_to_a_gallery_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Drawn world, checkpoint, gallery, page: the lines of docs/galleries.md, on a world of ten people."""
    run = tmp_path / "runs/synthetic/first"
    places = [f"data_dir={tmp_path}/data/synthetic", f"run_dir={run}"]
    train(compose("train", [*SMALL_WORLD, "trainer.max_epochs=1", *places]))
    shutil.copy(run / "checkpoints/last.ckpt", tmp_path / "last.ckpt")
    for number in range(4):
        draw_image(tmp_path / f"night/c3_{1000 + number}.png", number, infrared=True)
        draw_image(tmp_path / f"day/c{number % 2 + 1}_{1000 + number // 2}.png", number, infrared=False)
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs/galleries.md"
    lines = dict(re.findall(r"-m mpanet_pl\.(\w+) ([^#\n]+)", blocks(page, "bash")[0]))
    for name, device in {"embed": ["trainer=cpu"], "search": ["device=cpu"], "export": []}.items():
        task = getattr(import_module(f"mpanet_pl.{name}"), name)
        assert type_in(name, task, [*shlex.split(lines[name]), *device], monkeypatch) == 0
    assert (tmp_path / "answers/sheet.html").read_text().count("<section") == 4
    assert (tmp_path / "mpanet.onnx").exists()
    assert "gallery=people" in lines["serve"]
    capsys.readouterr()
    code, *_ = blocks(page, "python")
    exec(compile(code, page.name, "exec"), {})
    assert capsys.readouterr().out.strip() in ("0", "1")
    code, *_ = blocks(ROOT / "README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert re.fullmatch(r"\d{4} by night is \d{4} by day", capsys.readouterr().out.strip())


def test_the_page_on_a_trainer_of_ones_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pytorch_lightning.Trainer.__init__", _on_the_cpu(monkeypatch, enable_checkpointing=True))
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on a bare Trainer
        for code in blocks(ROOT / "docs/own_trainer.md", "python"):
            exec(compile(code, "own_trainer.md", "exec"), names)
    mAP, *size = capsys.readouterr().out.strip().splitlines()[-1].split(" ", 1)
    assert 0 <= float(mAP) <= 100
    assert size == ["torch.Size([96, 896])"]
