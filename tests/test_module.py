import copy
import csv
import inspect
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from lab import stand_in_a_lab
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.tuner import Tuner
from torch.utils.data import DataLoader

from mpanet_pl.data import Batch, ReIDDataModule
from mpanet_pl.errors import UserError
from mpanet_pl.losses import MPANetLoss
from mpanet_pl.module import MPANetModule
from mpanet_pl.network import Embedding, MPANet
from mpanet_pl.system.targets import named

PEOPLE = 4
TERMS = ["identity", "identity_visible", "identity_infrared", "mutual", "center_cluster", "separation"]


def tiny(**changes: dict) -> MPANetModule:
    torch.manual_seed(0)
    settings = {
        "network": {"trunk": "resnet18_thin", "pretrained": False, "alleviation": ["layer4"], "patterns": 2},
        "criterion": {},
        "optimizer": {"lr": 1e-3, "weight_decay": 5e-4},
        "schedule": {"milestones": [1], "gamma": 0.1},
    }
    return MPANetModule(PEOPLE, **settings | changes)  # type: ignore[arg-type]


def batches(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    rows = torch.arange(8)
    return [
        Batch(torch.randn(8, 3, 64, 32, generator=generator), rows // 4, rows, rows % 2 == 0, rows)
        for _ in range(count)
    ]


def loader(count: int) -> DataLoader:
    return DataLoader(batches(count), batch_size=None)  # type: ignore[arg-type]


def trainer(folder: Path, **keys: object) -> pl.Trainer:
    settings = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": CSVLogger(folder, name="", version=""),
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return pl.Trainer(**settings | keys)  # type: ignore[arg-type]


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's own use of torch's trees
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]


def test_losses_need_no_trainer() -> None:
    terms = tiny().losses(batches(1)[0])
    assert list(terms) == [*TERMS, "total"]
    terms["total"].backward()


def test_without_classifiers_nothing_behind_the_neck_is_trained() -> None:
    off = {"identity": 0.0, "modality_identity": 0.0, "mutual": 0.0}
    module = tiny(criterion=off)
    module.losses(batches(1)[0])["total"].backward()
    assert all(weight.grad is not None for weight in module.parameters() if weight.requires_grad)


def test_every_term_is_logged_at_every_logged_step(tmp_path: Path) -> None:
    trainer(tmp_path, max_epochs=2).fit(tiny(), loader(3))
    with open(tmp_path / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["train/total"]]
    names = [f"train/{name}" for name in [*TERMS, "total", "accuracy", "alpha", "lr"]]
    assert all(float(row[name]) >= 0 for row in rows for name in names)
    assert [int(row["step"]) for row in rows] == list(range(6))
    assert [float(row["train/lr"]) for row in rows] == pytest.approx([1e-3] * 3 + [1e-4] * 3)
    assert [float(row["train/alpha"]) for row in rows] == pytest.approx([0.2] * 6)


def test_callbacks_see_the_terms(tmp_path: Path) -> None:
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            seen.append(outputs)

    trainer(tmp_path, callbacks=[Watch()]).fit(tiny(), loader(1))
    assert list(seen[0]["terms"]) == [*TERMS, "total"]
    assert seen[0]["terms"]["total"] == seen[0]["loss"]


def test_without_the_identity_term_there_is_no_accuracy(tmp_path: Path) -> None:
    trainer(tmp_path).fit(tiny(criterion={"identity": 0.0, "modality_identity": 0.0, "mutual": 0.0}), loader(1))
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert "train/center_cluster" in header
    assert "accuracy" not in header


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 5), (2, 3)])
def test_twins_follow_once_for_each_optimiser_step(accumulate: int, steps: int, tmp_path: Path) -> None:
    module, followed = tiny(), []
    follow = module.criterion.follow
    module.criterion.follow = lambda epoch: (followed.append(module.global_step), follow(epoch))  # type: ignore[method-assign, assignment]
    trainer(tmp_path, accumulate_grad_batches=accumulate).fit(module, loader(5))
    assert followed == list(range(steps))


def test_the_optimiser_holds_what_learns() -> None:
    module = tiny()
    adam = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    held = {id(weight) for group in adam.param_groups for weight in group["params"]}
    left_out = [name for name, weight in module.named_parameters() if id(weight) not in held]
    assert left_out == ["network.neck.bias", "criterion.visible_twin.weight", "criterion.infrared_twin.weight"]


@pytest.mark.parametrize("fused", [None, False])
def test_gradients_are_clipped_in_mixed_precision(fused: bool | None, tmp_path: Path) -> None:
    module = tiny(optimizer={"lr": 1e-3, "weight_decay": 0, "fused": fused})
    trainer(tmp_path, precision="bf16-mixed", gradient_clip_val=1.0).fit(module, loader(1))


def test_own_terms_are_logged_and_see_what_they_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_a_lab(tmp_path, monkeypatch)
    extra = {"spread": {"_target_": "my_lab.Spread", "weight": 0.3}, "bank": {"_target_": "my_lab.Bank", "weight": 1.0}}
    module, run = tiny(criterion={"extra": extra}), trainer(tmp_path / "logs", max_epochs=2)
    run.fit(module, loader(2))
    with open(tmp_path / "logs/metrics.csv") as file:
        assert all(float(row["train/spread"]) > 0 and float(row["train/bank"]) > 0 for row in csv.DictReader(file))
    assert module.criterion.extra["spread"].factor != 1
    assert module.criterion.extra["spread"].steps == 4
    cameras, epoch, index = module.criterion.extra["bank"].told[-1]
    assert torch.equal(cameras, torch.arange(8))
    assert (epoch, index.tolist()) == (2, list(range(8)))


def lab_module(kind: type[MPANetModule] = MPANetModule) -> MPANetModule:
    return kind(
        PEOPLE,
        network={"_target_": "my_lab.Net", "width": 5, "trunk": "resnet50", "pretrained": True, "patterns": 0},
        criterion={"_target_": "my_lab.Criterion", "extra": {"spread": {"_target_": "my_lab.Spread", "weight": 0.3}}},
        optimizer={"_target_": "my_lab.torch.optim.SGD", "lr": 0.1, "fused": None},
        schedule={"milestones": [1]},
    )


@pytest.mark.parametrize("own_module", [False, True])
def test_own_parts_train_and_come_back(own_module: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that takes one of the usual keywords, a criterion, a term, an optimiser, a module."""
    stand_in_a_lab(tmp_path, monkeypatch)
    kind: type[MPANetModule] = named("my_lab.Module", "") if own_module else MPANetModule
    module, run = lab_module(kind), trainer(tmp_path / "logs")
    run.fit(module, loader(2))
    run.save_checkpoint(tmp_path / "some.ckpt")
    with pytest.raises(UserError, match=r"would call my_lab\..*trust=my_lab"):
        MPANetModule.load_from_checkpoint(tmp_path / "some.ckpt")
    with pytest.raises(UserError, match=r"would call my_lab\.torch\.optim\.SGD"):
        MPANetModule.load_from_checkpoint(tmp_path / "some.ckpt", trust="my_lab")


def test_a_trusted_checkpoint_rebuilds_own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_a_lab(tmp_path, monkeypatch)
    module = lab_module(named("my_lab.Module", ""))
    module.hparams["optimizer"] = {"lr": 0.1}
    run = trainer(tmp_path / "logs")
    run.fit(module, loader(2))
    run.save_checkpoint(tmp_path / "some.ckpt")
    loaded = MPANetModule.load_from_checkpoint(tmp_path / "some.ckpt", trust=["my_lab"])
    assert type(loaded) is type(module)
    other = MPANetModule.load_from_checkpoint(tmp_path / "some.ckpt", trust=["my_lab"], optimizer={"lr": 0.7})
    assert other.hparams["optimizer"] == {"lr": 0.7}, "keywords reach the class that the file names"
    torch.testing.assert_close(loaded.state_dict(), module.state_dict(), rtol=0, atol=0)
    images = batches(1)[0].images
    assert torch.equal(loaded(images), module(images))
    assert loaded.criterion.extra["spread"].steps == 2


def test_fused_steps_and_clipping_do_not_go_together_in_mixed_precision(tmp_path: Path) -> None:
    module = tiny(optimizer={"lr": 1e-3, "fused": True})
    with pytest.raises(UserError, match=r"fused=true does not clip gradients"):
        trainer(tmp_path, precision="bf16-mixed", gradient_clip_val=1.0).fit(module, loader(1))


ONECYCLE = {"name": "onecycle", "warmup": 0.5, "start": 0.05, "end": 0.01}


def test_a_run_stopped_in_one_cycle_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole, stopped, resumed = (tiny(schedule=ONECYCLE) for _ in range(3))
    trainer(tmp_path / "whole", max_epochs=2, accumulate_grad_batches=2).fit(whole, loader(3))

    class Stop(pl.Callback):
        def on_train_epoch_end(self, trainer, module) -> None:
            trainer.should_stop = True

    first = trainer(tmp_path / "stopped", max_epochs=2, accumulate_grad_batches=2, callbacks=[Stop()])
    first.fit(stopped, loader(3))
    first.save_checkpoint(tmp_path / "stopped.ckpt")
    second = trainer(tmp_path / "resumed", max_epochs=2, accumulate_grad_batches=2)
    second.fit(resumed, loader(3), ckpt_path=tmp_path / "stopped.ckpt", weights_only=True)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert second.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-5), "four steps of the optimiser, all done"


def test_a_schedule_over_the_run_wants_its_length(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set trainer\.max_epochs"):
        trainer(tmp_path, max_epochs=-1).fit(tiny(schedule=ONECYCLE), loader(1))


def test_its_learning_rate_is_the_optimisers() -> None:
    module = tiny(optimizer={"lr": 0.25})
    assert module.lr == 0.25
    module.lr = 0.5
    assert module.configure_optimizers()["optimizer"].param_groups[0]["lr"] == 0.5


def test_lightnings_tuner_finds_a_learning_rate(tmp_path: Path) -> None:
    module, run = tiny(), trainer(tmp_path, default_root_dir=tmp_path)
    found = Tuner(run).lr_find(module, loader(4), num_training=4, update_attr=True, early_stop_threshold=None)
    assert module.lr == module.hparams["optimizer"]["lr"]
    assert found is not None
    assert module.lr == (found.suggestion() or 1e-3)


@pytest.mark.parametrize("fused", [True, False])
def test_a_resumed_optimiser_steps_as_it_is_configured(fused: bool) -> None:
    """Clipping, which fused steps do not go with, may be switched on or off when a run is continued."""
    earlier, now = (
        tiny(optimizer={"lr": 1e-3, "fused": how}).configure_optimizers()["optimizer"] for how in (not fused, fused)
    )
    state = earlier.state_dict()
    now.load_state_dict(state)
    assert [group["fused"] for group in now.param_groups] == [fused]
    assert [group["fused"] for group in state["param_groups"]] == [not fused]


def test_a_checkpoint_rebuilds_the_module_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tiny()
    run = trainer(tmp_path)
    run.fit(module, loader(2))
    run.save_checkpoint(tmp_path / "some.ckpt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    loaded = MPANetModule.load_from_checkpoint("../some.ckpt")
    torch.testing.assert_close(loaded.state_dict(), module.state_dict(), rtol=0, atol=0)
    images = batches(1)[0].images
    assert torch.equal(loaded.eval()(images), module.eval()(images))


def test_a_checkpoint_asks_for_no_pretrained_weights(tmp_path: Path) -> None:
    torch.save(tiny().network.trunk.state_dict(), tmp_path / "trunk.pth")
    network = {"trunk": "resnet18_thin", "pretrained": str(tmp_path / "trunk.pth"), "alleviation": [], "patterns": 0}
    plain = {key: value for key, value in tiny().network.trunk.state_dict().items() if "alleviation" not in key}
    torch.save(plain, tmp_path / "trunk.pth")
    module = tiny(network=network)
    assert torch.equal(module.network.trunk.conv1.weight, plain["conv1.weight"])
    assert module.hparams["network"]["pretrained"] is False


def test_a_checkpoint_with_anything_else_in_it_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": {"network": torch.nn.Linear(1, 1)}}, tmp_path / "some.ckpt")
    with pytest.raises(UserError, match="asks to run torch"):
        MPANetModule.load_from_checkpoint(tmp_path / "some.ckpt")


@pytest.mark.parametrize("half", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_half_precision_trains_without_nan(half: torch.dtype) -> None:
    module = tiny().to(memory_format=torch.channels_last)
    adam = torch.optim.Adam((weight for weight in module.parameters() if weight.requires_grad), lr=1e-3)
    before = module.network.trunk.conv1.weight.detach().clone()
    scaler = torch.amp.GradScaler("cpu", enabled=half == torch.float16, init_scale=128)
    for batch in batches(3):
        module.criterion.follow(1)
        with torch.autocast("cpu", half):
            terms = module.losses(batch)
        assert {term.dtype for term in terms.values()} == {torch.float32}
        adam.zero_grad()
        scaler.scale(terms["total"]).backward()
        scaler.step(adam)
        scaler.update()
    assert all(value.isfinite().all() for value in module.state_dict().values())
    assert scaler.get_scale() == (128 if scaler.is_enabled() else 1), "no step was left out"
    assert not torch.equal(module.network.trunk.conv1.weight, before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler looks at it
def test_compiling_changes_no_key_and_trains(tmp_path: Path) -> None:
    module = tiny()
    keys = list(module.state_dict())
    before = copy.deepcopy(module.state_dict())
    module.network.compile(fullgraph=True, backend="aot_eager")
    module.criterion.compile(fullgraph=True, backend="aot_eager")
    trainer(tmp_path).fit(module, loader(2))
    assert list(module.state_dict()) == keys
    assert not torch.equal(module.network.trunk.conv1.weight, before["network.trunk.conv1.weight"])


def test_every_other_step_gives_embeddings() -> None:
    module, batch = tiny().eval(), batches(1)[0]
    expected = module.network(batch.images).embedding
    for step in (module.validation_step, module.test_step):
        assert torch.equal(step(batch, 0), expected)
    assert torch.equal(module.predict_step(batch, 0).embeddings, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_step_never_waits_for_the_gpu(tmp_path: Path) -> None:
    module = tiny()

    class Strict(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            torch.cuda.set_sync_debug_mode("error" if batch_idx else "default")

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            torch.cuda.set_sync_debug_mode("default")

    trainer(tmp_path, accelerator="gpu", devices=1, log_every_n_steps=50, callbacks=[Strict()]).fit(module, loader(4))


@pytest.mark.parametrize("made", [MPANetModule, ReIDDataModule, MPANet, MPANetLoss])
def test_docstrings_tell_every_keyword(made: type) -> None:
    names = set(inspect.signature(made).parameters) - {"dimension", "num_identities"}
    assert not {name for name in names if not re.search(rf"\b{name}\b", made.__doc__ or "")}


class Branches(torch.nn.Module):
    """Colours' means through one layer, two rows an image in training."""

    dimension, branches = 5, 2

    def __init__(self, says: bool = True) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 5)
        self.branches = 2 if says else 1

    def forward(self, images, infrared=None):
        rows = torch.cat([images, images.flip(-1) + 1]) if self.training else images
        described = self.layer(rows.mean((2, 3)))
        return Embedding(rows[:, :0], described, described)


def of_branches(**says: bool) -> MPANetModule:
    network = {"_target_": f"{__name__}.Branches", **says}
    return tiny(network=network, criterion={"mutual": 0.0, "extra": {}})


def test_a_networks_branches_repeat_the_labels_of_every_column() -> None:
    """Against the same rows as a batch of their own."""
    module, batch = of_branches(), batches(1)[0]
    twice = Batch(torch.cat([batch.images, batch.images.flip(-1) + 1]), *(column.repeat(2) for column in batch[1:5]))
    terms = module.losses(batch)
    module.network.branches = 1
    module.network.forward = lambda images, infrared=None: Embedding(
        images[:, :0], *2 * (module.network.layer(images.mean((2, 3))),)
    )
    torch.testing.assert_close(module.losses(twice), terms)


def test_rows_that_do_not_agree_with_the_criterion_are_refused_by_name() -> None:
    with pytest.raises(UserError, match="Branches gives 16 rows for 8 images where MPANetLoss expects 8"):
        of_branches(says=False).losses(batches(1)[0])
    assert of_branches().eval()(batches(1)[0].images).shape == (8, 5)


class Alone(torch.nn.Module):
    dimension = 5

    def forward(self, images):
        return images


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (f"{__name__}.Alone", r"model\.network: Alone is called with \(images, infrared\): too many positional"),
        ("torch.nn.Identity", r"model\.network: Identity has no `dimension`"),
        ("collections.OrderedDict", r"model\.network: OrderedDict is no torch"),
    ],
)
def test_a_network_that_breaks_its_contract_is_told(target: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        MPANetModule(PEOPLE, network={"_target_": target}, criterion={}, optimizer={}, schedule={})
