"""Commands in this process: composed as from the command line, small enough for a test."""

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from mpanet_pl.cli.application import Task
from mpanet_pl.cli.command import run_command
from mpanet_pl.cli.configuration import config_folder

SMALL = [
    "model.network.trunk=resnet18",
    "model.network.pretrained=false",
    "data.height=48",
    "data.width=24",
    "data.identities_per_batch=2",
    "data.images_per_identity=4",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
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
