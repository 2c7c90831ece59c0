"""One run, one story: what it was is kept and told, and nothing of it is lost or taken from another."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from commands import SMALL_WORLD, compose, type_in
from omegaconf import OmegaConf

from mpanet_pl import MPANetModule
from mpanet_pl.data import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluate import evaluate
from mpanet_pl.evaluation.callback import MONITOR
from mpanet_pl.run import report, training
from mpanet_pl.run.callbacks import Checkpoints, SeededEpochs
from mpanet_pl.run.pictures.embeddings import draw_similarities
from mpanet_pl.run.record import Record
from mpanet_pl.run.run_folder import _new_folder, stored_config
from mpanet_pl.run.training import build_module
from mpanet_pl.system.trust import check_targets
from mpanet_pl.train import train


def small(world: Path, run: Path, *more: str) -> list[str]:
    return [*SMALL_WORLD, f"data_dir={world}", f"run_dir={run}", *more]


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def test_rows_and_pictures_are_traced_to_their_checkpoints(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are of the last epoch's weights, also where another is the best, and so is the row "last"."""
    run, pictured = shutil.copytree(finished, tmp_path / "run"), {}

    def seen(folder: Path, tested: Any, examiner: Any, module: MPANetModule, cut: Any) -> None:
        pictured.update({key: value.clone() for key, value in module.state_dict().items()})

    monkeypatch.setattr(training, "draw_pictures", seen)
    train(compose("train", [f"resume={run}"]))
    torch.testing.assert_close(pictured, weights_of(run / "checkpoints/last.ckpt"))
    results = json.loads((run / "results.json").read_text())
    assert results["provenance"]["rows"] == {
        "last": {"checkpoint": "checkpoints/last.ckpt", "epoch": 3},
        "best": {"checkpoint": "checkpoints/best.ckpt", "epoch": 2},
    }
    assert results["scores"]["last"] != results["scores"]["best"]


def test_a_run_leaves_a_page_with_every_picture_and_a_log(finished: Path) -> None:
    page, log = (finished / "index.html").read_text(), (finished / "run.log").read_text()
    drawn = sorted(file.name for file in finished.glob("*.png"))
    names = ["cmc", "curves", "embeddings", "patterns", "rank_list", "rank_list_worst", "similarities"]
    assert drawn == [f"{name}.png" for name in names]
    assert page.count("<figure") == len(drawn)
    assert [f"epoch {number}/3  total" in log for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert "epoch 2/3  val/monitor" in log


@pytest.mark.slow
def test_the_row_last_is_measured_on_the_last_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the row "best" on the best, which another epoch made."""
    monkeypatch.chdir(tmp_path)
    rows = json.loads((finished / "results.json").read_text())["scores"]
    for name in ("last", "best"):
        asked = [f"ckpt={finished}/checkpoints/{name}.ckpt", f"run_dir={name}", "trainer.accelerator=cpu"]
        assert type_in("evaluate", evaluate, asked, monkeypatch) == 0
        assert json.loads(Path(name, "results.json").read_text())["scores"] == {name: rows[name]}


@pytest.mark.parametrize(
    ("scores", "start", "best"),
    [([50.0, 60.0, 55.0], 1, 2), ([50.0, 60.0, 55.0], 3, 3), ([50.0, 50.0, None], 1, 1), ([None, None, None], 1, None)],
    ids=str,
)
def test_best_is_the_highest_of_the_scored_epochs_from_start_on(
    scores: list[float | None], start: int, best: int | None, tmp_path: Path
) -> None:
    """An epoch that was not scored never counts by the score before it."""

    class At:
        sanity_checking = False
        current_epoch, callback_metrics = 0, {}
        strategy = type("Strategy", (), {"broadcast": staticmethod(lambda value: value)})

    checkpoints, trainer = Checkpoints(tmp_path, {}, start=start), At()
    for epoch, score in enumerate(scores):
        trainer.current_epoch = epoch
        if score is not None:
            trainer.callback_metrics = {MONITOR: score}
            checkpoints.on_validation_end(trainer, None)  # type: ignore[arg-type]
        checkpoints._is_best(trainer)  # type: ignore[arg-type]
    assert checkpoints.best_epoch == best


def test_the_record_is_kept_with_checkpoints_and_results(finished: Path) -> None:
    record = Record.in_folder(finished)
    assert record is not None
    assert (record.dataset, record.trial, record.precision, record.ranks) == ("synthetic", None, "32-true", 1)
    assert (record.epochs, record.max_epochs, record.accelerator, record.ended) == (3, 3, "cpu", "")
    for name, epochs in (("last", 3), ("best", 2)):
        stored = torch.load(finished / f"checkpoints/{name}.ckpt", weights_only=True)["record"]
        assert Record.read(stored, "it").epochs == epochs
        assert "its terms apply to this checkpoint" in stored["terms"]
    provenance = json.loads((finished / "results.json").read_text())["provenance"]
    assert provenance.items() >= {"trial": None, "precision": "32-true", "epochs": 3}.items()


@pytest.mark.parametrize("trial", ["trial=1", "trial=3"])
def test_a_dataset_without_trials_takes_none(trial: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no trials: leave out trial=\d"):
        train(compose("train", small(world, tmp_path / "run", trial)))
    assert not (tmp_path / "run").exists()


def test_a_new_run_never_continues_from_what_lies_there(finished: Path, world: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "config.yaml").unlink()
    with pytest.raises(UserError, match="holds a checkpoint of some other run"):
        train(compose("train", small(world, run)))


@pytest.mark.slow
def test_a_run_that_became_another_says_so(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr("mpanet_pl.run.trainer.best_precision", lambda accelerator: "32-true")
    train(compose("train", small(world, run, "trainer.max_epochs=1", "trainer.precision=auto")))
    monkeypatch.setattr("mpanet_pl.run.trainer.best_precision", lambda accelerator: "bf16-mixed")
    assert type_in("train", train, [f"resume={run}", "trainer.max_epochs=2"], monkeypatch) == 0
    assert "- after epoch 1: precision 32-true → bf16-mixed\n" in (run / "results.md").read_text()


@pytest.mark.slow
def test_a_failing_picture_costs_itself_alone(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    for file in ("results.json", "cmc.png", "rank_list.png"):
        (run / file).unlink()

    def no_font(*_: object) -> None:
        raise OSError("no font")

    monkeypatch.setattr(report, "draw_cmc", no_font)
    train(compose("train", [f"resume={run}"]))
    assert "cmc.png could not be drawn: no font" in capsys.readouterr().err
    assert (run / "results.json").exists()
    assert (run / "rank_list.png").exists()
    assert not (run / "cmc.png").exists()


def test_similarities_of_many_images_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpanet_pl.run.pictures.embeddings.MOST_PER_SIDE", 50)
    pairs: list[tuple[int, ...]] = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: (pairs.append((len(a), b.shape[1])), product(a, b))[1])
    rows = [(str(i), i % 7, 1 + i % 2, bool(i % 2)) for i in range(4000)]
    draw_similarities(torch.randn(4000, 4), Catalogue.from_rows(rows), tmp_path / "similarities.png")
    assert pairs == [(50, 50)]


@pytest.mark.parametrize("channels_last", [True, False])
def test_channels_last_is_what_the_network_computes_in(channels_last: bool, world: Path, tmp_path: Path) -> None:
    cfg = compose("train", small(world, tmp_path, f"channels_last={str(channels_last).lower()}"))
    module, seen = build_module(cfg, 3), []
    module.network.trunk.conv1.register_forward_pre_hook(lambda _, images: seen.append(images[0].is_contiguous()))
    module(torch.rand(2, 3, 48, 24).to(memory_format=torch.channels_last))
    assert seen == [not channels_last]


def test_a_run_whose_last_checkpoint_is_gone_is_not_begun_anew(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "checkpoints/last.ckpt").unlink()
    with pytest.raises(UserError, match=r"last\.ckpt is missing beside best\.ckpt"):
        train(compose("train", [f"resume={run}"]))


@pytest.mark.parametrize(
    "damage",
    [
        {"loops": {}},
        {"callbacks": 3},
        {"epoch": "x"},
        {"optimizer_states": [{"state": {}, "param_groups": []}]},
        {"state_dict": "nan"},
    ],
    ids=str,
)
def test_results_stay_until_the_run_does_go_on(
    damage: dict[str, Any], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    content = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    if damage == {"state_dict": "nan"}:
        content["state_dict"]["network.neck.weight"].fill_(torch.nan)
    else:
        content |= damage
    torch.save(content, run / "checkpoints/last.ckpt")
    before = (run / "results.json").read_text()
    assert type_in("train", train, [f"resume={run}", "trainer.max_epochs=5"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert "last.ckpt" in said
    assert "Continue with" not in said, "not the command that has just failed"
    assert (run / "results.json").read_text() == before


@pytest.mark.slow
def test_a_run_that_a_time_limit_ended_says_where(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            trainer.should_stop = True

    monkeypatch.setattr(training, "SeededEpochs", lambda seed: Stop())
    train(compose("train", small(world, tmp_path / "run", "trainer.max_epochs=9")))
    assert "- ended after epoch 1 of 9\n" in (tmp_path / "run/results.md").read_text()


def test_seeded_epochs_draw_the_same_whenever_they_are_reached() -> None:
    class At:
        current_epoch, global_rank = 3, 0

    drawn = []
    for before in (1, 2):
        torch.manual_seed(before)
        SeededEpochs(7).on_train_epoch_start(At(), None)  # type: ignore[arg-type]
        torch.rand(before)  # a loader's iterator; where a run is resumed it is made before the epoch's start
        SeededEpochs(7).on_train_batch_start(At(), None, None, 0)  # type: ignore[arg-type]
        drawn.append(torch.rand(3))
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)
    SeededEpochs(8).on_train_epoch_start(At(), None)  # type: ignore[arg-type]
    assert not torch.equal(torch.rand(3), drawn[0])


def test_a_few_lines_cannot_stand_for_gigabytes(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n")
    with pytest.raises(UserError, match="aliases"):
        stored_config(tmp_path)


def test_a_strangers_configuration_looks_nothing_up_here() -> None:
    for value in ("${oc.env:HOME}", "${oc.decode:x}/y"):
        with pytest.raises(UserError, match=r"would look up \$\{oc\."):
            check_targets(OmegaConf.create({"data_dir": value}), "theirs")
    check_targets(OmegaConf.create({"data_dir": "x", "root": "${data_dir}"}), "theirs")


@pytest.mark.parametrize("name", ["../../theirs", "/tmp/theirs", "."])
def test_a_strangers_name_leads_nowhere_else(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _new_folder(name).parent == tmp_path / "runs/other"


@pytest.mark.parametrize("key", ["fast_dev_run=true", "overfit_batches=1", "limit_test_batches=0.5"])
def test_what_lightning_would_do_otherwise_is_refused_before_there_is_a_folder(
    key: str, world: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"trainer.{key.split('=')[0]} must be left out; use "):
        train(compose("train", small(world, tmp_path / "run", f"+trainer.{key}")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (["+logger._target_=os.system"], "os.system is no logger of Lightning's"),
        (["+logger.mine={_target_: nowhere.Logger}"], "The logger nowhere.Logger cannot be found"),
        (["trainer.limit_train_batches=1e-9"], "leaves none: say how many"),
        (
            ["model.optimizer.fused=true", "trainer.gradient_clip_val=1.0", "trainer.precision=bf16-mixed"],
            "fused=true does not clip gradients",
        ),
    ],
    ids=str,
)
def test_what_would_fail_in_the_folder_is_refused_before_there_is_one(
    keys: list[str], sentence: str, world: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        train(compose("train", small(world, tmp_path / "run", *keys)))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("which", ["best", "last"])
def test_lightnings_own_names_find_the_checkpoints(
    which: str, finished: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tested = shutil.copytree(finished, tmp_path / "run"), []

    def with_lightnings_name(trainer: pl.Trainer, module: MPANetModule, examiner: Any, *_: Any) -> Any:
        trainer.test(module, datamodule=examiner.data, ckpt_path=which, weights_only=True, verbose=False)
        tested.append({key: value.clone() for key, value in module.state_dict().items()})
        raise UserError("enough")

    monkeypatch.setattr(training, "_test_rows", with_lightnings_name)
    with pytest.raises(UserError, match="enough"):
        train(compose("train", [f"resume={run}"]))
    torch.testing.assert_close(tested[0], weights_of(run / f"checkpoints/{which}.ckpt"))


CALLBACKS = {
    "early": "{_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/monitor, mode: max, patience: 9}",
    "rate": "{_target_: pytorch_lightning.callbacks.LearningRateMonitor, logging_interval: step}",
    "more": "{_target_: pytorch_lightning.callbacks.ModelCheckpoint, monitor: val/indoor/single/mAP, mode: max}",
    "plain": "{_target_: pytorch_lightning.callbacks.ModelCheckpoint}",
    "device": "{_target_: pytorch_lightning.callbacks.DeviceStatsMonitor, cpu_stats: false}",
    "average": "{_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.001, swa_epoch_start: 1}",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLBACKS)
def test_lightnings_callbacks_fit_and_resume(
    name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As configuration, two epochs and one more; their files lie in the run's folder."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    two = ["trainer.max_epochs=2", "trainer.limit_train_batches=1", "trainer.check_val_every_n_epoch=1"]
    train(compose("train", small(world, run, *two, f"+callbacks.{name}={CALLBACKS[name]}")))
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    if name == "rate":
        assert "lr-Adam" in (run / "metrics.csv").read_text().splitlines()[0]
    if name in ("more", "plain"):
        assert len(list((run / "checkpoints").glob("*.ckpt"))) > 2
    if name != "average":
        assert type_in("train", train, [f"resume={run}", "trainer.max_epochs=3"], monkeypatch) == 0
        assert Record.in_folder(run).epochs == 3  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_learning_rate_is_searched_for_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on keeps what was found at its start, and is the whole run."""
    keywords = "num_training_steps: 14, early_stop_threshold: null"
    finder = f"+callbacks.rate={{_target_: pytorch_lightning.callbacks.LearningRateFinder, {keywords}}}"
    settings = [
        finder,
        "schedule=steps",
        "model.schedule.milestones=[9]",
        "model.optimizer.lr=9",
        "trainer.check_val_every_n_epoch=7",
        "trainer.limit_train_batches=1",
    ]
    for name, epochs in (("whole", 15), ("run", 14)):  # as many points, of one batch an epoch
        train(compose("train", small(world, tmp_path / name, *settings, f"trainer.max_epochs={epochs}")))
    assert not list(tmp_path.rglob(".lr_find*"))
    assert type_in("train", train, [f"resume={tmp_path / 'run'}", "trainer.max_epochs=15"], monkeypatch) == 0
    whole, resumed = ((tmp_path / name / "metrics.csv").read_text() for name in ("whole", "run"))
    assert resumed == whole
    rates = [float(line["train/lr"]) for line in csv.DictReader(whole.splitlines())]
    assert len(rates) == 15
    assert 0 < rates[0] < 1, "not the 9 of the configuration"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simple", "advanced", "pytorch"])
def test_a_profiler_reports_into_the_runs_folder(
    kind: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = "training_step" if kind != "pytorch" else "aten::conv"
    run, profiled = (
        tmp_path / "run",
        [f"+trainer.profiler={kind}", "trainer.limit_train_batches=1", "protocol.trials=1"],
    )
    train(compose("train", small(world, run, *profiled, "trainer.max_epochs=1")))
    report = run / "fit-profile.txt"
    assert step in report.read_text()
    report.unlink()
    assert type_in("train", train, [f"resume={run}", "trainer.max_epochs=2"], monkeypatch) == 0
    assert step in report.read_text()


@pytest.mark.slow
def test_loggers_of_several_kinds_are_told_and_go_on_with_their_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """metrics.csv always; TensorBoard, MLflow and Lightning's own CSV beside it, each continued when the run is."""
    run = tmp_path / "run"
    csv = "+logger.mine={_target_: pytorch_lightning.loggers.CSVLogger, name: mine}"
    loggers = ["logger=[tensorboard,mlflow]", f"logger.mlflow.save_dir={tmp_path / 'mlflow'}", csv]
    train(compose("train", small(world, run, *loggers, "trainer.max_epochs=1")))
    first = Record.in_folder(run)
    assert first is not None
    assert set(first.loggers) == {"tensorboard", "mlflow", "mine"}
    assert type_in("train", train, [f"resume={run}", "trainer.max_epochs=2"], monkeypatch) == 0
    again = Record.in_folder(run)
    assert again is not None
    assert again.loggers == first.loggers
    assert list(run.glob("tensorboard/version_0/events*"))
    hyper = (run / "mine/version_0/hparams.yaml").read_text()
    assert "${" not in hyper, "resolved, so that a filter finds them"
    assert (run / "metrics.csv").exists()


@pytest.mark.slow
def test_checkpoints_are_offered_for_upload(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpanet_pl.run.callbacks import RunLogger

    offered: list[str] = []
    monkeypatch.setattr(
        RunLogger, "after_save_checkpoint", lambda self, callback: offered.append(Path(callback.last_model_path).name)
    )
    train(compose("train", small(world, tmp_path / "run", "trainer.max_epochs=2")))
    assert offered == ["last.ckpt", "last.ckpt"]
