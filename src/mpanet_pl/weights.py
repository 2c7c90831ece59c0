"""Reading tensors from files that strangers hand in: no code runs, and every fault is named.

`torch.load` reads weights only: whatever else a pickle asks for is refused before it is built.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError

FAULTS_SHOWN = 20


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn what can go wrong while `path` is read into sentences."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder, not a file of weights") from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        asks_for = f"`{named[1]}`" if named else "something other than tensors and plain values"
        raise UserError(f"{path} is refused: loading it would build {asks_for}, and only weights are read") from error
    except (EOFError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise
        raise UserError(f"{path} cannot be read: it is truncated, or no file that torch.save wrote") from error


def read(path: str | Path) -> dict[str, object]:
    """The mapping that a file of weights or a checkpoint holds, on the CPU."""
    with explained(path):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict")
    return dict(content)


def load_exactly(module: nn.Module, state: Mapping[str, object], source: str) -> None:
    """Copy `state` into `module`, or say of every key at once what does not fit."""
    expected = module.state_dict()
    faults = [f"missing: {key}" for key in expected if key not in state]
    faults += [f"unexpected: {key}" for key in state if key not in expected]
    for key, own in expected.items():
        given = state.get(key)
        if isinstance(given, Tensor) and given.shape != own.shape:
            faults.append(f"wrong shape: {key} is {tuple(given.shape)}, this network has {tuple(own.shape)}")
        elif key in state and not isinstance(given, Tensor):
            faults.append(f"no tensor: {key} is a {type(given).__name__}")
    if faults:
        rest = len(faults) - FAULTS_SHOWN
        more = [f"and {rest} more"] if rest > 0 else []
        raise UserError("\n  ".join([f"{source} does not fit this network:", *faults[:FAULTS_SHOWN], *more]))
    module.load_state_dict(state)
