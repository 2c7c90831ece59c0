"""What needs a GPU's rules and no GPU: devices that must not mix, values that the host must not ask for.

Not here: the backward pass, for torch's autograd starts a GPU's own thread, and kernels, which fake tensors never run.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from evaluation import made
from gpu.fake_cuda import CUDA, Pretended, PretendedCuda, Strict, bfloat16_on_cuda, onto_fake_cuda
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)
from torch.profiler import ProfilerActivity, profile

from mpanet_pl.data import Batch
from mpanet_pl.data.augment import Augmentation, normalise
from mpanet_pl.evaluation import KReciprocal, RegDBProtocol, ReIDMetric, evaluate
from mpanet_pl.evaluation.rerank import MutualNeighbours
from mpanet_pl.losses import functional
from mpanet_pl.module import MPANetModule

SCRIPTS = Path(__file__).parents[2] / "scripts"
ROWS = 128


def module_of(trunk: str) -> MPANetModule:
    return MPANetModule(395, network={"trunk": trunk, "pretrained": False}, criterion={}, optimizer={}, schedule={}).to(
        memory_format=torch.channels_last
    )


def batch_on(device: torch.device | str, images: Tensor) -> Batch:
    rows = torch.arange(ROWS, device=device)
    return Batch(images, rows // 8, rows, rows % 2 == 0, rows)


@pytest.fixture
def step() -> Iterator[tuple[MPANetModule, Batch]]:
    """ResNet-50 and a whole batch on a GPU, as far as anyone can tell who reads no value."""
    with torch.device("meta"):
        module = module_of("resnet50")
    with FakeTensorMode(), Strict():
        images = torch.empty(ROWS, 3, 384, 128, device=CUDA).contiguous(memory_format=torch.channels_last)
        yield onto_fake_cuda(module), batch_on(CUDA, images)  # type: ignore[misc]


@pytest.mark.parametrize("precision", [contextlib.nullcontext, bfloat16_on_cuda], ids=["float32", "bf16"])
def test_the_whole_loss_stays_on_the_gpu(precision, step: tuple[MPANetModule, Batch]) -> None:
    module, batch = step
    module.criterion.follow(1)
    with precision():
        seen = module.network(batch.images)
        terms = module.criterion(seen, batch.identities, batch.infrared)
        accuracy = module.criterion.accuracy(seen.embedding, batch.identities)
    assert seen.maps.dtype == (torch.bfloat16 if precision is bfloat16_on_cuda else torch.float32)
    assert all(value.device == CUDA and value.dtype == torch.float32 for value in (*terms.values(), accuracy))


def test_embedding_stays_on_the_gpu(step: tuple[MPANetModule, Batch]) -> None:
    module, batch = step
    with torch.no_grad(), bfloat16_on_cuda():
        embedding = module.eval()(batch.images)
    assert (embedding.device, tuple(embedding.shape)) == (CUDA, (ROWS, 14336))


FAULTS = {
    "item": (lambda term: term * term.item(), DataDependentOutputException),
    "branch": (lambda term: term if term > 0 else -term, DataDependentOutputException),
    "nonzero": (lambda term: term[None].nonzero().sum(), DynamicOutputShapeException),
    "CPU tensor": (lambda term: (term + torch.ones(2)).sum(), FakeTensorDeviceMismatchError),
    "copied to the CPU": (lambda term: term.cpu(), RuntimeError),
    "copied from the CPU": (lambda term: torch.tensor([1.0], device=CUDA) * term, RuntimeError),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen(name: str, step: tuple[MPANetModule, Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each inside a loss term, where it would be written by mistake."""
    fault, error = FAULTS[name]
    separation = functional.separation
    monkeypatch.setattr(functional, "separation", lambda maps: fault(separation(maps)))
    module, batch = step
    with pytest.raises(error):
        module.losses(batch)


@pytest.mark.parametrize("settings", [{}, {"grayscale": True, "channel_exchange": True}], ids=["recipe", "colours"])
def test_augmentation_stays_on_the_gpu(settings: dict) -> None:
    augmentation = Augmentation(**settings)
    with FakeTensorMode():
        batch = batch_on(CUDA, torch.empty(ROWS, 3, 384, 128, dtype=torch.uint8, device=CUDA))

        with Strict():
            augmented = augmentation(batch.images, batch.index, batch.infrared, seed=1, epoch=0)
            images = [augmented, normalise(batch.images)]
    assert all(image.device == CUDA and image.dtype == torch.float32 for image in images)


def test_the_metric_takes_embeddings_from_the_gpu() -> None:
    embeddings, catalogue = made.regdb(1, 8, identities=4, per=2)
    metric = ReIDMetric(catalogue, RegDBProtocol())
    with PretendedCuda():
        for rows in torch.arange(len(catalogue)).split(5):
            metric.update(Pretended(embeddings[rows].float()), Pretended(rows))
    assert metric.embeddings().equal(embeddings.float())


@pytest.mark.parametrize("rerank", [None, KReciprocal(k1=4, k2=2), MutualNeighbours(k=2)], ids=str)
@pytest.mark.parametrize("protocol", [RegDBProtocol(), RegDBProtocol(cmc="plain", normalise=True)], ids=["l2", "cos"])
def test_scoring_on_the_gpu_is_scoring_on_the_cpu(protocol, rerank) -> None:
    embeddings, catalogue = made.regdb(1, 8, identities=8, per=3)
    expected = evaluate(embeddings.float(), catalogue, protocol, rerank=rerank)
    with PretendedCuda():
        scores = evaluate(Pretended(embeddings.float()), catalogue, protocol, rerank=rerank)
    for setting, score in expected.items():
        for name, trials in score.trials.items():
            assert scores[setting].trials[name] == pytest.approx(trials), (setting, name)


def test_scoring_with_a_planted_cpu_tensor_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, catalogue = made.regdb(1, 8, identities=4, per=2)
    monkeypatch.setattr("mpanet_pl.evaluation.retrieval.precise", lambda values: values.cpu())
    with PretendedCuda(), pytest.raises(RuntimeError, match="two devices"):
        evaluate(Pretended(embeddings.float()), catalogue, RegDBProtocol(normalise=True))


class TotalLoss(torch.nn.Module):
    def __init__(self, trunk: str) -> None:
        super().__init__()
        self.module = module_of(trunk)

    def forward(self, images: Tensor, identities: Tensor, infrared: Tensor) -> Tensor:
        return self.module.losses(Batch(images, identities, identities, infrared, identities))["total"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # the exporter's own
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler looks at it
def test_the_training_loss_is_one_graph() -> None:
    rows = torch.arange(ROWS)
    inputs = (torch.zeros(ROWS, 3, 384, 128), rows // 8, rows % 2 == 0)
    exported = torch.export.export(TotalLoss("resnet50"), inputs, strict=True)  # strict: a break in the graph raises
    assert len(exported.graph.nodes) > 500


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_the_memory_of_a_step_is_known_beforehand(bf16: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Beside what the CPU's allocator counted at its highest."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from step_memory import step_memory

    rows = torch.arange(16)
    batch = Batch(torch.rand(16, 3, 128, 64), rows // 8, rows, rows % 2 == 0, rows)
    settings = {"network": {"trunk": "resnet18", "pretrained": False}, "criterion": {}, "optimizer": {}, "schedule": {}}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        module = MPANetModule(20, **settings).to(memory_format=torch.channels_last)
        adam = torch.optim.Adam([weight for weight in module.parameters() if weight.requires_grad], fused=True)
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                total = module.losses(batch)["total"]
            adam.zero_grad()
            total.backward()
            adam.step()
    measured.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    memory = [event["args"] for event in events if event.get("name") == "[memory]"]
    peak = max(at["Total Allocated"] for at in memory) - memory[0]["Total Allocated"]  # others' was there before
    reckoned = step_memory(16, 128, 64, 20, trunk="resnet18", bf16=bf16, device="cpu")
    assert reckoned.saved > reckoned.total / 5, "the test must see activations, not only weights"
    assert peak == pytest.approx(reckoned.total, rel=0.1)
