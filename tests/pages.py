"""The blocks of README and docs, and how each is run in a folder of its own.

A page is self-contained: what a line needs, a line before it makes. A line is run, unless a comment at its end, or at
the head of its block, says why it cannot be here: `# needs SYSU-MM01`, `# takes an hour`, `# until Ctrl-C`. Then its
keys are checked instead.
"""

import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from mpanet_pl.cli.configuration import check
from mpanet_pl.cli.conforming import COMMANDS
from mpanet_pl.cli.overrides import readable
from mpanet_pl.evaluate import ALSO_CALLED

ROOT = Path(__file__).parents[1]
MENU = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
PAGES = [ROOT / "README.md", *(ROOT / "docs" / page for page in MENU)]
ELSEWHERE = re.compile(r"# ?(needs|takes|until) ")
SHELLS = ("", "bash", "sh")
NOT_OURS = ("pip", "git", "cd", ".", "python3", "curl", "srun", "openssl", "chmod")
CPU = ["trainer.accelerator=cpu", "trainer.precision=32-true"]
SMALL = ["data.height=48", "data.width=24", "data.identities_per_batch=2", "data.images_per_identity=4"]
SMALL += ["trainer.max_epochs=1", "trainer.log_every_n_steps=1", "validation.start=1", *CPU]
SMALL += ["trainer.check_val_every_n_epoch=1", "model.network.pretrained=false", "pictures=false"]
WORLD = [f"data.dataset.{key}" for key in ("identities=10", "images_per_camera=2", "test_share=0.4", "height=48")]
WORLD += ["data.dataset.width=24"]


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str

    @property
    def elsewhere(self) -> bool:
        return bool(ELSEWHERE.match(self.text))

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    text = page.read_text("utf-8")
    found = re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    each = [Block(page, text[: one.start()].count("\n") + 2, one[1], one[2]) for one in found]
    return [block for block in each if language in (None, block.language)]


def lines(block: Block) -> Iterator[tuple[list[str], bool]]:
    """The words of each command of a shell's block, and whether it is run."""
    if block.language not in SHELLS or "python -m mpanet_pl" not in block.text:
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        here = not block.elsewhere and not re.search(ELSEWHERE.pattern, line)
        for part in re.split(r" && |; do |; then ", line.split("  #")[0].split(" # ")[0]):
            words = shlex.split(part.strip(), comments=True)
            if words:
                yield words, here


def command_of(words: list[str]) -> tuple[str, list[str]] | None:
    """The command of this package on a line, behind whatever launches it, and what is typed after it."""
    for place, word in enumerate(words):
        if word.startswith("mpanet_pl.") and words[place - 1] == "-m":
            return word.removeprefix("mpanet_pl."), words[place + 1 :]
    return None


def check_keys(name: str, typed: list[str]) -> None:
    """Keys and values of a line that is not run; its paths, and what the shell puts in, stand for themselves."""
    typed = [
        word.replace("$seed", "1").replace("…", "x") for word in typed if word not in ("$@", "…") and "$@" not in word
    ]
    folder = typed[typed.index("--config-dir") + 1] if "--config-dir" in typed else None
    if name in COMMANDS and folder is None and "--help" not in typed and not any("$run" in word for word in typed):
        words = [ALSO_CALLED.get(word, word) for word in typed if "=" in word and not word.startswith("-")]
        several = "-m" in typed
        check(name, [readable(name, word, several=several) for word in words], several=several)


def smaller(name: str, typed: list[str]) -> list[str]:
    """Of what a line asks for, only as much as shows that it runs."""
    asked = {word.lstrip("+").partition("=")[0] for word in typed}
    if name == "synthesize":
        more = ["identities=10", "images_per_camera=2", "height=48", "width=24", "workers=1"]
        typed = [word for word in typed if word not in ("scale=full",)]
        return [*typed, *(key for key in more if key.split("=")[0] not in asked)]
    if name == "train" and "resume" not in asked:
        typed = [word for word in typed if word.split("=")[0] not in ("trainer.max_epochs",)]
        trunk = [] if "model.network.trunk" in asked or "method=agw" in typed else ["model.network.trunk=resnet18_thin"]
        return [*typed, *SMALL, *trunk, *(WORLD if "dataset" not in asked else [])]
    if name in ("evaluate", "embed"):
        return [*typed, *CPU]
    return typed


class Desk:
    """A folder for each page. A line that an earlier page ran already is not run again: its files are copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.line = ""  # that is run now
        self.made: dict[str, dict[Path, Path]] = {}

    def run(self, page: Path, monkeypatch: Any) -> None:
        monkeypatch.setenv("MPANET_CACHE", str(self.folder / "cache"))
        place = self.folder / "_".join(page.relative_to(ROOT).with_suffix("").parts)
        place.mkdir(parents=True)
        monkeypatch.chdir(place)
        for name in [name for name in sys.modules if name.startswith("my_")]:  # another page's
            monkeypatch.delitem(sys.modules, name)
        names: dict[str, Any] = {}
        for block in blocks(page):
            if block.language == "python":
                self._python(block, names)
            elif block.language == "yaml" and (named := re.match(r"(?:# @package \S+\n)?# (my_\S+\.yaml)", block.text)):
                (place / named[1]).parent.mkdir(parents=True, exist_ok=True)
                (place / named[1]).write_text(block.text)
            for words, here in lines(block):
                found = command_of(words)
                if found is None:
                    assert words[0] in (*NOT_OURS, "if", "for", "done", "run=/shared/runs/sysu_1", "fi", "set"), (
                        f"{block}: {words}"
                    )
                elif here and "--help" not in found[1]:
                    self.command(*found, place)
                else:
                    check_keys(*found)

    @staticmethod
    def _python(block: Block, names: dict[str, Any]) -> None:
        code = compile(block.text, str(block), "exec")
        if named := re.match(r"# (\w+\.py)\n", block.text):
            Path(named[1]).write_text(block.text)
        elif not block.elsewhere:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Lightning's advice on a bare Trainer
                exec(code, names)

    def command(self, name: str, typed: list[str], place: Path) -> None:
        line = self.line = shlex.join([name, *typed])
        if line not in self.made:
            before = set(place.rglob("*"))
            import_module(f"mpanet_pl.{name}").main(smaller(name, typed))
            new = [path for path in place.rglob("*") if path.is_file() and path not in before]
            self.made[line] = {path.relative_to(place): path for path in new}
            return
        for path, source in self.made[line].items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            if not (place / path).exists():
                shutil.copy2(source, place / path)
