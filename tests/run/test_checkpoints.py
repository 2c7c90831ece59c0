"""Which checkpoints a run keeps, what is in them, and how far they go; of one weight, without images."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging
from pytorch_lightning.loggers.logger import DummyLogger
from torch import nn

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.callback import MONITOR
from mpanet_pl.run.callbacks.checkpoints import AtomicCheckpoints, Checkpoints, epochs_done
from mpanet_pl.run.record import Record


class Scored(pl.LightningModule):
    """Scores what it is told to, epoch by epoch; its weight falls by 0.1 a step."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores, self.weight = scores, nn.Parameter(torch.tensor(1.0))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.weight * 1.0

    def validation_step(self, batch: Any, index: int) -> None:
        self.log(MONITOR, self.scores[self.current_epoch], batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> list[int]:
        return [0]

    val_dataloader = train_dataloader


def fit(checkpoints: Checkpoints, scores: list[float], *more: pl.Callback, resume: Any = None, **keys: Any) -> Scored:
    module = Scored(scores)
    keys = {"logger": False, "num_sanity_val_steps": 0} | keys
    trainer = pl.Trainer(
        max_epochs=len(scores),
        callbacks=[checkpoints, *more],
        plugins=AtomicCheckpoints(),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        **keys,
    )
    trainer.fit(module, ckpt_path=resume, weights_only=True)
    return module


def stored(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)


pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*log_every_n_steps")


def test_each_file_says_what_it_is(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {"seed": 3})
    checkpoints.record = Record(dataset="sysu")
    fit(checkpoints, [70.0, 80.0, 80.0])
    for name, epochs, weight in (("best", 2, 0.8), ("last", 3, 0.7)):
        content = stored(tmp_path, name)
        assert content["config"] == {"seed": 3}
        assert Record.read(content["record"], name) == Record(dataset="sysu", epochs=epochs)
        assert content["record"]["terms"] == "Trained on sysu: its terms apply to this checkpoint."
        assert content["callbacks"] == {"Checkpoints": {"best_score": 80.0, "best_epoch": 2}}, "runs of 0.2 go on by it"
        assert content["state_dict"]["weight"] == pytest.approx(weight)
    assert (checkpoints.best_model_path, checkpoints.last_model_path) == (
        str(tmp_path / "checkpoints/best.ckpt"),
        str(tmp_path / "checkpoints/last.ckpt"),
    )
    assert checkpoints.best_model_score == 80
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_best_outlives_a_resumption(tmp_path: Path) -> None:
    fit(Checkpoints(tmp_path, {}), [80.0, 70.0])
    again = Checkpoints(tmp_path, {})
    fit(again, [80.0, 70.0, 75.0], resume=tmp_path / "checkpoints/last.ckpt")
    assert (again.best_score, again.best_epoch) == (80, 1)
    assert again.best_model_path == str(tmp_path / "checkpoints/best.ckpt")
    assert (stored(tmp_path, "best")["epoch"], stored(tmp_path, "last")["epoch"]) == (0, 2)


def test_neither_a_sanity_check_nor_another_epochs_score_counts(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, {})
    fit(checkpoints, [90.0, 60.0, 90.0], num_sanity_val_steps=1, check_val_every_n_epoch=2)
    assert (checkpoints.best_score, checkpoints.best_epoch) == (60, 2)


def test_the_last_name_is_there_when_the_file_is(tmp_path: Path) -> None:
    checkpoints: Any = Checkpoints(tmp_path, {})
    assert checkpoints._find_last_checkpoints(None) == set()
    fit(checkpoints, [1.0])
    assert checkpoints._find_last_checkpoints(None) == {str(tmp_path / "checkpoints/last.ckpt")}


def test_averaged_weights_are_what_is_kept(tmp_path: Path) -> None:
    module = fit(Checkpoints(tmp_path, {}), [1.0, 1.0, 1.0], StochasticWeightAveraging(0.1, swa_epoch_start=1))
    assert stored(tmp_path, "last")["state_dict"]["weight"] == module.weight
    assert module.weight > 0.701, "not the last step's"


def test_records_are_written_before_the_checkpoint_and_uploads_come_after(tmp_path: Path) -> None:
    last = tmp_path / "checkpoints/last.ckpt"
    seen: list[tuple[str, bool]] = []

    class Ended(pl.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            seen.clear()

    class Told(DummyLogger):
        def save(self) -> None:
            seen.append(("save", last.exists()))

        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            seen.append((checkpoint_callback.last_model_path, last.exists()))

    fit(Checkpoints(tmp_path, {}), [1.0], Ended(), logger=Told())
    assert seen[:2] == [("save", False), (str(last), True)]


def test_an_epoch_that_was_cut_off_is_not_kept(tmp_path: Path) -> None:
    class Cut(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = False

    fit(Checkpoints(tmp_path, {}), [1.0], Cut())
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_broken_write_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: object, file: Any) -> None:
        file.write(b"half")
        raise ValueError("no space")

    fit(Checkpoints(tmp_path, {}), [1.0])
    before = stored(tmp_path, "last")["epoch"]
    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(ValueError, match="no space"):
        AtomicCheckpoints().save_checkpoint({}, tmp_path / "checkpoints/last.ckpt")
    assert stored(tmp_path, "last")["epoch"] == before
    assert not list(tmp_path.rglob("*.part"))


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit(Checkpoints(folder, {}), [1.0, 2.0])
    return folder


def test_how_far_a_run_went(two_epochs: Path, tmp_path: Path) -> None:
    assert epochs_done(tmp_path) == 0
    assert epochs_done(two_epochs) == 2
    fit(Checkpoints(tmp_path, {}), [1.0], limit_val_batches=0)
    assert epochs_done(tmp_path) == 1, "without a best one, as nothing was scored"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        *(({key: None}, f"last.ckpt is no checkpoint of a training run: it has no {key}") for key in (
            "callbacks", "epoch", "global_step", "loops", "lr_schedulers", "optimizer_states",
            "pytorch-lightning_version", "state_dict",
        )),
        ({"epoch": "1"}, "last.ckpt is damaged: its epoch, callbacks or loops are none"),
        ({"loops": {}}, "last.ckpt is damaged: its epoch, callbacks or loops are none"),
        ({"loops": ["fit_loop"]}, "last.ckpt is damaged: its epoch, callbacks or loops are none"),
        ({"callbacks": []}, "last.ckpt is damaged: its epoch, callbacks or loops are none"),
        ({"state_dict": {"weight": torch.tensor(torch.nan)}}, "last.ckpt is damaged: 1 of its 1 weights"),
    ],
)  # fmt: skip
def test_what_a_run_cannot_go_on_from_is_a_sentence(
    change: dict[str, Any], sentence: str, two_epochs: Path, tmp_path: Path
) -> None:
    content = stored(two_epochs, "last") | change
    (tmp_path / "checkpoints").mkdir()
    torch.save({k: v for k, v in content.items() if v is not None}, tmp_path / "checkpoints/last.ckpt")
    with pytest.raises(UserError, match=sentence):
        epochs_done(tmp_path)


@pytest.mark.parametrize(("gone", "kept"), [("last", "best"), ("best", "last")])
def test_one_without_the_other_is_a_sentence(gone: str, kept: str, two_epochs: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / f"checkpoints/{kept}.ckpt"
    file.write_bytes((two_epochs / f"checkpoints/{kept}.ckpt").read_bytes())
    with pytest.raises(UserError, match=rf"{gone}.ckpt is missing.*put it back"):
        epochs_done(tmp_path)
    file.write_bytes(b"broken")
    with pytest.raises(UserError, match=rf"{kept}.ckpt cannot be read"):
        epochs_done(tmp_path)
