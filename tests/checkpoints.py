"""A checkpoint with the configuration that training leaves in it, around an untrained network; and small crops."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mpanet_pl.module import MPANetModule
from mpanet_pl.world import Synthetic

HEIGHT, WIDTH = 32, 16


def save_checkpoint(
    path: Path,
    *,
    seed: int = 0,
    height: int = HEIGHT,
    width: int = WIDTH,
    patterns: int = 1,
    trunk: str | dict = "resnet18_thin",
    target: str = "mpanet_pl.network.MPANet",
) -> Path:
    torch.manual_seed(seed)
    module = MPANetModule(
        4,
        network={
            "_target_": target,
            "trunk": trunk,
            "pretrained": False,
            "alleviation": ["layer4"],
            "patterns": patterns,
        },
        criterion={},
        optimizer={"lr": 1e-3},
        schedule={"milestones": [1]},
    )
    config = {"dataset": "synthetic", "data": {"height": height, "width": width}}
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.6.6",
        "config": config,
    }
    torch.save(content, path)
    return path


def draw_crops(folder: Path, count: int, *, cameras: int = 3, seed: int = 0) -> Path:
    """`CAMERA_TIME.png`, as a camera's software names them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        coarse = rng.integers(0, 256, (4, 2, 3), dtype=np.uint8)
        crop = Image.fromarray(coarse).resize((20, 41), Image.Resampling.NEAREST)
        crop.save(folder / f"{number % cameras + 1}_{1000 + 10 * number}.png")
    return folder


def drawn_people(folder: Path, identities: int) -> Synthetic:
    """On whom an export is compared with its network."""
    return Synthetic(folder, identities=identities, images_per_camera=2, hardness=0.5)
