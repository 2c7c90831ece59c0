"""Convolutions as products of matrices: PyTorch's own, in float64 on a CPU, take three times as long on small maps."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.nn import functional

LARGE = 32  # positions, from which on PyTorch's own are as fast
_conv2d = functional.conv2d


def conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """What `torch.nn.functional.conv2d` returns, called as `torch.nn.Conv2d` calls it."""
    sizes = [
        (size + 2 * pad - space * (extent - 1) - 1) // step + 1
        for size, extent, step, pad, space in zip(
            images.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    if groups != 1 or sizes[0] * sizes[1] >= LARGE:
        return _conv2d(images, weight, bias, stride, padding, dilation, groups)
    columns = functional.unfold(images, weight.shape[2:], dilation, padding, stride)  # (B, I·kh·kw, h·w)
    product = weight.flatten(1) @ columns.transpose(0, 1).flatten(1)  # (O, B·h·w)
    maps = product.view(len(weight), len(images), *sizes).transpose(0, 1)
    return maps if bias is None else maps + bias[:, None, None]


@contextmanager
def folded() -> Iterator[None]:
    """Within, every convolution is computed so."""
    functional.conv2d = conv2d
    try:
        yield
    finally:
        functional.conv2d = _conv2d
