"""What many tests of runs read: people drawn once, and a run that nothing interrupted."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import SMALL_WORLD, compose
from filelock import FileLock

from mpanet_pl.train import train

Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder, to be read only, at its first use in any of pytest's processes."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def world(once: Once) -> Path:
    """The people of `SMALL_WORLD`."""
    return once("world", lambda folder: folder.mkdir())  # the first run draws them


@pytest.fixture(scope="session")
def finished(world: Path, once: Once) -> Path:
    """The folder of a run of three epochs, of which the second is the best, with pictures."""
    run = [*SMALL_WORLD, f"data_dir={world}", "pictures=true"]
    return once("finished", lambda folder: train(compose("train", [*run, f"run_dir={folder}"])))
