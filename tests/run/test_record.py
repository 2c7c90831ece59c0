"""What a run's record keeps, reads and tells."""

import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.run import record
from mpanet_pl.run.record import Record
from mpanet_pl.stored import terms_of

RUN = Record(
    dataset="sysu",
    trial=3,
    seed=7,
    accelerator="cpu",
    device="CPU, 2 cores",
    ranks=1,
    precision="32-true",
    epochs=3,
    max_epochs=9,
    loggers={"wandb": "a1"},
    changes=("after epoch 1: ranks 2 → 1",),
    versions={"torch": "2.7"},
    commit="f00",
    date="2026-01-01",
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    RUN.write(tmp_path)
    assert Record.in_folder(tmp_path) == RUN
    assert (tmp_path / "record.json").read_bytes().endswith(b'"date": "2026-01-01"\n}\n')
    assert "ranks 2 → 1".encode() in (tmp_path / "record.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert Record.in_folder(tmp_path / "of_0.1") is None


def test_what_another_release_kept_is_read_as_far_as_it_is_known() -> None:
    nothing = dict.fromkeys(("accelerator", "device", "precision", "date"), "")
    unknown: dict[str, Any] = nothing | {"trial": None, "commit": None, "loggers": {}, "versions": {}, "changes": ()}
    assert asdict(Record.read({"dataset": "sysu", "of_tomorrow": 1}, "it")) == unknown | {
        "dataset": "sysu",
        "seed": 1,
        "ranks": 1,
        "epochs": 0,
        "max_epochs": 0,
        "weights": 0,
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "record.json is damaged"),
        (b"\xff", "record.json is damaged"),
        (b"[" * 100_000, "record.json is damaged"),
        (b"[1]", "record.json is no run's record"),
        (b"{}", "record.json is no run's record"),
        (b'{"dataset": "sysu", "changes": 5}', "record.json is no run's record"),
    ],
)
def test_what_is_none_is_a_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        Record.in_folder(tmp_path)


@pytest.mark.parametrize(
    ("now", "earlier", "told"),
    [
        ({}, {}, []),
        ({"accelerator": "cuda", "ranks": 2}, {}, ["after epoch 3: accelerator cpu → cuda, ranks 1 → 2"]),
        ({"precision": "bf16-mixed"}, {}, ["after epoch 3: precision 32-true → bf16-mixed"]),
        ({"ranks": 2}, {"epochs": 0}, []),  # nothing was trained otherwise
        ({}, {"precision": ""}, []),  # not known
        ({"device": "another", "commit": "another"}, {}, []),
        ({"changes": ("after epoch 3: clipped", "after epoch 1: ranks 2 → 1")}, {}, ["after epoch 3: clipped"]),
    ],
)
def test_a_continuation_says_in_what_it_is_another_run(now: dict, earlier: dict, told: list[str]) -> None:
    going_on = replace(RUN, **{"changes": ()} | now)
    assert going_on.following(None) is going_on
    assert going_on.following(replace(RUN, **earlier)).changes == (*RUN.changes, *told)


def test_it_says_where_a_run_ended_that_did_not_do_what_was_asked_for() -> None:
    assert RUN.ended == "ended after epoch 3 of 9"
    assert replace(RUN, epochs=9).ended == ""


@pytest.mark.parametrize(("asked", "kept"), [(9, 9), (None, 0)])
def test_it_is_of_what_a_trainer_runs(asked: int | None, kept: int) -> None:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(strategy=strategy, precision="bf16-mixed", world_size=2, max_epochs=asked)
    of = Record.of(trainer, torch.nn.Linear(3, 2), dataset="regdb", trial=4, seed=5)
    assert (of.dataset, of.trial, of.seed, of.accelerator, of.precision) == ("regdb", 4, 5, "cpu", "bf16-mixed")
    assert (of.ranks, of.epochs, of.max_epochs, of.weights) == (2, 0, kept, 8)
    assert of.device.endswith(" cores")
    assert of.versions.keys() >= {"python", "torch", "torchvision", "pytorch-lightning"}
    assert len(of.date) == len("2026-01-01T00:00:00")


def test_a_git_that_hangs_or_is_not_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], *, timeout: float = 3600, **_: Any) -> None:
        assert timeout <= 10
        raise subprocess.TimeoutExpired(command, timeout)

    with monkeypatch.context() as patched:
        patched.setattr(record.subprocess, "run", hangs)
        assert record._commit() is None
    monkeypatch.setenv("PATH", "")
    assert record._commit() is None


@pytest.mark.parametrize("config", [{}, {"model": 5}, {"model": {"network": 5}}, {"model": {"network": {}}}], ids=str)
def test_a_network_that_began_from_nothing_known_has_its_datasets_terms(config: dict[str, Any]) -> None:
    assert terms_of("sysu", config, "it") == "Trained on sysu: its terms apply to it."
