"""Reading tensors from files that strangers hand in: no code runs, and every fault is named.

`torch.load` reads weights only: whatever else a pickle asks for is refused before it is built.
"""

import errno
import json
import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.system.files import written_aside


class _PassedOver:
    """What stands for a number of numpy's: released files hold their scores beside the weights."""

    def __init__(self, *state: object) -> None:
        pass

    __setstate__ = __init__


NUMPYS: list[Any] = [
    (_PassedOver, f"numpy.{name}")
    for core in ("core.multiarray", "_core.multiarray")
    for name in (f"{core}._reconstruct", f"{core}.scalar", "ndarray", "dtype")
]


SAFE = ".safetensors"
NOTE = "mpanet_pl"  # of such a file: all but the weights, as JSON


def read(path: str | Path | IO[bytes]) -> dict[str, Any]:
    """The mapping that a file of weights or a checkpoint holds, on the CPU."""
    if str(path).endswith(SAFE):
        return _read_safely(Path(str(path)))
    try:
        with torch.serialization.safe_globals(NUMPYS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(f"{path} is refused: it asks to run {named[1]}, and only weights are read") from error
        raise UserError(_broken(path)) from error
    except Exception as error:  # whatever a parser of garbage stumbles over: there is no end to the kinds
        raise UserError(_broken(path)) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict")
    if nameless := [key for key in content if not isinstance(key, str)]:
        raise UserError(f"{path} is no state dict: {nameless[0]!r} among its keys is no name")
    return dict(content)


def write_safely(path: Path, state: Mapping[str, Tensor], kept: Mapping[str, Any]) -> None:
    """A checkpoint without pickles: its weights, and plain values besides."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    with written_aside(path) as aside:
        _safetensors().save_file(tensors, aside, metadata={NOTE: json.dumps(kept)})


def _read_safely(path: Path) -> dict[str, Any]:
    """What `write_safely` wrote; a state dict of anybody's."""
    if not path.is_file():
        raise UserError(f"{path} cannot be read: {os.strerror(errno.ENOENT)}")
    try:
        with _safetensors().safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            note = (file.metadata() or {}).get(NOTE)
        kept = json.loads(note) if note else None
    except UserError:
        raise
    except Exception as error:  # as above
        raise UserError(f"{path} cannot be read: it is truncated, or no safetensors file") from error
    if kept is None:
        return state
    if not isinstance(kept, dict):
        raise UserError(f"{path} is damaged: what it says of its weights is a {type(kept).__name__}.")
    return {**kept, "state_dict": state}


def _safetensors() -> Any:
    try:
        from safetensors import torch as files
    except ImportError as error:
        raise UserError('safetensors is not installed: pip install "mpanet_pl[hub]"') from error
    return files


def _broken(path: str | Path | IO[bytes]) -> str:
    return f"{path} cannot be read: it is truncated, or no file that torch.save wrote"


def check_numbers(state: object, source: str | Path) -> None:
    """Whether a state dict holds dense, finite, real tensors alone: torch would copy whatever has the shape."""
    if not isinstance(state, Mapping):
        raise UserError(f"{source} is damaged: its state dict is a {type(state).__name__}.")
    if broken := [str(key) for key, value in state.items() if not _is_usable(value)]:
        raise UserError(
            f"{source} is damaged: {len(broken)} of its {len(state)} weights are no finite numbers, first {broken[0]}."
        )


def _is_usable(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_complex():
        return False
    return value.dtype != torch.int8 and bool(value.isfinite().all())  # int8 is quantised: its scale is lost


def load_exactly(
    module: nn.Module, state: Mapping[str, object], source: str, named: Callable[[str], str] = str
) -> None:
    """Copy `state` into `module`, or say of every key at once what does not fit, by the names that the file has."""
    expected = module.state_dict()
    faults = [f"missing: {named(key)}" for key in expected if key not in state]
    faults += [f"unexpected: {named(key)}" for key in state if key not in expected]
    for key, own in expected.items():
        given = state.get(key)
        if isinstance(given, Tensor) and given.shape != own.shape:
            faults.append(f"wrong shape: {named(key)} is {tuple(given.shape)}, this network has {tuple(own.shape)}")
        elif key in state and not isinstance(given, Tensor):
            faults.append(f"no tensor: {named(key)} is a {type(given).__name__}")
    if faults:
        raise UserError("\n  ".join([f"{source} does not fit this network:", *faults]))
    check_numbers(state, source)
    module.load_state_dict(state)
