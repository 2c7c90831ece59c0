import shutil

import pytest
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.network import Embedding, MPANet


def tiny(**changes: object) -> MPANet:
    torch.manual_seed(0)
    return MPANet(**{"trunk": "resnet18", "pretrained": False, "patterns": 3} | changes)  # type: ignore[arg-type]


def images(count: int = 4, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("patterns", [0, 1, 6])
def test_every_number_of_patterns(patterns: int) -> None:
    network = tiny(patterns=patterns)
    seen = network(images())
    assert network.dimension == 512 * (patterns + 1)
    assert [tuple(part.shape) for part in seen] == [(4, patterns, 4, 2), (4, network.dimension), (4, network.dimension)]


@pytest.mark.parametrize("maps", ["deep", "local"])
@pytest.mark.parametrize("training", [True, False])
def test_permuting_images_permutes_embeddings(training: bool, maps: str) -> None:
    network = tiny(maps=maps).double().train(training)
    order = torch.tensor([2, 0, 3, 1])
    seen, permuted = (network(batch) for batch in (images(dtype=torch.float64), images(dtype=torch.float64)[order]))
    if training and maps == "local":  # whose embeddings are withheld by chance
        seen, permuted = (part._replace(embedding=network.neck(part.descriptor)) for part in (seen, permuted))
    torch.testing.assert_close(permuted, Embedding(*(part[order] for part in seen)))


def test_local_maps_have_a_finer_grid_and_narrow_patterns() -> None:
    network = tiny(trunk="resnet18_thin", maps="local")
    seen = network(images())
    assert [tuple(part.shape) for part in seen] == [(4, 3, 16, 8), (4, 128 + 3 * 64), (4, 128 + 3 * 64)]
    assert torch.equal(network.eval().look(images()), network(images()).maps)
    torch.testing.assert_close(seen.maps.sum((2, 3)), torch.ones(4, 3))
    torch.testing.assert_close(network(images()).descriptor[:, 3 * 64 :], network.trunk(images()).mean((2, 3)))


def test_in_training_three_of_four_embeddings_go_without_local_features() -> None:
    network = tiny(trunk="resnet18_thin", maps="local")
    torch.manual_seed(0)
    seen = network(torch.randn(200, 3, 16, 8))
    whole, local = network.neck(seen.descriptor), 3 * 64
    withheld = (seen.embedding[:, :local] == 0).all(1)
    assert 0.65 < withheld.float().mean() < 0.85
    torch.testing.assert_close(seen.embedding[~withheld], whole[~withheld])
    torch.testing.assert_close(seen.embedding[withheld, local:], whole[withheld, local:])
    network.eval()
    torch.testing.assert_close(network(images()).embedding, network.neck(network(images()).descriptor))


@pytest.mark.parametrize("maps", ["deep", "local"])
def test_a_look_leaves_no_trace_in_running_statistics(maps: str) -> None:
    network = tiny(maps=maps).train()
    before = {name: value.clone() for name, value in network.named_buffers() if "running" in name}
    network.look(images())
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers() if "running" in name)
    network(images())
    assert not torch.equal(network.trunk.bn1.running_mean, before["trunk.bn1.running_mean"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"maps": "wide"}, "maps are deep or local, got wide"),
        ({"maps": "local", "patterns": 0}, "maps=local needs patterns and a ResNet of torchvision, got 0 and resnet18"),
    ],
)
def test_local_maps_need_patterns(changes: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny(**changes)


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


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_compiles_without_a_graph_break(backend: str) -> None:
    network = tiny()
    keys = list(network.state_dict())
    expected = network(images())
    network.compile(fullgraph=True, backend=backend)
    seen = network(images())
    seen.embedding.square().sum().backward()
    assert isinstance(seen, Embedding)
    torch.testing.assert_close(seen, expected, rtol=1e-2, atol=1e-3)
    assert list(network.state_dict()) == keys
    assert all(weight.grad is not None for weight in network.parameters() if weight.requires_grad)


def test_a_network_says_whether_it_has_two_streams() -> None:
    """By which the module knows whether to tell it the modality."""
    assert [MPANet(trunk="resnet18_thin", pretrained=False, two_stream=how).two_stream for how in (None, "stem")] == [
        None,
        "stem",
    ]
