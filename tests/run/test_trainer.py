"""The engine's choices: device, precision, ranks, loggers, sweeps."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from commands import SMALL_WORLD, compose, scores_of, type_in
from omegaconf import OmegaConf
from pytorch_lightning.loggers import WandbLogger
from trees import draw_regdb

from mpanet_pl import summarize
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.evaluate import evaluate
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.trainer import STOPPED, _check_devices, build_trainer, exact_where_narrow, failures_explained
from mpanet_pl.system.precision import best_precision
from mpanet_pl.train import train

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "mpanet_pl.train", *arguments]
    return subprocess.run(line, cwd=cwd, env=ONE_THREAD, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("amx", "avx512", "precision"),
    [(False, False, "32-true"), (True, False, "bf16-mixed"), (False, True, "bf16-mixed")],
)
def test_precision_follows_the_processor(
    amx: bool, avx512: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    trainer = build_trainer(compose("train", ["trainer=cpu"]).trainer)
    assert trainer.precision == precision
    assert not trainer._accelerator_connector.use_distributed_sampler, "the samplers know the ranks themselves"
    given = build_trainer(compose("train", ["trainer=cpu", "trainer.precision=32-true"]).trainer)
    assert given.precision == "32-true"


@pytest.mark.parametrize(
    ("asked", "size", "precision"),
    [("auto", (32, 16), "32-true"), ("auto", (32, 32), "auto"), ("bf16-mixed", (32, 16), "bf16-mixed")],
)
def test_maps_one_pixel_wide_are_made_in_float32(asked: str, size: tuple[int, int], precision: str) -> None:
    cfg = compose("train", ["trainer=cpu", f"trainer.precision={asked}"]).trainer
    network = {"trunk": "resnet18", "pretrained": False, "alleviation": []}
    module = MPANetModule(2, network=network, criterion={}, optimizer={}, schedule={"milestones": [1]})
    assert (exact_where_narrow(cfg, module, *size).precision, module.training) == (precision, True)


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_a_gpu_without_bf16_takes_float16(native: bool, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert best_precision("gpu") == precision


@pytest.mark.parametrize(("asked", "found"), [("gpu", False), ("auto", True)])
def test_where_a_gpu_runs_narrow_maps_keep_the_precision(
    asked: str, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: found)
    cfg = OmegaConf.create({"accelerator": asked, "precision": "auto"})
    assert exact_where_narrow(cfg, Mock(side_effect=AssertionError), 32, 16) is cfg


def test_no_more_gpus_are_asked_for_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for fits in (1, 2, "auto", [0, 1]):
        _check_devices("gpu", fits)
    _check_devices("cpu", 3)
    with pytest.raises(UserError, match="3 asks for more than the 2"):
        _check_devices("gpu", 3)


def test_what_a_key_may_be_is_said_of_that_key() -> None:
    cfg = compose("train", ["trainer=cpu"]).trainer
    for key, value in {"limit_train_batches": 1.5, "limit_val_batches": 1.5, "val_check_interval": 1.5}.items():
        with pytest.raises(UserError, match=f"^trainer.{key}"):
            build_trainer(OmegaConf.create({**cfg, key: value}))


@pytest.mark.parametrize(("child", "told"), [(False, True), (True, False)])
def test_an_interrupted_run_says_how_to_go_on_once(
    child: bool, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C reaches Lightning at times as the cause of another fault."""
    monkeypatch.setattr("mpanet_pl.run.trainer.is_child_rank", lambda: child)
    fault = RuntimeError("a worker ended")
    fault.__cause__ = KeyboardInterrupt()
    for stop in (KeyboardInterrupt(), fault):
        with pytest.raises(SystemExit, match=str(STOPPED)), failures_explained(tmp_path):
            raise stop
        assert (f"resume={tmp_path}" in capsys.readouterr().err) == told


def test_a_fault_of_the_machine_is_explained_and_any_other_stays_itself(tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="No space left"), failures_explained(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(RuntimeError, match="of the code"), failures_explained(tmp_path):
        raise RuntimeError("of the code")


@pytest.mark.slow
def test_wandb_stays_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE")
    overrides = [
        *SMALL_WORLD,
        f"data_dir={tmp_path}",
        f"run_dir={tmp_path}/run",
        "logger=wandb",
        "pictures=true",
        "trainer.max_epochs=1",
        "trainer.check_val_every_n_epoch=1",
    ]
    told: set[str] = set()
    log = WandbLogger.log_metrics
    monkeypatch.setattr(
        WandbLogger, "log_metrics", lambda self, metrics, step=None: (told.update(metrics), log(self, metrics, step))
    )
    train(compose("train", overrides))
    terms = {f"train/{name}" for name in ("identity", "mutual", "center_cluster", "separation", "total", "lr", "alpha")}
    assert told >= terms | {
        "val/all/single/r1",
        "val/indoor/multi/mAP",
        "timing/images_per_second",
        "timing/gpu_memory_gib",
    }
    (kept,) = (tmp_path / "run/wandb").glob("offline-run-*")
    assert list(kept.glob("files/media/table/results_*")), "the final table"
    assert list(kept.glob("files/media/images/rank_list_*")), "a rank list"
    assert sys.modules["wandb"].run is None, "the next run of a sweep begins another"
    assert (tmp_path / "run/metrics.csv").exists(), "metrics.csv is written whatever the logger"


def test_a_logger_that_cannot_begin_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_account(*_: object) -> None:
        raise ValueError("No API key configured")

    monkeypatch.setattr(WandbLogger, "log_hyperparams", no_account)
    overrides = [
        *SMALL_WORLD,
        f"data_dir={tmp_path}",
        f"run_dir={tmp_path}/run",
        "logger=wandb",
        "pictures=true",
        "logger.wandb.offline=false",
    ]
    with pytest.raises(RunStopped, match=r"No API key configured \(A new run with logger=csv can"):
        train(compose("train", overrides))


@pytest.mark.slow
def test_two_processes_make_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Multirun under DDP: one tree, each job's table complete, the children repeat nothing."""
    shared = [*SMALL_WORLD, "data_dir=world", "trainer=ddp_cpu", "trainer.max_epochs=1"]
    done = command("-m", *shared, "seed=1,2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {"0", "1", "multirun.yaml"}
    for job in ("0", "1"):
        assert scores_of(tmp_path / "sweep" / job)["last"]["all/single"]["r1"]["mean"] > 0
    assert not (tmp_path / "runs").exists()
    monkeypatch.chdir(tmp_path)
    asked = ["ckpt=sweep/0/checkpoints/last.ckpt", "pictures=false"]
    assert type_in("evaluate", evaluate, [*asked, "trainer=cpu", "run_dir=cpu"], monkeypatch) == 0
    line = [sys.executable, "-m", "mpanet_pl.evaluate", *asked, "trainer=ddp_cpu", "run_dir=ddp_cpu"]
    tested = subprocess.run(line, env=ONE_THREAD, capture_output=True, check=False)
    assert tested.returncode == 0, tested.stderr
    told = [json.loads((tmp_path / trainer / "results.json").read_text()) for trainer in ("cpu", "ddp_cpu")]
    assert told[0]["scores"] == told[1]["scores"]
    assert told[0]["nuances"] == pytest.approx(told[1]["nuances"])


@pytest.mark.slow
def test_joblib_sweeps_are_summarised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_regdb(tmp_path / "RegDB", trials=(1, 2))
    small = [text for text in SMALL_WORLD if not text.startswith("data.dataset")]
    shared = [*small, "dataset=regdb", "data_dir=RegDB", "trainer.max_epochs=1"]
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = command("-m", *shared, "trial=range(1,3)", "hydra.sweep.dir=sweep", *launcher, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summarize.main([f"{tmp_path}/sweep"])
    assert "visible_to_thermal" in capsys.readouterr().out
    assert json.loads((tmp_path / "sweep/summary.json").read_text())


@pytest.mark.slow
def test_a_sweep_started_again_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "-m",
        *SMALL_WORLD,
        f"data_dir={tmp_path}",
        "trainer.max_epochs=1",
        f"hydra.sweep.dir={tmp_path}/sweep",
    ]
    assert type_in("train", train, [*arguments, "seed=1,2"], monkeypatch) == 0
    before = (tmp_path / "sweep/0/results.json").read_text()
    (tmp_path / "sweep/1/results.json").unlink()
    capsys.readouterr()
    assert type_in("train", train, [*arguments, "seed=1,2"], monkeypatch) == 0
    assert "sweep/0 is finished and stays as it is." in capsys.readouterr().out
    assert (tmp_path / "sweep/0/results.json").read_text() == before
    assert (tmp_path / "sweep/1/results.json").exists()
    assert type_in("train", train, [*arguments, "seed=3,4"], monkeypatch) == 2
    assert "holds a run of another configuration" in capsys.readouterr().err


KILLED_IN_A_CHECKPOINT = """
import os, signal, sys, torch
saves, save = [], torch.save
def half(checkpoint, file):
    saves.append(1)
    if len(saves) == 3:
        file.write(b"half a checkpoint"); file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(checkpoint, file)
torch.save = half
from mpanet_pl.train import main
main()
"""


@pytest.mark.slow
def test_a_run_killed_while_it_saves_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real SIGKILL, the second epoch's checkpoint half written; and one at a moment of its own choosing."""
    world = [*SMALL_WORLD, "data_dir=world"]
    monkeypatch.chdir(tmp_path)
    train(compose("train", [*world, "run_dir=whole"]))
    line = [sys.executable, "-c", KILLED_IN_A_CHECKPOINT, *world, "run_dir=run"]
    killed = subprocess.run(line, cwd=tmp_path, env=ONE_THREAD, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    begun = (tmp_path / "run/config.yaml").stat().st_mtime_ns
    again = subprocess.Popen(
        [sys.executable, "-m", "mpanet_pl.train", "resume=run"], cwd=tmp_path, env=ONE_THREAD, stderr=subprocess.DEVNULL
    )
    while (tmp_path / "run/config.yaml").stat().st_mtime_ns == begun and again.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    assert again.poll() is None, "it trains"
    again.kill()
    again.wait()
    train(compose("train", ["resume=run"]))
    assert (tmp_path / "run/metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()
    assert scores_of(tmp_path / "run") == scores_of(tmp_path / "whole")
    assert not list((tmp_path / "run").rglob("*.part"))
