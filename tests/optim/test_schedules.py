import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import MultiStepLR

from mpanet_pl.errors import UserError
from mpanet_pl.optim import Span, build_schedule
from mpanet_pl.system.lightning import quiet

EPOCHS, STEPS = 6, 40
CONFIGURED = {"milestones": None, "gamma": None}
NAMED = {
    "steps": {"milestones": [2, 4], "gamma": 0.1, "warmup": 0},
    "steps_warm": {"milestones": [3, 5], "gamma": 0.1, "warmup": 2},
    "cosine": {"name": "cosine", "warmup": 2, "end": 0.1, **CONFIGURED},
    "onecycle": {"name": "onecycle", "warmup": 0.1, "start": 0.05, "end": 0.01, **CONFIGURED},
    "none": {"name": "none", **CONFIGURED},
}


def build(settings: dict, times: int = 1) -> tuple[torch.optim.Optimizer, dict]:
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.zeros(1)
    optimizer = torch.optim.SGD([weight], lr=2.0)
    return optimizer, build_schedule(optimizer, settings, Span(lambda: times * EPOCHS, lambda: times * STEPS))


def factors(settings: dict, count: int) -> list[float]:
    """Of the learning rate that each epoch, or step, runs at."""
    optimizer, configured = build(settings)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"] / 2)
        optimizer.step()
        configured["scheduler"].step()
    return found


def test_the_default_is_the_published_one() -> None:
    _, configured = build({"milestones": [2], "gamma": 0.1})
    assert type(configured["scheduler"]) is MultiStepLR
    assert configured["interval"] == "epoch"
    assert factors(NAMED["steps"], EPOCHS) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_steps_warm_up() -> None:
    assert factors(NAMED["steps_warm"], EPOCHS) == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01])


def test_a_cosine_ends_in_the_last_epoch() -> None:
    falling = [0.1 + 0.9 * (1 + math.cos(math.pi * epoch / 3)) / 2 for epoch in range(4)]
    assert factors(NAMED["cosine"], EPOCHS) == pytest.approx([1 / 3, 2 / 3, *falling])


def test_one_cycle_goes_by_steps() -> None:
    assert build(NAMED["onecycle"])[1]["interval"] == "step"
    rising = [0.05 + 0.95 * step / 4 for step in range(4)]
    falling = [0.01 + 0.99 * (1 + math.cos(math.pi * step / 36)) / 2 for step in range(37)]
    assert factors(NAMED["onecycle"], STEPS + 1) == pytest.approx(rising + falling)
    assert factors(NAMED["onecycle"], STEPS + 9)[-1] == pytest.approx(0.01), "a longer run stays there"


def test_one_cycle_may_rise_or_fall_alone() -> None:
    falling = [0.01 + 0.99 * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS + 1)]
    assert factors({**NAMED["onecycle"], "warmup": 0}, STEPS + 1) == pytest.approx(falling)
    rising = [0.05 + 0.95 * step / STEPS for step in range(STEPS + 1)]
    assert factors({**NAMED["onecycle"], "warmup": 1}, STEPS + 1) == pytest.approx(rising)


@pytest.mark.parametrize("name", NAMED)
def test_a_restored_schedule_goes_on_where_it_was(name: str) -> None:
    whole, (optimizer, configured) = factors(NAMED[name], EPOCHS), build(NAMED[name])
    for _ in range(3):
        optimizer.step()
        configured["scheduler"].step()
    again, restored = build(NAMED[name])
    again.load_state_dict(optimizer.state_dict())
    restored["scheduler"].load_state_dict(configured["scheduler"].state_dict())
    rates = []
    for _ in range(3, EPOCHS):
        rates.append(again.param_groups[0]["lr"] / 2)
        again.step()
        restored["scheduler"].step()
    assert rates == whole[3:]


@pytest.mark.parametrize("name", ["cosine", "onecycle"])
def test_a_longer_run_goes_on_along_its_own_curve(name: str) -> None:
    """A run that ended, resumed to be twice as long: no epoch at the rate that the shorter run had come to."""
    optimizer, configured = build(NAMED[name])
    length = EPOCHS if name == "cosine" else STEPS
    for _ in range(length):
        optimizer.step()
        configured["scheduler"].step()
    whole, (again, restored) = rates_of(*build(NAMED[name], times=2), 2 * length), build(NAMED[name], times=2)
    again.load_state_dict(optimizer.state_dict())
    restored["scheduler"].load_state_dict(configured["scheduler"].state_dict())
    assert rates_of(again, restored, length) == pytest.approx(whole[length:])
    assert whole[length] > 0.1


class Rates(pl.LightningModule):
    """Trains nothing much; remembers the learning rate of each step."""

    def __init__(self, schedule: dict) -> None:
        super().__init__()
        self.layer, self.schedule, self.rates = torch.nn.Linear(1, 1), schedule, []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.layer(batch).sum()

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.SGD(self.parameters(), lr=2.0)
        span = Span(lambda: self.trainer.max_epochs, lambda: self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": build_schedule(optimizer, self.schedule, span)}


@pytest.mark.parametrize("name", ["cosine", "onecycle"])
def test_a_trainer_resumes_along_the_longer_curve(name: str, tmp_path: Path) -> None:
    loader = torch.utils.data.DataLoader(torch.ones(4, 1, 1), batch_size=None)
    still = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}

    def fitted(epochs: int, path: Path | None = None) -> pl.Trainer:
        with quiet():
            trainer = pl.Trainer(max_epochs=epochs, enable_checkpointing=False, **still)
            trainer.fit(Rates(NAMED[name]), loader, ckpt_path=path)
        return trainer

    fitted(3).save_checkpoint(tmp_path / "short.ckpt")
    longer = fitted(6, tmp_path / "short.ckpt").lightning_module.rates
    assert longer == pytest.approx(fitted(6).lightning_module.rates[len(longer) :])
    assert len(longer) == 12


def rates_of(optimizer: torch.optim.Optimizer, configured: dict, count: int) -> list[float]:
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        configured["scheduler"].step()
    return found


def test_none_keeps_the_rate() -> None:
    assert factors(NAMED["none"], EPOCHS) == [1.0] * EPOCHS


def test_a_plateau_watches_a_logged_value() -> None:
    settings = {"name": "plateau", "monitor": "val/all/single/r1", "frequency": 5, "patience": 1, "gamma": 0.5}
    optimizer, configured = build(settings)
    assert (configured["monitor"], configured["frequency"], configured["interval"]) == ("val/all/single/r1", 5, "epoch")
    rates = []
    for score in (50, 60, 60, 59, 60, 61):
        configured["scheduler"].step(score)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [2, 2, 2, 1, 1, 1]
    assert build({"name": "plateau", "monitor": "x", "frequency": 1})[1]["frequency"] == 1


def test_torchs_own_plateau_by_its_name() -> None:
    own = {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "monitor": "train/total", "frequency": 2}
    _, configured = build(own)
    assert (configured["monitor"], configured["frequency"]) == ("train/total", 2)


def test_ones_own_by_name() -> None:
    own = {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.5, "interval": "step", "milestones": None}
    assert build(own)[1]["interval"] == "step"
    assert factors(own, 3) == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "poly"}, "model.schedule.name must be one of none, steps, cosine, onecycle, plateau, got 'poly'"),
        ({"milestones": [1], "gamma": -1.0}, "gamma must be more than 0 and at most 1, got -1.0"),
        ({"milestones": [1], "gamma": math.nan}, "gamma must be more than 0 and at most 1, got nan"),
        ({"milestones": [-1]}, r"milestones must be a list, each value at least 1, got \[-1\]"),
        ({}, "model.schedule is refused: steps missing 1 required positional argument: 'milestones'"),
        ({"name": "cosine", "milestones": [1]}, r"milestones must be null \(cosine has no such key\), got \[1\]"),
        ({"name": "onecycle", "warmup": 3}, "warmup must be between 0 and 1, got 3"),
        (
            {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 1, "interval": "day"},
            "interval is epoch or step, got day",
        ),
        ({"name": "plateau", "monitor": "x", "mode": "more"}, "mode must be max or min, got 'more'"),
        ({"name": "plateau", "monitor": "x", "frequency": 0}, "frequency must be at least 1, got 0"),
        ({"name": "plateau"}, "monitor is a logged value, such as val/all/single/r1, got None"),
        (
            {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau"},
            "monitor is a logged value, such as val/all/single/r1, got None",
        ),
        ({"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 1, "monitor": "x"}, "watches nothing"),
        ({"_target_": "collections.OrderedDict"}, "is refused|is no torch.optim"),
    ],
)
def test_what_is_wrong_is_said(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build(settings)
