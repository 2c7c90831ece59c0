"""M3-ReID against what its released code computes, in float64."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import SMALL, compose, scores_of, type_in
from golden.methods import recipe_methods as recipe
from golden.methods.digests import fits, has
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor
from trees import draw_layout

from mpanet_pl.data.draws import draw_any_modality
from mpanet_pl.errors import UserError
from mpanet_pl.methods.m3reid import M3ReID, NonLocal, alignment, apart
from mpanet_pl.module import MPANetModule
from mpanet_pl.official import from_official, module_from_official, to_official
from mpanet_pl.optim import Span, build_optimizer, build_schedule
from mpanet_pl.train import train

GOLDEN = Path(__file__).parents[1] / "golden/methods/m3reid"
TERMS = {
    "identity": "id_video",
    "identity_frame": "id_frame",
    "alignment": "mma_video",
    "alignment_frame": "mma_frame",
    "frames_apart": "ofr",
    "heads_apart_hw": "dac_hw",
    "heads_apart_tw": "dac_tw",
    "heads_apart_th": "dac_th",
    "total": "total",
}


def small(num_identities: int = 3, **network: Any) -> MPANetModule:
    settings = {"_target_": "mpanet_pl.methods.m3reid.M3ReID", "pretrained": False} | network
    criterion = {"_target_": "mpanet_pl.methods.m3reid.M3ReIDLoss"}
    optimizer = {"weight_decay": 5e-4}
    return MPANetModule(num_identities, network=settings, criterion=criterion, optimizer=optimizer, schedule={})


def module_of(case: dict[str, Any]) -> MPANetModule:
    module = small(case["num_classes"]).double()
    shapes = {key: tuple(value.shape) for key, value in to_official(module.state_dict(), "m3reid").items()}
    drawn = {key: torch.from_numpy(np.array(recipe.weight(key, shape, case))) for key, shape in shapes.items()}
    module.load_state_dict(from_official(drawn, "m3reid"))
    return module


def tracklets(case: dict[str, Any], step: int | str) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, and of each the identity and whether it is infrared."""
    drawn = recipe.tracks(case, step)
    images = torch.from_numpy(drawn["images"]).flatten(0, 1)
    labels, modality = (
        torch.from_numpy(drawn[key]).repeat_interleave(case["frames"]) for key in ("labels", "modality")
    )
    return images, labels, modality == 1


@pytest.mark.slow
@pytest.mark.usefixtures("folded_convolutions")
@pytest.mark.parametrize("name", ["balanced", "uneven"])
def test_released_numbers(name: str) -> None:
    whole, stored = json.loads((GOLDEN / f"{name}.json").read_text()), np.load(GOLDEN / f"{name}.npz")
    case, stride = whole["case"], whole["column_stride"]
    frames, module = case["frames"], module_of(case)
    with torch.no_grad():
        images, _, _ = tracklets(case, "eval")
        z = module.eval().network(images, frames=frames).embedding.unflatten(0, (-1, frames)).mean(1)
    unit = torch.nn.functional.normalize(z)
    np.testing.assert_allclose(unit[:, ::stride], stored["eval_embedding"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(unit @ unit.T, stored["eval_score"], rtol=1e-10)

    module.train()
    adam = build_optimizer(module, module.hparams["optimizer"] | {"lr": whole["lr"]})
    for step, expected in enumerate(whole["steps"]):
        images, labels, infrared = tracklets(case, step)
        terms = module.criterion(module.network(images, frames=frames), labels, infrared)
        ours = {TERMS[name]: term.item() for name, term in terms.items()}
        assert ours == pytest.approx(expected, rel=1e-10)
        if step:
            continue
        terms["total"].backward()
        gradients = {key: weight.grad for key, weight in module.named_parameters() if weight.grad is not None}
        released, state = to_official(gradients, "m3reid"), to_official(module.state_dict(), "m3reid")
        norms = {key: gradient.norm().item() for key, gradient in released.items()}
        assert norms == pytest.approx(whole["grad_norms_step0"], rel=1e-9, abs=1e-11)
        for key, entries in whole["grad_entries_step0"].items():
            has(released[key], entries)
        for layer, digests in whole["running_after_step0_forward"].items():
            fits(state[f"{layer}.running_mean"], digests["running_mean"])
            fits(state[f"{layer}.running_var"], digests["running_var"])
        adam.step()
        for key, entries in whole["parameters_after_step0"].items():
            has(state[key], entries)


def test_vectors_apart_by_definition() -> None:
    vectors = torch.randn(3, 4, 5, dtype=torch.float64)
    cosines = [
        torch.cosine_similarity(row[one], row[other], dim=0) ** 2
        for row in vectors
        for one in range(4)
        for other in range(4)
        if one != other
    ]
    assert apart(vectors).item() == pytest.approx(torch.stack(cosines).mean().item())
    assert apart(vectors[:, :1]) == 0


def test_alignment_by_definition() -> None:
    """Rows without a match or without a mismatch in the other modality take no part, nor does a modality of such."""
    vectors = torch.randn(6, 5, dtype=torch.float64)
    for labels, infrared in (
        ([0, 0, 1, 1, 2, 2], [1, 0, 0, 1, 1, 1]),
        ([0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 1]),
        ([0, 1, 2, 3, 4, 5], [1, 0, 1, 0, 1, 0]),
    ):
        means = []
        for modality in (0, 1):
            values = []
            for row in (row for row in range(6) if infrared[row] == modality):
                gallery = [other for other in range(6) if infrared[other] != modality]
                away = {o: (1 - torch.cosine_similarity(vectors[row], vectors[o], dim=0)).item() / 2 for o in gallery}
                match = [away[other] for other in gallery if labels[other] == labels[row]]
                mismatch = [away[other] for other in gallery if labels[other] != labels[row]]
                if match and mismatch:
                    values.append(np.log1p(np.exp(np.mean(match) - np.mean(mismatch))))
            if values:
                means.append(np.mean(values))
        ours = alignment(vectors, torch.tensor(labels), torch.tensor(infrared, dtype=torch.bool))
        assert ours.item() == pytest.approx(np.mean(means) if means else 0.0)


def test_at_first_a_look_at_the_tracklet_changes_nothing() -> None:
    features = torch.randn(4, 8, 3, 2)
    assert torch.equal(NonLocal(8)(features, frames=2), features)


def test_frames_of_one_tracklet_see_each_other_alone() -> None:
    network = M3ReID(trunk="resnet18_thin", pretrained=False).eval()
    for block in network.trunk.non_local["layer3"]:
        torch.nn.init.ones_(block.W[1].weight)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        before = network(images, frames=2).embedding
        images[1] += 1
        after = network(images, frames=2).embedding
    assert torch.equal(after[2:], before[2:])
    assert not torch.allclose(after[0], before[0])


def test_a_released_file_tells_its_trunk() -> None:
    theirs = small(trunk="resnet18")
    ours = module_from_official(to_official(theirs.state_dict(), "m3reid"), "m3reid")
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("dataset", ["vcm", "buptcampus"])
def test_rates_of_every_epoch(dataset: str) -> None:
    released = json.loads((GOLDEN / "schedule.json").read_text())
    cfg = compose("train", ["method=m3reid", f"dataset={dataset}"])
    settings = OmegaConf.to_container(cfg.model, resolve=True)
    settings["network"] |= {"trunk": "resnet18_thin", "pretrained": False}
    module = instantiate(settings, num_identities=3)
    assert type(module.network) is M3ReID
    assert (cfg.data.frames, cfg.trainer.max_epochs) == (6, released["epochs"])
    optimizer = build_optimizer(module, module.hparams["optimizer"])
    schedule = build_schedule(optimizer, module.hparams["schedule"], Span(lambda: 200, lambda: 200))["scheduler"]
    rates = []
    for _ in range(200):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(released[f"lr_per_epoch_{'vcm' if dataset == 'vcm' else 'bupt'}"], rel=1e-12)


def test_groups_are_of_an_identity_whatever_the_modality() -> None:
    owners = np.repeat([0, 1, 2, 3], [9, 4, 2, 8])
    batches = draw_any_modality(owners, owners % 2, 2, 4, np.random.default_rng(3))
    groups = batches.reshape(-1, 4)
    assert (owners[groups] == owners[groups][:, :1]).all()
    assert (owners[groups][::2, 0] != owners[groups][1::2, 0]).all(), "a batch has different identities"
    large = groups[owners[groups][:, 0] != 2]
    assert len(np.unique(large)) == large.size, "no row twice, but where an identity has too few"


@pytest.mark.slow
def test_a_run_of_tracklets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = [
        "data.frames=3",
        "trainer.max_epochs=1",
        "trainer.check_val_every_n_epoch=1",
        "trainer.limit_train_batches=1",
    ]
    typed = ["method=m3reid", "dataset=vcm", *SMALL, "model.network.trunk=resnet18_thin", *walks]
    typed += [f"data_dir={draw_layout('vcm', tmp_path / 'vcm')}", f"run_dir={tmp_path}/run"]
    assert type_in("train", train, typed, monkeypatch) == 0
    assert scores_of(tmp_path / "run")["last"].keys() == {"infrared_to_visible", "visible_to_infrared"}
    lines = (tmp_path / "run/metrics.csv").read_text().splitlines()
    assert "train/alignment" in lines[0]


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match="3 images are no whole number of tracklets of 2 frames"):
        M3ReID(trunk="resnet18_thin", pretrained=False)(torch.zeros(3, 3, 32, 32), frames=2)


@pytest.mark.slow
def test_onnx_knows_the_attention() -> None:
    pytest.importorskip("onnxscript")
    assert torch.onnx.export(NonLocal(8).eval(), (torch.zeros(2, 8, 4, 2), 1), dynamo=True, verbose=False) is not None
