"""`python -m mpanet_pl.push`: a run's checkpoint -> a repository on a hub, with a card, or the folder of its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.errors import UserError
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def push(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.gallery.sharing import pack
    from mpanet_pl.system.hub import check_repository, upload

    if (cfg.repo is None) == (cfg.out is None):
        raise UserError("push takes repo=OWNER/NAME, or out=FOLDER to look at its files first.")
    if cfg.out is not None:
        for file in pack(cfg.ckpt, Path(cfg.out).expanduser(), allowed_by=cfg.allowed_by):
            print(file)
        return
    check_repository(cfg.repo)
    with TemporaryDirectory() as folder:
        pack(cfg.ckpt, Path(folder), repo=cfg.repo, allowed_by=cfg.allowed_by)
        print(upload(Path(folder), cfg.repo, private=cfg.private))
    print(f'Anybody who may read it: load("hf://{cfg.repo}")')


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("push", push, arguments)


if __name__ == "__main__":
    main()
