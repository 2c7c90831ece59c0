import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.system import weights


class Intruder:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("intruded",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_asks_for_more_is_refused_by_name(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Intruder()}, "model.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"model\.pth is refused: it asks to run \w+\.mkdir"):
        weights.read("model.pth")
    assert not Path("intruded").exists()


def test_a_pickled_network_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"asks to run torch\.nn\.modules\.linear\.Linear"):
        weights.read(tmp_path / "model.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_called_truncated(zipped: bool, kept: float, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"model\.pth cannot be read: it is truncated"):
        weights.read(path)


@pytest.mark.parametrize("content", [b"not weights at all", pickle.dumps({"weight": 1}), b"\x80\x04"])
def test_another_kind_of_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        weights.read(tmp_path / "model.pth")


def test_no_file_and_no_mapping(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    for name, words in (("absent.pth", "No such file"), (".", "Is a directory"), ("list.pth", "holds a list")):
        with pytest.raises(UserError, match=words):
            weights.read(tmp_path / name)


def test_every_misfit_is_listed_and_nothing_is_loaded() -> None:
    module = torch.nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(UserError) as fault:
        weights.load_exactly(module, {"weight": torch.ones(3, 4), "scale": torch.ones(1)}, "a.pth")
    assert str(fault.value).splitlines() == [
        "a.pth does not fit this network:",
        "  missing: bias",
        "  unexpected: scale",
        "  wrong shape: weight is (3, 4), this network has (3, 2)",
    ]
    assert torch.equal(module.weight, before)


def test_what_is_no_tensor_is_named() -> None:
    with pytest.raises(UserError, match="no tensor: weight is a str"):
        weights.load_exactly(torch.nn.Linear(2, 3), {"weight": "heavy", "bias": torch.ones(3)}, "a.pth")


def test_a_long_list_is_whole() -> None:
    state = {f"extra{i}": torch.ones(1) for i in range(50)}
    with pytest.raises(UserError) as fault:
        weights.load_exactly(torch.nn.Identity(), state, "a.pth")
    assert str(fault.value).splitlines()[1:] == [f"  unexpected: extra{i}" for i in range(50)]


@pytest.mark.parametrize(
    "broken",
    [
        lambda: torch.tensor([1.0, math.nan]),
        lambda: torch.tensor([math.inf, 1.0]),
        lambda: torch.ones(2, dtype=torch.complex64),
        lambda: torch.ones(2, dtype=torch.int8),
        lambda: torch.ones(2).to_sparse(),
        lambda: "two ones",
    ],
)
def test_weights_are_dense_finite_real_numbers(broken: Callable[[], object]) -> None:
    good = {"weight": torch.ones(2), "steps": torch.tensor(3), "mask": torch.tensor([True])}
    weights.check_numbers(good, "a.ckpt")
    with pytest.raises(UserError, match=r"a\.ckpt is damaged: 1 of its 4 weights are no finite numbers, first bias\."):
        weights.check_numbers(good | {"bias": broken()}, "a.ckpt")


def test_a_state_that_is_none() -> None:
    with pytest.raises(UserError, match="its state dict is a NoneType"):
        weights.check_numbers(None, "a.ckpt")


@pytest.mark.parametrize("kept", [{}, {"epoch": 3, "hyper_parameters": {"network": {"patterns": 6}}}])
def test_a_checkpoint_without_pickles_is_read_as_it_was_written(kept: dict, tmp_path: Path) -> None:
    state = {"weight": torch.arange(6.0).view(2, 3).T.requires_grad_(), "tied": torch.ones(2), "steps": torch.tensor(3)}
    weights.write_safely(tmp_path / "net.safetensors", state | {"again": state["tied"]}, kept)
    found = weights.read(tmp_path / "net.safetensors")
    assert {key: value for key, value in found.items() if key != "state_dict"} == kept
    assert found["state_dict"].keys() == {*state, "again"}
    assert all(torch.equal(found["state_dict"][name], tensor) for name, tensor in state.items())


def test_safetensors_of_anybody_or_of_nobody(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch")
    files.save_file({"weight": torch.ones(2)}, tmp_path / "theirs.safetensors")
    assert torch.equal(weights.read(tmp_path / "theirs.safetensors")["weight"], torch.ones(2))
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "theirs.safetensors").read_bytes()[:20])
    for name, words in (("absent", "No such file"), ("half", "it is truncated")):
        with pytest.raises(UserError, match=rf"{name}\.safetensors cannot be read: {words}"):
            weights.read(tmp_path / f"{name}.safetensors")
