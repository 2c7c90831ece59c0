"""Every configuration that ships composes, holds what was published, and trains."""

from pathlib import Path

import pytest
import torch
from commands import SMALL, SMALL_WORLD, compose, scores_of
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mpanet_pl import MPANetModule, load
from mpanet_pl.cli.configuration import config_folder
from mpanet_pl.optim import Span, build_optimizer, build_schedule
from mpanet_pl.train import train

TWO_STEPS = [
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.check_val_every_n_epoch=1",
    "validation.start=1",
]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))


@pytest.mark.parametrize(
    ("dataset", "recipe"),
    {
        "sysu": {
            "height": 384,
            "width": 128,
            "identities_per_batch": 16,
            "images_per_identity": 8,
            "milestones": [80, 120],
        },
        "regdb": {
            "height": 256,
            "width": 128,
            "identities_per_batch": 12,
            "images_per_identity": 10,
            "milestones": [110],
        },
        "llcm": {
            "height": 384,
            "width": 128,
            "identities_per_batch": 16,
            "images_per_identity": 8,
            "milestones": [80, 120],
        },
    }.items(),
)
def test_a_dataset_carries_its_published_recipe(dataset: str, recipe: dict) -> None:
    cfg = compose("train", [f"dataset={dataset}", "trial=3"])
    assert {**cfg.data, "milestones": list(cfg.model.schedule.milestones)}.items() >= recipe.items()
    assert cfg.trainer.max_epochs == 140
    assert cfg.model.optimizer == {"lr": 3.5e-4, "weight_decay": 5e-4, "fused": None, "trunk_lr": None, "lr_of": None}
    assert cfg.model.network == {
        "trunk": "resnet50",
        "pretrained": True,
        "last_stride": 1,
        "alleviation": ["layer3", "layer4"],
        "patterns": 6,
        "pooling": None,
    }
    assert (
        cfg.model.criterion.items()
        >= {
            "identity": 1.0,
            "modality_identity": 1.0,
            "mutual": 2.5,
            "mean_rate": 0.2,
            "center_cluster": 1.0,
            "margin": 0.7,
            "separation": 0.5,
        }.items()
    )
    assert (cfg.validation.start, cfg.trainer.check_val_every_n_epoch, cfg.seed) == (120, 5, 1)


FACTS: dict[str, tuple[dict, list[str]]] = {  # of each published recipe: its protocol, and what chooses best.ckpt
    "sysu": (
        {"_target_": "SYSUProtocol", "similarity": "cosine", "trials": 10, "permutations": "auto"},
        ["all/single"],
    ),
    "regdb": (
        {"_target_": "RegDBProtocol", "similarity": "euclidean", "cmc": "deduplicated"},
        ["visible_to_thermal", "thermal_to_visible"],
    ),
    "llcm": (
        {"_target_": "LLCMProtocol", "similarity": "cosine", "trials": 10},
        ["visible_to_infrared", "infrared_to_visible"],
    ),
}


@pytest.mark.parametrize("dataset", FACTS)
def test_a_published_recipe_is_written_out(dataset: str) -> None:
    """Augmentation, sampler, protocol and monitor, as facts: no change of a default goes unnoticed."""
    cfg = compose("train", [f"dataset={dataset}"])
    protocol, monitor = FACTS[dataset]
    written = {**cfg.protocol, "_target_": cfg.protocol["_target_"].removeprefix("mpanet_pl.evaluation.")}
    assert written.items() >= protocol.items()
    assert cfg.validation.monitor == monitor
    assert cfg.validation["on"] == "test"
    assert cfg.data.sampler == "balanced"
    augment = {"flip": 0.5, "pad": 10, "fill": 127, "erase": 0.5, "tone_knots": 5}
    augment |= {"erase_fill": [0, 0, 0], "erase_aspect": "log_uniform"}
    off = dict.fromkeys(
        ("grayscale", "grayscale_infrared", "single_channel", "channel_exchange", "tone", "caj", "rle"), 0
    )
    assert (cfg.data.views, cfg.data.views_of) == (1, "all")
    assert {name: value for name, value in cfg.data.augment.items() if name != "_target_"} == augment | off
    augmentation = instantiate(cfg.data, dataset=None).views.augmentation
    assert (augmentation.fill, augmentation.erase_area, augmentation.erase_ratio) == (127, (0.02, 0.33), (0.3, 3.3))


GUESTS = {  # method -> height, width, P, K, epochs, milestones; by dataset what is erased with which probability
    "agw": ((288, 144, 8, 8, 81, [20, 50]), {"sysu": 0, "regdb": 0, "llcm": 0.5}),
    "caj": ((288, 144, 8, 8, 100, [20, 50]), {"sysu": 0.5, "regdb": 0.5, "llcm": 0.5}),
    "deen": ((384, 144, 6, 8, 151, [20, 80]), {"sysu": 0.5, "regdb": 0.5, "llcm": 0.5}),
}


@pytest.mark.parametrize(
    ("method", "dataset"), [(method, dataset) for method in GUESTS for dataset in ("sysu", "regdb", "llcm")]
)
def test_a_guests_published_recipe_is_written_out(method: str, dataset: str) -> None:
    (height, width, p, k, epochs, milestones), erased = GUESTS[method]
    cfg = compose("train", [f"method={method}", f"dataset={dataset}"])
    data, model, augment = cfg.data, cfg.model, cfg.data.augment
    sizes = (data.height, data.width, data.identities_per_batch, data.images_per_identity)
    assert sizes == (height, width, p, k)
    assert (cfg.trainer.max_epochs, data.sampler) == (epochs, "with_replacement")
    assert cfg.protocol.similarity == ("product" if method == "deen" else "cosine")
    assert (augment.flip, augment.pad, augment.fill, augment.erase) == (0.5, 10, 0, erased[dataset])
    assert (data.views, data.views_of, augment.caj) == ((2, "visible", True) if method == "caj" else (1, "all", False))
    if method == "deen":
        assert (augment.grayscale, augment.grayscale_infrared, augment.erase_aspect) == (0.5, 0.5, "uniform")
        assert augment.erase_fill == [0.485, 0.456, 0.406]
        assert augment.erase_area == ([0.2, 0.8] if dataset == "sysu" else [0.02, 0.4])
        assert model.network.stages == (3 if dataset == "regdb" else 4)
    assert (model.schedule.milestones, model.schedule.gamma, model.schedule.warmup) == (milestones, 0.1, 10)
    assert {key: value for key, value in model.optimizer.items() if value is not None} == {
        "name": "sgd",
        "lr": 0.01,
        "lr_of": {"network": {"neck": 0.1}, "criterion": 0.1},
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 5e-4,
    }


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["sysu", "regdb", "llcm", "folder"])
def test_every_dataset_trains_two_steps(dataset: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(dataset)
    cache = [f"data.cache={tmp_path / 'cache'}"]
    overrides = [f"dataset={dataset}", f"data_dir={root}", f"run_dir={tmp_path / 'run'}", *SMALL, *TWO_STEPS, *cache]
    train(compose("train", overrides))
    scores = scores_of(tmp_path / "run")
    assert set(scores) == {"last", "best"}
    assert set(scores["last"]) >= set(compose("train", overrides).validation.monitor)


@pytest.mark.slow
@pytest.mark.parametrize("rung", choices("rung"))
def test_every_rung_of_the_ladder_trains_two_steps(rung: str, tmp_path: Path) -> None:
    world = [f"data_dir={tmp_path}", f"run_dir={tmp_path / 'run'}"]
    train(compose("train", [*world, *SMALL_WORLD, *TWO_STEPS, f"rung={rung}"]))
    assert (tmp_path / "run/results.json").exists()


@pytest.mark.slow
def test_local_maps_train_and_their_checkpoint_embeds(tmp_path: Path) -> None:
    world = [f"data_dir={tmp_path}", f"run_dir={tmp_path / 'run'}", "model.network.trunk=resnet18_thin"]
    train(compose("train", [*SMALL_WORLD, *TWO_STEPS, *world, "experiment=local_maps"]))
    logged = (tmp_path / "run/metrics.csv").read_text().splitlines()[0]
    assert {f"train/{name}" for name in ("overlap", "concentration", "equivariance")} <= set(logged.split(","))
    ckpt = tmp_path / "run/checkpoints/last.ckpt"
    patterns = MPANetModule.load_from_checkpoint(ckpt).network.patterns
    assert patterns.sharpness.item() == pytest.approx(1.0)  # the second of two steps is beyond a third of them
    assert load(ckpt).embed(torch.zeros(2, 3, 48, 24, dtype=torch.uint8)).shape == (2, 128 + 6 * 64)


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_experiment_composes(name: str) -> None:
    assert compose("train", [f"experiment={name}"]).model.network.patterns == 6


@pytest.mark.parametrize("method", ["agw", "caj", "deen", "saai"])
def test_the_hard_world_leaves_a_method_its_recipe(method: str) -> None:
    hard, plain = (compose("train", [f"method={method}", *more]) for more in (["experiment=hard"], []))
    assert hard.data.dataset.siblings == 0.5
    assert hard.model == plain.model
    assert hard.trainer.max_epochs == plain.trainer.max_epochs


def of_sysu(group: str) -> dict[str, DictConfig]:
    return {name: compose("train", ["dataset=sysu", f"{group}={name}"]).model for name in choices(group)}


@pytest.mark.slow
def test_every_optimizer_and_schedule_goes_with_a_published_recipe() -> None:
    schedules = of_sysu("schedule")
    for optimizer, with_optimizer in of_sysu("optimizer").items():
        for schedule, with_schedule in schedules.items():
            made = build_optimizer(torch.nn.Linear(1, 1), with_optimizer.optimizer)
            assert type(made).__name__.lower() == optimizer.replace("recipe", "adam")
            assert made.param_groups[0]["lr"] == {"sgd": 0.1}.get(optimizer, 3.5e-4)
            settings = OmegaConf.to_container(with_schedule.schedule, resolve=True)
            settings |= {"monitor": "val/all/single/r1"} if schedule == "plateau" else {}
            assert build_schedule(made, settings, Span(lambda: 140, lambda: 9))["interval"] in ("epoch", "step")


@pytest.mark.parametrize("name", choices("trainer"))
def test_every_trainer_composes(name: str) -> None:
    assert compose("train", [f"trainer={name}"]).trainer.max_epochs == compose("train", []).trainer.max_epochs


@pytest.mark.parametrize("name", ["train", "evaluate", "prepare", "synthesize"])
def test_every_command_composes(name: str) -> None:
    assert OmegaConf.to_container(compose(name, []))
