from pathlib import Path

import pytest
from checkpoints import save_checkpoint
from gallery.made import made

from mpanet_pl.gallery.embedder import Embedder, load
from mpanet_pl.gallery.store import Gallery


@pytest.fixture(scope="session")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("ckpt") / "best.ckpt")


@pytest.fixture(scope="session")
def embedder(ckpt: Path) -> Embedder:
    return load(ckpt, device="cpu")


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return made(tmp_path_factory.mktemp("made") / "g", 60)
