import json
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.network.architecture import resnet_of
from mpanet_pl.official import from_official, is_official, module_from_official, to_official
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


def test_each_classifier_finds_its_own_place(released: dict[str, Tensor]) -> None:
    """There and back is the same for two that are exchanged, too."""
    ours = from_official(released)
    places = {
        "classifier": "identity_classifier",
        "visible_classifier": "visible_classifier",
        "infrared_classifier": "infrared_classifier",
        "visible_classifier_": "visible_twin",
        "infrared_classifier_": "infrared_twin",
    }
    for theirs, place in places.items():
        assert torch.equal(ours[f"criterion.{place}.weight"], released[f"{theirs}.weight"])


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


def test_scores_beside_the_weights_are_passed_over(tmp_path: Path) -> None:
    """As released trainers write them: the state dict under `net`, numpy's numbers beside it."""
    torch.save({"net": small(), "cmc": np.arange(3.0), "mAP": np.float64(0.5), "epoch": 3}, tmp_path / "best.t")
    content = weights.read(tmp_path / "best.t")
    assert is_official(content)
    assert to_official(module_from_official(content).state_dict()).keys() == small().keys()


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method whose release calls MPANet's parts by other names, and stores a layer that it never uses."""
    file = ModuleType("mpanet_pl.methods.made_up")
    file.RELEASED = [("base.", "network.trunk."), ("fc.", "criterion.identity_classifier.")]
    file.DROPPED = ["spare."]
    file.architecture = lambda ours: {
        "network": {"trunk": resnet_of(ours), "last_stride": 2, "alleviation": [], "patterns": 0},
        "criterion": {"modality_identity": 0, "mutual": 0, "separation": 0},
    }
    monkeypatch.setitem(sys.modules, file.__name__, file)
    iterate = pkgutil.iter_modules
    there = [pkgutil.ModuleInfo(None, "made_up", False)]
    monkeypatch.setattr(pkgutil, "iter_modules", lambda path: [*iterate(path), *there])


@pytest.mark.usefixtures("made_up")
def test_another_methods_file_is_read_by_its_own_names() -> None:
    ours = small(alleviation=[], patterns=0)
    theirs = {f"base.{key.removeprefix('backbone.')}": value for key, value in ours.items() if "backbone" in key}
    neck = {f"network.neck.{key.removeprefix('bn_neck.')}": value for key, value in ours.items() if "bn_neck" in key}
    state = theirs | neck | {"fc.weight": ours["classifier.weight"], "spare.weight": torch.ones(3)}
    module = module_from_official(state, "made_up")
    assert module.hparams["network"]["last_stride"] == 2
    assert torch.equal(module.criterion.identity_classifier.weight, ours["classifier.weight"])
    assert to_official(module.state_dict(), "made_up").keys() == state.keys() - {"spare.weight"}
    with pytest.raises(UserError, match=r"missing: base\.conv1\.weight"):
        module_from_official({key: value for key, value in state.items() if key != "base.conv1.weight"}, "made_up")


@pytest.mark.usefixtures("made_up")
def test_whose_file_it_is_has_to_be_said() -> None:
    state = {"base.conv1.weight": torch.ones(1), "fc.weight": torch.ones(1)}
    assert is_official(state)
    with pytest.raises(UserError, match="say method=made_up, not mpanet"):
        module_from_official(state)
    with pytest.raises(UserError, match=r"released checkpoints of mpanet.*made_up.*got method=os"):
        from_official(state, "os")
