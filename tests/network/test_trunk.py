from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision

from mpanet_pl.errors import UserError
from mpanet_pl.network.trunk import DRAWN_WEIGHTS, Trunk


def plain(name: str = "resnet18", **changes: object) -> Trunk:
    settings = {"pretrained": False, "last_stride": 1, "alleviation": []} | changes
    return Trunk(name, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("stride", "shape"), [(1, (4, 2)), (2, (2, 1))])
def test_the_last_stride_sets_the_size_of_the_map(name: str, stride: int, shape: tuple[int, int]) -> None:
    trunk = plain(name, last_stride=stride).eval()
    assert trunk(torch.zeros(1, 3, 64, 32)).shape == (1, trunk.channels, *shape)


def test_the_thin_one_is_light_and_keeps_its_map_large() -> None:
    trunk = plain("resnet18_thin", alleviation=["layer3"]).eval()
    assert trunk(torch.zeros(1, 3, 64, 32)).shape == (1, 128, 8, 4)
    assert plain("resnet18_thin", last_stride=2).eval()(torch.zeros(1, 3, 64, 32)).shape == (1, 128, 4, 2)
    assert trunk.alleviation["layer3"].squeeze.in_channels == 64
    assert sum(weight.numel() for weight in trunk.parameters()) == pytest.approx(0.7e6, rel=0.02)
    wide = plain("resnet18").state_dict()
    assert {key for key in trunk.state_dict() if "alleviation" not in key} == wide.keys()


def test_the_thin_one_begins_with_the_weights_that_come_with_the_package() -> None:
    begun = plain("resnet18_thin", pretrained=True, alleviation=["layer3"]).state_dict()
    kept = torch.load(DRAWN_WEIGHTS, weights_only=True)
    assert len(kept) == 100
    assert all(torch.equal(value, begun[name].half()) for name, value in kept.items())


def test_without_alleviation_it_is_the_resnet_of_torchvision() -> None:
    resnet = torchvision.models.resnet18(weights=None).eval()
    trunk = plain(last_stride=2).eval()
    trunk.load_state_dict({key: value for key, value in resnet.state_dict().items() if not key.startswith("fc.")})
    images = torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(resnet.fc(trunk(images).mean((2, 3))), resnet(images))


def test_alleviation_follows_the_chosen_stages() -> None:
    trunk = plain(alleviation=["layer4", "layer1"])
    widths = {stage: module.squeeze.in_channels for stage, module in trunk.alleviation.items()}
    assert widths == {"layer1": 64, "layer4": 512}
    images = torch.randn(2, 3, 64, 32)
    without = trunk(images)
    trunk.alleviation["layer1"] = torch.nn.Identity()
    assert not torch.equal(trunk(images), without)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "resnet19"}, "trunk must be one of resnet18_thin, resnet101.* got resnet19"),
        ({"name": "vgg16"}, "got vgg16"),
        ({"last_stride": 3}, "last_stride must be 1 or 2, got 3"),
        ({"alleviation": ["layer3", "layer5"]}, "layer1, layer2, layer3, layer4, got layer5"),
    ],
)
def test_a_wrong_setting_is_told_with_what_is_right(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plain(**settings)


def test_weights_of_a_file_with_or_without_its_classifier(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    for name, without in (("whole", ()), ("headless", ("fc.weight", "fc.bias"))):
        path = tmp_path / f"{name}.pth"
        torch.save({key: value for key, value in state.items() if key not in without}, path)
        trunk = plain(pretrained=path, alleviation=["layer3"])
        assert torch.equal(trunk.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_weights_from_before_batches_were_counted(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save({key: value for key, value in state.items() if "num_batches" not in key}, tmp_path / "old.pth")
    trunk = plain(pretrained=tmp_path / "old.pth")
    torch.testing.assert_close(trunk.conv1.weight, state["conv1.weight"])


def test_faults_of_a_file_are_listed_at_once(tmp_path: Path) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    state["head.weight"] = state.pop("bn1.weight")
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError) as fault:
        plain(pretrained=tmp_path / "other.pth")
    for line in ("other.pth", "missing: bn1.weight", "unexpected: head.weight", "wrong shape: conv1.weight is (64, 1"):
        assert line in str(fault.value)


def test_published_weights_come_from_the_cache_of_torch_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    published = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(published, path)
    assert torch.equal(plain(pretrained=True).conv1.weight, published["conv1.weight"])


def test_offline_the_sentence_says_where_the_file_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError) as fault:
        plain(pretrained=True)
    for words in (str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth"), "model.network.pretrained=PATH"):
        assert words in str(fault.value)
