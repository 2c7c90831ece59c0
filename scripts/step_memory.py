"""What a training step will keep on a GPU, reckoned without one.

    python scripts/step_memory.py                          the recipe of SYSU-MM01, float32 and bf16
    python scripts/step_memory.py --batch 64 --height 256

The step runs forward on tensors that have a size and no content. What autograd saves of it stays until the backward
pass, beside the weights, their gradients and Adam's two moments; then the backward pass shrinks it. The allocator's own
rounding and the convolutions' workspaces come on top, some 5 to 15 %.
"""

import argparse
import contextlib
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mpanet_pl.data import Batch
from mpanet_pl.module import MPANetModule


class StepMemory(NamedTuple):
    """Bytes; `state` is of weights, buffers, gradients and moments, `saved` what the backward pass waits for."""

    state: int
    saved: int

    @property
    def total(self) -> int:
        return self.state + self.saved


def step_memory(
    batch: int, height: int, width: int, identities: int, *, trunk: str = "resnet50", bf16: bool = False, device="cuda"
) -> StepMemory:
    with torch.device("meta"):
        module = MPANetModule(
            identities, network={"trunk": trunk, "pretrained": False}, criterion={}, optimizer={}, schedule={}
        ).to(memory_format=torch.channels_last)
    with FakeTensorMode(), _autocast(device, bf16):
        module._apply(lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device))
        kept = {_storage(value): _bytes(value) for value in (*module.parameters(), *module.buffers())}
        learned = sum(_bytes(weight) for weight in module.parameters() if weight.requires_grad)
        saved: dict[int, int] = {}
        alive: list[Tensor] = []  # a freed storage's address may serve another

        def save(value: Tensor) -> Tensor:
            alive.append(value)
            if _storage(value) not in kept:
                saved[_storage(value)] = value.untyped_storage().nbytes()
            return value

        rows = torch.arange(batch, device=device)
        images = torch.empty(batch, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
        with torch.autograd.graph.saved_tensors_hooks(save, lambda value: value):
            module.losses(Batch(images, rows // 8, rows, rows % 2 == 0, rows))
    return StepMemory(sum(kept.values()) + 3 * learned, sum(saved.values()))


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _bytes(value: Tensor) -> int:
    return value.untyped_storage().nbytes()


@contextlib.contextmanager
def _autocast(device: str, bf16: bool):
    """As `torch.autocast`, which switches itself off for a GPU that is not there."""
    torch.set_autocast_dtype(device, torch.bfloat16)
    torch.set_autocast_enabled(device, bf16)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trunk", default="resnet50")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--identities", type=int, default=395)
    options = parser.parse_args()
    sizes = (options.batch, options.height, options.width, options.identities)
    print("| precision | weights, gradients, moments | saved for the backward pass | together |\n|---|---|---|---|")
    for name, bf16 in (("float32", False), ("bf16", True)):
        memory = step_memory(*sizes, trunk=options.trunk, bf16=bf16)
        print(f"| {name} | " + " | ".join(f"{part / 2**30:.1f} GiB" for part in (*memory, memory.total)) + " |")


if __name__ == "__main__":
    main()
