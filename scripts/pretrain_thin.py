"""The weights that `resnet18_thin` begins with, as other trunks begin with ImageNet's: of 432 drawn people.

    world="rung=baseline data.dataset.seed=1000 data.dataset.test_share=0.1"
    python -m mpanet_pl.train $world data.dataset.identities=240 trainer.max_epochs=40 model.network.pretrained=false \
        model.optimizer.lr=8e-3 run_dir=runs/thin
    python scripts/pretrain_thin.py runs/thin/checkpoints/last.ckpt
    python -m mpanet_pl.train $world data.dataset.identities=480 trainer.max_epochs=24 run_dir=runs/thin480
    python scripts/pretrain_thin.py runs/thin480/checkpoints/last.ckpt

A classifier of people alone, without a term of the method: first of half of them, for it finds no beginning among all.
World 1000 is its own, and another seed draws other people. It takes half an hour on a core of an AMD EPYC.
"""

import sys

import torch

from mpanet_pl.network.trunk import DRAWN_WEIGHTS
from mpanet_pl.system import weights

PREFIX = "network.trunk."

state = weights.read(sys.argv[1])["state_dict"]
trunk = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
torch.save({name: value.half() for name, value in trunk.items() if value.is_floating_point()}, DRAWN_WEIGHTS)
