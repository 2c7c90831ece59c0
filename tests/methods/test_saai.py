"""SAAI against what its released code computes, in float64."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import SMALL_WORLD, type_in
from golden.methods import recipe_methods as recipe
from golden.methods.digests import fits, has
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from mpanet_pl.cli.configuration import config_folder
from mpanet_pl.data.catalogue import Batch
from mpanet_pl.data.normalisation import normalise
from mpanet_pl.errors import UserError
from mpanet_pl.evaluate import evaluate
from mpanet_pl.gallery.embedder import load
from mpanet_pl.methods.saai import SAAI, SAAILoss, center_cluster, diversity
from mpanet_pl.module import MPANetModule
from mpanet_pl.official import from_official, module_from_official, to_official
from mpanet_pl.optim import Span, build_optimizer, build_schedule

GOLDEN = Path(__file__).parents[1] / "golden/methods/saai"
TERMS = {
    "identity": "ce",
    "identity_visible": "ce_visible",
    "identity_infrared": "ce_infrared",
    "exchange": "exchange",
    "center_cluster": "cs",
    "diversity": "dp",
    "total": "total",
}


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", overrides=["method=saai", "model.network.pretrained=false", *overrides])


def module_of(case: dict[str, Any]) -> MPANetModule:
    size = (f"data.height={case['height']}", f"data.width={case['width']}")
    cfg = composed(f"dataset={case['dataset']}", *size)
    module: MPANetModule = instantiate(cfg.model, num_identities=case["num_classes"]).double()
    shapes = {key: tuple(value.shape) for key, value in to_official(module.state_dict(), "saai").items()}
    drawn = {key: torch.from_numpy(np.array(recipe.weight(key, shape, case))) for key, shape in shapes.items()}
    module.load_state_dict(from_official(drawn, "saai"))
    return module


def batch_of(case: dict[str, Any], step: int | str) -> Batch:
    drawn = {key: torch.from_numpy(value) for key, value in recipe.rows(case, step).items()}
    return Batch(
        drawn["images"], drawn["labels"], drawn["cameras"], drawn["infrared"], torch.arange(len(drawn["labels"]))
    )


@pytest.mark.slow
@pytest.mark.usefixtures("folded_convolutions")
@pytest.mark.parametrize("name", ["sysu", "regdb_late"])
def test_released_numbers(name: str) -> None:
    case, stored = json.loads((GOLDEN / f"{name}.json").read_text()), np.load(GOLDEN / f"{name}.npz")
    module, stride = module_of(case["case"]), case["column_stride"]
    seen = batch_of(case["case"], "eval")
    with torch.no_grad():
        z = module.eval()(seen.images[:4], seen.infrared[:4])
    np.testing.assert_allclose(z[:, ::stride], stored["eval_embedding"], rtol=1e-9, atol=1e-11)

    module.train()
    adam = torch.optim.Adam(
        [weight for weight in module.parameters() if weight.requires_grad], case["lr"], weight_decay=5e-4
    )
    for step, expected in enumerate(case["steps"]):
        module.criterion.follow(case["case"]["epoch"])
        order = torch.randperm(len(seen.images), generator=torch.Generator().manual_seed(step))
        batch = Batch(
            *(None if column is None else column[order] for column in batch_of(case["case"], step))
        )  # rows may come in any order
        terms = module.losses(batch)
        assert {TERMS[name]: term.item() for name, term in terms.items()} == pytest.approx(
            {term: expected[term] for term in TERMS.values()}, rel=1e-10
        )
        if step == 0:
            terms["total"].backward()
            gradients = {key: weight.grad for key, weight in module.named_parameters() if weight.grad is not None}
            released = to_official(gradients, "saai")
            norms = {key: gradient.norm().item() for key, gradient in released.items()}
            assert norms == pytest.approx(case["grad_norms_step0"], rel=1e-9, abs=1e-11)
            for key, entries in case["grad_entries_step0"].items():
                has(released[key], entries)
            state = to_official(module.state_dict(), "saai")
            for layer, digests in case["running_after_step0_forward"].items():
                fits(state[f"{layer}.running_mean"], digests["running_mean"])
                fits(state[f"{layer}.running_var"], digests["running_var"])
            adam.step()
            for key, entries in case["parameters_after_step0"].items():
                has(state[key], entries)
    for key, entries in case["twins_after_step1_forward"].items():
        has(to_official(module.state_dict(), "saai")[key], entries)


PROBES = json.loads((GOLDEN / "loss_probes.json").read_text())["probes"]


@pytest.mark.parametrize("number", range(len(PROBES)))
def test_centres_at_every_scale(number: int) -> None:
    probe = PROBES[number]
    labels = torch.tensor(probe["labels"])
    drawn = recipe.features(probe["seed"], probe["rows"], probe["width"], probe["scale"], labels.numpy())
    features = torch.from_numpy(drawn).requires_grad_()
    value = center_cluster(features, labels, probe["margin1"], probe["margin2"])
    value.backward()
    assert value.item() == pytest.approx(probe["value"], rel=1e-12)
    gradient = np.load(GOLDEN / "loss_probes.npz")[f"probe{number}_grad"]
    np.testing.assert_allclose(features.grad, gradient, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dataset", ["sysu", "regdb"])
def test_rates_of_every_epoch(dataset: str) -> None:
    released = json.loads((GOLDEN / "schedule.json").read_text())
    cfg = composed(f"dataset={dataset}", "trial=1", "model.network.trunk=resnet18_thin")
    module = instantiate(cfg.model, num_identities=3)
    assert [module.criterion.follow_rate(epoch) for epoch in range(1, 161)] == pytest.approx(
        released["twin_rate_per_epoch_from_1"], rel=1e-14
    )
    assert cfg.trainer.max_epochs == released["epochs"]
    kept = released["sampler"][dataset]
    assert (cfg.data.identities_per_batch, cfg.data.images_per_identity) == (kept["identities"], kept["per_identity"])
    optimizer = build_optimizer(module, module.hparams["optimizer"])
    schedule = build_schedule(optimizer, module.hparams["schedule"], Span(lambda: 160, lambda: 160))["scheduler"]
    rates = []
    for _ in range(160):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(released["lr_per_epoch"], rel=1e-12)


def test_maps_apart_by_definition() -> None:
    maps = torch.rand(3, 4, 5, 2, dtype=torch.float64)
    pairs = [
        ((image[one] - image[other]) ** 2).mean().sqrt() for image in maps for one in range(4) for other in range(one)
    ]
    assert diversity(maps).item() == pytest.approx(torch.stack(pairs).mean().item())
    assert diversity(maps[:, :1]) == 0


def test_equal_maps_have_a_gradient() -> None:
    """The released code's is no number, and ends a run."""
    maps = torch.full((2, 3, 4, 2), 0.5, requires_grad=True)
    diversity(maps).backward()
    assert torch.equal(maps.grad, torch.zeros_like(maps))


def small(**changes: Any) -> MPANetModule:
    network = {"_target_": "mpanet_pl.methods.saai.SAAI", "trunk": "resnet18", "pretrained": False, "patterns": 2}
    return MPANetModule(
        3,
        network=network | {"height": 48, "width": 32} | changes,
        criterion={"_target_": "mpanet_pl.methods.saai.SAAILoss"},
        optimizer={},
        schedule={},
    )


def test_an_embedding_is_by_the_neck_of_its_modality() -> None:
    network = small().network.eval()
    with torch.no_grad():
        network.neck.infrared.weight.mul_(2)
        images, infrared = torch.randn(4, 3, 48, 32), torch.tensor([True, False, False, True])
        seen = network(images, infrared)
    factor = torch.where(infrared, 2.0, 1.0)[:, None] / (1 + network.neck.infrared.eps) ** 0.5
    assert torch.allclose(seen.embedding, factor * seen.descriptor)


@pytest.mark.parametrize("alleviation", [[], ["layer3", "layer4"]])
def test_a_released_file_tells_its_architecture(alleviation: list[str]) -> None:
    theirs = small(alleviation=alleviation)
    state = {f"module.{key}": value for key, value in to_official(theirs.state_dict(), "saai").items()}
    ours = module_from_official(state, "saai", height=48, width=32)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    with pytest.raises(UserError, match="give height and width"):
        module_from_official(state, "saai")
    with pytest.raises(UserError, match="say method=saai, not mpanet"):
        module_from_official(state)


def test_what_it_needs_is_said() -> None:
    network = small().network
    with pytest.raises(UserError, match="needs to know which images are infrared"):
        network(torch.zeros(2, 3, 48, 32))
    with pytest.raises(UserError, match=r"each of \(3, 2\) positions, and images of this size have \(4, 2\)"):
        network(torch.zeros(2, 3, 64, 32), torch.tensor([True, False]))
    with pytest.raises(UserError, match="patterns must be at least 1, got 0"):
        SAAI(height=48, width=32, trunk="resnet18_thin", pretrained=False, patterns=0)
    with pytest.raises(UserError, match="mean_rate must be between 0 and 1, got 2"):
        SAAILoss(4, 3, mean_rate=2)
    with pytest.raises(UserError, match="slack must be at least 0, got -1"):
        SAAILoss(4, 3, slack=-1)


def test_a_released_file_embeds(tmp_path: Path) -> None:
    theirs = small().eval()
    torch.save(to_official(theirs.state_dict(), "saai"), tmp_path / "released.pth")
    embedder = load(tmp_path / "released.pth", method="saai", height=48, width=32, device="cpu")
    images = torch.randint(256, (3, 3, 48, 32), dtype=torch.uint8)
    with torch.no_grad():
        z = theirs(normalise(images), torch.tensor([True, False, True]))
    expected = torch.nn.functional.normalize(z)
    assert torch.allclose(embedder.embed(images, infrared=[True, False, True]), expected, atol=1e-6)
    with pytest.raises(UserError, match="infrared"):
        embedder.embed(images)


@pytest.mark.slow
def test_a_released_file_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(to_official(small(height=64, width=32).state_dict(), "saai"), tmp_path / "released.pth")
    asked = [f"ckpt={tmp_path}/released.pth", "method=saai", "dataset=synthetic", f"data_dir={tmp_path}/world"]
    world = [text for text in SMALL_WORLD if text.startswith("data.dataset")]
    assert (
        type_in(
            "evaluate", evaluate, ["trainer.accelerator=cpu", *asked, *world, f"run_dir={tmp_path}/out"], monkeypatch
        )
        == 0
    )
    assert "saai, last stride 1, which a released file does not say" in (tmp_path / "out/results.md").read_text()
