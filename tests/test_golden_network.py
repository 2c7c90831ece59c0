"""The network, its losses and its training step against what the released code computes, in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import folded, recipe

from mpanet_pl.data.catalogue import Batch
from mpanet_pl.module import MPANetModule
from mpanet_pl.official import from_official, to_official

pytestmark = pytest.mark.usefixtures("folded_convolutions")
CASES = sorted((Path(__file__).parent / "golden" / "network").glob("*.json"))
TERMS = {
    "identity": "ce",
    "identity_visible": "ce-v",
    "identity_infrared": "ce-i",
    "mutual": "KL",
    "center_cluster": "cc",
    "separation": "p-reg",
    "total": "total",
}


def module_of(case: dict) -> MPANetModule:
    switches = case["official_switches"]
    stages = {0: [], 1: ["layer4"], 2: ["layer3", "layer4"]}
    mutual, patterns = switches["mutual_learning"], switches["num_parts"]
    module = MPANetModule(
        switches["num_classes"],
        network={
            "pretrained": False,
            "last_stride": 1 if switches["drop_last_stride"] else 2,
            "alleviation": stages[switches["modality_attention"]],
            "patterns": patterns,
        },
        criterion={
            "identity": float(switches["classification"]),
            "modality_identity": 2 * switches["weight_sid"] * mutual,
            "mutual": switches["weight_KL"] * mutual,
            "mean_rate": switches["update_rate"],
            "center_cluster": float(switches["center_cluster"]),
            "margin": switches["margin"],
            "separation": switches["weight_sep"] * bool(patterns),
        },
        optimizer={"lr": case["lr"], "weight_decay": case["weight_decay"]},
        schedule={"milestones": []},
    ).double()
    shapes = {key: tuple(value.shape) for key, value in to_official(module.state_dict()).items()}
    drawn = {key: torch.from_numpy(np.array(recipe.weight(key, shape, case["seed"]))) for key, shape in shapes.items()}
    module.load_state_dict(from_official(drawn))
    return module


def batch_of(case: dict, step: int | None = None) -> Batch:
    drawn = {key: torch.from_numpy(value) for key, value in recipe.batch_of(case, step).items()}
    rows = torch.arange(len(drawn["labels"]))
    return Batch(drawn["images"], drawn["labels"], rows, drawn["infrared"], rows)


@torch.no_grad()
def features_of(module: MPANetModule, case: dict) -> np.ndarray:
    return module.eval()(batch_of(case).images)[:, :: case["column_stride"]].numpy()


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in CASES if path.stem != "full"], ids=lambda path: path.stem)
def test_released_numbers(path: Path) -> None:
    """The case `full`, in which everything is switched on, is made by a Trainer in test_golden_trainer."""
    case, stored = json.loads(path.read_text()), np.load(path.with_suffix(".npz"))
    module = module_of(case)
    np.testing.assert_allclose(features_of(module, case), stored["features_before"], rtol=1e-8, atol=1e-10)

    module.train()
    adam = module.configure_optimizers()["optimizer"]
    for step, expected in enumerate(case["train_steps"]):
        batch = batch_of(case, step)
        module.criterion.follow(case["epoch"])
        terms = module.losses(batch)
        assert {TERMS[name] for name in terms} == expected.keys() - {"acc"}
        for name, term in terms.items():
            assert term.item() == pytest.approx(expected[TERMS[name]], rel=1e-8 if step == 0 else 1e-7), (step, name)
        adam.zero_grad()
        terms["total"].backward()
        if step == 0:
            assert grad_norms(module) == pytest.approx(case["grad_norms_step0"], rel=1e-8)
        adam.step()

    assert twin_norms(module) == pytest.approx(case["twin_norms_after"], rel=1e-8)
    np.testing.assert_allclose(features_of(module, case), stored["features_after"], rtol=1e-7, atol=1e-9)


def grad_norms(module: MPANetModule) -> dict[str, float]:
    gradients = {key: value.grad for key, value in module.named_parameters() if value.grad is not None}
    return {key: gradient.norm().item() for key, gradient in to_official(gradients).items()}


def twin_norms(module: MPANetModule) -> dict[str, float]:
    twins = {key: value for key, value in to_official(module.state_dict()).items() if key.endswith("_.weight")}
    return {key: value.norm().item() for key, value in twins.items()}


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"), [(3, 1, 1, (6, 3)), (1, 2, 0, (7, 4)), (3, 2, 1, (9, 5))]
)
def test_folded_convolutions_are_pytorchs(kernel: int, stride: int, padding: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(5, 4, kernel, stride, padding).double()
    images, found = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True), []
    for convolve in (folded.conv2d, folded._conv2d):
        maps = convolve(images, layer.weight, layer.bias, layer.stride, layer.padding)
        weighted = (maps * torch.arange(maps.numel()).view_as(maps)).sum()
        found.append((maps, *torch.autograd.grad(weighted, (images, layer.weight, layer.bias))))
    torch.testing.assert_close(*found, rtol=1e-13, atol=1e-12)
