"""Plain vision transformers as trunks: tokens on their grid, overlapping patches, and what does not go with them."""

from pathlib import Path

import pytest
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.network.trunk import make_trunk
from mpanet_pl.trunks.timm_models import family
from mpanet_pl.trunks.vit import FAMILIES, ViTTrunk

timm = pytest.importorskip("timm")
NAME = "timm/vit_tiny_patch16_224"


def plain(name: str = NAME, **changes: object) -> ViTTrunk:
    torch.manual_seed(0)
    return make_trunk(name, **{"pretrained": False, "last_stride": 1, "alleviation": []} | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "stride", "grid"),
    [
        (NAME, 1, (4, 2)),
        (NAME, 12, (5, 2)),  # (64 - 16) // 12 + 1
        ("timm/deit_tiny_distilled_patch16_224", 1, (4, 2)),  # two tokens of no patch
    ],
)
def test_tokens_are_back_on_their_grid(name: str, stride: int, grid: tuple[int, int]) -> None:
    trunk = plain(name, last_stride=stride).eval()
    images = torch.randn(2, 3, 64, 32)
    features = trunk(images)
    assert features.shape == (2, 192, *grid)
    tokens = trunk.model.forward_features(images * trunk.normalised.scale + trunk.normalised.shift)
    patches = tokens[:, trunk.model.num_prefix_tokens :]
    assert torch.equal(features[1, :, 2, 1], patches[1, 2 * grid[1] + 1])


def test_timm_has_every_family() -> None:
    assert plain("timm/eva02_tiny_patch14_224")(torch.zeros(1, 3, 56, 28)).shape == (1, 192, 4, 2)
    assert set(FAMILIES) == {family(f"timm/{name}_tiny_patch16_224") for name in ("vit", "deit")} | {
        family(f"timm/{name}") for name in ("beit_base_patch16_224", "eva02_tiny_patch14_224")
    }


def test_at_its_own_size_it_is_timms() -> None:
    """Neither the positional embedding nor the patches are changed."""
    trunk = plain().eval()
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    theirs.load_state_dict(trunk.model.state_dict())
    images = torch.randn(1, 3, 224, 224)
    expected = theirs.forward_features(trunk.normalised(images))[0, 1:]
    torch.testing.assert_close(trunk(images).flatten(2)[0].T, expected)


def test_a_step_with_patterns() -> None:
    network = {"trunk": NAME, "pretrained": False, "last_stride": 12, "alleviation": [], "patterns": 2}
    module = MPANetModule(2, network=network, criterion={}, optimizer={}, schedule={})
    rows = torch.arange(4)
    terms = module.criterion(module.network(torch.randn(4, 3, 64, 32)), rows // 2, rows % 2 == 0)
    terms["total"].backward()
    learned = [weight for weight in module.parameters() if weight.requires_grad]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in learned)


def test_a_file_made_for_another_size_is_resampled(tmp_path: Path) -> None:
    """By timm itself, which knows its models' files."""
    large = timm.create_model("vit_tiny_patch16_384")
    torch.save(large.state_dict(), tmp_path / "384.pth")
    trunk = plain(pretrained=tmp_path / "384.pth")
    assert torch.equal(trunk.model.blocks[3].mlp.fc1.weight, large.blocks[3].mlp.fc1.weight)
    assert large.pos_embed.shape[1] == 577
    assert trunk.model.pos_embed.shape[1] == 197
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"(?s)other\.pth does not fit.*missing: cls_token.*unexpected: conv1"):
        plain(pretrained=tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"alleviation": ["layer3"]}, r"vit_tiny_patch16_224 has no stages .* set model\.network\.alleviation=\[\]"),
        ({"last_stride": 17}, "2 to 16, got 17"),
        ({"name": "timm/vit_giant"}, "has no model vit_giant"),
    ],
)
def test_what_cannot_be_is_said(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plain(**settings)


def test_images_are_whole_patches() -> None:
    with pytest.raises(UserError, match="Images of 60 x 32 are no whole number of patches of 16 x 16"):
        plain()(torch.zeros(1, 3, 60, 32))
