"""Which of several processes this one is, as the environment says before any of them talks to another."""

from __future__ import annotations

import os
from pathlib import Path

CHILD_CONFIG = "MPANET_PL_CHILD_CONFIG"  # tells the ranks that a run starts which composed configuration is theirs
STOPPED = 130  # the exit code of what Ctrl-C stopped


def is_child_rank() -> bool:
    """Whether this process was started by a run on the same machine, as one of its further ranks."""
    return CHILD_CONFIG in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def child_config() -> Path:
    """The configuration that the run which started this rank left for it."""
    return Path(os.environ[CHILD_CONFIG])


def rank_of_outer_launcher() -> int | None:
    """This process's rank among those that torchrun or SLURM started; None where there is one process alone."""
    for world, rank in (("WORLD_SIZE", "RANK"), ("SLURM_NTASKS", "SLURM_PROCID")):
        if int(os.environ.get(world, "1")) > 1 and rank in os.environ:
            return int(os.environ[rank])
    return None
