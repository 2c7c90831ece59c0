import pytest
import torch
from torch import nn

from mpanet_pl.errors import UserError
from mpanet_pl.optim import build_optimizer


def module() -> nn.Module:
    """The names that a trunk has in the module, three of whose weights learn."""
    whole = nn.Module()
    whole.network = nn.Module()
    whole.network.trunk = nn.Module()
    whole.network.trunk.conv1 = nn.Linear(2, 2, bias=False)
    whole.network.trunk.alleviation = nn.ModuleDict({"layer4": nn.Linear(2, 2, bias=False)})
    whole.head = nn.Linear(2, 1)
    whole.head.bias.requires_grad_(False)
    return whole


def test_the_default_is_the_published_one() -> None:
    optimizer = build_optimizer(module(), {"lr": 3.5e-4, "weight_decay": 5e-4, "fused": None})
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["fused"], len(group["params"])) == (3.5e-4, 5e-4, True, 3)


def test_the_trunk_may_have_a_learning_rate_of_its_own() -> None:
    whole = module()
    assert rates_of(build_optimizer(whole, {"name": "sgd", "lr": 0.1, "trunk_lr": 0.01}), whole) == {
        "network.trunk.conv1.weight": 0.01,
        "network.trunk.alleviation.layer4.weight": 0.1,
        "head.weight": 0.1,
        "head.bias": None,
    }


def test_parts_may_have_learning_rates_of_their_own() -> None:
    """The innermost part decides; None is everyone's rate."""
    lr_of = {"network": {"trunk": 0.01, "trunk.conv1": None}, "head": 0.3}
    rates = rates_of(build_optimizer(whole := module(), {"name": "sgd", "lr": 0.1, "lr_of": lr_of}), whole)
    assert rates == {
        "network.trunk.conv1.weight": 0.1,
        "network.trunk.alleviation.layer4.weight": 0.01,
        "head.weight": 0.3,
        "head.bias": None,
    }
    both = {"name": "sgd", "lr": 0.1, "trunk_lr": 0.02, "lr_of": {"head": 0.3}}
    rates = rates_of(build_optimizer(whole, both), whole)
    assert [*rates.values()] == [0.02, 0.1, 0.3, None]


def rates_of(optimizer: torch.optim.Optimizer, whole: nn.Module) -> dict[str, float | None]:
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    return {name: rates.get(id(weight)) for name, weight in whole.named_parameters()}


def test_ones_own_by_name() -> None:
    own = {"_target_": "torch.optim.RMSprop", "lr": 0.2, "momentum": 0.5, "fused": None}
    optimizer = build_optimizer(module(), own)
    assert type(optimizer) is torch.optim.RMSprop
    assert optimizer.param_groups[0]["momentum"] == 0.5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "lion"}, "model.optimizer.name must be one of adam, adamw, sgd, got 'lion'"),
        ({"lr": -1.0}, "model.optimizer.lr must be more than 0, got -1.0"),
        ({"lr": float("nan")}, "model.optimizer.lr must be more than 0, got nan"),
        ({"lr": 1.0, "speed": 3}, "unexpected keyword argument 'speed'"),
        ({"fused": "maybe"}, "fused must be true or false, got 'maybe'"),
        ({"trunk_lr": -1.0}, "trunk_lr must be at least 0, got -1.0"),
        ({"lr_of": {"head": -1.0}}, "lr_of.head must be at least 0, got -1.0"),
        ({"lr_of": {"head": "fast"}}, "lr_of.head must be a number, got 'fast'"),
        ({"lr_of": 0.1}, "lr_of must be a group of keys, got 0.1"),
        ({"lr_of": {"neck": 0.1}}, "neck has a learning rate, and no weights. There are network.trunk"),
        ({"lr_of": {"head.bias": 0.1}}, "head.bias has a learning rate, but all of its 1 weights are frozen"),
        ({"_target_": "my_lab.Lion"}, "model.optimizer: my_lab.Lion cannot be found"),
        ({"_target_": "builtins.list"}, "is no torch.optim.Optimizer"),
        ({"_target_": "torch.optim.SGD", "speed": 3}, "model.optimizer: torch.optim.SGD is refused"),
    ],
)
def test_what_is_wrong_is_said(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build_optimizer(module(), settings)


def test_a_network_without_a_trunk_has_no_rate_for_it() -> None:
    with pytest.raises(UserError, match=r"network\.trunk has a learning rate, and no weights"):
        build_optimizer(nn.Linear(1, 1), {"trunk_lr": 0.1})


def test_a_frozen_trunk_is_said_to_be_frozen() -> None:
    whole = module()
    whole.network.trunk.requires_grad_(False)
    with pytest.raises(UserError, match=r"network\.trunk has a learning rate, but all of its 2 weights are frozen"):
        build_optimizer(whole, {"trunk_lr": 0.1})
