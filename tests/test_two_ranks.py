"""Two gloo processes with half the batch each are one process with the whole batch, step by step.

Held here: losses (a user's own among them), gradients, parameters, buffers and twins over three steps, also where the
halves have different numbers of visible rows; and of the guests a first step. Normalisation layers are either frozen,
or synchronised by a few lines of this file: SyncBatchNorm itself has no CPU kernel, so that it takes the place of
these lines on GPUs is not tested here.
"""

import datetime
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lab import stand_in_a_lab
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mpanet_pl.data import Batch
from mpanet_pl.module import MPANetModule

pytestmark = pytest.mark.slow

WORLD, STEPS, ROWS = 2, 3, 8
INFRARED = {
    "balanced": [True, False] * 4,
    "unbalanced": [True, True, True, False, False, False, False, False],  # the second rank sees visible rows alone
}
OWN = {"spread": {"_target_": "my_lab.Spread", "weight": 0.3}, "bank": {"_target_": "my_lab.Bank", "weight": 0.5}}
GUESTS = {"agw": "AGW", "caj": "CAJ", "deen": "DEEN", "saai": "SAAI", "m3reid": "M3ReID"}
CASES = [
    *((normalisation, modalities) for normalisation in ("frozen", "synchronised") for modalities in INFRARED),
    *((guest, "balanced") for guest in GUESTS),  # a rank without infrared rows would leave a stem without a gradient
]


class Synchronised(nn.Module):
    """Batch normalisation whose statistics are those of all ranks' rows."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, rows: Tensor) -> Tensor:
        over = [dim for dim in range(rows.dim()) if dim != 1]
        mean = self.everyone(rows.mean(over, keepdim=True))
        variance = self.everyone((rows - mean).square().mean(over, keepdim=True))
        shape = [-1 if dim == 1 else 1 for dim in range(rows.dim())]
        return (rows - mean) / (variance + self.eps).sqrt() * self.weight.view(shape) + self.bias.view(shape)

    @staticmethod
    def everyone(local: Tensor) -> Tensor:
        return Sum.apply(local) / WORLD if dist.is_initialized() else local


class Sum(torch.autograd.Function):
    """Over the ranks, and so is its gradient."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    backward = forward


def synchronise(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, Synchronised(child))
        else:
            synchronise(child)


class TotalLoss(nn.Module):
    """What DDP wraps: Lightning likewise calls the training step through DDP's forward."""

    def __init__(self, module: MPANetModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.module.losses(batch)


def make_guest(method: str) -> MPANetModule:
    torch.manual_seed(0)
    target = f"mpanet_pl.methods.{method}.{GUESTS[method]}"
    network: dict[str, Any] = {"_target_": target, "trunk": "resnet18_thin", "pretrained": False}
    network |= {"height": 64, "width": 32} if method == "saai" else {}
    criterion = {"_target_": f"{target}Loss"} | ({"kl": 1.0} if method == "caj" else {})
    module = MPANetModule(4, network=network, criterion=criterion, optimizer={}, schedule={}).double()
    synchronise(module.network)
    for layer in module.network.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
        if isinstance(layer, Synchronised):
            nn.init.normal_(layer.weight, 1.0, 0.1)  # no branch says nothing
    return module


def make_module(normalisation: str) -> MPANetModule:
    if normalisation in GUESTS:
        return make_guest(normalisation)
    torch.manual_seed(0)
    module = MPANetModule(
        4,
        network={"trunk": "resnet18_thin", "pretrained": False, "patterns": 2},
        criterion={"margin": 30.0, "extra": OWN},
        optimizer={},
        schedule={},
    ).double()
    if normalisation == "frozen":
        module.network.eval()
    else:
        synchronise(module.network)
    return module


def steps_of(normalisation: str) -> int:
    """AGW's distances of a row to itself are roots of rounding errors, which later steps would enlarge."""
    return 1 if normalisation in GUESTS else STEPS


def batch_of(step: int, infrared: list[bool]) -> Batch:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(ROWS, 3, 64, 32, generator=generator, dtype=torch.float64)
    rows = torch.arange(ROWS)
    identities = torch.tensor([0, 0, 1, 3, 0, 1, 1, 2])  # identities on both sides of the cut, and on one
    return Batch(images, identities, rows, torch.tensor(infrared), rows)


def half(batch: Batch, rank: int) -> Batch:
    return Batch(*(column.chunk(WORLD)[rank] for column in batch if column is not None))


def train(module: MPANetModule, infrared: list[bool], rank: int | None, steps: int) -> list[dict[str, Tensor]]:
    """What each step leaves: its terms, every gradient and every parameter."""
    whole = TotalLoss(module)
    model = whole if rank is None else DistributedDataParallel(whole)
    learned = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    adam = torch.optim.Adam(learned.values(), lr=3.5e-4, eps=1e-3)  # the usual ε makes whole steps of rounding errors
    records = []
    for step in range(steps):
        batch = batch_of(step, infrared)
        module.criterion.follow(step + 1)
        terms = model(batch if rank is None else half(batch, rank))
        adam.zero_grad()
        terms["total"].backward()
        record = {f"term {name}": term.detach() for name, term in terms.items()}
        record |= {
            f"gradient {name}": weight.grad.clone() for name, weight in learned.items() if weight.grad is not None
        }
        adam.step()
        records.append(record | {f"state {key}": value.clone() for key, value in module.state_dict().items()})
    return records


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)  # where my_lab.py lies
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", meeting, datetime.timedelta(seconds=60), WORLD, rank)
    for normalisation, modalities in CASES:
        records = train(make_module(normalisation), INFRARED[modalities], rank, steps_of(normalisation))
        torch.save(records, folder / f"{normalisation}-{modalities}-{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_a_lab(tmp_path, monkeypatch)
    torch.multiprocessing.spawn(work, (tmp_path,), nprocs=WORLD)
    for normalisation, modalities in CASES:
        first, second = (torch.load(tmp_path / f"{normalisation}-{modalities}-{rank}.pt") for rank in range(WORLD))
        alone = train(make_module(normalisation), INFRARED[modalities], None, steps_of(normalisation))
        for step in range(steps_of(normalisation)):
            torch.testing.assert_close(first[step], second[step], rtol=0, atol=0)
            torch.testing.assert_close(first[step], alone[step], rtol=1e-7, atol=1e-10)
