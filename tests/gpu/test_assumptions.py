"""What torch and Lightning are taken to do on GPUs, read in their sources and held here as far as a CPU can tell."""

import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from gpu.test_on_a_gpu import Losses, eight_rows, tiny
from lightning_fabric.plugins.precision.amp import _optimizer_handles_unscaling
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch.nn import BatchNorm1d, BatchNorm2d, SyncBatchNorm
from torch.nn.parallel import DistributedDataParallel


def test_synchronised_batch_norm_takes_over_parameters_and_keys() -> None:
    """Lightning converts by torch's own function, after the module is made and before its optimiser is."""
    module = tiny("cpu")
    norms = {name: layer for name, layer in module.named_modules() if isinstance(layer, BatchNorm1d | BatchNorm2d)}
    keys = list(module.state_dict())
    parameters = dict(module.named_parameters())
    converted = TorchSyncBatchNorm().apply(module)
    assert converted is module
    for name, norm in norms.items():
        layer = module.get_submodule(name)
        assert isinstance(layer, SyncBatchNorm), name
        assert (layer.eps, layer.momentum, layer.training) == (norm.eps, norm.momentum, norm.training)
        assert layer.running_mean is norm.running_mean
        assert layer.running_var is norm.running_var
    assert {name: id(weight) for name, weight in module.named_parameters()} == {
        name: id(weight) for name, weight in parameters.items()
    }
    assert list(module.state_dict()) == keys
    assert not module.network.neck.bias.requires_grad


def test_gradients_lie_as_ddp_s_buckets_do(tmp_path: Path) -> None:
    """DDP lays its buckets out by the weights' strides; a gradient of other strides costs a copy, and a warning."""
    dist.init_process_group("gloo", f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        module = tiny("cpu")
        ddp = DistributedDataParallel(Losses(module))
        batch = eight_rows()
        batch = batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ddp(batch).backward()
        assert module.network.trunk.conv1.weight.is_contiguous(memory_format=torch.channels_last)
        for name, weight in module.named_parameters():
            if weight.requires_grad:
                assert weight.grad.stride() == weight.stride(), name  # type: ignore[union-attr]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("finite", [True, False], ids=["finite", "infinite"])
def test_a_fused_optimiser_unscales_and_leaves_out_steps_by_itself(finite: bool) -> None:
    """So that no step asks the GPU whether its gradients were finite."""
    module = tiny("cpu")
    adam = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    assert adam.defaults["fused"]
    assert _optimizer_handles_unscaling(adam)
    plain, scaled = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    for weight in (plain, scaled):
        fused = torch.optim.Adam([weight], fused=True)
        loss = weight.square().sum() if finite else weight.sum() * torch.inf
        if weight is plain:
            loss.backward()
            fused.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(fused)
            scaler.update()
    if finite:
        torch.testing.assert_close(scaled, plain)
    else:
        assert torch.equal(scaled, torch.ones(3))
        assert scaler.get_scale() == 512
