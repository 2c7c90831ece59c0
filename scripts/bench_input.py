"""Images per second and core: the released way of feeding the network, and this package's.

    python scripts/bench_input.py                     drawn images of the sizes of SYSU-MM01's and RegDB's
    python scripts/bench_input.py --people 20 --rounds 1

(a) the released way: Pillow decodes, torchvision's transforms work image by image, in one loader worker;
(b) `ReIDDataModule` with a warm cache, until the uint8 batch is ready for the device;
(c) the same until the augmented, normalised float32 batch is ready on the CPU.

A second is one of processor time, of the process and its worker together, so that a busy machine disturbs little; the
best round counts. Each way runs in a process of its own, whose peak of resident memory is told: some 800 MB are the
imports, and a few batches more or less the allocator's luck. (b) runs once more with eight times as many images (hard
links to the drawn ones), to see whether memory grows with the dataset.
"""

import argparse
import multiprocessing
import platform
import resource
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from mpanet_pl.data import Batch, Catalogue, ReIDDataModule, Splits
from mpanet_pl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from mpanet_pl.system.cores import usable_cores

IMAGES_PER_PERSON = 40
GROWTH = 8


class Recipe(NamedTuple):
    """How large a dataset's images are, as pixels and as a file, and what the network is fed."""

    widths: tuple[int, int]
    heights: tuple[int, int]
    suffix: str
    height: int
    width: int
    identities: int
    images: int


RECIPES = {
    "SYSU-MM01": Recipe((100, 250), (250, 550), ".jpg", 384, 128, 16, 8),
    "RegDB": Recipe((64, 64), (128, 128), ".bmp", 256, 128, 12, 10),
}


def draw_picture(rng: np.random.Generator, recipe: Recipe) -> Image.Image:
    """To a decoder like a photograph: smooth light, a dozen shapes with edges, a sensor's noise."""
    width, height = rng.integers(*recipe.widths, endpoint=True), rng.integers(*recipe.heights, endpoint=True)
    light = Image.fromarray(rng.integers(40, 216, (6, 4, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    pixels = rng.normal(0, 6, (height, width, 3)) + np.asarray(light)
    y, x = np.ogrid[:height, :width]
    for centre_y, centre_x, radius_y, radius_x in rng.random((12, 4)) * (height, width, height / 4, width / 4):
        inside = ((y - centre_y) / (radius_y + 2)) ** 2 + ((x - centre_x) / (radius_x + 2)) ** 2 < 1
        pixels[inside] += rng.integers(-60, 61, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class Drawn:
    """A dataset of drawn people: `<person>/<number>`, every other image infrared, that is grey."""

    def __init__(self, root: Path, recipe: Recipe) -> None:
        self.root = root
        self.recipe = recipe

    def prepare(self) -> None:
        pass

    def draw(self, people: int) -> None:
        rng = np.random.default_rng(1)
        for person in range(people):
            (self.root / str(person)).mkdir(parents=True)
            for number in range(IMAGES_PER_PERSON):
                picture = draw_picture(rng, self.recipe)
                path = self.root / str(person) / f"{number}{self.recipe.suffix}"
                (picture.convert("L") if number % 2 else picture).save(path, quality=90)

    def grown(self, root: Path) -> "Drawn":
        """The same people `GROWTH` times."""
        for copy in range(GROWTH):
            for person in self.root.glob("[0-9]*"):
                (root / f"{person.name}-{copy}").mkdir(parents=True)
                for path in person.iterdir():
                    (root / f"{person.name}-{copy}" / path.name).hardlink_to(path)
        return Drawn(root, self.recipe)

    def read(self) -> Splits:
        people = {name: number for number, name in enumerate(sorted(path.name for path in self.root.glob("[0-9]*")))}
        rows = [
            (f"{name}/{image}{self.recipe.suffix}", person, 1 + image % 2, image % 2 == 1)
            for name, person in people.items()
            for image in range(IMAGES_PER_PERSON)
        ]
        return Splits(Catalogue.from_rows(rows), Catalogue.from_rows([]))


class ReleasedDataset(TorchDataset):
    def __init__(self, drawn: Drawn) -> None:
        train = drawn.read().train
        self.paths = [drawn.root / path for path in train.paths]
        self.identities = train.identities.tolist()
        size = (drawn.recipe.height, drawn.recipe.width)
        self.transform = transforms.Compose(
            [
                transforms.Resize(size),
                transforms.RandomHorizontalFlip(),
                transforms.Pad(10, fill=127),
                transforms.RandomCrop(size),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
                transforms.RandomErasing(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[row]) as image:
            return self.transform(image.convert("RGB")), self.identities[row]


def released_way(drawn: Drawn) -> Iterable[int]:
    batch_size = drawn.recipe.identities * drawn.recipe.images
    loader = DataLoader(
        ReleasedDataset(drawn),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=1,
        multiprocessing_context="fork",  # a spawned worker would import torch on the clock
    )
    return (len(images) for images, _ in loader)


def data_module(drawn: Drawn) -> ReIDDataModule:
    recipe = drawn.recipe
    data = ReIDDataModule(
        drawn,
        height=recipe.height,
        width=recipe.width,
        identities_per_batch=recipe.identities,
        images_per_identity=recipe.images,
    )
    data.setup()
    return data


def to_uint8(drawn: Drawn) -> Iterable[int]:
    return (len(batch.images) for batch in data_module(drawn).train_dataloader())


def to_float32(drawn: Drawn) -> Iterable[int]:
    data = data_module(drawn)

    def augmented(batch: Batch) -> torch.Tensor:
        return data.views.augmentation(batch.images, batch.index, batch.infrared, seed=1, epoch=0)

    return (len(augmented(batch)) for batch in data.train_dataloader())


class Measured(NamedTuple):
    images_per_second: float
    peak_megabytes: float


def measure(way: Callable[[Drawn], Iterable[int]], drawn: Drawn, rounds: int) -> Measured:
    """The best of the rounds, each an epoch; in this process, whose memory it tells."""
    torch.set_num_threads(1)
    best = 0.0
    for _ in range(rounds + 1):  # the first warms the cache, and the images of the system's
        epoch = way(drawn)
        began = processor_seconds()
        images = sum(epoch)
        best = max(best, images / (processor_seconds() - began))
    return Measured(best, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def processor_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def alone(way: Callable[[Drawn], Iterable[int]], drawn: Drawn, rounds: int) -> Measured:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, way, drawn, rounds).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=40, help=f"of {IMAGES_PER_PERSON} images each")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {PIL.__version__}, "
        f"{platform.machine()}, {usable_cores()} cores; {arguments.people * IMAGES_PER_PERSON} drawn images\n"
    )
    print("| dataset | way | images/s per core | times (a) | peak memory, MB |")
    print("|---|---|---|---|---|")
    for name, recipe in RECIPES.items():
        with tempfile.TemporaryDirectory() as folder:
            drawn = Drawn(Path(folder) / "drawn", recipe)
            drawn.draw(arguments.people)
            grown = drawn.grown(Path(folder) / "grown")
            for dataset in (drawn, grown):
                data_module(dataset)  # builds the cache here, not in a measured process
            ways = (
                ("(a) released way", released_way, drawn),
                ("(b) cache to uint8", to_uint8, drawn),
                (f"(b) with {GROWTH} times the images", to_uint8, grown),
                ("(c) cache to float32", to_float32, drawn),
            )
            released = 0.0
            for label, way, images in ways:
                speed, memory = alone(way, images, arguments.rounds)
                released = released or speed
                print(f"| {name} | {label} | {speed:,.0f} | {speed / released:.1f} | {memory:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
