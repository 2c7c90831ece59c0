"""A trunk with weights of its own for each modality."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from mpanet_pl.data import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.network import MPANet
from mpanet_pl.network.trunk import PARTS, Trunk
from mpanet_pl.trunks.gem import GeneralisedMean
from mpanet_pl.trunks.two_streams import TwoStreams

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's own use of torch's trees
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]
TWO = {"_target_": "mpanet_pl.trunks.two_streams.TwoStreams", "name": "resnet18_thin"}
GEM = {"_target_": "mpanet_pl.trunks.gem.GeneralisedMean"}


def plain(name: str = "resnet18_thin", own: str | None = None, **settings: object) -> Trunk:
    usual = {"pretrained": False, **settings}
    return TwoStreams(name, own=own, **usual) if own else Trunk(name, **usual)  # type: ignore[arg-type]


@pytest.mark.parametrize("own", ["stem", "layer2", "layer4"])
def test_each_modality_has_its_own_weights_up_to_a_stage(own: str) -> None:
    torch.manual_seed(0)
    one, two = plain(alleviation=["layer1"]), plain(alleviation=["layer1"], own=own)
    two.load_state_dict(one.state_dict(), strict=False)
    for name, weight in two.infrared.named_parameters():
        weight.data.copy_(one.get_parameter(name))
    images, infrared = torch.randn(5, 3, 64, 32), torch.tensor([True, False, False, True, False])
    torch.testing.assert_close(two.eval()(images, infrared), one.eval()(images))
    with torch.no_grad():
        next(two.infrared.parameters()).mul_(2)
    changed = (two(images, infrared) != one(images)).flatten(1).any(1)
    assert torch.equal(changed, infrared)
    assert torch.equal(two(images[~infrared], infrared[~infrared]), two(images, infrared)[~infrared]), "none of the one"


def test_gradients_and_statistics_of_two_streams_are_each_modalitys_own() -> None:
    torch.manual_seed(0)
    trunk = plain(own="stem").train()
    images, infrared = torch.randn(4, 3, 64, 32), torch.tensor([True, False, True, False])
    trunk(images, infrared)[infrared].sum().backward()
    assert trunk.infrared["conv1"].weight.grad.abs().sum() > 0
    expected = 0.1 * trunk.conv1(images[~infrared]).mean((0, 2, 3))
    torch.testing.assert_close(trunk.bn1.running_mean, expected, rtol=1e-3, atol=1e-5)
    before = trunk.infrared["bn1"].running_mean.clone()
    trunk(images[~infrared], infrared[~infrared])
    assert torch.equal(trunk.infrared["bn1"].running_mean, before)


def test_two_streams_need_the_modality() -> None:
    with pytest.raises(UserError, match="say which images are infrared"):
        plain(own="stem")(torch.zeros(1, 3, 64, 32))
    with pytest.raises(UserError, match=r"own is one of stem, layer1.* got conv1"):
        plain(own="conv1")


@pytest.mark.parametrize("own", [None, "stem", "layer1", "layer3"])
def test_early_and_late_are_the_whole(own: str | None) -> None:
    trunk = plain("resnet18_thin", alleviation=["layer1", "layer3"], own=own).eval()
    images, infrared = torch.randn(4, 3, 32, 16), torch.tensor([True, False, False, True])
    early = trunk.through(PARTS[:2], images, infrared)
    assert early.shape == (4, trunk.channels_after("layer1"), 16, 8)
    assert torch.equal(trunk.through(PARTS[2:], early, infrared), trunk(images, infrared))


def test_a_network_is_given_two_streams_and_gem_by_name_or_as_objects(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = {"trunk": TWO, "pretrained": False, "patterns": 1, "pooling": GEM}
    module = MPANetModule(4, network=network, criterion={}, optimizer={"lr": 0.1}, schedule={"milestones": [9]})
    given = MPANet(trunk=plain(own="stem"), patterns=1, pooling=GeneralisedMean())
    assert given.state_dict().keys() == module.network.state_dict().keys() - {
        key for key in module.network.state_dict() if "alleviation" in key
    }
    assert module.asks == given.asks == ("infrared",)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    rows = torch.arange(8)
    batch = Batch(torch.randn(8, 3, 64, 32), rows % 4, rows, rows % 2 == 1, rows)
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=1, enable_model_summary=False, default_root_dir=tmp_path, **quiet)
    trainer.fit(module, torch.utils.data.DataLoader([batch], batch_size=None))
    for key in ("network.pooling.p", "network.trunk.conv1.weight", "network.trunk.infrared.conv1.weight"):
        assert not torch.equal(module.state_dict()[key], before[key])
    assert torch.equal(module.eval().test_step(batch, 0), module(batch.images, batch.infrared))
    with pytest.raises(UserError, match="say which images are infrared"):
        module(batch.images)
