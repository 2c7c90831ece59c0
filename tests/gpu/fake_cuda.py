"""A GPU's rules without a GPU.

`Strict` goes with torch's FakeTensorMode, whose tensors have a device and no values: reading one, or mixing devices,
fails there, and here whatever copies between the host and the device. `Pretended` has values too, for code that looks
at some by design, as ranking does: a CPU tensor that says it lies on a GPU, and refuses to meet one that does not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
TAKES_INDICES_FROM_THE_HOST = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
)


class Strict(TorchDispatchMode):
    """A step on a GPU makes the host wait for nothing: no copy between the two but to the GPU, without blocking."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if function in COPIES:
            source = args[1] if function is COPIES[1] else args[0]
            to_the_gpu_meanwhile = output.device.type == "cuda" and (kwargs or {}).get("non_blocking")
            if source.device.type != output.device.type and not to_the_gpu_meanwhile:
                raise RuntimeError(f"{tuple(source.shape)} is copied from {source.device.type} to {output.device.type}")
        return output


@contextmanager
def bfloat16_on_cuda() -> Iterator[None]:
    """As `torch.autocast`, which switches itself off where there is no GPU."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)


def onto_fake_cuda(module: nn.Module) -> nn.Module:
    """A module of meta tensors, with those of the current FakeTensorMode in their place."""
    return module._apply(lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=CUDA))


class Pretended(Tensor):
    """The values of `host`, said to lie on a GPU."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> "Pretended":
        pretended = Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype, device=CUDA
        )
        pretended.host = host
        return pretended

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.host})"

    def tolist(self) -> Any:
        return self.host.tolist()

    def numpy(self) -> Any:  # type: ignore[override]
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _on_the_host(function, args, kwargs or {})


class PretendedCuda(TorchDispatchMode):
    """Within it `device="cuda"` and `.to("cuda")` pretend.

    It stands in front of a FakeTensorMode, under which torch asks for no driver, and answers in its place.
    """

    def __enter__(self) -> "PretendedCuda":
        self.fake = FakeTensorMode()
        self.fake.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.fake.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _on_the_host(function, args, kwargs or {})


def _on_the_host(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    pretending = any(isinstance(tensor, Pretended) for tensor in tensors)
    strangers = [tensor for tensor in tensors if not isinstance(tensor, Pretended) and tensor.ndim]
    if pretending and strangers and function not in (*COPIES, *TAKES_INDICES_FROM_THE_HOST):
        raise RuntimeError(
            f"{function} meets tensors of two devices: {[tuple(one.shape) for one in strangers]} on the CPU"
        )
    asked = kwargs.get("device")
    if asked is not None:
        pretending = torch.device(asked).type == "cuda"
        kwargs = {**kwargs, "device": "cpu"}
    if function is COPIES[1]:  # into a tensor that lies where it lies
        pretending = isinstance(args[0], Pretended)
    found = {id(tensor.host): tensor for tensor in tensors if isinstance(tensor, Pretended)}
    args, kwargs = tree_map(_host, (args, kwargs))
    with unset_fake_temporarily():
        output = function(*args, **kwargs)
    if not pretending:
        return output

    def pretend(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return found[id(value)] if id(value) in found else Pretended(value)  # what worked in place is the same tensor

    return tree_map(pretend, output)


def _host(value: Any) -> Any:
    return value.host if isinstance(value, Pretended) else value
