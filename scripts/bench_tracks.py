"""What tracklets cost a training step, and what a joint dataset's caches save.

    python scripts/bench_tracks.py                    drawn people who walk, a thin trunk at 64 x 32
    python scripts/bench_tracks.py --steps 3 --identities 8

The same tracklets, in the same batches, by one frame each and by six; seconds are of processor time of one thread, the
median over steps, so that a busy machine disturbs little. A joint dataset of two worlds is then read after each world
has been read alone: whatever it decodes again would be new bytes and seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from mpanet_pl import MPANetModule
from mpanet_pl.data import Joint, ReIDDataModule
from mpanet_pl.world import Synthetic

SIZE = {"height": 64, "width": 32}
P, K = 8, 4
NETWORK = {"trunk": "resnet18_thin", "pretrained": False, "alleviation": ["layer3"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--identities", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        worlds = {name: world(Path(folder), seed, asked.identities) for name, seed in (("one", 1), ("two", 2))}
        for dataset in worlds.values():
            dataset.prepare()
        print("| frames | images a batch | batch, s | step, s |\n|---|---|---|---|")
        for frames in (1, 6):
            print(step_cost(worlds["one"], frames, asked.steps))
        print("\n| read | seconds | new bytes of caches |\n|---|---|---|")
        for line in caches(Path(folder), worlds):
            print(line)


def world(folder: Path, seed: int, identities: int) -> Synthetic:
    return Synthetic(folder, identities=identities, images_per_camera=2, tracks=True, seed=seed, workers=1, **SIZE)


def module_of(dataset: object, frames: int | None = None) -> ReIDDataModule:
    return ReIDDataModule(dataset, **SIZE, identities_per_batch=P, images_per_identity=K, frames=frames, workers=0)


def step_cost(dataset: Synthetic, frames: int, steps: int) -> str:
    """A line of the table: a batch from its loader and its augmentation, and forward, backward and update."""
    data = module_of(dataset, frames)
    data.setup()
    module = MPANetModule(data.num_identities, network=NETWORK, criterion={}, optimizer={}, schedule={}).train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-4)
    loader = data.train_dataloader()
    fetched, trained, images, epoch = [], [], 0, 0
    while len(trained) <= steps:
        loader.sampler.set_epoch(epoch)
        began = time.process_time()
        for rows in loader:
            batch = data.augment_batch(rows, epoch)
            ready = time.process_time()
            optimizer.zero_grad()
            module.losses(batch)["total"].backward()
            optimizer.step()
            images = len(batch.images)
            fetched.append(ready - began)
            began = time.process_time()
            trained.append(began - ready)
        epoch += 1
    return f"| {frames} | {images} | {median(fetched[1:]):.3f} | {median(trained[1:]):.3f} |"


def caches(folder: Path, worlds: dict[str, Synthetic]) -> list[str]:
    """Lines of the table: each world alone, both jointly, one again. The worlds' caches go to one folder."""
    names = list(worlds)
    both = Joint(members=worlds, train_on=names, test_on=names[:1])
    read = {**{f"{name} alone": dataset for name, dataset in worlds.items()}, "both jointly": both, "again": both}
    lines, before = [], 0
    place = folder / "caches"
    for name, dataset in read.items():
        data = ReIDDataModule(
            dataset, **SIZE, identities_per_batch=P, images_per_identity=K, cache=str(place), workers=0
        )
        began = time.process_time()
        data.prepare_data()
        data.setup()
        seconds = time.process_time() - began
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        lines.append(f"| {name} | {seconds:.2f} | {size - before:,} |")
        before = size
    return lines


if __name__ == "__main__":
    main()
