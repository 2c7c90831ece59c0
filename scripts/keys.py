"""Every key of every command: default, what it may be, and what it does, read from `conf/` and the signatures.

`python scripts/keys.py [COMMAND …]` prints Markdown, which `scripts/site_hooks.py` puts into docs/keys.md. A key's
sentence stands in keys.yaml, or is the comment beside it in `conf/`.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module
from inspect import getdoc
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, Literal, get_args, get_origin
from unittest.mock import patch

import hydra
import yaml

from mpanet_pl.__main__ import commands
from mpanet_pl.cli.conforming import BROUGHT, COMMANDS
from mpanet_pl.cli.groups import config_folder
from mpanet_pl.run.settings import plain
from mpanet_pl.system.hints import NOTHING, Range, members, part_of, words
from mpanet_pl.system.keys import Keys, is_within, leaves

CONF = config_folder()
SENTENCES = yaml.safe_load((Path(__file__).parent / "keys.yaml").read_text("utf-8"))
DATASETS = sorted(path.stem for path in (CONF / "dataset").glob("*.yaml"))
SHARED = {"data": "train", "trainer": "train", "model": "train", "validation": "train"}  # told once, by this command
HEAD = "| key | default | may be | what |\n|---|---|---|---|\n"


def table_of(name: str) -> str:
    """A command's own keys, then each of its groups that no earlier command has told."""
    trees = {dataset: composed(name, dataset) for dataset in (DATASETS if name == "train" else [""])}
    default = composed(name, "")
    hints = Keys(COMMANDS[name], default).hints
    parts = {"": rows(name, hints, default, trees)}
    for group in (group for group, teller in SHARED.items() if name == teller):
        title = f"\n### {group}\n\n"
        within = {key: row for key, row in parts[""].items() if is_within(key, [group])}
        parts[title] = within
        parts[""] = {key: row for key, row in parts[""].items() if key not in within}
    return "".join(title + HEAD + "".join(table.values()) for title, table in parts.items())


def rows(name: str, hints: Mapping[str, Any], default: Any, trees: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    elsewhere = ["hydra", *BROUGHT.get(name, ()), *(group for group, teller in SHARED.items() if teller != name)]
    elsewhere += ["data.dataset", "protocol"] if name in ("train", "prepare") else []  # these are a dataset's
    flat = [dict(leaves(tree)) for tree in trees.values()]
    for key, value in leaves(default):
        if key.split(".")[-1].startswith("_") or is_within(key, elsewhere):
            continue
        values = {str(tree.get(key)) for tree in flat}
        told = "the dataset's" if len(values) > 1 and name == "train" else shown(value)
        found[key] = row(key, told, hints.get(key, Any), sentence(name, key))
    return found


def dataset_tables() -> Iterator[str]:
    """The keys that each dataset adds: its own, and its protocol's."""
    for dataset in DATASETS:
        tree = composed("train", dataset)
        hints = Keys(COMMANDS["train"], tree).hints
        own = [(key, value) for key, value in leaves(tree) if is_within(key, ["data.dataset", "protocol"])]
        lines = [
            row(key, shown(value), hints.get(key, Any), sentence(f"dataset/{dataset}", key) or documented(tree, key))
            for key, value in own
            if not key.split(".")[-1].startswith("_") and key != "data.dataset.root"
        ]
        if lines:
            yield f"\n### dataset={dataset}\n\n{HEAD}{''.join(lines)}"


def row(key: str, default: str, hint: Any, what: str) -> str:
    return f"| `{key}` | {default} | {may_be(key, hint)} | {what} |\n".replace("\\|", "\\|")


def shown(value: Any) -> str:
    if value == "???":
        return "asked for"
    if value is None or value in ({}, []):
        return "none"
    return str(value).lower() if isinstance(value, bool) else "`" + str(value).replace("|", "\\|") + "`"


def may_be(key: str, hint: Any) -> str:
    """A group's files, or a hint in words, its range with it."""
    files = sorted(path.stem for path in (CONF / key).glob("*.yaml")) if "." not in key else []
    said = [f"`{file}`" for file in files if file != "none"]
    for one in members(hint if not said else None):
        origin, args = get_origin(one), get_args(one)
        ranges = [mark for mark in args[1:] if isinstance(mark, Range)] if origin is Annotated else []
        if one in NOTHING:
            said += [] if said else ["null"]
        elif origin is Annotated and part_of(one):
            said.append("a class by `_target_`" if part_of(one).usual is None else "a group of keys")
        elif origin is Literal:
            said += [f"`{str(word).lower() if isinstance(word, bool) else word}`" for word in args]
        elif ranges and isinstance(ranges[0].words, str):
            base, span = ranges[0].noun or words(args[0]), ranges[0].words
            said.append(base if base in span or span in base else f"{base}, {span}")
        elif one is not Any:
            said.append(words(one))
    return ", ".join(dict.fromkeys(said)).replace("|", "\\|") or "anything"


def sentence(name: str, key: str) -> str:
    """What a key does: its line in keys.yaml, or the comment beside it in the command's or the dataset's file."""
    known = SENTENCES.get(f"{name}:{key}") or SENTENCES.get(key)
    return str(known or comments(name).get(key) or comments("data/default").get(key) or "").replace("|", "\\|")


def documented(tree: Any, key: str) -> str:
    """A key's line in the docstring of the class that takes it."""
    *groups, name = key.split(".")
    for group in groups:
        tree = tree[group]
    told = re.search(rf"^ +{name}: (.*)$", getdoc(resolve_name(tree.get("_target_", "builtins.object"))) or "", re.M)
    return f"{told[1][:1].upper()}{told[1][1:]}" if told else ""


@cache
def comments(source: str) -> dict[str, str]:
    """The comment beside each key of a file of `conf/`, by dotted key."""
    path = CONF / f"{source}.yaml"
    if not path.exists():
        return {}
    text, found, stack, last = path.read_text("utf-8"), {}, [], ""
    package = re.search(r"# @package (\S+)", text)
    folder = source.rpartition("/")[0]
    base = {"": "", "data": "data", "model": "model", "trainer": "trainer"}.get(folder, "")
    base = base if package is None or package[1] == "_global_" else package[1]
    for line in text.split("\nhydra:")[0].splitlines():
        if match := re.match(r'^( *)"?([\w]+)"?:(?: |$)(.*)', line):
            depth, name, rest = len(match[1]), match[2], match[3]
            stack = [(d, n) for d, n in stack if d < depth] + [(depth, name)]
            last = ".".join([*filter(None, [base]), *(n for _, n in stack)])
            if note := re.search(r"(?:^| )# ?(.*)$", rest):
                found[last] = note[1].strip()
        elif (more := re.match(r"^ {8,}# ?(.*)", line)) and last in found:
            found[last] += f" {more[1].strip()}"
        elif not line.strip() or line.startswith("#"):
            last = ""
    return {key: note.replace("|", "\\|") for key, note in found.items()}


@cache
def composed(name: str, dataset: str) -> dict[str, Any]:
    asked = (
        [f"dataset={dataset}"]
        if dataset
        else ["dataset=sysu"]
        if has_group(name, "dataset") and name == "train"
        else []
    )
    with hydra.initialize_config_dir(str(CONF), job_name=name, version_base="1.3"):
        return plain(hydra.compose(name, asked))


def has_group(name: str, group: str) -> bool:
    return f"- {group}:" in (CONF / f"{name}.yaml").read_text("utf-8")


def words_of(name: str) -> str:
    """What a command that takes no keys says itself."""
    said = io.StringIO()
    with redirect_stdout(said), suppress(SystemExit), patch.dict("os.environ", COLUMNS="80"):
        import_module(f"mpanet_pl.{name}").main(["--help"])
    return f"```text\n{said.getvalue().strip()}\n```\n"


def page(names: list[str] | None = None) -> str:
    """All commands, or those of that name."""
    text = ""
    for name in names or sorted(commands(), key=lambda name: name != "train"):
        text += f"\n## {name}\n\n{table_of(name) if name in COMMANDS else words_of(name)}"
    return text + ("" if names else "\n## Datasets\n" + "".join(dataset_tables()))


if __name__ == "__main__":
    print(page(sys.argv[1:]))
