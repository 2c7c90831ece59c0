"""Which of several processes this one is, as the environment says before any of them talks to another."""

import os
from pathlib import Path

from mpanet_pl.errors import UserError

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
        if (_number(world) or 1) > 1 and (found := _number(rank)) is not None:
            return found
    return None


def forget_half_of_slurm() -> None:
    """Where SLURM says how many tasks there are, and not which one this is (a shell within an allocation, what a job
    left behind), there is one process alone; Lightning would look for the others."""
    if any(_number(f"SLURM_{name}") is None for name in ("NTASKS", "PROCID", "LOCALID", "NODEID")):
        os.environ.pop("SLURM_NTASKS", None)


def _number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if text and not text.isdecimal():
        raise UserError(f"The environment has {name}={text}, which is no number: unset it.")
    return int(text) if text else None
