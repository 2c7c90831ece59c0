"""A run from drawing to table: what it leaves behind, what stops it, how it goes on."""

import csv
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
import torch
from commands import SMALL_WORLD, compose, scores_of, type_in
from hydra.utils import instantiate

from mpanet_pl import MPANetModule
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.network.trunk import Trunk
from mpanet_pl.run import record, training
from mpanet_pl.run.callbacks import FiniteGuard
from mpanet_pl.run.callbacks.checkpoints import BEST, LAST
from mpanet_pl.run.callbacks.records import Timing
from mpanet_pl.run.record import Record
from mpanet_pl.run.request import NOTHING_TYPED
from mpanet_pl.run.run_page import cost_of
from mpanet_pl.run.trainer import build_trainer
from mpanet_pl.run.training import MONITOR, build_module, fit_and_test
from mpanet_pl.system.cores import usable_cores
from mpanet_pl.system.files import alone_in, written_aside
from mpanet_pl.system.lightning import quiet
from mpanet_pl.train import train

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def small(world: Path, folder: Path, *more: str) -> list[str]:
    return [*SMALL_WORLD, f"data_dir={world}", f"run_dir={folder}", *more]


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(folder: Path, finished: Path) -> None:
    """Bit by bit: the records, the table's numbers, the weights, the optimiser."""
    assert (folder / "metrics.csv").read_text() == (finished / "metrics.csv").read_text()
    assert scores_of(folder) == scores_of(finished)
    for name in ("last", "best"):
        mine, theirs = (torch.load(run / f"checkpoints/{name}.ckpt", weights_only=True) for run in (folder, finished))
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            torch.testing.assert_close(mine[key], theirs[key], rtol=0, atol=0)


def test_a_run_leaves_its_files(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {"config.yaml", "metrics.csv", "timing.csv", "results.md", "results.json", "curves.png", "cmc.png"}
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert not list(finished.rglob("*.part"))


def test_what_a_run_cost_is_kept(finished: Path) -> None:
    cost = cost_of(finished)
    assert cost is not None
    assert 0 < cost.processor <= 1.1 * cost.seconds * usable_cores()


def test_a_run_of_an_older_release_keeps_its_columns(tmp_path: Path) -> None:
    (tmp_path / "timing.csv").write_text("epoch,train_seconds\n1,2.0\n")
    timing = Timing(tmp_path)
    timing._append(["2", "3.0", "4.0"])
    assert (tmp_path / "timing.csv").read_text().splitlines() == ["epoch,train_seconds", "1,2.0", "2,3.0"]


def test_results_say_where_they_come_from(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert results["provenance"].keys() >= {"versions", "seed", "config", "device", "commit", "trial", "dataset"}
    state = torch.load(finished / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    learnt = [value for key, value in state.items() if key.startswith("network.") and not key.endswith(STATISTICS)]
    assert results["provenance"]["weights"] == sum(value.numel() for value in learnt)
    assert results["scores"]["last"]["all/single"]["r1"].keys() >= {"mean", "std"}
    assert "random.seed(trial)" in results["measured"]["all/single"]
    assert results["published"] == {}, "drawn people have no published numbers"
    assert results["nuances"]["siblings/mean"] >= 0
    assert results["provenance"]["rows"] == {
        "last": {"checkpoint": LAST, "epoch": 3},
        "best": {"checkpoint": BEST, "epoch": 2},
    }
    assert f"; {results['provenance']['weights']} weights; " in (finished / "run.log").read_text()


def test_the_best_row_is_of_the_best_epoch(finished: Path) -> None:
    (validated,) = (row for row in metrics(finished) if row["val/monitor"])
    last, best = (scores_of(finished)[row]["all/single"] for row in ("last", "best"))
    for score in ("r1", "mAP"):
        assert best[score]["mean"] == pytest.approx(float(validated[f"val/all/single/{score}"]), abs=1e-4)
    assert best != last


@pytest.mark.parametrize(("scored", "answer"), [(2, 50.0), (1, 70.0), (None, 70.0)])
def test_a_run_answers_with_the_score_of_its_last_epoch(
    scored: int | None, answer: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is validated once more where an earlier epoch was the last that was."""
    trainer = Mock(current_epoch=3, callback_metrics={MONITOR: torch.tensor(50.0)}, is_global_zero=False)
    for name in ("Seen", "build_loggers", "exact_where_narrow", "_callbacks", "RunLogger"):
        monkeypatch.setattr(training, name, MagicMock())
    monkeypatch.setattr(training, "build_trainer", lambda *_, **__: trainer)
    monkeypatch.setattr(training, "Checkpoints", lambda *_, **__: Mock(scored=scored))
    monkeypatch.setattr(training.Record, "of", lambda *_, **__: Record(dataset="synthetic"))
    monkeypatch.setattr(training, "_test_rows", lambda *_: ({}, {}))
    cfg = compose("train", ["validation.on=held_out"])
    examiner: Any = Mock(validate=lambda *_: 70.0)
    assert fit_and_test(cfg, NOTHING_TYPED, tmp_path, Mock(), examiner) == answer


def test_metrics_hold_terms_and_scores(finished: Path) -> None:
    rows = metrics(finished)
    assert [row["epoch"] for row in rows if row["val/monitor"]] == ["2"]
    terms = ["identity", "identity_visible", "identity_infrared", "mutual", "center_cluster", "separation", "total"]
    for row in rows:
        assert all(row[f"train/{name}"] for name in [*terms, "accuracy", "alpha", "lr"])


@pytest.mark.slow
def test_another_seed_gives_another_run(finished: Path, world: Path, tmp_path: Path) -> None:
    train(compose("train", small(world, tmp_path / "other", "seed=2")))
    assert (tmp_path / "other/metrics.csv").read_text() != (finished / "metrics.csv").read_text()


def test_a_checkpoint_is_enough(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = MPANetModule.load_from_checkpoint(finished / "checkpoints/last.ckpt")
    state = torch.load(finished / "checkpoints/last.ckpt", weights_only=True)
    torch.testing.assert_close(module.state_dict(), state["state_dict"])
    assert state["config"]["dataset"] == "synthetic"


def test_a_folder_with_a_run_is_not_written_over(finished: Path, world: Path) -> None:
    with pytest.raises(UserError, match="already holds a run: choose another run_dir"):
        train(compose("train", small(world, finished)))


class Killed(BaseException):
    """Stands for SIGKILL where a process is not worth its start; nothing in the package may catch it."""


def kill_at(monkeypatch: pytest.MonkeyPatch, hook: str, call: int) -> None:
    """Stop a run at the given call of a hook of the module."""
    original, calls = getattr(MPANetModule, hook), []

    def counted(self: MPANetModule, *arguments: Any) -> Any:
        calls.append(hook)
        if len(calls) == call:
            raise Killed
        return original(self, *arguments)

    monkeypatch.setattr(MPANetModule, hook, counted)


@pytest.mark.parametrize(
    ("hook", "call"),
    [
        ("training_step", 8),
        *(
            pytest.param(*of, marks=pytest.mark.slow)
            for of in (("training_step", 2), ("validation_step", 1), ("test_step", 1))
        ),
    ],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_been(
    hook: str, call: int, finished: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the first epoch, in a later one, in its validation, in the final test. One seed makes one run."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at(monkeypatch, hook, call)
        with pytest.raises(Killed):
            train(compose("train", small(world, tmp_path / "run")))
    assert not (tmp_path / "run/results.json").exists()
    train(compose("train", [f"resume={tmp_path / 'run'}"]))
    assert_same_run(tmp_path / "run", finished)
    assert f"resume={tmp_path / 'run'} " in capsys.readouterr().out, "what to do next"


@pytest.mark.slow
def test_resuming_may_train_longer(
    finished: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the run that was asked to from the start, where the schedule counts epochs; one that is drawn over the whole
    length is another, and says so."""
    steps = [
        f"model.schedule.{key}"
        for key in ("name=steps", "milestones=[2]", "gamma=0.1", "warmup=0", "start=null", "end=null")
    ]
    train(compose("train", small(world, tmp_path / "whole", *steps)))
    train(compose("train", small(world, tmp_path / "run", *steps, "trainer.max_epochs=1")))
    assert type_in("train", train, [f"resume={tmp_path / 'run'}", "trainer.max_epochs=3"], monkeypatch) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert "- after epoch" not in (tmp_path / "run/results.md").read_text()
    run = shutil.copytree(finished, tmp_path / "cycle")
    assert type_in("train", train, [f"resume={run}", "trainer.max_epochs=4"], monkeypatch) == 0
    assert "- after epoch 3: onecycle over 4 epochs instead of 3\n" in (run / "results.md").read_text()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model.optimizer.lr=1.0", "A resumed run keeps its own configuration"),
        ("trainer.accumulate_grad_batches=2", "A resumed run keeps its own configuration"),
        ("trainer.max_epochs=2", "has done 3 epochs, which trainer.max_epochs=2 cuts off"),
    ],
)
def test_a_resumed_run_keeps_its_configuration(
    change: str, sentence: str, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "config.yaml").read_text()
    assert type_in("train", train, [f"resume={finished}", change], monkeypatch) == 2
    assert sentence in capsys.readouterr().err
    assert (finished / "config.yaml").read_text() == before


@pytest.mark.slow
def test_what_made_it_another_run_is_said_of_its_results(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(compose("train", small(world, run, "trainer.max_epochs=1")))
    change = ["trainer.max_epochs=2", "trainer.gradient_clip_val=1.0"]
    assert type_in("train", train, [f"resume={run}", *change], monkeypatch) == 0
    train(compose("train", [f"resume={run}"]))
    assert (run / "results.md").read_text().count("- after epoch 1: trainer.gradient_clip_val=1.0\n") == 1


@pytest.mark.slow
def test_resuming_needs_no_pretrained_weights(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, run = tmp_path / "thin.pth", tmp_path / "run"
    torch.save(Trunk("resnet18_thin", pretrained=False).state_dict(), weights)
    kill_at(monkeypatch, "test_step", 1)
    with pytest.raises(Killed):
        train(compose("train", small(world, run, "trainer.max_epochs=1", f"model.network.pretrained={weights}")))
    weights.unlink()
    kill_at(monkeypatch, "training_step", 1)
    with pytest.raises(Killed):
        type_in("train", train, [f"resume={run}", "trainer.max_epochs=2"], monkeypatch)


def test_what_a_killed_process_had_half_written_is_removed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    for half in (run / ".results.json.123.part", run / "checkpoints/.last.ckpt.123.part"):
        half.touch()
    kill_at(monkeypatch, "test_step", 1)
    with pytest.raises(Killed):
        train(compose("train", [f"resume={run}"]))
    assert not list(run.rglob("*.part"))


def test_slurm_neither_requeues_nor_resumes_by_itself(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"NTASKS": "1", "JOB_NAME": "night", "JOB_ID": "7", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    Path("hpc_ckpt_1.ckpt").write_bytes(b"of another run")
    before = signal.getsignal(signal.SIGUSR1)

    def begun(self: MPANetModule) -> None:
        assert signal.getsignal(signal.SIGUSR1) == before
        raise Killed

    monkeypatch.setattr(MPANetModule, "on_train_start", begun, raising=False)
    with pytest.raises(Killed):
        train(compose("train", small(world, tmp_path / "run", "trainer.max_epochs=1")))


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_truncated_checkpoint_is_named(name: str, finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    os.truncate(run / f"checkpoints/{name}.ckpt", 100_000)
    with pytest.raises(UserError, match=rf"{name}\.ckpt cannot be read: it is truncated"):
        train(compose("train", [f"resume={run}"]))
    assert (run / "results.json").exists()


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.yaml", b"\xff\xfe", "config.yaml is damaged"),
        ("config.yaml", b"a: [", "config.yaml is damaged"),
        ("config.yaml", b"- a", "config.yaml is damaged: it holds no keys"),
        ("config.yaml", b"", "config.yaml is damaged: it holds no keys"),
        ("metrics.csv", b"\xff\xfe", "metrics.csv is damaged"),
        ("metrics.csv", b"epoch,step\nsoon,1\n", "metrics.csv is damaged"),
        ("checkpoints/best.ckpt", None, "best.ckpt is missing: put it back, or begin a new run"),
    ],
)
def test_a_damaged_run_is_not_continued(
    file: str, content: bytes | None, sentence: str, finished: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        train(compose("train", [f"resume={run}"]))
    assert (run / "results.json").exists()


def test_a_checkpoint_without_all_of_a_run_is_named(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    last = run / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    torch.save({key: value for key, value in content.items() if key not in ("epoch", "optimizer_states")}, last)
    with pytest.raises(UserError, match=r"last\.ckpt is no checkpoint .*: it has no epoch, optimizer_states\."):
        train(compose("train", [f"resume={run}"]))


def test_a_checkpoint_of_another_network_than_configured(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("patterns: 6", "patterns: 2"))
    with pytest.raises(
        UserError, match=r"last\.ckpt does not fit the run that its config\.yaml describes: .*size mismatch"
    ):
        train(compose("train", [f"resume={run}"]))


@pytest.mark.slow
def test_one_process_at_a_time_works_in_a_folder(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    with alone_in(run), pytest.raises(UserError, match="Another process is at work in"):
        train(compose("train", [f"resume={run}"]))
    kill_at(monkeypatch, "test_step", 1)
    with pytest.raises(Killed):
        train(compose("train", [f"resume={run}"]))


def test_a_run_that_goes_on_is_not_finished(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    kill_at(monkeypatch, "training_step", 1)
    with pytest.raises(Killed):
        type_in("train", train, [f"resume={run}", "trainer.max_epochs=5"], monkeypatch)
    assert not (run / "results.json").exists()


def test_a_loss_that_is_no_number_stops_the_run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken in epoch 2, step 7: the checkpoint of epoch 1 stays, and no later one replaces it."""
    original, calls = MPANetModule.training_step, []

    def broken(self: MPANetModule, *arguments: Any) -> Any:
        calls.append(1)
        answer = original(self, *arguments)
        if len(calls) == 7:
            answer["terms"]["mutual"] = torch.tensor(torch.nan)
        return answer

    monkeypatch.setattr(MPANetModule, "training_step", broken)
    with pytest.raises(RunStopped, match=r"(?s)at step 7: mutual is nan\. Its batch: cam\d/.*\.jpg.*resume=") as stop:
        train(compose("train", small(world, tmp_path / "run", "trainer.log_every_n_steps=50")))
    assert str(stop.value).count(".jpg") == 8
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert kept["epoch"] == 0


def test_weights_that_are_no_numbers_are_not_scored(world: Path, tmp_path: Path) -> None:
    """By a trainer that only validates, too."""
    cfg = compose("train", small(world, tmp_path))
    data = instantiate(cfg.data)
    data.setup()
    module = build_module(cfg, data.num_identities)
    module.network.trunk.conv1.weight.data.fill_(torch.nan)
    with quiet(), pytest.raises(RunStopped, match=r"network\.trunk\.conv1\.weight first.* Its batch: none yet\."):
        build_trainer(cfg.trainer, [FiniteGuard(data.train.paths)]).validate(module, data)


def test_weights_that_are_no_numbers_are_not_kept(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient overflows in the last step of epoch 2, whose terms were fine."""

    def overflow(self: MPANetModule, *_: Any) -> None:
        if self.current_epoch == 1 and self.trainer.is_last_batch:
            self.network.trunk.conv1.weight.grad.fill_(torch.inf)

    monkeypatch.setattr(MPANetModule, "on_before_optimizer_step", overflow)
    with pytest.raises(RunStopped, match=r"(?s)weights, .*no numbers after step \d+\. Its batch: cam\d/.*resume="):
        train(compose("train", small(world, tmp_path / "run", "trainer.limit_val_batches=0")))
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(
    finished: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = []

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        saves.append(path)
        if len(saves) > 2:
            yield Path("/dev/full")
        else:
            with written_aside(path) as aside:
                yield aside

    with monkeypatch.context() as patched:
        patched.setattr("mpanet_pl.run.callbacks.checkpoints.written_aside", full)
        with pytest.raises(
            RunStopped, match=r"(?s)run cannot take more: No space left on device\. .*epoch is kept.*resume="
        ):
            train(compose("train", small(world, tmp_path / "run")))
    train(compose("train", [f"resume={tmp_path / 'run'}"]))
    assert_same_run(tmp_path / "run", finished)


def test_ctrl_c_says_how_to_go_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        original, calls = MPANetModule.training_step, []

        def interrupted(self: MPANetModule, *arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 8:
                raise KeyboardInterrupt
            return original(self, *arguments)

        patched.setattr(MPANetModule, "training_step", interrupted)
        with pytest.raises(SystemExit) as leaving:
            train(compose("train", small(world, tmp_path / "run")))
    assert leaving.value.code == 130
    assert f"python -m mpanet_pl.train resume={tmp_path / 'run'}" in capsys.readouterr().err
    assert not (tmp_path / "run/results.json").exists()
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert kept["epoch"] == 0, "where a killed run goes on, too"


def test_ctrl_c_in_the_middle_of_a_checkpoint(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch writes its file's end on the way out, which fails, and buries the interruption."""

    def interrupted(*_: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos 35356288 vs 35356184")

    monkeypatch.setattr("mpanet_pl.run.callbacks.checkpoints.torch.save", interrupted)
    with pytest.raises(SystemExit, match="130"):
        train(compose("train", small(world, tmp_path / "run")))
    assert "Stopped. No epoch was finished yet. Begin again with: python" in capsys.readouterr().err


def test_out_of_memory_names_the_keys_that_help(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(self: MPANetModule, *arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MPANetModule, "training_step", too_much)
    with pytest.raises(RunStopped, match=r"data\.identities_per_batch.*trainer\.precision=bf16-mixed"):
        train(compose("train", small(world, tmp_path / "run")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1.0", "channels_last=false"],
        [
            *("trainer.precision=bf16-mixed", "data.workers=1", "data.cache=false"),
            "+model.criterion.extra.triplet={_target_: mpanet_pl.methods.triplet.Triplet, weight: 1.0}",
        ],
    ],
    ids=["accumulated", "half"],
)
def test_keys_that_change_how_a_run_computes(keys: list[str], world: Path, tmp_path: Path) -> None:
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "protocol.trials=1"]
    train(compose("train", small(world, tmp_path / "run", *short, *keys)))
    assert all(float(row["train/total"]) > 0 for row in metrics(tmp_path / "run"))


def test_the_commit_is_this_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed inside somebody's checkout it has none."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=she", "-c", "user.email=she@home"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "runs.py").touch()
    monkeypatch.setattr(record, "__file__", str(tmp_path / "runs.py"))
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "hers"], check=True)
    assert record._commit() is None
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "ours"], check=True)
    assert len(record._commit() or "") == 40


def test_two_runs_in_the_same_second_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from mpanet_pl.run.run_folder import _new_folder

    folders = {_new_folder("synthetic") for _ in range(5)}
    assert len(folders) == 5
