"""What was typed, read as signatures say: all faults of a command line told at once, in sentences."""

import sys
from pathlib import Path

import pytest
from commands import together, words_of
from omegaconf import OmegaConf

from mpanet_pl.cli.configuration import check, with_overrides
from mpanet_pl.cli.conforming import conformed
from mpanet_pl.errors import UserError

MY = """
from typing import Any, Literal
from mpanet_pl.network import MPANet
from mpanet_pl.system.ranges import Share

class Network(MPANet):
    def __init__(self, *, own: int = 0, **keywords: Any) -> None: ...
class SGD:
    def __init__(self, params: Any, *, own: float = 0.1) -> None: ...
class Dataset:
    def __init__(self, root: str, places: list[int] = []) -> None: ...
class Augment:
    def __init__(self, strength: Literal["strong", "weak"]) -> None: ...
class Protocol:
    def __init__(self, own: "int | None" = None) -> None: ...
class Logger:
    def __init__(self, place) -> None: ...
class Callback:
    def __init__(self, patience: int, share: Share = 0.5) -> None: ...
class Term:
    def __init__(self, weight: float) -> None: ...
class Module:
    def __init__(self, num_identities: int, own: "Unknown") -> None: ...
"""


@pytest.fixture
def my(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of the user's own, in `my.py`."""
    (tmp_path / "my.py").write_text(MY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my", raising=False)


ALONE = {
    "~model": "'~model' would take away what the command needs",
    "~seed": "'~seed' would take away",
    "trial=3": "dataset=synthetic has no trials: leave out trial=3.",
    "model.schedule.gamma=0.5": "model.schedule.gamma must be null (onecycle has no such key), got 0.5.",
    "hydra.swep.dir=x": "There is no key 'hydra.swep'",
    "hydra.job.chdir=true": "hydra.job.chdir=true would look for data_dir in a job's folder: leave it out.",
    "nogroup=": "There is no key 'nogroup'.",
    "+dataset=sysu": "There is a group 'dataset' here; its groups are ",
}
FAULTS = {  # that are told at once
    "++new.key=1": "There is no key 'new.key'.",
    "data_dir=": "data_dir must be a path, got ''.",
    "data.cache=": "data.cache must be a path, got ''.",
    'data_dir="~nobody_here/x"': "data_dir must be a path whose ~ is somebody's home on this machine",
    "data.seed=99999999999999999999": "data.seed must be between 0 and 4294967295",
    "data.workers=100000": "data.workers must be between 0 and 512",
    "protocol.trials=1000000": "protocol.trials must be between 1 and 1000",
    "schedule=steps model.schedule.gamma=-1": "model.schedule.gamma must be more than 0 and at most 1, got -1.",
    "schedule=steps model.schedule.gamma=nan": "model.schedule.gamma must be more than 0",
    "schedule=steps model.schedule.gamma=inf": "model.schedule.gamma must be more than 0",
    "schedule=steps model.schedule.milestones=[-1]": "must be a list, each value at least 1, got [-1]",
    "model.optimizer.lr=inf": "model.optimizer.lr must be more than 0",
    "model.optimizer.fused=maybe": "model.optimizer.fused must be true or false",
    "model._convert_=none": "model._convert_ must be all",
    "trainer.gradient_clip_val=-1": "trainer.gradient_clip_val must be at least 0",
    "trainer.gradient_clip_val=nan": "trainer.gradient_clip_val must be at least 0",
    "trainer.limit_train_batches=1.5": "must be more than 0 (a number of batches, or a share up to 1.0), got 1.5.",
    "trainer.limit_test_batches=0": "trainer.limit_test_batches must be left out",
    "trainer.fast_dev_run=true": "trainer.fast_dev_run must be left out; use trainer.max_epochs=1",
    "trainer.overfit_batches=1": "trainer.overfit_batches must be left out; use trainer.limit_train_batches=…",
    "+trainer.max_time=soon": "trainer.max_time must be DAYS:HOURS:MINUTES:SECONDS, got 'soon'.",
    "+trainer.max_tiem=00:00:01:00": "Did you mean 'trainer.max_time'?",
    "trainer.callbacks=x": "trainer.callbacks must be left out; use +callbacks.NAME={_target_: …}",
    "data.height={a: 1}": "There is no key 'data.height.a'.",
    "seed=${nothing}": "seed=${nothing} cannot be resolved",
    "seed=${dataset}": "seed must be a whole number, got 'synthetic'.",
    "data={hieght: 3}": "There is no key 'data.hieght'. Did you mean",
    "model.network=3": "model.network must be a group of keys, got 3.",
}


@pytest.mark.parametrize("line", [[typed] for typed in ALONE] + together(FAULTS), ids=lambda line: line[0])
def test_a_fault_is_a_sentence(line: list[str]) -> None:
    with pytest.raises(UserError) as told:
        check("train", [word for typed in line for word in words_of(typed)])
    said = str(told.value).splitlines()
    assert len(said) == 1 or said[0] == f"{len(line)} mistakes:"
    assert [typed for typed in line if (ALONE | FAULTS)[typed] not in str(told.value)] == []


TAKEN = [
    "compile=yes",
    "data.augment.grayscale=0.3",
    "data.cache=/scratch",
    "data.workers=null",
    "trainer.devices=[0,1]",
    "trainer.limit_train_batches=3",
    "+trainer.max_time=00:12:00:00",
    "trainer.detect_anomaly=true",
    "trainer.profiler=simple",
    "model.schedule={end: 0.5}",
    "+model.network._target_=my.Network +model.network.own=3",
    "+model.optimizer._target_=my.SGD model.optimizer.own=3",
    "data.dataset._target_=my.Dataset data.dataset.places=[1,2]",
    "+data.augment._target_=my.Augment +data.augment.strength=strong",
    "protocol._target_=my.Protocol protocol.own=3",
    "+logger._target_=my.Logger +logger.place=there",
    "+callbacks.mine._target_=my.Callback +callbacks.mine.patience=3",
    "+model.criterion.extra.mine._target_=my.Term +model.criterion.extra.mine.weight=0.1",
    "model._target_=my.Module model.own=3",
    "dataset=regdb trial=3",
    "data.seed=${seed}",
    "hydra.sweep.dir=x",
    "optimizer=sgd schedule=cosine",
]


@pytest.mark.parametrize("line", together(TAKEN), ids=lambda line: line[0])
def test_what_is_meant_is_taken(line: list[str], my: None) -> None:
    check("train", [word for typed in line for word in words_of(typed)])


def test_all_faults_of_all_jobs_are_told_at_once() -> None:
    typed = ["seed=1,x", "trainer=cpu,tpu", "dataset=sysu,regdb", "data.height=tall", "sede=3"]
    with pytest.raises(UserError) as told:
        check("train", typed, several=True)
    said = str(told.value).splitlines()
    assert said[0] == "4 mistakes:"
    assert {line.strip().split(" ")[0] for line in said[1:]} == {"trainer", "seed", "data.height", "There"}


def test_an_empty_list_of_runs_is_refused() -> None:
    with pytest.raises(UserError, match=r"seed=range\(1,0\) is an empty list: there would be no run"):
        check("train", ["seed=range(1,0)"], several=True)


def test_an_interval_is_checked_at_its_ends() -> None:
    search = ["hydra/sweeper=optuna", "hydra.sweeper.direction=maximize"]
    check("train", [*search, "model.optimizer.lr=tag(log, interval(1e-4, 1e-2))"], several=True)
    with pytest.raises(UserError, match="margin must be at least 0, got -1"):
        check("train", [*search, "model.criterion.margin=interval(-1, 1)"], several=True)


def test_a_search_for_the_worst_is_refused() -> None:
    typed = ["hydra/sweeper=optuna", "model.criterion.margin=interval(0.1, 1)"]
    with pytest.raises(UserError, match=r"add hydra\.sweeper\.direction=maximize"):
        check("train", typed, several=True)


@pytest.mark.parametrize("launcher", ["submitit_slurm", "submitit_local", "joblib", "ray"])
def test_every_launcher_of_an_extra_composes(launcher: str) -> None:
    own = {
        "submitit_slurm": ["hydra.launcher.gpus_per_node=1", "hydra.launcher.timeout_min=60"],
        "joblib": ["hydra.launcher.n_jobs=2"],
        "ray": ["+hydra.launcher.ray.init.num_cpus=1"],
    }
    typed = [f"hydra/launcher={launcher}", *own.get(launcher, []), "seed=1,2"]
    assert check("train", typed, several=True).overrides == typed


def test_what_the_jobs_of_an_experiment_set_is_checked(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    sweep = "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params: {seed: '1,x'}\n"
    (tmp_path / "experiment/mine.yaml").write_text(sweep)
    with pytest.raises(UserError, match="seed must be a whole number, got 'x'"):
        check("train", ["experiment=mine"], config_dir=str(tmp_path))


@pytest.mark.parametrize("way", ["--config-dir", pytest.param("hydra.searchpath", marks=pytest.mark.slow)])
def test_experiments_of_the_users_own_pass_the_same_checks(way: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\ntrainer: {max_epochs: 7}\n")
    (tmp_path / "experiment/wrong.yaml").write_text("# @package _global_\ntrainer: {max_epochs: many, max_epoch: 3}\n")
    place = {"config_dir": str(tmp_path)} if way == "--config-dir" else {}
    typed = [f"hydra.searchpath=[{tmp_path}]"] if way == "hydra.searchpath" else []
    check("train", [*typed, "experiment=mine", "seed=3"], **place)
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer/mine.yaml").write_text("# @package model.optimizer\nname: sgd\nlr: 0.2\n")
    check("train", [*typed, "optimizer=mine,adam", "model.optimizer.lr=0.1"], several=True, **place)
    with pytest.raises(UserError, match="Did you mean 'mine'"):
        check("train", [*typed, "experiment=mien"], **place)
    with pytest.raises(UserError) as told:
        check("train", [*typed, "experiment=wrong"], **place)
    assert "trainer.max_epochs must be a whole number, got 'many'" in str(told.value)
    assert "There is no key 'trainer.max_epoch'. Did you mean 'trainer.max_epochs'?" in str(told.value)


@pytest.mark.parametrize("typed", ["train", "evaluate ckpt=x", "prepare"])
def test_a_dataset_may_bring_callbacks_to_every_command(typed: str, my: None, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    own = "# @package _global_\ndefaults: [folder]\ncallbacks: {mine: {_target_: my.Callback, patience: 3}}\n"
    (tmp_path / "dataset/mine.yaml").write_text(own)
    name, *more = typed.split()
    check(name, ["dataset=mine", "data_dir=x", *more], config_dir=str(tmp_path))


def test_keys_beyond_the_files_are_added() -> None:
    typed = ["trainer.max_time=00:01:00:00", "seed=3", "+trainer.profiler=simple"]
    assert check("train", typed).overrides == ["++trainer.max_time=00:01:00:00", "seed=3", "++trainer.profiler=simple"]


def test_the_checkpoints_own_keys_need_no_plus() -> None:
    typed = ["ckpt=x", "protocol.cmc=plain", "data.dataset.seed=3"]
    assert check("evaluate", typed).overrides == ["ckpt=x", "++protocol.cmc=plain", "++data.dataset.seed=3"]
    with pytest.raises(UserError, match=r"There is no key 'protocol\.cmc'"):
        check("evaluate", [*typed, "dataset=sysu"])


def test_values_get_their_keys_types() -> None:
    cfg = OmegaConf.create({"compile": "no", "seed": 3, "data_dir": 5, "data": {"seed": "${seed}"}, "model": {"x": 1}})
    cfg = OmegaConf.merge(cfg, {"model": {"_target_": "types.SimpleNamespace"}})
    read = conformed("train", cfg)
    assert OmegaConf.to_container(read, resolve=True) == {
        "compile": False,
        "seed": 3,
        "data_dir": "5",
        "data": {"seed": 3},
        "model": {"x": 1, "_target_": "types.SimpleNamespace"},
    }


def test_overrides_apply_to_existing_keys_only() -> None:
    cfg = OmegaConf.create({"data": {"workers": 1}})
    assert with_overrides("train", cfg, ["data.workers=2"]).data.workers == 2
    assert cfg.data.workers == 1
    for typed, said in {"data.worker=2": r"Did you mean 'data\.workers'", "data.workers=x": "a whole number"}.items():
        with pytest.raises(UserError, match=said):
            with_overrides("train", cfg, [typed])


def test_a_stored_configuration_is_checked_where_it_is_changed() -> None:
    stored = OmegaConf.create({"trainer": {"max_epochs": "many"}, "seed": -1, "of_another_release": 1})
    with pytest.raises(UserError, match=r"(?s)max_epochs must be a whole number, got 'many'.*seed must be between"):
        with_overrides("train", stored, [])
