"""The whole training step beside the bare trunk's, which is its limit, in every mode, interleaved on the same batches.

    python scripts/bench_train.py                                       the recipe of SYSU-MM01; batch 32 without a GPU
    python scripts/bench_train.py --recipe regdb --steady 300           and the time of the whole schedule
    python scripts/bench_train.py --trunk resnet18 --height 96 --width 48 --batch 8 --rounds 2 --modes bf16

A step is forward, losses, backward and optimiser. The bare trunk is the same ResNet without alleviation, whose mean
feature is its loss. Medians over the rounds.
"""

import argparse
import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torchvision

from mpanet_pl.data.catalogue import Batch
from mpanet_pl.module import MPANetModule
from mpanet_pl.network.trunk import Trunk

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
        for compiled in (False, True):
            for bf16 in (False, True):
                for channels_last in (False, True):
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
    return torch.optim.Adam(learned, lr=3.5e-4, weight_decay=5e-4, fused=True)


def descend(adam: torch.optim.Adam, loss: torch.Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def draw_batch(recipe: Recipe, mode: Mode, seed: int) -> Batch:
    """Noise, identities of four visible and four infrared rows each."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(recipe.batch, 3, recipe.height, recipe.width, generator=generator)
    rows = torch.arange(recipe.batch)
    columns = Batch(images, rows // 8, rows, rows % 2 == 0, rows)
    batch = Batch(*(column.to(DEVICE) for column in columns))
    return batch._replace(images=batch.images.contiguous(memory_format=mode.memory_format))


def seconds(step: Step, batch: Batch, times: int = 1) -> float:
    synchronize()
    began = time.perf_counter()
    for _ in range(times):
        step(batch)
    synchronize()
    return (time.perf_counter() - began) / times


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def warmed_peak(step: Step, batch: Batch, held: int) -> int:
    """Run the first steps; the peak of the device's memory in bytes above what was `held` before the step was made."""
    for _ in range(3):
        step(batch)
    synchronize()
    return torch.cuda.max_memory_allocated() - held if DEVICE.type == "cuda" else 0


class Row(NamedTuple):
    mode: str
    whole: Step
    bare: Step
    batch: Batch
    peak: int
    timings: list[tuple[float, float]]  # (whole, bare), a round each


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
    return Row(name, whole, bare, batch, peak, [])


def report(rows: list[Row], recipe: Recipe, steady: int) -> None:
    first = statistics.median(whole for whole, _ in rows[0].timings)
    print(f"| mode | images/s | bare trunk | share | against {rows[0].mode} | peak memory | whole schedule |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        whole, bare = (statistics.median(column) for column in zip(*row.timings, strict=True))
        share = statistics.median(bare / whole for whole, bare in row.timings)
        peak = f"{row.peak / 2**30:.1f} GiB" if row.peak else ""
        schedule = f"{seconds(row.whole, row.batch, steady) * recipe.steps / 60:.1f} min" if steady else ""
        speeds = f"{recipe.batch / whole:.1f} | {recipe.batch / bare:.1f} | {share:.1%} | {first / whole:.2f}"
        print(f"| {row.mode} | {speeds} | {peak} | {schedule} |")


def machine() -> str:
    chip = torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or platform.machine()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{chip}, {torch.get_num_threads()} threads of {os.cpu_count()} cores; {versions}"


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
    parser.add_argument("--steady", type=int, default=0, help="steps to time in one go, scaled to the whole schedule")
    options = parser.parse_args()
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
            row.timings.append((seconds(row.whole, row.batch), seconds(row.bare, row.batch)))
    report(rows, recipe, options.steady)


if __name__ == "__main__":
    main()
