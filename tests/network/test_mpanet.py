import shutil

import pytest
import torch

from mpanet_pl.network import Embedding, MPANet


def tiny(**changes: object) -> MPANet:
    torch.manual_seed(0)
    return MPANet(**{"trunk": "resnet18_thin", "pretrained": False, "patterns": 3} | changes)  # type: ignore[arg-type]


def images(count: int = 4, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("patterns", [0, 1, 6])
def test_every_number_of_patterns(patterns: int) -> None:
    network = tiny(patterns=patterns)
    seen = network(images())
    assert network.dimension == 128 * (patterns + 1)
    assert [tuple(part.shape) for part in seen] == [(4, patterns, 8, 4), (4, network.dimension), (4, network.dimension)]


@pytest.mark.parametrize("training", [True, False])
def test_permuting_images_permutes_embeddings(training: bool) -> None:
    network = tiny().double().train(training)
    order = torch.tensor([2, 0, 3, 1])
    seen, permuted = (network(batch) for batch in (images(dtype=torch.float64), images(dtype=torch.float64)[order]))
    torch.testing.assert_close(permuted, Embedding(*(part[order] for part in seen)))


def test_the_neck_has_no_bias_to_learn() -> None:
    neck = tiny().neck
    assert not neck.bias.requires_grad
    assert not neck.bias.any()


def test_channels_last_all_the_way() -> None:
    network = tiny().to(memory_format=torch.channels_last)
    stages = [module for name, module in network.trunk.named_modules() if name.startswith(("layer", "alleviation"))]
    layouts = []
    for module in stages:
        module.register_forward_hook(
            lambda _, __, result: layouts.append(result.stride()) if result.dim() == 4 else None
        )
    seen = network(images().contiguous(memory_format=torch.channels_last))
    assert seen.maps.is_contiguous(memory_format=torch.channels_last)
    assert layouts
    assert all(channel == 1 for _, channel, _, _ in layouts)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_embeddings_leave_autocast_in_float32(half: torch.dtype) -> None:
    with torch.autocast("cpu", half):
        seen = tiny()(images())
    assert (seen.descriptor.dtype, seen.embedding.dtype) == (torch.float32, torch.float32)


BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[pytest.mark.slow, pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_compiles_without_a_graph_break(backend: str) -> None:
    network = tiny()
    network.trunk.layer1, network.trunk.layer2 = torch.nn.Identity(), torch.nn.Conv2d(16, 32, 1, stride=2)
    keys = list(network.state_dict())
    expected = network(images())
    network.compile(fullgraph=True, backend=backend)
    seen = network(images())
    seen.embedding.square().sum().backward()
    assert isinstance(seen, Embedding)
    torch.testing.assert_close(seen, expected, rtol=1e-2, atol=1e-3)
    assert list(network.state_dict()) == keys
    assert all(weight.grad is not None for weight in network.parameters() if weight.requires_grad)
