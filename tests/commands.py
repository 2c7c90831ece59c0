"""Commands in this process: composed as from the command line, small enough for a test."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from mpanet_pl.cli.application import Task
from mpanet_pl.cli.command import run_command
from mpanet_pl.cli.configuration import config_folder

SMALL = [
    "model.network.trunk=resnet18_thin",
    "model.network.pretrained=false",
    "data.height=48",
    "data.width=24",
    "data.identities_per_batch=2",
    "data.images_per_identity=4",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "pictures=false",
]
SMALL_WORLD = [
    *SMALL,
    "data.dataset.identities=10",
    "data.dataset.images_per_camera=2",
    "data.dataset.test_share=0.4",
    "data.dataset.height=48",
    "data.dataset.width=24",
    "data.dataset.siblings=1.0",
    "trainer.max_epochs=3",
    "validation.start=1",
    "trainer.check_val_every_n_epoch=2",
    "validation.last=false",
]


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra.compose(name, list(overrides))


def type_in(name: str, task: Task, arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command as if `arguments` had been typed; its exit code."""
    monkeypatch.setattr(sys, "argv", [f"mpanet_pl.{name}", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    try:
        run_command(name, task)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0


def scores_of(folder: Path) -> dict:
    import json

    return json.loads((folder / "results.json").read_text())["scores"]


def words_of(typed: str) -> list[str]:
    return typed.split(" ") if "{" not in typed else [typed]


def together(arguments: Iterable[str]) -> list[list[str]]:
    """As few command lines as hold all of them, none of which types a key twice."""

    def meet(one: str, other: str) -> bool:
        keys = [[word.split("=")[0].lstrip("+~") + "." for word in words_of(typed)] for typed in (one, other)]
        return any(a.startswith(b) or b.startswith(a) for a in keys[0] for b in keys[1])

    lines: list[list[str]] = []
    for typed in arguments:
        fits = (line for line in lines if not any(meet(typed, other) for other in line))
        if (line := next(fits, None)) is not None:
            line.append(typed)
        else:
            lines.append([typed])
    return lines
