"""What the environment says of other processes: whole, empty, a word, or half of it."""

import os

import pytest

from mpanet_pl.errors import UserError
from mpanet_pl.system.processes import CHILD_CONFIG, forget_half_of_slurm, is_child_rank, rank_of_outer_launcher

SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1"}
NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", CHILD_CONFIG, *SLURM)


@pytest.mark.parametrize(
    ("said", "rank"),
    [
        ({}, None),
        ({"WORLD_SIZE": "", "RANK": ""}, None),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"WORLD_SIZE": "4", "RANK": "3"}, 3),
        ({"WORLD_SIZE": "4"}, None),
        (SLURM, 2),
    ],
)
def test_the_rank_is_the_launchers(said: dict[str, str], rank: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    _only(said, monkeypatch)
    assert rank_of_outer_launcher() == rank


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID"])
def test_what_is_no_number_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _only({**SLURM, name: "many"}, monkeypatch)
    with pytest.raises(UserError, match=f"The environment has {name}=many, which is no number: unset it"):
        rank_of_outer_launcher()


@pytest.mark.parametrize("gone", [None, "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"])
def test_half_of_slurm_is_one_process_alone(gone: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    _only({name: value for name, value in SLURM.items() if name != gone}, monkeypatch)
    forget_half_of_slurm()
    assert ("SLURM_NTASKS" in os.environ) == (gone is None)


def _only(said: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("said", "child"),
    [
        ({}, False),
        ({"LOCAL_RANK": "1"}, False),  # of somebody else's launcher
        ({CHILD_CONFIG: "c.yaml"}, False),
        ({CHILD_CONFIG: "c.yaml", "LOCAL_RANK": "0"}, False),
        ({CHILD_CONFIG: "c.yaml", "LOCAL_RANK": "1"}, True),
    ],
)
def test_a_child_is_a_further_rank_that_a_run_started(
    said: dict[str, str], child: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only(said, monkeypatch)
    assert is_child_rank() == child
