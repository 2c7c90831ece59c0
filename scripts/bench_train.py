"""The whole training step beside the bare trunk's, which is its limit, in every mode, interleaved on the same batches.

    python scripts/bench_train.py                                       the recipe of SYSU-MM01; batch 32 without a GPU
    python scripts/bench_train.py --recipe regdb --steady 300           and the time of the whole schedule
    python scripts/bench_train.py --trunk resnet18 --height 96 --width 48 --batch 8 --rounds 2 --modes bf16

A step is forward, losses, backward and optimiser. The bare trunk is the same ResNet without alleviation, whose mean
feature is its loss. Medians over the rounds. `--real 20` compares 20 steps on one resident batch with 20 steps whose
batches the data module fetches and augments, from drawn images.
"""

import argparse
import contextlib
import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torchvision

from mpanet_pl.data import Batch, ReIDDataModule
from mpanet_pl.module import MPANetModule
from mpanet_pl.network.trunk import Trunk
from mpanet_pl.system.cores import usable_cores
from mpanet_pl.world import Synthetic

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGES_PER_IDENTITY = 8
clock = time.perf_counter


class Recipe(NamedTuple):
    height: int
    width: int
    batch: int
    identities: int
    steps: int  # of the whole schedule


RECIPES = {
    "sysu": Recipe(384, 128, 128, 395, 140 * 182),
    "regdb": Recipe(256, 128, 120, 206, 140 * 34),
}


class Mode(NamedTuple):
    bf16: bool
    channels_last: bool
    compiled: bool

    @classmethod
    def all(cls) -> "dict[str, Mode]":
        names = {}
        for compiled, bf16, channels_last in itertools.product((False, True), repeat=3):
            words = ["bf16" if bf16 else "float32", "channels_last" * channels_last, "compiled" * compiled]
            names["-".join(filter(None, words))] = cls(bf16, channels_last, compiled)
        return names

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.bf16)


Step = Callable[[Batch], None]


def whole_step(mode: Mode, trunk: str, identities: int) -> Step:
    module = MPANetModule(
        identities, network={"trunk": trunk, "pretrained": False}, criterion={}, optimizer={}, schedule={}
    )
    module.to(DEVICE, memory_format=mode.memory_format)
    if mode.compiled:
        module.network.compile()
        module.criterion.compile()
    adam = adam_of(module)

    def step(batch: Batch) -> None:
        module.criterion.follow(1)
        with mode.autocast():
            loss = module.losses(batch)["total"]
        descend(adam, loss)

    return step


def bare_step(mode: Mode, trunk: str) -> Step:
    bare = Trunk(trunk, pretrained=False, last_stride=1, alleviation=()).to(DEVICE, memory_format=mode.memory_format)
    if mode.compiled:
        bare.compile()
    adam = adam_of(bare)

    def step(batch: Batch) -> None:
        with mode.autocast():
            features = bare(batch.images)
        descend(adam, features.mean(dtype=torch.float32))

    return step


def adam_of(module: torch.nn.Module) -> torch.optim.Adam:
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    capturable = DEVICE.type == "cuda"  # may stand in a CUDA graph
    return torch.optim.Adam(learned, lr=3.5e-4, weight_decay=5e-4, fused=True, capturable=capturable)


def descend(adam: torch.optim.Adam, loss: torch.Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def draw_batch(recipe: Recipe, mode: Mode, seed: int) -> Batch:
    """Noise, identities of four visible and four infrared rows each."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(recipe.batch, 3, recipe.height, recipe.width, generator=generator)
    rows = torch.arange(recipe.batch)
    columns = Batch(images, rows // IMAGES_PER_IDENTITY, rows, rows % 2 == 0, rows)
    batch = Batch(*(column.to(DEVICE) for column in columns if column is not None))
    return batch._replace(images=batch.images.contiguous(memory_format=mode.memory_format))


def seconds(step: Step, batches: Iterable[Batch], times: int = 1) -> float:
    """Of one step."""
    synchronize()
    began = clock()
    for batch in itertools.islice(batches, times):
        step(batch)
    synchronize()
    return (clock() - began) / times


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def warmed_peak(step: Step, batch: Batch, held: int) -> int:
    """Run the first steps; the peak of the device's memory in bytes above what was `held` before the step was made."""
    for _ in range(3):
        step(batch)
    synchronize()
    return torch.cuda.max_memory_allocated() - held if DEVICE.type == "cuda" else 0


def drawn_data(recipe: Recipe, root: str, identities: int = 100, images_per_camera: int = 4) -> ReIDDataModule:
    data = ReIDDataModule(
        Synthetic(root, identities=identities, images_per_camera=images_per_camera),
        height=recipe.height,
        width=recipe.width,
        identities_per_batch=recipe.batch // IMAGES_PER_IDENTITY,
        images_per_identity=IMAGES_PER_IDENTITY,
    )
    data.prepare_data()
    data.setup()
    return data


def real_batches(data: ReIDDataModule, mode: Mode) -> Iterator[Batch]:
    """Epoch after epoch, on the device and augmented there."""
    for epoch in itertools.count():
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            batch = Batch(*(column.to(DEVICE, non_blocking=True) for column in batch if column is not None))
            images = data.views.augmentation(batch.images, batch.index, batch.infrared, seed=1, epoch=epoch)
            yield batch._replace(images=images.contiguous(memory_format=mode.memory_format))


class Row(NamedTuple):
    name: str
    mode: Mode
    whole: Step
    bare: Step
    batch: Batch
    peak: int
    timings: list[tuple[float, float]]  # (whole, bare), a round each

    def resident(self) -> Iterator[Batch]:
        return itertools.repeat(self.batch)


def make_row(name: str, recipe: Recipe, trunk: str) -> Row:
    mode = Mode.all()[name]
    batch = draw_batch(recipe, mode, seed=1)
    held = 0
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    whole = whole_step(mode, trunk, recipe.identities)
    peak = warmed_peak(whole, batch, held)
    bare = bare_step(mode, trunk)
    warmed_peak(bare, batch, held)
    return Row(name, mode, whole, bare, batch, peak, [])


def report(rows: list[Row], recipe: Recipe, steady: int, real: int) -> None:
    first = statistics.median(whole for whole, _ in rows[0].timings)
    print(f"| mode | images/s | bare trunk | share | against {rows[0].name} | peak memory | schedule | real batches |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root:
        data = drawn_data(recipe, root) if real else None
        for row in rows:
            whole, bare = (statistics.median(column) for column in zip(*row.timings, strict=True))
            share = statistics.median(bare / whole for whole, bare in row.timings)
            speeds = f"{recipe.batch / whole:.1f} | {recipe.batch / bare:.1f} | {share:.1%} | {first / whole:.2f}"
            peak = f"{row.peak / 2**30:.1f} GiB" if row.peak else ""
            schedule = f"{whole_schedule(row, recipe, steady):.1f} min" if steady else ""
            slower = f"{cost_of_real_batches(row, data, real):+.1%}" if data else ""
            print(f"| {row.name} | {speeds} | {peak} | {schedule} | {slower} |", flush=True)


def whole_schedule(row: Row, recipe: Recipe, steady: int) -> float:
    """Minutes, at the pace of `steady` steps in a row."""
    return seconds(row.whole, row.resident(), steady) * recipe.steps / 60


def cost_of_real_batches(row: Row, data: ReIDDataModule, steps: int) -> float:
    """How much longer a step takes with them, in turns with the resident batch."""
    batches = real_batches(data, row.mode)
    turns = [(seconds(row.whole, batches, steps), seconds(row.whole, row.resident(), steps)) for _ in range(3)]
    return statistics.median(real / resident for real, resident in turns) - 1


def machine() -> str:
    chip = torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{chip}, {torch.get_num_threads()} threads of {usable_cores()} cores; {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=RECIPES, default="sysu")
    parser.add_argument("--trunk", default="resnet50")
    parser.add_argument("--height", type=int, help="of the recipe unless given, as width and batch")
    parser.add_argument("--width", type=int)
    parser.add_argument("--batch", type=int, help="the recipe's on a GPU, 32 elsewhere")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--modes", nargs="+", choices=Mode.all(), default=list(Mode.all()))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--processor-time", action="store_true", help="on a CPU that others use too")
    parser.add_argument("--steady", type=int, default=0, help="steps to time in one go, scaled to the whole schedule")
    parser.add_argument("--real", type=int, default=0, help="steps to time with fetched and augmented batches")
    options = parser.parse_args()
    if options.processor_time:
        global clock
        clock = time.process_time
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = RECIPES[options.recipe]
    if DEVICE.type == "cpu":
        recipe = recipe._replace(batch=32)
    asked = {name: getattr(options, name) for name in ("height", "width", "batch") if getattr(options, name)}
    recipe = recipe._replace(**asked)

    print(f"{options.trunk}, batch {recipe.batch} of {recipe.height} × {recipe.width}; {machine()}\n", flush=True)
    rows = [make_row(name, recipe, options.trunk) for name in options.modes]
    for _ in range(options.rounds):
        for row in rows:
            row.timings.append((seconds(row.whole, row.resident()), seconds(row.bare, row.resident())))
    report(rows, recipe, options.steady, options.real)


if __name__ == "__main__":
    main()
