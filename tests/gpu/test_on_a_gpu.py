"""What only a GPU can answer. Each body also runs on the CPU, smaller: there a fault of the test's own shows."""

import datetime
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from commands import SMALL_WORLD, compose
from evaluation import made
from test_golden_network import CASES, TERMS, batch_of, grad_norms, module_of
from torch import Tensor

from mpanet_pl.data import SYSU, Batch, ReIDDataModule
from mpanet_pl.errors import RunStopped
from mpanet_pl.evaluation import KReciprocal, SYSUProtocol, evaluate
from mpanet_pl.evaluation.scoring import full_precision
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.trainer import failures_explained
from mpanet_pl.run.training import train

DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("cuda", id="gpu", marks=pytest.mark.gpu)]
on_each = pytest.mark.parametrize("device", DEVICES)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's own use of torch's trees
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def tiny(device: str) -> MPANetModule:
    torch.manual_seed(0)
    trunk = "resnet18" if device == "cuda" else "resnet18_thin"
    settings = {
        "network": {"trunk": trunk, "pretrained": False, "patterns": 2},
        "criterion": {},
        "optimizer": {"lr": 1e-3, "weight_decay": 5e-4},
        "schedule": {"milestones": [50]},
    }
    return MPANetModule(8, **settings).to(memory_format=torch.channels_last)  # type: ignore[arg-type]


@pytest.fixture
def data(sysu: Path) -> ReIDDataModule:
    return ReIDDataModule(
        SYSU(sysu), height=48, width=24, identities_per_batch=2, images_per_identity=4, eval_batch_size=7
    )


def trainer_on(device: str, **keys: object) -> pl.Trainer:
    settings = {
        "accelerator": {"cuda": "gpu"}.get(device, device),
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(**settings | keys)  # type: ignore[arg-type]


def moved(batch: Batch, device: str, dtype: torch.dtype = torch.float32) -> Batch:
    columns = (column if column is None else column.to(device) for column in batch)
    batch = Batch(*columns)  # type: ignore[arg-type]
    return batch._replace(images=batch.images.to(dtype))


@contextmanager
def without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with full_precision(torch.device("cpu")):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "device"),
    [
        pytest.param(path, *device.values, id=f"{path.stem}-{device.id}", marks=device.marks)
        for path in CASES
        for device in DEVICES
        if path.stem == "full" or device.id == "gpu"  # a CPU's numbers are in test_golden_network
    ],
)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-8)], ids=["float32", "float64"])
def test_released_numbers(path: Path, dtype: torch.dtype, close: float, device: str) -> None:
    case, stored = json.loads(path.read_text()), np.load(path.with_suffix(".npz"))
    module = module_of(case).to(device, dtype)
    with without_tf32():
        with torch.no_grad():
            embedding = module.eval()(moved(batch_of(case), device, dtype).images)
        found = embedding[:, :: case["column_stride"]].double().cpu().numpy()
        assert np.abs(found - stored["features_before"]).max() <= close * np.abs(stored["features_before"]).max()
        module.train()
        module.criterion.follow(case["epoch"])
        terms = module.losses(moved(batch_of(case, 0), device, dtype))
        terms["total"].backward()
    expected = case["train_steps"][0]
    assert {TERMS[name]: term.item() for name, term in terms.items()} == pytest.approx(
        {name: expected[name] for name in expected if name != "acc"}, rel=close
    )
    cancelling = 1e-2 if dtype == torch.float32 else 1e-7  # gradients of early scales are small sums of large numbers
    assert grad_norms(module) == pytest.approx(case["grad_norms_step0"], rel=cancelling)


PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def trained_losses(device: str, precision: str, steps: int) -> Tensor:
    module = tiny(device).to(device)
    adam = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    half = PRECISIONS[precision]
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16", init_scale=128)
    generator = torch.Generator().manual_seed(1)
    rows = torch.arange(16)
    people = torch.randn(4, 3, 48, 24, generator=generator)
    losses = []
    for _ in range(steps):
        images = people[rows // 4] + torch.randn(16, 3, 48, 24, generator=generator)
        batch = moved(Batch(images, rows // 4, rows, rows % 2 == 0, rows), device)
        module.criterion.follow(1)
        with torch.autocast(device, half, enabled=half != torch.float32):
            total = module.losses(batch)["total"]
        adam.zero_grad()
        scaler.scale(total).backward()
        scaler.step(adam)
        scaler.update()
        losses.append(total.detach())
    return torch.stack(losses).cpu()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "precision", "steps"),
    [
        pytest.param("cpu", "bf16", 12, id="cpu"),  # float16 takes a CPU minutes
        pytest.param("cuda", "bf16", 200, id="gpu-bf16", marks=pytest.mark.gpu),
        pytest.param("cuda", "fp16", 200, id="gpu-fp16", marks=pytest.mark.gpu),
    ],
)
def test_half_precision_learns_what_float32_learns(device: str, precision: str, steps: int) -> None:
    whole, half = trained_losses(device, "float32", steps), trained_losses(device, precision, steps)
    assert half.isfinite().all()
    end = slice(-(steps // 4), None)
    learned = whole[0] - whole[end].mean()
    assert learned > 1
    assert abs(half[end].mean() - whole[end].mean()) < 0.1 * learned


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        pytest.param("cpu", "32-true", id="cpu"),
        *(pytest.param("cuda", name, id=f"gpu-{name}", marks=pytest.mark.gpu) for name in ("32-true", "bf16-mixed")),
        pytest.param("cuda", "16-mixed", id="gpu-16-mixed", marks=pytest.mark.gpu),
    ],
)
def test_a_steady_step_never_waits_for_the_gpu(device: str, precision: str, data: ReIDDataModule) -> None:
    """From the batch on its device over augmentation, losses and log to the optimiser's step."""
    steps = []

    class Strict(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            if batch_idx and device == "cuda":
                torch.cuda.set_sync_debug_mode("error")

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
            steps.append(batch_idx)

    trainer_on(device, max_epochs=1, precision=precision, limit_val_batches=0, callbacks=[Strict()]).fit(
        tiny(device), datamodule=data
    )
    assert len(steps) > 1


def held(device: str) -> int:
    """Bytes of all tensors."""
    gc.collect()
    if device == "cuda":
        return torch.cuda.memory_allocated()
    return sum(one.untyped_storage().nbytes() for one in gc.get_objects() if type(one) is Tensor)


@on_each
@pytest.mark.slow
def test_memory_does_not_grow_over_epochs(device: str, data: ReIDDataModule) -> None:
    epochs = []

    class Weigh(pl.Callback):
        def on_train_epoch_end(self, trainer, module) -> None:
            epochs.append(held(device))

    trainer_on(device, max_epochs=5, callbacks=[Weigh()]).fit(tiny(device), datamodule=data)
    assert len(epochs) == 5
    a_few_numbers = 1000  # of bytes, that are logged; a kept image is 3456, a kept graph far more
    assert max(epochs[2:]) <= epochs[1] + a_few_numbers


@on_each
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor that is not a leaf")
def test_nothing_is_compiled_after_the_first_epoch(device: str, data: ReIDDataModule) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    graphs = []

    class Count(pl.Callback):
        def on_train_epoch_end(self, trainer, module) -> None:
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    module = tiny(device)
    module.network.compile(backend="inductor" if device == "cuda" else "aot_eager")
    module.criterion.compile(backend="inductor" if device == "cuda" else "aot_eager")
    trainer_on(device, max_epochs=3, callbacks=[Count()]).fit(module, datamodule=data)
    torch._dynamo.reset()
    assert graphs[0] > 0
    assert graphs == [graphs[0]] * 3


@on_each
@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_by_bit(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    small = [*SMALL_WORLD, f"trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}", "trainer.deterministic=true"]
    small += [f"data_dir={tmp_path}/world", "trainer.max_epochs=2"]
    train(compose("train", [*small, f"run_dir={tmp_path}/whole"]))

    class Killed(Exception):
        pass

    with monkeypatch.context() as patch:

        def die(self: MPANetModule, *_: object) -> None:
            if self.current_epoch == 1:
                raise Killed

        patch.setattr(MPANetModule, "on_train_epoch_start", die)
        with pytest.raises(Killed):
            train(compose("train", [*small, f"run_dir={tmp_path}/stopped"]))
    train(compose("train", [f"resume={tmp_path}/stopped"]))
    whole, stopped = (
        torch.load(tmp_path / run / "checkpoints/last.ckpt", map_location="cpu")["state_dict"]
        for run in ("whole", "stopped")
    )
    torch.testing.assert_close(stopped, whole, rtol=0, atol=0)
    torch.use_deterministic_algorithms(False)


@on_each
@pytest.mark.parametrize("rerank", [None, KReciprocal()], ids=["plain", "reranked"])
def test_evaluation_is_the_cpu_s(rerank: KReciprocal | None, device: str) -> None:
    embeddings, catalogue = made.sysu(dim=16)
    protocol = SYSUProtocol(trials=1)
    if rerank:  # a part of the catalogue: the CPU takes its time
        some = torch.arange(0, len(catalogue), 6)
        embeddings, catalogue = embeddings[some], catalogue[some]
    expected = evaluate(embeddings.float(), catalogue, protocol, rerank=rerank)
    for setting, scores in evaluate(embeddings.float().to(device), catalogue, protocol, rerank=rerank).items():
        for name, trials in expected[setting].trials.items():
            assert scores.trials[name] == pytest.approx(trials, abs=0.05), (setting, name)


@on_each
def test_out_of_memory_is_a_sentence(device: str, data: ReIDDataModule, tmp_path: Path) -> None:
    class TooMuch(pl.Callback):
        def on_before_backward(self, trainer, module, loss) -> None:
            if device == "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory.")
            torch.empty(2**45, dtype=torch.uint8, device=device)

    wanted = "Out of memory. Lower data.identities_per_batch"
    with pytest.raises(RunStopped, match=wanted), failures_explained(tmp_path):
        trainer_on(device, max_epochs=1, callbacks=[TooMuch()]).fit(tiny(device), datamodule=data)


def one_of_several(rank: int, world: int, device: str, folder: Path) -> None:
    """A rank's step of a module as Lightning prepares it: batch statistics synchronised, then wrapped by DDP."""
    torch.set_num_threads(1)
    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        f"file://{folder}/meeting",
        datetime.timedelta(seconds=60),
        world,
        rank,
    )
    module = tiny(device).double().to(device)
    if device == "cuda":
        module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)
    ddp = torch.nn.parallel.DistributedDataParallel(Losses(module), device_ids=[rank] if device == "cuda" else None)
    columns = [None if column is None else column.chunk(world)[rank] for column in eight_rows()]
    ddp(moved(Batch(*columns), device, torch.float64)).backward()  # type: ignore[arg-type]
    torch.save({name: weight.grad.cpu() for name, weight in learned(module)}, folder / f"{rank}.pt")
    dist.destroy_process_group()


class Losses(torch.nn.Module):
    def __init__(self, module: MPANetModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Batch) -> Tensor:
        return self.module.losses(batch)["total"]


def learned(module: MPANetModule) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]


def eight_rows() -> Batch:
    rows = torch.arange(8)
    images = torch.randn(8, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    return Batch(images, rows // 2 % 3, rows, rows % 2 == 0, rows)


@on_each
@pytest.mark.slow
def test_ranks_over_the_gpus_are_one(device: str, tmp_path: Path) -> None:
    """Two ranks where there are two GPUs; one rank over NCCL where there is one."""
    world = min(2, torch.cuda.device_count()) if device == "cuda" else 1
    torch.multiprocessing.spawn(one_of_several, (world, device, tmp_path), nprocs=world)
    alone = tiny(device).double().to(device)
    alone.losses(moved(eight_rows(), device, torch.float64))["total"].backward()
    expected = {name: weight.grad.cpu() for name, weight in learned(alone)}  # type: ignore[union-attr]
    for rank in range(world):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=1e-7, atol=1e-10)
