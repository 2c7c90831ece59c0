"""Several processes that make one gallery: started here, by torchrun, or by SLURM."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.building import Ranks
from mpanet_pl.system.lightning import isolated, quiet
from mpanet_pl.system.precision import best_precision
from mpanet_pl.system.processes import CHILD_CONFIG, is_child_rank, rank_of_outer_launcher

PRECISIONS = {"32-true": "float32", "bf16-mixed": "bfloat16", "16-mixed": "float16"}


class Place(NamedTuple):
    device: torch.device
    precision: str  # as `Embedder` calls it
    ranks: Ranks


@contextmanager
def launched(
    *,
    accelerator: str,
    devices: int | str | list[int],
    num_nodes: int,
    precision: str,
    save_config: Callable[[Path], None],
) -> Iterator[Place]:
    """This process's place among those that Lightning's launchers start; `save_config` leaves them what was typed."""
    kind = "cuda" if accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available()) else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no GPU here that torch can use: run with trainer=cpu or trainer=auto.")
    if precision == "auto":
        # on a CPU oneDNN's bf16 convolutions give other numbers each time, or none, where maps are a few pixels wide
        precision = "32-true" if kind == "cpu" else best_precision(kind)
    if precision not in PRECISIONS:
        raise UserError(f"trainer.precision is one of auto, {', '.join(PRECISIONS)}, got {precision}.")
    if rank_of_outer_launcher() is None and not is_child_rank() and (devices, num_nodes) == (1, 1):
        yield Place(torch.device(kind), PRECISIONS[precision], Ranks())
        return
    with TemporaryDirectory() as folder, quiet(), isolated():
        if not is_child_rank():
            save_config(Path(folder) / "config.yaml")
            os.environ[CHILD_CONFIG] = str(Path(folder) / "config.yaml")
        fabric = Fabric(accelerator=kind, devices=devices, num_nodes=num_nodes, strategy="ddp")
        fabric.launch()
        ranks = Ranks(fabric.global_rank, fabric.world_size, fabric.barrier)
        yield Place(fabric.device, PRECISIONS[precision], ranks)
        fabric.barrier()  # the folder goes when nobody needs it any more
