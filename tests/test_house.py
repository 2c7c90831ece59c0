"""The law of the arrows: no room imports one that stands above it, read from the syntax tree."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from commands import together

from mpanet_pl.cli.configuration import check, config_folder
from mpanet_pl.cli.conforming import COMMANDS

PACKAGE = Path(__file__).parents[1] / "src/mpanet_pl"
FLOORS = [  # from the ground up; a room may import its own floor's rooms and all below
    ["errors"],
    ["system"],
    ["interfaces"],
    ["data", "network", "stored"],
    ["losses", "optim", "trunks"],
    ["methods", "evaluation", "features"],
    ["step", "module", "official", "checkpoint"],
    ["run", "world", "gallery"],
    ["cli"],
    ["doors"],
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {"train", "evaluate", "compare", "summarize", "prepare", "synthesize", "embed", "search", "forget", "export"}
DOORS |= {"push", "verify", "serve", "__init__", "__main__"}
AT_THE_ROOT = DOORS | {"errors", "interfaces", "stored", "step", "module", "official", "checkpoint"}
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    return "doors" if not parts or parts[0] in DOORS else parts[0]


@cache
def imports(path: Path) -> tuple[str, ...]:
    return tuple(imported(path))


def imported(path: Path) -> Iterator[str]:
    """The package's modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_arrows_point_down() -> None:
    for path in FILES:
        own = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
        for name in imports(path):
            package, *parts = name.split(".")
            if package == "mpanet_pl" and parts != ["__version__"]:  # which anybody may say
                assert HEIGHT[room_of(tuple(parts))] <= HEIGHT[own], f"{path} imports {name}, which stands above it"


@pytest.mark.parametrize("own", ["run", "world", "gallery"])
def test_siblings_do_not_know_each_other(own: str) -> None:
    """What one needs of another comes by the door."""
    for path in (PACKAGE / own).rglob("*.py"):
        rooms = {room_of(tuple(name.split(".")[1:])) for name in imports(path) if name.startswith("mpanet_pl.")}
        assert not rooms & {"run", "world", "gallery"} - {own}, path


def test_a_name_stands_in_one_room() -> None:
    names = [path.name for path in FILES if path.name != "__init__.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []


MOST_LINES = {"module.py": 180, "network/mpanet.py": 70}  # of 300


def test_files_and_functions_are_short() -> None:
    """A file or a function that is too long has two thoughts."""
    for path in FILES:
        text, name = path.read_text(), str(path.relative_to(PACKAGE))
        assert len(text.splitlines()) <= MOST_LINES.get(name, 300), name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{name}: {node.name}"
    assert sum(len(path.read_text().splitlines()) for path in (PACKAGE / "cli").glob("*.py")) <= 600


def test_only_the_method_knows_nobody() -> None:
    """`network` and `losses` import the system and each other alone; `evaluation` no model and no run."""
    for path in FILES:
        own = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
        rooms = {room_of(tuple(name.split(".")[1:])) for name in imports(path) if name.startswith("mpanet_pl.")}
        if own in ("network", "losses"):
            assert rooms <= {"network", "losses", "interfaces", "system", "errors"}, path
        if own == "optim":
            assert rooms <= {"optim", "system", "errors"}, path
        if own == "evaluation":
            assert rooms <= {"evaluation", "data", "interfaces", "system", "errors"}, path


def test_the_root_holds_doors_and_little_else() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} <= AT_THE_ROOT


ASKED_FOR = {
    "prepare": ["data_dir=x"],
    "synthesize": ["out=x"],
    "embed": ["ckpt=x", "images=x", "out=x"],
    "export": ["ckpt=x", "out=x"],
    "search": ["gallery=x", "queries=x", "out=x"],
    "forget": ["gallery=x"],
    "serve": ["gallery=x"],
    "push": ["ckpt=x"],
}
CHOICES = [f"{path.parent.name}={path.stem}" for path in sorted(config_folder().glob("*/*.yaml"))]


def test_every_command_fits_its_signatures() -> None:
    """What `conf/` sets, signatures and tables know."""
    assert {path.stem for path in config_folder().glob("*.yaml")} == set(COMMANDS)
    for name in COMMANDS:
        check(name, ASKED_FOR.get(name, []), every=True)


WITH_OTHERS = [choice for choice in CHOICES if not choice.startswith(("experiment", "method", "protocol", "rung"))]
BY_ITSELF = [[choice] for choice in CHOICES if choice not in WITH_OTHERS]  # it overrides what the others choose


@pytest.mark.parametrize(
    "line",
    [*together(WITH_OTHERS), *(pytest.param(line, marks=pytest.mark.slow) for line in BY_ITSELF)],
    ids=lambda line: line[0],
)
def test_every_choice_of_a_group_fits_the_signatures(line: list[str]) -> None:
    """Of the first command that has it; the others read the same files."""
    unread = set(line)
    for name in sorted(COMMANDS, key=lambda name: name != "train"):
        if chosen := choices_of(name, line) & unread:
            check(name, [*sorted(chosen), *ASKED_FOR.get(name, [])], several=True, every=True)
            unread -= chosen
    assert not unread


@pytest.mark.slow
@pytest.mark.parametrize("line", together(WITH_OTHERS), ids=lambda line: line[0])
def test_every_choice_fits_every_command(line: list[str]) -> None:
    for name in COMMANDS:
        if chosen := choices_of(name, line):
            check(name, [*sorted(chosen), *ASKED_FOR.get(name, [])], several=True, every=True)


def choices_of(name: str, line: list[str]) -> set[str]:
    """Those whose group a command has."""
    groups = (config_folder() / f"{name}.yaml").read_text()
    return {choice for choice in line if f"- {choice.split('=')[0]}:" in groups}
