"""`python -m mpanet_pl.evaluate`: test a checkpoint, this package's or a released one, or embeddings saved before."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.errors import UserError
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig

ALSO_CALLED = {f"protocol={name}": f"measure={name}" for name in ("open_set", "mixed")}


def evaluate(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    if cfg.ckpts:
        if cfg.ckpt is not None or cfg.features is not None:
            raise UserError("ckpts, ckpt and features go one at a time.")
        from mpanet_pl.run.matrix import evaluate_all
        from mpanet_pl.world.ground_truth import ground_truth_of

        evaluate_all(cfg, request, ground_truth_of)
        return
    if (cfg.ckpt is None) == (cfg.features is None):
        raise UserError("Add ckpt=PATH, a checkpoint, or else features=PATH, embeddings saved before.")
    from mpanet_pl.run import evaluating
    from mpanet_pl.world.ground_truth import ground_truth_of

    evaluating.evaluate(cfg, request, ground_truth_of)


def main(arguments: Sequence[str] | None = None) -> None:
    typed = sys.argv[1:] if arguments is None else arguments
    run_command("evaluate", evaluate, [ALSO_CALLED.get(word, word) for word in typed])


if __name__ == "__main__":
    main()
