"""A user's own code: a file beside where he stands, that no package installs."""

import sys
from pathlib import Path

import pytest

MY_LAB = '''
import torch
from torch import nn

from mpanet_pl import MPANetModule
from mpanet_pl.losses import MPANetLoss
from mpanet_pl.network import Embedding


class Spread(nn.Module):
    """Descriptors' size, by a factor that learns; counts the steps that it saw."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(start))
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, embedding, identities, infrared):
        self.steps += 1
        return self.factor * embedding.descriptor.square().mean()


class Bank(nn.Module):
    """What it saw of each identity last, by everything that a term may ask for."""

    def __init__(self, dimension: int, num_identities: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(num_identities, dimension))
        self.told = []

    def forward(self, embedding, identities, infrared, *, cameras, epoch, index):
        self.told.append((cameras, epoch, index))
        loss = (embedding.descriptor - self.seen[identities]).square().mean()
        self.seen[identities] = embedding.descriptor.detach()
        return loss


class Net(nn.Module):
    """Colours' means through one layer: no trunk, no patterns."""

    def __init__(self, *, width: int = 8, patterns: int = 0) -> None:
        super().__init__()
        self.layer, self.dimension = nn.Linear(3, width), width

    def forward(self, images, infrared=None):
        described = self.layer(images.mean((2, 3)))
        return Embedding(images[:, :0], described, described)


class Module(MPANetModule):
    """Another method: the module with a step of its own."""


class Criterion(MPANetLoss):
    def forward(self, embedding, identities, infrared, **context):
        terms = super().forward(embedding, identities, infrared, **context)
        return {**terms, "total": 2 * terms["total"]}


class Rows(nn.Module):
    def forward(self, embedding, identities, infrared):
        return embedding.descriptor.mean(1)
'''


def stand_in_a_lab(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = MY_LAB) -> None:
    """Write `my_lab.py` into a folder and go there."""
    (folder / "my_lab.py").write_text(code)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_lab", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
