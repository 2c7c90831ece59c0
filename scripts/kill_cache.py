"""Kill the cache's builder at random moments and look at what is left: never a broken cache, never a wrong image.

Every other time a second builder waits at the lock while the first is killed, and must end right.

    python scripts/kill_cache.py --kills 20
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mpanet_pl.data import open_images
from mpanet_pl.data.cache import cache_folder

HEIGHT, WIDTH = 128, 64
fork = multiprocessing.get_context("fork")  # a builder that starts at once, so that most kills hit it at work


def draw(root: Path, images: int) -> list[str]:
    rng = np.random.default_rng(0)
    paths = [f"{number}.jpg" for number in range(images)]
    for path in paths:
        height, width = rng.integers(100, 300), rng.integers(50, 120)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / path)
    return paths


def build(root: Path, paths: list[str]) -> None:
    open_images(root, paths, HEIGHT, WIDTH, workers=2)


def start(root: Path, paths: list[str]) -> multiprocessing.process.BaseProcess:
    builder = fork.Process(target=build, args=(root, paths))
    builder.start()
    return builder


def half_built(root: Path) -> list[Path]:
    return list(cache_folder(root, True).glob("*.building"))


def kill_at_work(root: Path, paths: list[str], seconds: float, second: bool) -> bool:
    """Kill a builder so many seconds after it has begun; whether it was still at work."""
    for file in cache_folder(root, True).glob("*"):
        file.unlink()
    victim = start(root, paths)
    while not half_built(root) and victim.is_alive():
        time.sleep(0.001)
    survivor = start(root, paths) if second else None
    time.sleep(seconds)
    victim.kill()
    victim.join()
    if survivor is not None:
        survivor.join()
        assert survivor.exitcode == 0, "the second builder failed"
    return victim.exitcode != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = draw(root, arguments.images)
        rows = torch.arange(len(paths))
        truth = open_images(root, paths, HEIGHT, WIDTH, cache=False)[rows]
        began = time.monotonic()
        build(root, paths)
        seconds = time.monotonic() - began
        tried = hits = 0
        while hits < arguments.kills:
            tried += 1
            if kill_at_work(root, paths, rng.uniform(0, seconds), second=tried % 2 == 1):
                hits += 1
            else:
                seconds *= 0.9  # too late: aim earlier
            assert torch.equal(open_images(root, paths, HEIGHT, WIDTH)[rows], truth), f"try {tried}: wrong images"
            assert not half_built(root), f"try {tried}: a half cache was left"
    print(f"{hits} builders killed at work, {tried - hits} too late; every cache that was then opened is right")


if __name__ == "__main__":
    main()
