"""What only a GPU can answer, in one command and at most nine minutes: one JSON and one Markdown table.

    python scripts/gpu_acceptance.py --out acceptance            on a machine with a GPU
    python scripts/gpu_acceptance.py --out acceptance --short    tiny sizes, on a CPU: whether this program itself works

No network and nothing installed but torch and torchvision: the package is this checkout's. What else is missing is
named first; rows that need it are left out and say so. A row that fails leaves its reason in its place.
"""

import argparse
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts"), str(ROOT / "tests")]
NEEDED = {
    "pytorch_lightning": "commands, tests",
    "torchmetrics": "commands, tests",
    "hydra": "commands, tests",
    "omegaconf": "commands, tests",
    "scipy": "official permutations",
    "PIL": "images",
    "rich": "commands",
    "matplotlib": "pictures",
    "filelock": "the cache",
    "pyarrow": "galleries",
    "pytest": "tests",
    "wandb": "logger=wandb",
}
MOST_SECONDS = 540
Values = dict[str, Any]


class Sizes(NamedTuple):
    trunk: str
    height: int
    width: int
    batch: int
    rounds: int
    steady: int
    embedding: int
    trials: int
    gallery: int
    world: list[str]
    tests: list[str]


FULL = Sizes("resnet50", 384, 128, 128, 10, 300, 14336, 10, 10**6, [], ["-m", "gpu"])
SHORT = Sizes(
    *("resnet18_thin", 64, 32, 16, 1, 2, 16, 1, 10**4),
    [
        *("trainer.max_epochs=1", "model.network.trunk=resnet18_thin", "data.height=48", "data.width=24"),
        *("data.dataset.identities=10", "data.dataset.images_per_camera=2"),
        *("data.identities_per_batch=2", "data.images_per_identity=4", "pictures=false"),
    ],
    ["-k", "evaluation_is_the_cpu_s and cpu and plain"],
)


class StandsIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for packages that are not there, whose names a file imports and a measured row does not use."""

    def __init__(self, missing: list[str]) -> None:
        self.missing = missing

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] not in self.missing:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda attribute: _nothing(spec.name, attribute)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _nothing(module: str, attribute: str) -> Any:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    if attribute == "LightningModule":
        return type(attribute, (torch.nn.Module,), {"save_hyperparameters": _keep})
    return type(attribute, (), {"__init__": _refuse if attribute == "Trainer" else object.__init__, "trainer": None})


def _keep(self: torch.nn.Module, values: Values) -> None:
    self.hparams = dict(values)  # type: ignore[assignment]  # as Lightning names them


def _refuse(self: Any, *_: Any, **__: Any) -> None:
    raise ModuleNotFoundError("there is only a stand-in of this package")


class Acceptance:
    """The rows, each a method: a mapping of what was measured."""

    def __init__(self, sizes: Sizes, missing: list[str], folder: Path, until: float) -> None:
        self.sizes, self.missing, self.folder, self.until = sizes, missing, folder, until
        import bench_train

        self.bench = bench_train
        self.cuda = bench_train.DEVICE.type == "cuda"
        self.recipe = bench_train.RECIPES["sysu"]._replace(height=sizes.height, width=sizes.width, batch=sizes.batch)
        self.flops = 0.0  # of one bare step
        self.peaks: Values = {}

    def need(self, *packages: str) -> None:
        if lacking := [name for name in packages if name in self.missing]:
            raise ModuleNotFoundError(f"needs {', '.join(lacking)}")

    def machine(self) -> Values:
        """What the card does at its best: products of random matrices, and a copy, bytes read and written counted."""
        size, device = (8192 if self.cuda else 512), self.bench.DEVICE
        for name, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
            one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            with tf32(name == "tf32"):
                torch.mm(one, other)
                took = min(self.seconds(lambda: torch.mm(one, other)) for _ in range(3))  # noqa: B023
            self.peaks[name] = 2 * size**3 / took
        source = torch.empty((2**30 if self.cuda else 2**22), dtype=torch.uint8, device=device).random_()
        target = torch.empty_like(source)
        took = min(self.seconds(lambda: target.copy_(source)) for _ in range(5))
        rates = {f"{name} TFLOP/s": rate / 1e12 for name, rate in self.peaks.items()}
        return {"machine": self.bench.machine(), **rates, "copy GB/s": 2 * len(source) / took / 1e9}

    def memory_reckoned(self) -> Values:
        from step_memory import step_memory

        sizes = (self.recipe.batch, self.recipe.height, self.recipe.width, self.recipe.identities)
        return {
            f"{name} GiB": step_memory(*sizes, trunk=self.sizes.trunk, bf16=name == "bf16").total / 2**30
            for name in ("float32", "bf16")
        }

    def step(self, name: str) -> Values:
        """The whole step beside the bare trunk's, in turns."""
        bench, compiled = self.bench, name == "bf16 compiled"
        mode = bench.Mode(bf16=name.startswith("bf16"), channels_last=True, compiled=compiled)
        batch = bench.draw_batch(self.recipe, mode, seed=1)
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated() if self.cuda else 0
        with tf32(name != "float32"):
            whole = bench.whole_step(mode, self.sizes.trunk, self.recipe.identities)
            began = time.perf_counter()
            peak = bench.warmed_peak(whole, batch, held)
            warm = time.perf_counter() - began
            bare = bench.bare_step(mode, self.sizes.trunk)
            bench.warmed_peak(bare, batch, held)
            if name.endswith("CUDA graphs"):
                whole, bare = captured(whole, batch), captured(bare, batch)
            turns = [
                tuple(bench.seconds(one, iter([batch] * 3), 3) for one in (whole, bare))
                for _ in range(self.sizes.rounds)
            ]
        took, bare_took = (sorted(column)[len(turns) // 2] for column in zip(*turns, strict=True))
        peaks_name = "float32" if name == "float32" else "tf32" if name == "TF32" else "bf16"
        return {
            "images/s": self.recipe.batch / took,
            "bare trunk images/s": self.recipe.batch / bare_took,
            "share of the bare trunk": bare_took / took,
            "share of the peak": self.step_flops() / took / self.peaks[peaks_name] if self.peaks else None,
            "peak GiB above the batch": peak / 2**30 if self.cuda else None,
            "seconds of the first steps": warm,
        }

    def step_flops(self) -> float:
        """Of a bare trunk's step: three times its forward pass."""
        from torch.utils.flop_counter import FlopCounterMode

        from mpanet_pl.network.trunk import Trunk

        if not self.flops:
            with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
                trunk = Trunk(self.sizes.trunk, pretrained=False, last_stride=1, alleviation=())
                trunk(torch.empty(self.recipe.batch, 3, self.recipe.height, self.recipe.width))
            self.flops = 3.0 * counter.get_total_flops()
        return self.flops

    def parts(self) -> Values:
        """Each part's share of a bf16 step, from what a step takes that stops after it."""
        from mpanet_pl.module import MPANetModule

        bench = self.bench
        mode = bench.Mode(bf16=True, channels_last=True, compiled=False)
        network = {"trunk": self.sizes.trunk, "pretrained": False}
        module = MPANetModule(self.recipe.identities, network=network, criterion={}, optimizer={}, schedule={})
        module.to(bench.DEVICE, memory_format=mode.memory_format)
        adam, batch = bench.adam_of(module), bench.draw_batch(self.recipe, mode, seed=1)

        def until(part: int) -> Callable[[], None]:
            def run() -> None:
                with mode.autocast():
                    seen = module.network(batch.images)
                    if part:
                        loss = module.criterion(seen, batch.identities, batch.infrared)["total"]
                if part > 1:
                    adam.zero_grad()
                    loss.backward()
                if part > 2:
                    module.criterion.follow(1)
                    adam.step()

            return run

        def median(run: Callable[[], None]) -> float:
            run()
            return sorted(self.seconds(run) for _ in range(2 * self.sizes.rounds + 1))[self.sizes.rounds]

        ends = [0.0, *(median(until(part)) for part in range(4))]
        names = ("network", "losses", "backward", "twins and optimiser")
        return {f"{name} ms": 1e3 * (ends[i + 1] - ends[i]) for i, name in enumerate(names)} | {
            "whole ms": 1e3 * ends[-1]
        }

    def real_batches(self) -> Values:
        """What fetching, moving and augmenting adds to a step on a resident batch."""
        self.need("PIL", "filelock", "rich", "pytorch_lightning")
        data = self.bench.drawn_data(self.recipe, str(self.folder / "drawn"), *((20, 2) if self.cuda else (4, 2)))
        row = self.bench.make_row("bf16-channels_last", self.recipe, self.sizes.trunk)
        return {"slower by": self.bench.cost_of_real_batches(row, data, 20 if self.cuda else 1)}

    def schedules(self) -> Values:
        """Of bf16 steps in a row, scaled to the whole training."""
        minutes = {}
        for name in ("sysu", "regdb"):
            recipe = self.bench.RECIPES[name]
            sized = recipe if self.cuda else recipe._replace(batch=16, height=64, width=32)
            row = self.bench.make_row("bf16-channels_last", sized, self.sizes.trunk)
            minutes[f"{name} minutes"] = self.bench.whole_schedule(row, recipe, self.sizes.steady)
        return minutes

    def embedding(self) -> Values:
        from mpanet_pl.network import MPANet

        device = self.bench.DEVICE
        network = MPANet(trunk=self.sizes.trunk, pretrained=False).to(device, memory_format=torch.channels_last).eval()
        images = torch.randn(self.recipe.batch, 3, self.recipe.height, self.recipe.width, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        speeds = {}
        for name in ("float32", "TF32", "bf16"):
            bf16 = torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16")
            with torch.inference_mode(), bf16, tf32(name != "float32"):
                network(images)
                took = sorted(self.seconds(lambda: network(images)) for _ in range(2 * self.sizes.rounds + 1))
            speeds[f"{name} images/s"] = self.recipe.batch / took[self.sizes.rounds]
        return speeds

    def evaluation(self) -> Values:
        from bench_evaluation import made_up
        from evaluation import made

        from mpanet_pl.evaluation import KReciprocal, SYSUProtocol, evaluate

        _, catalogue = made.sysu(dim=1)
        embeddings = made_up(catalogue, self.sizes.embedding).to(self.bench.DEVICE)
        protocol = SYSUProtocol(trials=self.sizes.trials)
        evaluate(embeddings[:, :8], catalogue, protocol)
        took = self.seconds(lambda: evaluate(embeddings, catalogue, protocol))
        (search,) = SYSUProtocol(trials=1).searches(catalogue)
        rows = torch.cat([search.queries, search.galleries["all/multi"][0]]).to(embeddings.device)
        chosen, queries = torch.nn.functional.normalize(embeddings[rows]), len(search.queries)
        reranker = KReciprocal()
        reranker(chosen[:64], chosen[64:256])
        reranked = self.seconds(lambda: reranker(chosen[:queries], chosen[queries:]))
        return {"evaluation s": took, "re-ranking of one trial s": reranked}

    def search(self) -> Values:
        self.need("pyarrow")
        from mpanet_pl.gallery.searching import SIMILARITIES_AT_ONCE, largest

        gallery = torch.nn.functional.normalize(torch.randn(self.sizes.gallery, 512, device=self.bench.DEVICE))
        queries = gallery[:1000] + 0.01

        def run() -> None:
            found = [largest(queries @ block.T, 10) for block in gallery.split(SIMILARITIES_AT_ONCE // len(queries))]
            values = torch.cat([values for values, _ in found], dim=1)
            values.topk(10, dim=1)

        run()
        return {f"1 000 queries in {self.sizes.gallery:,} × 512, s": self.seconds(run)}

    def first_command(self) -> Values:
        """`python -m mpanet_pl.train` as a reader types it, from nothing to the table."""
        self.need("pytorch_lightning", "torchmetrics", "hydra", "omegaconf", "rich", "matplotlib", "PIL", "filelock")
        overrides = [*self.sizes.world, "model.network.pretrained=false"]
        took, output = self.command(["-m", "mpanet_pl.train", *overrides], 150)
        if "r1" not in output.lower() and "rank-1" not in output.lower():
            raise RuntimeError(f"no table was printed: {output[-500:]}")
        return {"seconds": took}

    def tests(self) -> Values:
        self.need("pytest", "pytorch_lightning", "torchmetrics", "hydra", "omegaconf", "rich", "matplotlib", "PIL")
        words = ["-m", "pytest", "-v", "--tb=line", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"]
        took, output = self.command([*words, "tests/gpu", *self.sizes.tests], 180, cwd=ROOT, may_fail=True)
        verdicts = re.findall(r"^(tests/\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)", output, re.MULTILINE)
        if not verdicts:
            raise RuntimeError(output.strip()[-500:])
        values: Values = {"seconds": took, "passed": sum(verdict == "PASSED" for _, verdict in verdicts)}
        failed = [name.partition("::")[2] for name, verdict in verdicts if verdict in ("FAILED", "ERROR")]
        return values | {f"failed {number}": name for number, name in enumerate(failed, 1)}

    def command(
        self, words: list[str], most: float, cwd: Path | None = None, may_fail: bool = False
    ) -> tuple[float, str]:
        """(seconds, what was printed, also of a command that took too long and may)"""
        began = time.perf_counter()
        path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "WANDB_MODE": "offline", "MPLBACKEND": "Agg"}
        environment["MPANET_CACHE"] = str(self.folder / "cache")  # from nothing: no world that was drawn before
        log = self.folder / "output.txt"
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *words], cwd=cwd or self.folder, env=environment, stdout=output, stderr=output
            )
            try:
                failed = process.wait(max(10.0, min(most, self.until - time.monotonic()))) != 0
            except subprocess.TimeoutExpired:
                failed = True
            finally:
                process.kill()
                process.wait()
        if failed and not may_fail:
            raise RuntimeError(f"after {time.perf_counter() - began:.0f} s: {log.read_text().strip()[-400:]}")
        return time.perf_counter() - began, log.read_text()

    def seconds(self, run: Callable[[], Any]) -> float:
        self.bench.synchronize()
        began = time.perf_counter()
        run()
        self.bench.synchronize()
        return time.perf_counter() - began


@contextlib.contextmanager
def tf32(on: bool) -> Iterator[None]:
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = on
    torch.set_float32_matmul_precision("high" if on else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def captured(step: Callable[[Any], None], batch: Any) -> Callable[[Any], None]:
    """The warm step as one CUDA graph, always of this batch."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(batch)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(batch)
    return lambda _: graph.replay()


def rows_of(acceptance: Acceptance) -> dict[str, Callable[[], Values]]:
    """In the order of what would be missed most if time ran out."""
    modes = (
        ["float32", "TF32", "bf16", "bf16, CUDA graphs", "bf16 compiled"] if acceptance.cuda else ["float32", "bf16"]
    )
    steps = {f"step: {name}": (lambda name=name: acceptance.step(name)) for name in modes}
    return {
        "machine": acceptance.machine,
        "memory of a step, reckoned": acceptance.memory_reckoned,
        **dict(list(steps.items())[:3]),
        "parts of a bf16 step": acceptance.parts,
        "schedules, bf16": acceptance.schedules,
        "real batches": acceptance.real_batches,
        "embedding": acceptance.embedding,
        "evaluation, SYSU-MM01's size": acceptance.evaluation,
        "exact search": acceptance.search,
        "first command": acceptance.first_command,
        "tests marked gpu": acceptance.tests,
        **dict(list(steps.items())[3:]),
    }


def table(results: dict[str, Values]) -> str:
    lines = ["| row | | |", "|---|---|---|"]
    for row, result in results.items():
        values = {key: value for key, value in result["values"].items() if value is not None}
        values |= {"not measured": result["error"]} if result["error"] else {}
        for key, value in values.items():
            said = str(value) if not isinstance(value, float) else f"{value:.3g}" if value < 100 else f"{value:,.0f}"
            lines.append(f"| {row} | {key} | {said.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("acceptance"), help="folder of the JSON and the table")
    parser.add_argument("--short", action="store_true", help="tiny sizes; without a GPU nothing else")
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="in all")
    parser.add_argument("--rows", nargs="+", help="beginnings of the names of the rows to measure; otherwise all")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    for name in missing:
        print(f"{name} is missing, which {NEEDED[name]} need", flush=True)
    sys.meta_path.append(StandsIn(missing))
    if not torch.cuda.is_available() and not options.short:
        raise SystemExit("There is no GPU that torch can use; --short runs what needs none.")
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Values] = {}
    with tempfile.TemporaryDirectory() as folder:
        acceptance = Acceptance(SHORT if options.short else FULL, missing, Path(folder), until)
        for name, measure in rows_of(acceptance).items():
            if options.rows and not name.startswith(tuple(options.rows)):
                continue
            began, values, error = time.monotonic(), {}, None
            try:
                if began > until - 15:
                    raise TimeoutError("the time was used up")
                values = measure()
            except Exception as fault:  # whatever it is, the next row is worth having
                error = f"{type(fault).__name__}: {fault}".strip().replace("\n", " ")[:400]
            results[name] = {"values": values, "error": error, "seconds": time.monotonic() - began}
            print(f"{name}: {error or values} ({results[name]['seconds']:.0f} s)", flush=True)
            if acceptance.cuda:
                torch.cuda.empty_cache()
            said = {"short": options.short, "missing": missing, "python": platform.python_version(), "rows": results}
            (options.out / "acceptance.json").write_text(json.dumps(said, indent=2) + "\n")
            (options.out / "acceptance.md").write_text(table(results))
    print("\n" + table(results))


if __name__ == "__main__":
    main()
