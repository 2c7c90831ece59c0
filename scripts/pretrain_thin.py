"""The weights that `resnet18_thin` begins with, as other trunks begin with ImageNet's: of 216 other drawn people.

    python -m mpanet_pl.train rung=baseline data.dataset.seed=1000 data.dataset.identities=240 data.dataset.test_share=0.1 \
        model.network.pretrained=false trainer.max_epochs=40 run_dir=runs/thin      # twenty minutes on a core
    python scripts/pretrain_thin.py runs/thin/checkpoints/last.ckpt

A classifier of people alone, without a term of the method. World 1000 is its own: another seed draws other people.
"""

import sys

import torch

from mpanet_pl.network.trunk import DRAWN_WEIGHTS
from mpanet_pl.system import weights

PREFIX = "network.trunk."

state = weights.read(sys.argv[1])["state_dict"]
trunk = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
torch.save({name: value.half() for name, value in trunk.items() if value.is_floating_point()}, DRAWN_WEIGHTS)
