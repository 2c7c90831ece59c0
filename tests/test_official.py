import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.official import is_official, module_from_official, to_official
from mpanet_pl.system import weights

KEYS = json.loads((Path(__file__).parent / "golden" / "official_keys.json").read_text())


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """Every key of a released checkpoint with 20 identities, at its own shape."""
    generator = torch.Generator().manual_seed(0)
    return {key: torch.rand(shape, generator=generator) if shape else torch.tensor(7) for key, shape in KEYS.items()}


def small(**network: object) -> dict[str, Tensor]:
    """A state dict under released names, of a small network."""
    return to_official(
        MPANetModule(
            4,
            network={"trunk": "resnet18", "pretrained": False, "patterns": 2} | network,
            criterion={},
            optimizer={},
            schedule={},
        ).state_dict()
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_there_and_back_is_the_same_to_the_bit(released: dict[str, Tensor], prefix: str) -> None:
    module = module_from_official({prefix + key: value for key, value in released.items()})
    back = to_official(module.state_dict())
    assert back.keys() == released.keys()
    assert all(torch.equal(back[key], value) and back[key].dtype == value.dtype for key, value in released.items())


def test_the_architecture_is_read_off_the_file(released: dict[str, Tensor]) -> None:
    settings = module_from_official(released, last_stride=2).hparams
    assert settings["num_identities"] == 20
    assert settings["network"] == {
        "trunk": "resnet50",
        "pretrained": False,
        "last_stride": 2,
        "alleviation": ["layer3", "layer4"],
        "patterns": 6,
    }


@pytest.mark.parametrize("trunk", ["resnet18", "resnet34"])
@pytest.mark.parametrize("alleviation", [[], ["layer4"]])
@pytest.mark.parametrize("patterns", [0, 3])
def test_other_architectures(trunk: str, alleviation: list[str], patterns: int) -> None:
    network = {"trunk": trunk, "alleviation": alleviation, "patterns": patterns}
    settings = module_from_official(small(**network)).hparams["network"]
    assert {key: settings[key] for key in network} == network


def test_a_file_without_modality_classifiers() -> None:
    state = {key: value for key, value in small().items() if not key.startswith(("visible", "infrared"))}
    module = module_from_official(state)
    assert to_official(module.state_dict()).keys() == state.keys()


def test_what_does_not_fit_is_listed_at_once() -> None:
    state = small()
    state.pop("backbone.layer2.0.bn1.weight")
    state["backbone.layer9.weight"] = torch.ones(1)
    state["head.bias"] = torch.ones(1)
    state["bn_neck.weight"] = torch.ones(3)
    with pytest.raises(UserError) as fault:
        module_from_official(state)
    for line in (
        "missing: backbone.layer2.0.bn1.weight",
        "unexpected: backbone.layer9.weight",
        "unexpected: head.bias",
        "wrong shape: bn_neck.weight is (3,), this network has (1536,)",
    ):
        assert line in str(fault.value)


def test_a_released_file_is_told_from_others(released: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "released.pth")
    assert is_official(weights.read(tmp_path / "released.pth"))
    assert is_official({f"module.{key}": value for key, value in released.items()})
    assert not is_official({"state_dict": {}, "epoch": 3})
    assert not is_official({"conv1.weight": torch.ones(1)})
