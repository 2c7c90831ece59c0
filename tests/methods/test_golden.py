"""Guests against what their released code computes, in float64: forward, losses, gradients, steps, test vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import compose
from golden.methods import recipe_methods as recipe
from hydra.utils import instantiate
from torch import Tensor, nn

from mpanet_pl.data.catalogue import Batch
from mpanet_pl.module import MPANetModule
from mpanet_pl.official import from_official, to_official

GOLDEN = Path(__file__).parents[1] / "golden" / "methods"
NOT_CASES = ("loss_probes", "schedule")
CASES = [
    pytest.param(path, id=f"{path.parent.name}-{path.stem}")
    for method in ("agw", "caj", "deen")
    for path in sorted((GOLDEN / method).glob("*.json"))
    if path.stem not in NOT_CASES
]
TERMS = {  # ours -> the release's
    "agw": {"identity": "id", "weighted_triplet": "triplet", "triplet": "triplet"},
    "caj": {"identity": "id", "adaptive_triplet": "triplet", "kl": "kl"},
    "deen": {
        "identity": "id",
        "triplet": "triplet",
        "pairs_1": "cpm_branch1",
        "pairs_2": "cpm_branch2",
        "orthogonality": "ort",
    },
}
DIGEST = ("sum", "norm", "min", "max", "first", "last")
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


class Released:
    """A case: the module with the recipe's weights, and the batches of its steps."""

    def __init__(self, path: Path) -> None:
        self.method = path.parent.name
        self.stored, self.numbers = json.loads(path.read_text()), np.load(path.with_suffix(".npz"))
        self.case = self.stored["case"]
        self.module = module_of(self.method, self.case)
        shapes = {key: tuple(value.shape) for key, value in self.named(self.module.state_dict()).items()}
        drawn = {key: torch.from_numpy(np.array(recipe.weight(key, shape, self.case))) for key, shape in shapes.items()}
        self.module.load_state_dict(from_official(drawn, method=self.method))

    def named(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return to_official(state, method=self.method)

    def batch(self, step: int | str) -> Batch:
        drawn = {key: torch.from_numpy(value) for key, value in recipe.streams(self.case, step).items()}
        streams = (
            ("visible", "augmented", "thermal") if self.method == "caj" and step != "eval" else ("visible", "thermal")
        )
        images, labels = torch.cat([drawn[stream] for stream in streams]), drawn["labels"].repeat(len(streams))
        rows = torch.arange(len(labels))
        return Batch(images, labels, rows, rows >= len(labels) - len(drawn["labels"]), rows)

    def drop(self, step: int) -> None:
        """DEEN's dropout, made deterministic by the case's masks."""
        if self.method == "deen":
            self.module.network.dropout = Masked(self.case, step)


class Masked(nn.Module):
    def __init__(self, case: dict[str, Any], step: int) -> None:
        super().__init__()
        self.case, self.step = case, step

    def forward(self, features: Tensor) -> Tensor:
        if not (self.training and self.case["dropout"]):
            return features
        return features * torch.from_numpy(recipe.dropout_keep(self.case, self.step, tuple(features.shape))) / 0.99


BASELINE = ["network.non_local=false", "network.pooling=mean", "criterion.weighted_triplet=0", "criterion.triplet=1"]


def module_of(method: str, case: dict[str, Any]) -> MPANetModule:
    """The published run's, but for the case's switches."""
    typed = [f"method={method}", f"dataset={case.get('dataset', 'sysu')}", "model.network.pretrained=false"]
    if case.get("method") == "base":
        typed += [f"model.{change}" for change in BASELINE]
    if method == "caj":
        typed += [f"model.criterion.{key}={case[key]}" for key in ("alpha", "gamma", "kl")]
        typed += [f"model.criterion.square={bool(case['square'])}"]
    return instantiate(compose("train", typed).model, num_identities=case["num_classes"]).double()


@pytest.mark.slow
@pytest.mark.usefixtures("folded_convolutions")
@pytest.mark.parametrize("path", CASES)
def test_released_numbers(path: Path) -> None:
    released = Released(path)
    module, stored, numbers = released.module, released.stored, released.numbers
    check_test_vectors(released, "before")
    optimizer = optimizer_at(released)
    for step, expected in enumerate(stored["steps"]):
        released.drop(step)
        terms, seen = losses_of(module.train(), released.batch(step))
        ours = {TERMS[released.method].get(name, name): term.item() for name, term in terms.items()}
        assert ours == pytest.approx({name: expected[name] for name in ours}, rel=1e-9, abs=1e-10), step
        assert ours.keys() >= expected.keys() - {"triplet_correct", "correct"}
        for name, value in seen.items():
            np.testing.assert_allclose(strided(value, released), numbers[f"step{step}_{name}"], **CLOSE)
        optimizer.zero_grad()
        terms["total"].backward()
        if step == 0:
            check_gradients(released, seen)
            check_running_statistics(released)
        if step < 2:
            optimizer.step()
            check_parameters(released, step)
    released.module.load_state_dict(module.state_dict())
    check_test_vectors(released, "after")


def optimizer_at(released: Released) -> torch.optim.Optimizer:
    """The optimiser in the case's epoch, counted from 0."""
    configured = released.module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for _ in range(released.case["epoch"]):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(released.stored["lr"], rel=1e-12)
    return optimizer


def losses_of(module: MPANetModule, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The terms, and the features and logits that they are of, with their gradients kept."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        value.retain_grad()
        seen[name] = value

    hooks = [
        module.network.register_forward_hook(lambda _, __, output: keep("feat", output.descriptor)),
        module.criterion.classifier.register_forward_hook(lambda _, __, output: keep("logits", output)),
    ]
    terms = module.losses(batch)
    for hook in hooks:
        hook.remove()
    return terms, seen


def strided(value: Tensor, released: Released) -> np.ndarray:
    stride = released.stored["column_stride"] if value.shape[1] > 100 else 1
    return value.detach()[:, ::stride].numpy()


def check_gradients(released: Released, seen: dict[str, Tensor]) -> None:
    stored, numbers = released.stored, released.numbers
    if released.method == "deen":  # whose release takes the orthogonality off the map, one view before its features
        _, first, second = (rows.detach() for rows in seen["feat"].chunk(3))
        seen["feat"].grad -= 0.01 * torch.cat((torch.zeros_like(first), second, first)) / len(seen["feat"])  # type: ignore[operator]
    for name, value in seen.items():
        assert value.grad is not None
        np.testing.assert_allclose(strided(value.grad, released), numbers[f"grad_{name}_step0"], **CLOSE)
    named = {key: value for key, value in released.module.named_parameters() if value.grad is not None}
    gradients = {key: value.grad for key, value in released.named(named).items()}
    norms = {key: gradient.norm().item() for key, gradient in gradients.items()}
    assert norms == pytest.approx(stored["grad_norms_step0"], rel=1e-9, abs=1e-10)
    for key, entries in stored["grad_entries_step0"].items():
        np.testing.assert_allclose(gradients[key].flatten()[entries["flat_index"]], entries["value"], **CLOSE)


def check_running_statistics(released: Released) -> None:
    state = released.named(released.module.state_dict())
    for layer, buffers in released.stored["running_after_step0_forward"].items():
        for name, expected in buffers.items():
            check_digest(state[f"{layer}.{name}"], expected)


def check_parameters(released: Released, step: int) -> None:
    state = released.named(dict(released.module.named_parameters()))
    for key, expected in released.stored[f"parameters_after_step{step}"].items():
        value = state[key].detach()
        assert value.norm().item() == pytest.approx(expected["norm"], rel=1e-9)
        np.testing.assert_allclose(value.flatten()[expected["flat_index"]], expected["value"], **CLOSE)


def check_digest(value: Tensor, expected: Any) -> None:
    if not isinstance(expected, dict):
        assert value.item() == expected
        return
    flat = value.double().flatten()
    found = [flat.sum(), flat.norm(), flat.min(), flat.max(), *flat[:3], *flat[-3:]]
    wanted = [*(expected[name] for name in DIGEST[:4]), *expected["first"], *expected["last"]]
    assert list(value.shape) == expected["shape"]
    assert [float(number) for number in found] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@torch.no_grad()
def check_test_vectors(released: Released, when: str) -> None:
    """What the release's test script compares, and the scores that it makes of that: thermal query, visible gallery."""
    batch, numbers = released.batch("eval"), released.numbers
    seen = released.module.eval().embed(batch.images, batch.infrared)
    gallery, query = (
        {"pool": seen.descriptor[rows], "fc": seen.embedding[rows]} for rows in (~batch.infrared, batch.infrared)
    )
    first, second = (query[name] @ gallery[name].T for name in ("fc", "pool"))
    if released.method == "deen":
        np.testing.assert_allclose(first, numbers[f"{when}_score7"], **CLOSE)
        np.testing.assert_allclose(second, numbers[f"{when}_score8"], **CLOSE)
        parts = {"visible": gallery["fc"].chunk(6, 1), "thermal": query["fc"].chunk(6, 1)}
        vectors = {f"{modality}_{i}": part for modality, six in parts.items() for i, part in enumerate(six, start=1)}
    else:
        np.testing.assert_allclose(first, numbers[f"{when}_score_fc"], **CLOSE)
        np.testing.assert_allclose(second, numbers[f"{when}_score_pool"], **CLOSE)
        sides = {"visible": gallery, "thermal": query}
        vectors = {f"{modality}_{name}": value for modality, side in sides.items() for name, value in side.items()}
    for name, value in vectors.items():
        check_digest(value, released.stored[f"evaluation_{when}"][name])
        stride = value.shape[1] // numbers[f"{when}_{name}"].shape[1]
        np.testing.assert_allclose(
            value[:: 2 if len(numbers[f"{when}_{name}"]) < len(value) else 1, ::stride],
            numbers[f"{when}_{name}"],
            **CLOSE,
        )
    assert torch.equal(released.module(batch.images, batch.infrared), seen.embedding)
