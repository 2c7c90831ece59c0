"""AGW, CAJ and DEEN: their losses against the released functions, their schedules, and laws of their networks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import compose
from golden.methods import recipe_methods as recipe
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from mpanet_pl.data import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import Embedding
from mpanet_pl.methods.agw import AGW, AGWLoss, NonLocal, generalised_mean, weighted_triplet
from mpanet_pl.methods.caj import CAJ, CAJLoss, adaptive_triplet, divergence
from mpanet_pl.methods.deen import DEEN, DEENLoss, centre_pairs
from mpanet_pl.methods.m3reid import M3ReID
from mpanet_pl.methods.saai import SAAILoss
from mpanet_pl.methods.triplet import triplet
from mpanet_pl.module import MPANetModule
from mpanet_pl.official import from_official, module_from_official, to_official
from mpanet_pl.optim import Span, build_schedule

GOLDEN = Path(__file__).parents[1] / "golden" / "methods"
OURS = {
    "wrt": lambda rows, scores, labels: weighted_triplet(rows, labels),
    "hard_0.3": lambda rows, scores, labels: triplet(rows, labels, 0.3),
    "kl_iccv": lambda rows, scores, labels: divergence(
        scores, labels, torch.arange(len(labels)) >= len(labels) // 3 * 2
    ),
    "cpm_12": lambda rows, scores, labels: pairs(rows, labels, 1),
    "cpm_13": lambda rows, scores, labels: pairs(rows, labels, 2),
} | {
    f"adp_{alpha}_{gamma}_{square}": lambda rows, scores, labels, a=alpha, g=gamma, s=square: adaptive_triplet(
        rows, labels, alpha=a, gamma=g, square=bool(s)
    )
    for alpha, gamma in ((1, 1), (2, 3))
    for square in (0, 1)
}
PROBES = [
    pytest.param(method, number, name, id=f"{method}-{number}-{name}")
    for method in ("agw", "caj", "deen")
    for number, probe in enumerate(json.loads((GOLDEN / method / "loss_probes.json").read_text())["probes"])
    for name in probe["losses"]
    if not name.startswith("plus")  # CAJ's journal version
]


def pairs(rows: Tensor, labels: Tensor, branch: int) -> Tensor:
    parts, of = rows.chunk(3), labels[: len(labels) // 3]
    return centre_pairs(parts[0], parts[branch], of, torch.arange(len(of)) >= len(of) // 2)


@pytest.mark.parametrize(("method", "number", "name"), PROBES)
def test_losses_and_gradients_are_the_releases(method: str, number: int, name: str) -> None:
    """From near-zero distances to where the release's small constants rule, squares are capped, hinges inactive."""
    probe = json.loads((GOLDEN / method / "loss_probes.json").read_text())["probes"][number]
    labels = torch.tensor(probe["labels"])
    rows = torch.tensor(recipe.features(*(probe[key] for key in ("seed", "rows", "width", "scale", "labels"))))
    scores = torch.tensor(
        recipe.scores(probe["seed"], probe["rows"], probe.get("score_width", 4), probe.get("score_scale", 1))
    )
    of = (scores if name == "kl_iccv" else rows).requires_grad_()
    loss = OURS[name](rows, scores, labels)
    assert loss.item() == pytest.approx(probe["losses"][name]["value"], rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, of)
    expected = np.load(GOLDEN / method / "loss_probes.npz")[f"probe{number}_{name}"]
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("method", "milestones"), [("agw", [20, 50]), ("caj", [20, 50]), ("deen", [20, 80])])
def test_learning_rates_of_every_epoch(method: str, milestones: list[int]) -> None:
    expected = np.load(GOLDEN / method / "schedule.npz")["lr"]
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [{"params": [weight], "lr": lr} for weight, lr in zip(weights, (0.01, 0.1, 0.1), strict=True)]
    optimizer = torch.optim.SGD(groups)
    settings = {"name": "steps", "milestones": milestones, "gamma": 0.1, "warmup": 10}
    schedule = build_schedule(optimizer, settings, Span(lambda: len(expected), lambda: 0))["scheduler"]
    for rates in expected:
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(rates, rel=1e-12)
        optimizer.step()
        schedule.step()


def test_a_non_local_block_is_attention_over_all_positions() -> None:
    """By the definition: f_ij = θ_i φ_j / N, y_i = Σ_j f_ij g_j, without a softmax."""
    block, features = NonLocal(6).double(), torch.randn(2, 6, 4, 3, dtype=torch.float64)
    nn.init.ones_(block.W[1].weight)
    theta, phi, g = (part(features).flatten(2) for part in (block.theta, block.phi, block.g))  # (2, 1, 12)
    seen = torch.stack([(theta[:, 0, i, None] * phi[:, 0] / 12 * g[:, 0]).sum(1) for i in range(12)], 1)
    torch.testing.assert_close(block(features), features + block.W(seen.view(2, 1, 4, 3)))


def test_a_channel_of_zeros_pools_to_a_small_number() -> None:
    assert generalised_mean(torch.zeros(1, 2, 3, 3)).tolist() == [[pytest.approx(1e-4)] * 2]


SMALL = {"trunk": "resnet18_thin", "pretrained": False}
GUESTS: list[Any] = [
    pytest.param(lambda: AGW(**SMALL), AGWLoss, id="agw"),
    pytest.param(lambda: AGW(**SMALL, non_local=False, pooling="mean"), AGWLoss, id="agw-base"),
    pytest.param(lambda: CAJ(**SMALL), lambda *sizes: CAJLoss(*sizes, kl=1.0), id="caj"),
    pytest.param(lambda: DEEN(**SMALL), DEENLoss, id="deen"),
    pytest.param(lambda: DEEN(**SMALL, stages=3), DEENLoss, id="deen-regdb"),
]


def awake(network: nn.Module) -> nn.Module:
    """With every branch that says nothing at first saying something."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(layer.weight, 1.0, 0.1)
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return network.double()


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Eight images of two people, visible ones first."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 32, 32, generator=generator, dtype=torch.float64)
    return images, torch.tensor([0, 0, 1, 1] * 2), torch.tensor([False] * 4 + [True] * 4)


@pytest.mark.parametrize(("make", "loss"), GUESTS)
def test_losses_do_not_depend_on_the_order_of_a_batch(make: Any, loss: Any) -> None:
    network = awake(make()).train()
    images, identities, infrared = batch()
    criterion = loss(network.dimension, 2).double()
    branches = getattr(network, "branches", 1)

    def terms(order: Tensor) -> dict[str, float]:
        seen = network(images[order], infrared[order])
        assert len(seen.embedding) == branches * len(order)
        found = criterion(seen, identities[order].repeat(branches), infrared[order].repeat(branches))
        return {name: term.item() for name, term in found.items()}

    interleaved = torch.tensor([4, 0, 5, 1, 6, 2, 7, 3])  # as this package's sampler has them
    people_exchanged = torch.tensor([2, 3, 0, 1, 6, 7, 4, 5])
    expected = terms(torch.arange(8))
    assert terms(interleaved) == pytest.approx(expected, rel=1e-9)
    assert terms(people_exchanged) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("make", "loss"), GUESTS)
def test_in_evaluation_there_is_one_row_an_image_in_the_batchs_order(make: Any, loss: Any) -> None:
    network = awake(make()).eval()
    images, _, infrared = batch()
    order = torch.tensor([4, 0, 5, 1])
    with torch.no_grad():
        whole, part = network(images, infrared), network(images[order], infrared[order])
        exchanged = network(images, ~infrared)
    for both, some in zip(whole[1:], part[1:], strict=True):
        assert len(both) == 8
        torch.testing.assert_close(both[order], some)
    assert (whole.embedding - exchanged.embedding).abs().amax(1).min() > 1e-3  # each stem has weights of its own
    if not isinstance(network, DEEN):
        torch.testing.assert_close(whole.embedding.norm(dim=1), torch.ones(8, dtype=torch.float64))


@pytest.mark.parametrize("make", [lambda: CAJ(**SMALL), lambda: DEEN(**SMALL)])
def test_a_mirrored_image_is_the_same_image(make: Any) -> None:
    network, (images, _, infrared) = awake(make()).eval(), batch()
    with torch.no_grad():
        torch.testing.assert_close(network(images.flip(3), infrared).embedding, network(images, infrared).embedding)


def test_streams_that_nobody_told_apart_are_refused() -> None:
    with pytest.raises(UserError, match="which images are infrared"):
        AGW(**SMALL)(torch.zeros(2, 3, 32, 32))


def test_deens_maps_have_to_have_halves() -> None:
    with pytest.raises(UserError, match="DEEN cuts feature maps into halves, and one of 5 x 5 has none"):
        DEEN(**SMALL).eval()(torch.zeros(2, 3, 40, 40), torch.tensor([True, False]))


def test_the_untrained_branches_say_nothing() -> None:
    """Non-local blocks and aggregations begin as the identity."""
    network = AGW(**SMALL).double().eval()
    plain = AGW(**SMALL, non_local=False).double().eval()
    plain.load_state_dict({key: value for key, value in network.state_dict().items() if "non_local" not in key})
    images, _, infrared = batch()
    with torch.no_grad():
        torch.testing.assert_close(network(images, infrared).embedding, plain(images, infrared).embedding)


def test_an_identity_of_one_modality_has_no_pairs_and_no_partner() -> None:
    rows = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    identities, infrared = torch.tensor([0, 0, 1, 1]), torch.tensor([False, True, False, True])
    lonely = torch.cat((identities, torch.tensor([2]))), torch.cat((infrared, torch.tensor([True])))
    more = torch.cat((rows[:4], rows[8:9] * 100)), torch.cat((rows[4:8], rows[9:10] * 100))
    expected = centre_pairs(rows[:4], rows[4:8], identities, infrared)
    assert centre_pairs(*more, *lonely).item() == pytest.approx(expected.item())
    assert divergence(more[0], *lonely).item() == pytest.approx(divergence(rows[:4], identities, infrared).item())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AGW(**SMALL, pooling="max"), "pooling must be mean or gem, got 'max'"),
        (lambda: DEEN(**SMALL, stages=2), "stages must be 3 or 4, got 2"),
        (
            lambda: AGWLoss(8, 3, weighted_triplet=-1.0),
            "weighted_triplet must be at least 0, got -1",
        ),
        (lambda: AGWLoss(8, 3, identity=0, weighted_triplet=0), "every loss weight is 0"),
        (lambda: CAJLoss(8, 3, alpha=-1.0), "alpha must be at least 0, got -1"),
        (lambda: DEENLoss(8, 3, pairs=-1.0), "pairs must be at least 0, got -1"),
    ],
)
def test_what_is_wrong_is_said(make: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("method", "network"),
    [
        ("agw", {"non_local": True}),
        ("agw", {"non_local": False, "pooling": "mean"}),
        ("caj", {}),
        ("deen", {"stages": 3}),
    ],
)
def test_released_files_are_read_whole(method: str, network: dict[str, Any]) -> None:
    """As trainers of the releases write them: under `net`, each stem with the rest of a ResNet that it never uses."""
    name = f"mpanet_pl.methods.{method}.{method.upper()}"
    settings = {"_target_": name, "trunk": "resnet18", "pretrained": False, **network}
    module = MPANetModule(3, network=settings, criterion={"_target_": f"{name}Loss"}, optimizer={}, schedule={})
    state = to_official(module.state_dict(), method)
    layers = [key.removeprefix("base_resnet.base.") for key in state if key.startswith("base_resnet.base.layer")]
    unused = [f"{stem}.{layer}" for stem in ("visible_module.visible", "thermal_module.thermal") for layer in layers]
    unused += ["base_resnet.base.conv1.weight", "base_resnet.base.bn1.weight"]
    unused += ["base_resnet.base.layer4.0.conv1.weight"] if method == "deen" else []
    assert not state.keys() & set(unused)
    whole = {"net": state | dict.fromkeys(unused, torch.zeros(1)), "mAP": 0.5}
    again = module_from_official(whole, method)
    assert again.state_dict().keys() == module.state_dict().keys()
    assert all(torch.equal(again.state_dict()[key], value) for key, value in module.state_dict().items())
    assert {key: again.hparams["network"][key] for key in network} == network


def test_cajs_kl_is_logged_at_weight_0_and_teaches_nothing() -> None:
    criterion = CAJLoss(4, 2)
    seen = Embedding(torch.zeros(4, 0, 1, 1), *(torch.randn(4, 4, requires_grad=True) for _ in range(2)))
    terms = criterion(seen, torch.tensor([0, 0, 1, 1]), torch.tensor([False, True, False, True]))
    assert terms["kl"] > 0
    assert not terms["kl"].requires_grad
    assert terms["total"].item() == pytest.approx((terms["identity"] + terms["adaptive_triplet"]).item())


def test_by_one_recipe_methods_differ_in_network_and_losses_alone() -> None:
    def composed(method: str) -> dict[str, Any]:
        cfg = compose("train", [f"method={method}", "experiment=methods_one_recipe", "data_dir=/none"])
        whole: Any = OmegaConf.to_container(cfg, resolve=True)
        kept = {"data": whole["data"], "epochs": whole["trainer"]["max_epochs"]}
        return kept | {part: whole["model"][part] for part in ("optimizer", "schedule")}

    usual = composed("mpanet")
    for method in ("agw", "caj", "deen", "saai"):
        assert composed(method) == usual, method


@pytest.mark.parametrize("wrapper", ["net", "state_dict", "model", None])
def test_a_state_dict_is_found_among_what_a_trainer_stores(wrapper: str | None) -> None:
    """Half as precise as the module, behind `module.`, an epoch beside it; strictly loaded."""
    cfg = compose("train", ["method=agw", "data_dir=/none", "model.network.trunk=resnet18_thin"])
    module = instantiate(cfg.model, num_identities=3).double()
    weights = {f"module.{key}": value.float() for key, value in to_official(module.state_dict(), "agw").items()}
    state = {"epoch": 3, "cmc": [0.5], **({wrapper: weights} if wrapper else weights)}
    instantiate(cfg.model, num_identities=3).double().load_state_dict(from_official(state, method="agw"))
    odd = from_official(state | {"left.over": torch.zeros(1)}, method="agw")
    assert ("left.over" in odd) == (wrapper is None), "a tensor is never dropped in silence"


def test_losses_are_of_a_network_in_training() -> None:
    settings = {"_target_": "mpanet_pl.methods.deen.DEEN", **SMALL}
    criterion = {"_target_": "mpanet_pl.methods.deen.DEENLoss"}
    module = MPANetModule(2, network=settings, criterion=criterion, optimizer={}, schedule=None).double()
    images, identities, infrared = batch()
    fields = (images, identities, identities, infrared, identities)  # a plain tuple
    module.network.dropout.p = 0.0
    assert module.losses(fields)["total"].item() == pytest.approx(module.losses(Batch(*fields))["total"].item())
    with pytest.raises(UserError, match=r"DEEN gives 768 numbers a row, its `dimension` is 128: .*module.train\(\)"):
        module.eval().losses(fields)


def test_saais_maps_kept_apart_by_products() -> None:
    """The release's other choice, whose weight counts once."""
    maps = torch.rand(2, 3, 4, 2, dtype=torch.float64)
    pairs = [(image[one] * image[other]).sum() for image in maps for one in range(3) for other in range(one)]
    expected = (sum(pairs) / len(pairs) + 1 - maps.mean()).item()
    criterion = SAAILoss(4, 2, diversity=0.3, diversity_by="product").double()
    seen = Embedding(maps, torch.randn(2, 4).double(), torch.randn(2, 4).double())
    terms = criterion(seen, torch.tensor([0, 1]), torch.tensor([False, True]))
    assert terms["diversity"].item() == pytest.approx(expected)
    rest = sum(criterion.weights[name] * term.item() for name, term in terms.items() if name in criterion.weights)
    assert terms["total"].item() == pytest.approx(rest)
    assert criterion.weights["diversity"] == 0.3


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: DEEN(**SMALL), lambda: M3ReID(**SMALL)])
def test_an_exported_graph_takes_batches_of_any_size(make: Any) -> None:
    """`len` of a tensor in a forward would make a number of its rows."""
    network = awake(make()).eval()
    images, _, infrared = batch()
    rows = {0: torch.export.Dim("batch", min=1, max=64)}
    with torch.no_grad():
        program = torch.export.export(network, (images[:2], infrared[:2]), dynamic_shapes=(rows, rows))
        found = program.module()(images[1:6], infrared[1:6])
    torch.testing.assert_close(found[2], network(images[1:6], infrared[1:6])[2])
