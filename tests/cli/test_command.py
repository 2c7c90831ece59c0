"""What a user mistypes becomes one sentence with the way out, exit code 2, and no folder."""

import os
import shlex
from pathlib import Path

import pytest
from commands import together, type_in
from omegaconf import DictConfig

from mpanet_pl.cli.application import Task
from mpanet_pl.cli.command import door, run_command
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.evaluate import evaluate
from mpanet_pl.synthesize import synthesize
from mpanet_pl.system.shell import typed
from mpanet_pl.train import train

ALONE = {
    "validation.monitor=[1]": "validation.monitor takes all/single, all/multi, indoor/single, indoor/multi, or",
    "model.network.trunk=resnet19": "trunk must be one of",
    "dataset=regbd": "Did you mean 'regdb'?",
    "trainer=tpu": "It is one of: auto, cpu, ddp, ddp_cpu, gpu.",
    "experiment=ablatoin": "Did you mean 'ablation'?",
    "resume=3": "3 is no run's folder",
    "resume=true": "true is no run's folder",
    "trainer=3": "A group takes the name of one of its choices: trainer=3",
    "trial=1,2": "add -m",
    "-m --cfg job": "--cfg and --multirun do not go together",
    "--resolve": "--resolve goes with --cfg job",
    "=3": "'=3' is not KEY=VALUE.",
    "data.height": "'data.height' is not KEY=VALUE.",
    "model.criterion.mutual=[2": "model.criterion.mutual must be a number, got '[2'",
    "dataset=": "It is one of: ",
    "dataset=null": "A group takes the name of one of its choices: dataset=null",
    "trainer.num_nodes=2": "torchrun or srun",
    "dataset=sysu data_dir=nowhere": "SYSU-MM01 in ",
    "dataset=sysu data_dir=null": "SYSU-MM01 has no folder: say data_dir=PATH.",
    "dataset=regdb trial=11": "RegDB has trials 1 to 10, got 11",
    "resume=nowhere": "nowhere is no run's folder",
    "trainer=gpu": "There is no GPU here",
    "data.identities_per_batch=50": "set identities_per_batch to at most 8",
    "validation.monitor=[nope]": "got nope",
    "run_dir=/proc/x": "The run's folder /proc/x cannot be written",
}
MISTAKES = {  # that are told at once
    "data.augment.grayscale=foo": "grayscale must be true, false or a probability, got 'foo'",
    "model.netwrk.trunk=resnet18": "Did you mean 'model.network.trunk'?",
    "hieght=3": "Did you mean 'data.height'?",
    "height=128": "Did you mean 'data.height'?",
    "data.height=tall": "data.height must be a whole number, got 'tall'.",
    "model.optimizer.lr=fast": "model.optimizer.lr must be a number, got 'fast'.",
    "model.network.alleviation=layer3": "model.network.alleviation must be a list",
    "compile=3": "compile must be true or false",
    "data.width=null": "data.width must be a whole number, got None",
    "data.cache=null": "data.cache must be true, false or a path",
    "data.workers=1.5": "data.workers must be a whole number, got 1.5",
    "trainer.benchmark=7": "trainer.benchmark must be true or false",
    "compile=maybe": "compile must be true or false",
    "schedule=steps model.schedule.milestones=[soon]": "milestones must be a list",
    "trainer.accelerator=tpu": "trainer.accelerator must be one of auto, cpu, gpu, got 'tpu'.",
    "trainer.limit_train_batches=0": "trainer.limit_train_batches must be more than 0",
    "trainer.max_epochs=0": "trainer.max_epochs must be at least 1",
    "trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches must be at least 1",
    "trainer.max_epochs=-1": "trainer.max_epochs must be at least 1",
    "data.height=0": "data.height must be at least 1, got 0",
    "data.workers=-1": "data.workers must be between 0 and 512, got -1",
    "data.identities_per_batch=0": "identities_per_batch must be at least 1, got 0",
    "data.images_per_identity=3": "data.images_per_identity must be even (half infrared, half visible) and at",
    "data.sampler=unbalanced": "data.sampler must be balanced, uniform, random, with_replacement or any_modality",
    "model.optimizer.lr=-1": "model.optimizer.lr must be more than 0, got -1",
    "model.optimizer.weight_decay=-1": "model.optimizer.weight_decay must be at least 0, got -1",
    "model.criterion.mutual=-1": "model.criterion.mutual must be at least 0, got -1",
    "model.criterion.mean_rate=2": "mean_rate must be between 0 and 1, got 2",
    "seed=-1": "seed must be between 0 and 4294967295, got -1",
    "model.network.patterns=-1": "model.network.patterns must be at least 0, got -1",
    "trainer.precision=16-true": "trainer.precision must be one of auto, 32-true, bf16-mixed, 16-mixed, got '16-true'.",
    "trainer.strategy=nothing": "trainer.strategy must be one of",
    "sampler=random data.sampler=unbalanced": "There is no key 'sampler'",
}


@pytest.mark.parametrize("line", [[typed] for typed in ALONE] + together(MISTAKES), ids=lambda line: line[0])
def test_a_mistake_is_a_sentence(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if line == ["trainer=gpu"]:
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    small = [
        "data.dataset.identities=10",
        "data.dataset.images_per_camera=1",
        "data.height=48",
        "data.width=24",
        "data.identities_per_batch=2",
    ]
    typed = [word for mistake in line for word in mistake.split()]
    keys = {word.split("=")[0] for word in typed}
    arguments = [*(word for word in small if "dataset" not in keys and word.split("=")[0] not in keys), *typed]
    assert type_in("train", train, arguments, monkeypatch) == 2
    said = capsys.readouterr().err
    assert [mistake for mistake in line if (ALONE | MISTAKES)[mistake] not in said] == []
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_every_job_of_a_sweep_is_checked_before_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[int] = []
    assert type_in("train", lambda cfg, _: ran.append(cfg.seed), ["-m", "seed=1,2,x"], monkeypatch) == 2
    assert "seed must be a whole number, got 'x'" in capsys.readouterr().err
    assert ran == []


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("evaluate", evaluate, "Add ckpt=PATH, a checkpoint, or else features=PATH, embeddings saved before."),
        ("synthesize", synthesize, "Add out=…. --help shows examples."),
    ],
)
def test_what_must_be_said_is_asked_for(
    name: str, task: Task, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in(name, task, [], monkeypatch) == 2
    assert capsys.readouterr().err == f"{name}: {said}\n"


def test_a_folder_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("train", train, ["data_dir=/proc/x"], monkeypatch) == 2
    said = capsys.readouterr().err
    assert "The drawn world cannot be kept in /proc/x/sysu-" in said
    assert "Say data_dir=PATH, or set MPANET_CACHE=PATH." in said


@pytest.mark.parametrize("name", ["my cameras", "café", "a=b", "one,two", "(x)", "it's", 'the "best"', "tail\\", "#1"])
def test_a_line_that_was_printed_can_be_pasted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    arguments = shlex.split(typed("data_dir", f"/data/{name}"))
    assert type_in("train", lambda cfg, _: given.append(cfg.data_dir), arguments, monkeypatch) == 0
    assert given == [f"/data/{name}"]


@pytest.mark.parametrize("path", ["/home/josé/x=1", "~/sysu", "'~/sysu'", "/data/[old", "3", "2024_03_04", "1e3"])
def test_paths_need_no_quotes_of_the_grammars_own(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    assert type_in("train", lambda cfg, _: given.append(cfg.data_dir), [f"data_dir={path}"], monkeypatch) == 0
    assert given == [path.strip("'").replace("~", str(Path.home()))]


def test_what_parts_several_values_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in("train", train, ["-m", "data_dir=/data/josé,/data/jim"], monkeypatch) == 2
    assert "Not understood" in capsys.readouterr().err


@pytest.mark.slow
def test_globs_choose_among_a_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    assert type_in("train", lambda cfg, _: ran.append(cfg.dataset), ["-m", "dataset=glob(*l*)"], monkeypatch) == 0
    assert ran == ["folder", "llcm"]


@pytest.mark.slow
def test_several_runs_may_be_asked_for_at_the_end_of_the_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    seeds: list[int] = []
    assert type_in("train", lambda cfg, _: seeds.append(cfg.seed), ["seed=1,2", "-m"], monkeypatch) == 0
    assert seeds == [1, 2]


@pytest.mark.slow
def test_every_job_that_fails_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(cfg: DictConfig, _: object) -> None:
        raise RunStopped(f"seed {cfg.seed} is unlucky")

    monkeypatch.chdir(tmp_path)
    assert type_in("train", fails, ["-m", "seed=1,2", "hydra.sweep.dir=sweep"], monkeypatch) == 1
    said = capsys.readouterr().err
    assert "sweep/0: seed 1 is unlucky" in said
    assert "sweep/1: seed 2 is unlucky" in said


@pytest.mark.parametrize("asked", ["0", "1"])
def test_processes_that_a_run_starts_know_whether_full_errors_were_asked_for(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("sys.argv", ["train"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", asked)
    run_command("train", lambda cfg, _: seen.append(os.environ["HYDRA_FULL_ERROR"]))
    assert seen == [asked]


@pytest.mark.parametrize("lightning", [False, True])
def test_ctrl_c_is_a_word_and_no_traceback(
    lightning: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(cfg: DictConfig, _: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if not lightning:
                raise
            raise SystemExit(1)  # noqa: B904

    assert type_in("evaluate", stopped, ["ckpt=x"], monkeypatch) == 130
    assert "evaluate: stopped" in capsys.readouterr().err


def test_full_errors_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train", "dataset=regbd"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(UserError, match="regdb"):
        run_command("train", train)


@pytest.mark.parametrize("failure", [UserError, RunStopped])
def test_exit_codes_tell_mistakes_from_runs_that_stopped(
    failure: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(cfg: DictConfig, _: object) -> None:
        raise failure("the reason")

    assert type_in("train", fails, [], monkeypatch) == (2 if failure is UserError else 1)
    assert "train: the reason" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "evaluate", "prepare", "synthesize"])
def test_help_shows_keys_and_examples(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert type_in(name, train, ["--help"], monkeypatch) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"python -m mpanet_pl.{name}") >= 3
    assert "Keys" in shown


def test_ctrl_c_is_found_under_what_a_library_buried_it_in(capsys: pytest.CaptureFixture[str]) -> None:
    buried = UserError("It cannot have this value: .")
    buried.__context__ = KeyboardInterrupt()
    with pytest.raises(SystemExit) as left, door("train"):
        raise buried
    assert (left.value.code, capsys.readouterr().err) == (130, "\ntrain: stopped\n")
